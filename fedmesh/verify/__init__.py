"""Checks of a live mesh. Each area is a module with its CHECKS; `checks` puts them in the report's order."""
