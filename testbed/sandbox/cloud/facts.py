"""What the simulated EKS offers: examples in the form of EKS's own, of which only the form matters."""

VERSIONS = ("1.32", "1.33", "1.34", "1.35")

# Default version of each addon by Kubernetes version: examples in EKS's form, not a mirror of its catalogue.
ADDONS = {
    "vpc-cni": dict.fromkeys(VERSIONS, "v1.20.4-eksbuild.2"),
    "kube-proxy": {version: f"v{version}.0-eksbuild.2" for version in VERSIONS},
    "coredns": dict.fromkeys(VERSIONS, "v1.12.4-eksbuild.1"),
    "aws-ebs-csi-driver": dict.fromkeys(VERSIONS, "v1.53.0-eksbuild.1"),
    "eks-pod-identity-agent": dict.fromkeys(VERSIONS, "v1.3.10-eksbuild.1"),
}
