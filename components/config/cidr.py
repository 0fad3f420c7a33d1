"""IPv4 ranges: how a VPC is cut into subnets, which ranges overlap, and which are reserved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, collapse_addresses
from itertools import combinations
from typing import TypeVar

Name = TypeVar("Name")

SMALLEST_VPC_PREFIX = 22
LARGEST_VPC_PREFIX = 16

PRIVATE = tuple(IPv4Network(cidr) for cidr in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))

# Ranges that no caller on the internet has (the IANA IPv4 Special-Purpose Address Registry, and multicast).
RESERVED = {
    IPv4Network(cidr): use
    for cidr, use in {
        "0.0.0.0/8": "this network",
        "10.0.0.0/8": "private networks",
        "100.64.0.0/10": "the shared addresses of carriers",
        "127.0.0.0/8": "loopback",
        "169.254.0.0/16": "link-local addresses",
        "172.16.0.0/12": "private networks",
        "192.0.0.0/24": "IETF protocol assignments",
        "192.0.2.0/24": "documentation",
        "192.88.99.0/24": "the former 6to4 relays",
        "192.168.0.0/16": "private networks",
        "198.18.0.0/15": "benchmarks",
        "198.51.100.0/24": "documentation",
        "203.0.113.0/24": "documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "future use",
    }.items()
}


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


def first_overlap(ranges: Mapping[Name, str]) -> tuple[Name, Name] | None:
    """The names of the first two ranges that share an address, or None.

    Args:
        ranges: IPv4 ranges by the name under which an error should show them.
    """
    networks = {name: IPv4Network(cidr) for name, cidr in ranges.items()}
    for one, other in combinations(networks, 2):
        if networks[one].overlaps(networks[other]):
            return one, other
    return None


def is_private(cidr: str) -> bool:
    """Whether a range lies in the private ranges of RFC 1918."""
    return any(IPv4Network(cidr).subnet_of(private) for private in PRIVATE)


def reserved_for(cidr: str) -> str | None:
    """The use that a range, or a part of it, is reserved for; None for a range that is all on the internet."""
    network = IPv4Network(cidr)
    return next((use for reserved, use in RESERVED.items() if reserved.overlaps(network)), None)


def addresses_in(cidrs: Sequence[str]) -> int:
    """The number of addresses in ranges, each counted once."""
    networks = [IPv4Network(cidr) for cidr in cidrs]
    return sum(network.num_addresses for network in collapse_addresses(networks))
