"""What AWS offers, as of a date: these tables age, and each says where it is kept up."""

from datetime import date

# End of extended support by Kubernetes version, as the EKS release calendar had it on 2026-04-24.
# Versions newer than the table are let through: EKS itself refuses what it does not have.
END_OF_EXTENDED_SUPPORT = {
    "1.30": date(2026, 7, 23),
    "1.31": date(2026, 11, 26),
    "1.32": date(2027, 3, 23),
    "1.33": date(2027, 7, 29),
    "1.34": date(2027, 12, 2),
    "1.35": date(2028, 3, 27),
}

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


def supported_versions(today: date) -> tuple[str, ...]:
    """The Kubernetes versions of the table that EKS still runs on a day, oldest first."""
    return tuple(version for version, end in END_OF_EXTENDED_SUPPORT.items() if today <= end)
