"""What the simulated EKS offers and refuses, each with its source. Of addon versions only the form matters."""

from datetime import date

# Last day of standard support; the day of extended support is the same a year later. The release calendar of the EKS
# user guide (versioning/kubernetes-versions), as of 2026-11-25.
STANDARD_SUPPORT = {
    "1.32": date(2026, 3, 23),
    "1.33": date(2026, 7, 29),
    "1.34": date(2026, 12, 2),
    "1.35": date(2027, 3, 27),
    "1.36": date(2027, 8, 2),
    # not there yet: the version that the newest one is upgraded to in an exercise
    "1.37": date(2027, 12, 1),
}
VERSIONS = tuple(STANDARD_SUPPORT)

# Subnets can't be in these (networking/network-reqs of the EKS user guide).
REFUSED_ZONES = ("use1-az3", "usw1-az2", "cac1-az3")

# publicAccessCidrs "cannot include reserved addresses" (clusters/cluster-endpoint of the EKS user guide).
RESERVED = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
    *("203.0.113.0/24", "224.0.0.0/3"),
)

# Versions of each addon by Kubernetes version, EKS's default last: examples in EKS's form, not its catalogue.
ADDONS = {
    "vpc-cni": dict.fromkeys(VERSIONS, ("v1.20.4-eksbuild.2", "v1.22.4-eksbuild.3")),
    "kube-proxy": {version: (f"v{version}.0-eksbuild.17",) for version in VERSIONS},
    "coredns": dict.fromkeys(VERSIONS, ("v1.12.4-eksbuild.1", "v1.14.3-eksbuild.14")),
    "aws-ebs-csi-driver": dict.fromkeys(VERSIONS, ("v1.53.0-eksbuild.1", "v1.65.0-eksbuild.1")),
    "eks-pod-identity-agent": dict.fromkeys(VERSIONS, ("v1.3.10-eksbuild.1", "v1.3.10-eksbuild.3")),
}
