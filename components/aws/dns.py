"""Private DNS names of the gateways, which stay the same for as long as their cluster exists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import pulumi
import pulumi_aws as aws

TTL_SECONDS = 30


@dataclass(frozen=True)
class ZoneNetwork:
    """A VPC that resolves the names of the zone, and the provider of its account where that is not the zone's own."""

    name: str
    region: str
    vpc_id: pulumi.Input[str]
    provider: aws.Provider | None = None


@dataclass(frozen=True)
class PrivateZoneArgs:
    """Args of PrivateZone: its domain, the VPCs that resolve it, and tags."""

    domain: str
    networks: Sequence[ZoneNetwork]
    tags: Mapping[str, str]


class PrivateZone(pulumi.ComponentResource):
    """A private hosted zone shared by the networks of all clusters.

    Outputs:
        zone_id: id of the hosted zone.
        domain: its name.
    """

    zone_id: pulumi.Output[str]
    domain: str

    def __init__(self, name: str, args: PrivateZoneArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:dns:PrivateZone", name, None, opts)
        several_accounts = any(network.provider for network in args.networks)
        # with associations of their own, the zone must not take away what it does not list
        listed = args.networks[:1] if several_accounts else args.networks
        zone = aws.route53.Zone(
            f"{name}-zone",
            name=args.domain,
            comment="Gateways of the mesh",
            vpcs=[{"vpc_id": network.vpc_id, "vpc_region": network.region} for network in listed],
            tags=dict(args.tags),
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["vpcs"] if several_accounts else None),
        )
        for network in args.networks[len(listed) :]:
            self._associate(f"{name}-{network.name}", zone, network)
        self.zone_id = zone.zone_id
        self.domain = args.domain
        self.register_outputs({"zoneId": self.zone_id})

    def _associate(self, name: str, zone: aws.route53.Zone, network: ZoneNetwork) -> None:
        """Associates a network; that of another account associates itself, once the zone's account allows it."""
        ends: dict[str, Any] = {
            "zone_id": zone.zone_id,
            "vpc_id": network.vpc_id,
            "vpc_region": network.region,
        }
        allowed = (
            [aws.route53.VpcAssociationAuthorization(name, **ends, opts=pulumi.ResourceOptions(parent=self))]
            if network.provider
            else []
        )
        opts = pulumi.ResourceOptions(parent=self, provider=network.provider, depends_on=[*allowed])
        aws.route53.ZoneAssociation(name, **ends, opts=opts)


@dataclass(frozen=True)
class MeshNameArgs:
    """Args of MeshName: the full name, the zone it is in, and the load balancer's address, name or IPv4."""

    fqdn: str
    zone_id: pulumi.Input[str]
    address: pulumi.Input[str]


class MeshName(pulumi.ComponentResource):
    """The name of one load balancer, the same for as long as its cluster exists.

    Outputs:
        fqdn: the name, known when its record exists.
    """

    fqdn: pulumi.Output[str]

    def __init__(self, name: str, args: MeshNameArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:dns:MeshName", name, None, opts)
        self.fqdn = aws.route53.Record(
            f"{name}-record",
            zone_id=args.zone_id,
            name=args.fqdn,
            type=pulumi.Output.from_input(args.address).apply(record_type),
            ttl=TTL_SECONDS,
            records=[args.address],
            opts=pulumi.ResourceOptions(parent=self),
        ).fqdn
        self.register_outputs({"fqdn": self.fqdn})


def record_type(address: str) -> str:
    """Returns `A` for an IPv4 address, `CNAME` for a name."""
    try:
        IPv4Address(address)
    except ValueError:
        return "CNAME"
    return "A"
