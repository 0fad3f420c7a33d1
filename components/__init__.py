"""The components of the mesh, one ComponentResource per module."""
