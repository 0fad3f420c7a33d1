"""`fedmesh drill`: make a fault under load, put back what was taken away, and report what callers noticed."""
