"""A simulated AWS for the real Pulumi engine: resource plugins `aws` and `eks` in front of moto."""
