"""The components of the program: config < kube < mesh, observability < aws; one ComponentResource per module."""
