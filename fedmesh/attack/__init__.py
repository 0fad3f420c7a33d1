"""`fedmesh attack`: attacks on the live mesh, each with the evidence of its refusal."""
