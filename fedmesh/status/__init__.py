"""`fedmesh status`: the mesh at a glance, once or live."""
