"""The test bed: a lab of real Kubernetes clusters on one Linux machine, and a simulated AWS."""
