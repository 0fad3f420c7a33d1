"""The simulated AWS: moto's server with the parts of EKS and Global Accelerator that moto lacks."""
