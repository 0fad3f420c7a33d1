"""Real Kubernetes clusters on one Linux machine, without Docker and from package registries alone."""
