"""Address planning for the VPCs: pure arithmetic, no resources."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from itertools import combinations

SMALLEST_VPC_PREFIX = 22
LARGEST_VPC_PREFIX = 16


@dataclass(frozen=True)
class SubnetPlan:
    """One private and one public subnet per zone, in the order of the zones."""

    private: tuple[str, ...]
    public: tuple[str, ...]


def plan_subnets(vpc_cidr: str, zones: int) -> SubnetPlan:
    """Cuts a VPC into equal private blocks, one per zone, and packs the public ones into the last block.

    Args:
        vpc_cidr: IPv4 range of the VPC, a /16 to a /22 (AWS's own limits leave no room for less).
        zones: number of availability zones, 2 to 6.

    Raises:
        ValueError: the range has host bits set, its size is out of bounds, or the zones are.
    """
    vpc = IPv4Network(vpc_cidr)
    if not LARGEST_VPC_PREFIX <= vpc.prefixlen <= SMALLEST_VPC_PREFIX:
        raise ValueError(f"{vpc_cidr} must be a /{LARGEST_VPC_PREFIX} to a /{SMALLEST_VPC_PREFIX}")
    if not 2 <= zones <= 6:
        raise ValueError(f"{zones} zones: 2 to 6 are possible")
    # One block more than there are zones: bit_length() of n is what n + 1 blocks need.
    blocks = list(vpc.subnets(prefixlen_diff=zones.bit_length()))
    public = list(blocks[-1].subnets(prefixlen_diff=(zones - 1).bit_length()))
    return SubnetPlan(
        private=tuple(str(block) for block in blocks[:zones]),
        public=tuple(str(block) for block in public[:zones]),
    )


def first_overlap(ranges: Mapping[str, str]) -> tuple[str, str] | None:
    """The names of the first two ranges that share an address, or None.

    Args:
        ranges: IPv4 ranges by the name under which an error should show them.
    """
    networks = {name: IPv4Network(cidr) for name, cidr in ranges.items()}
    for one, other in combinations(networks, 2):
        if networks[one].overlaps(networks[other]):
            return one, other
    return None
