"""The layers of the mesh on each cluster, and the links between clusters."""
