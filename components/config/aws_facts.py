"""What AWS offers, as of a date: these tables age, and each says where it is kept up."""

import re
from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True)
class Support:
    """The last days of EKS's standard and extended support for one Kubernetes version."""

    standard: date
    extended: date


# The EKS release calendar, as of 2026-11-25 (docs.aws.amazon.com/eks/latest/userguide/kubernetes-versions.html).
KUBERNETES_VERSIONS = {
    "1.30": Support(date(2025, 7, 23), date(2026, 7, 23)),
    "1.31": Support(date(2025, 11, 26), date(2026, 11, 26)),
    "1.32": Support(date(2026, 3, 23), date(2027, 3, 23)),
    "1.33": Support(date(2026, 7, 29), date(2027, 7, 29)),
    "1.34": Support(date(2026, 12, 2), date(2027, 12, 2)),
    "1.35": Support(date(2027, 3, 27), date(2028, 3, 27)),
    "1.36": Support(date(2027, 8, 2), date(2028, 8, 2)),
}
WARNING_AHEAD = timedelta(days=90)
# Newer versions than the table's are left to EKS, as many as a year or so brings.
MINORS_AHEAD = 4

# The letters of zones in the region that has most; which of them a region has, only AWS knows.
ZONE_LETTERS = "abcdef"

# Days for which CloudWatch can keep a log (PutRetentionPolicy).
LOG_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)

# Families of instance types whose names do not say that they are arm64: the first Graviton, and NVIDIA's Grace.
ARM_FAMILIES = ("a1", "p6e-gb200", "p6e-gb300")

# Ranges of a cluster's publicAccessCidrs (the service quotas of EKS).
ENDPOINT_RANGES = 40

# IAM names end at 64 characters. The longest name that the program gives a role is
# `<cluster>-load-balancers-role-` and the 7 characters that Pulumi adds.
LONGEST_CLUSTER_NAME = 64 - len("-load-balancers-role-") - 7

# The major version of the databases that the program makes, one that SPIRE is tested with. PostgreSQL supports it until
# 2029-11-08 (postgresql.org/support/versioning, as of 2026-11-27), and RDS no shorter.
POSTGRES = "17"

# Regions that have EKS, by partition (the endpoint data of botocore 1.44.5).
# VPC peering and transit gateway peering work between any two regions of one partition, and never across.
REGIONS_BY_PARTITION = {
    "aws": frozenset(
        {
            "af-south-1",
            "ap-east-1",
            "ap-east-2",
            "ap-northeast-1",
            "ap-northeast-2",
            "ap-northeast-3",
            "ap-south-1",
            "ap-south-2",
            "ap-southeast-1",
            "ap-southeast-2",
            "ap-southeast-3",
            "ap-southeast-4",
            "ap-southeast-5",
            "ap-southeast-6",
            "ap-southeast-7",
            "ca-central-1",
            "ca-west-1",
            "eu-central-1",
            "eu-central-2",
            "eu-north-1",
            "eu-south-1",
            "eu-south-2",
            "eu-west-1",
            "eu-west-2",
            "eu-west-3",
            "il-central-1",
            "me-central-1",
            "me-south-1",
            "mx-central-1",
            "sa-east-1",
            "us-east-1",
            "us-east-2",
            "us-west-1",
            "us-west-2",
        }
    ),
    "aws-cn": frozenset({"cn-north-1", "cn-northwest-1"}),
    "aws-us-gov": frozenset({"us-gov-east-1", "us-gov-west-1"}),
}


def partition_of(region: str) -> str | None:
    """The partition (`aws`, `aws-cn`, `aws-us-gov`) that a region is in, None for an unknown region."""
    return next((partition for partition, regions in REGIONS_BY_PARTITION.items() if region in regions), None)


def supported_versions(today: date, support_type: str = "standard") -> tuple[str, ...]:
    """The Kubernetes versions of the table in `standard` or `extended` support on a day, oldest first."""
    return tuple(
        version for version, support in KUBERNETES_VERSIONS.items() if today <= getattr(support, support_type)
    )


def support_warning(version: str, support_type: str, today: date) -> str:
    """A warning in the last 90 days of a version's support, "" before, and for versions that the table lacks."""
    support = KUBERNETES_VERSIONS.get(version)
    end: date | None = getattr(support, support_type, None)
    if end is None or end - today > WARNING_AHEAD:
        return ""
    newer = [each for each in supported_versions(today + WARNING_AHEAD) if each != version]
    remedy = f"use {newer[0]}, one minor version at a time" if newer else "use a newer version"
    return f"EKS ends {support_type} support for {version} on {end.isoformat()} and then upgrades the cluster: {remedy}"


def architecture_of(instance_type: str) -> str:
    """`arm64` or `x86_64`. A family is letters, a generation and attributes; the attribute g stands for Graviton.

    Source: the naming conventions in the Amazon EC2 instance types guide.
    """
    family = instance_type.split(".", maxsplit=1)[0]
    found = re.match(r"[a-z-]+?[0-9]+([a-z]*)", family)
    arm = family in ARM_FAMILIES or (found is not None and "g" in found[1])
    return "arm64" if arm else "x86_64"
