"""The operator's command for a mesh that fedmesh built: verify, status, drill, dashboard."""
