"""`fedmesh status`: the state of the mesh, once or live."""
