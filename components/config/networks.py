"""What EKS and load balancers need of a network that exists already."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.config.eks import ExistingNetwork
from components.config.errors import ConfigError
from components.config.zones import UNSUPPORTED_ZONE_IDS

INTERNAL, EXTERNAL = "kubernetes.io/role/internal-elb", "kubernetes.io/role/elb"


def check_network(
    network: ExistingNetwork,
    vpc_cidr: str,
    *,
    vpc: Mapping[str, Any],
    subnets: Mapping[str, Mapping[str, Any]],
    key: str,
    source: str,
) -> bool:
    """Checks a VPC and its subnets.

    Args:
        vpc_cidr: the range that the VPC must have.
        vpc: `cidrs`, `dns_support` and `dns_hostnames`.
        subnets: by id `vpc_id`, `zone`, `zone_id` and `tags`.
        key, source: where the stack file has the network.

    Raises:
        ConfigError: the VPC has another range or no names; a subnet is in another VPC, in a zone that EKS does not
            take, or without its tag; or the private subnets are all in one zone.
    """

    def refuse(path: str, reason: str) -> ConfigError:
        return ConfigError(f"{key}.{path}", source, reason)

    if vpc_cidr not in vpc["cidrs"]:
        raise refuse(
            "vpcId",
            f"{network.vpc_id} has {', '.join(vpc['cidrs'])} and not the vpcCidr {vpc_cidr}",
        )
    if not (vpc["dns_support"] and vpc["dns_hostnames"]):
        raise refuse(
            "vpcId",
            f"{network.vpc_id} must have enableDnsSupport and enableDnsHostnames, by which nodes find EKS",
        )
    lists: dict[str, tuple[Sequence[str], str]] = {
        "privateSubnetIds": (network.private_subnet_ids, INTERNAL),
        "publicSubnetIds": (network.public_subnet_ids, EXTERNAL),
    }
    for part, (ids, tag) in lists.items():
        for place, each in enumerate(ids):
            found, path = subnets[each], f"{part}[{place}]"
            if found["vpc_id"] != network.vpc_id:
                raise refuse(path, f"{each} is in {found['vpc_id']} and not in {network.vpc_id}")
            if found["zone_id"] in UNSUPPORTED_ZONE_IDS:
                raise refuse(
                    path, f"{each} is in {found['zone']} ({found['zone_id']}), which EKS does not support"
                )
            if tag not in found["tags"]:
                raise refuse(
                    path, f"{each} needs the tag {tag}: 1, by which load balancers find their subnets"
                )
    zones = {subnets[each]["zone"] for each in network.private_subnet_ids}
    if len(zones) < 2:
        raise refuse("privateSubnetIds", f"all are in {', '.join(zones)}: EKS needs subnets in two zones")
    return True


def one_per_zone(ids: Sequence[str], zones: Mapping[str, str]) -> list[str]:
    """The first subnet of each zone by id, as a load balancer takes one of a zone: those of its `zones` by subnet."""
    chosen: dict[str, str] = {}
    for each in sorted(ids):
        chosen.setdefault(zones[each], each)
    return sorted(chosen.values())


def check_gateway(gateway: Mapping[str, Any], account: str, source: str) -> bool:
    """Checks that a transit gateway which exists joins what is attached to it.

    Args:
        gateway: `id`, `owner`, and the options `association`, `propagation`, `dns` and `auto_accept`, on or off.
        account: the number of the account that attaches networks.
        source: where the stack file has it.

    Raises:
        ConfigError: names the option that is off.
    """
    on = {
        "default route table association": gateway["association"],
        "default route table propagation": gateway["propagation"],
        "DNS support": gateway["dns"],
        "auto-accept shared attachments": gateway["auto_accept"] or gateway["owner"] == account,
    }
    off = next((option for option, value in on.items() if not value), None)
    if off:
        raise ConfigError(
            "fedmesh:aws.transitGatewayId", source, f"{gateway['id']} needs {off}, which is off"
        )
    return True
