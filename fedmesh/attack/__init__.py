"""Attacks on the live mesh, and whether each was refused."""
