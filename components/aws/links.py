"""Joins the networks of all clusters: every pair reaches each other, both ways, by address and by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Literal

import pulumi
import pulumi_aws as aws

Join = Literal["peering", "transit-gateway", "none"]


@dataclass(frozen=True)
class NetworkEnd:
    """One network to be joined.

    Attributes:
        route_table_ids: the tables that get a route to every other network.
        account: the number of its AWS account where the networks are in several.
        provider: makes what belongs into its account where that is not the component's own.
    """

    name: str
    region: str
    cidr: str
    vpc_id: pulumi.Input[str]
    subnet_ids: Sequence[pulumi.Input[str]]
    route_table_ids: Sequence[pulumi.Input[str]]
    account: pulumi.Input[str] | None = None
    provider: aws.Provider | None = None


@dataclass(frozen=True)
class NetworkLinksArgs:
    """Args of NetworkLinks.

    Attributes:
        ends: the networks, their ranges disjoint.
        join: the way to join them.
        tags: tags of all resources.
        transit_gateway: the id of a gateway in the networks' one region that exists, None where it is made.
    """

    ends: Sequence[NetworkEnd]
    join: Join
    tags: Mapping[str, str]
    transit_gateway: pulumi.Input[str] | None = None


class NetworkLinks(pulumi.ComponentResource):
    """VPC peering of every pair, or one transit gateway per region with the gateways peered, or one that exists, or
    nothing.

    Outputs:
        routes: the ids of all routes made; what talks across networks may depend on them.
    """

    routes: list[pulumi.Output[str]]

    def __init__(self, name: str, args: NetworkLinksArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:network:NetworkLinks", name, None, opts)
        self._name = name
        self._args = args
        self._child = pulumi.ResourceOptions(parent=self)
        make = {
            "peering": self._peer_pairs,
            "transit-gateway": self._transit,
            "none": list[pulumi.Output[str]],
        }
        self.routes = make[args.join]()
        self.register_outputs({"routes": self.routes})

    def _tags(self, part: str) -> dict[str, str]:
        return {**self._args.tags, "Name": f"{self._name}-{part}"}

    def _of(self, end: NetworkEnd) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, provider=end.provider)

    def _peer_pairs(self) -> list[pulumi.Output[str]]:
        links = {
            frozenset((one.name, other.name)): self._peer(one, other)
            for one, other in combinations(self._args.ends, 2)
        }
        return [
            aws.ec2.Route(
                f"{self._name}-{end.name}-to-{peer.name}-{number}",
                region=end.region,
                route_table_id=table,
                destination_cidr_block=peer.cidr,
                vpc_peering_connection_id=links[frozenset((end.name, peer.name))],
                opts=self._of(end),
            ).id
            for end, peer in permutations(self._args.ends, 2)
            for number, table in enumerate(end.route_table_ids)
        ]

    def _peer(self, one: NetworkEnd, other: NetworkEnd) -> pulumi.Output[str]:
        """Peers two networks and gives the connection's id, known once it is accepted and resolves names."""
        pair = f"{self._name}-{one.name}-{other.name}"
        same_account = one.account is other.account
        accepts_itself = same_account and one.region == other.region
        asked = aws.ec2.VpcPeeringConnection(
            pair,
            region=one.region,
            vpc_id=one.vpc_id,
            peer_vpc_id=other.vpc_id,
            peer_region=None if one.region == other.region else other.region,
            peer_owner_id=None if same_account else other.account,
            auto_accept=True if accepts_itself else None,
            tags=self._tags(f"{one.name}-{other.name}"),
            opts=self._of(one),
        )
        accepted = asked.id if accepts_itself else self._accept(pair, other, asked.id)
        resolved = [
            aws.ec2.PeeringConnectionOptions(
                f"{pair}-{side}-dns",
                region=end.region,
                vpc_peering_connection_id=accepted,
                requester={"allow_remote_vpc_dns_resolution": True} if side == "requester" else None,
                accepter={"allow_remote_vpc_dns_resolution": True} if side == "accepter" else None,
                opts=self._of(end),
            ).vpc_peering_connection_id
            for side, end in (("requester", one), ("accepter", other))
        ]
        return pulumi.Output.all(*resolved).apply(lambda ids: str(ids[0]))

    def _accept(self, pair: str, other: NetworkEnd, connection_id: pulumi.Output[str]) -> pulumi.Output[str]:
        return aws.ec2.VpcPeeringConnectionAccepter(
            f"{pair}-accepter",
            region=other.region,
            vpc_peering_connection_id=connection_id,
            auto_accept=True,
            tags=self._tags(pair),
            opts=self._of(other),
        ).vpc_peering_connection_id

    def _transit(self) -> list[pulumi.Output[str]]:
        regions = sorted({end.region for end in self._args.ends})
        given = self._args.transit_gateway
        gateways = {} if given is not None else {region: self._gateway(region) for region in regions}
        ids = {region: gateways[region].id if given is None else given for region in regions}
        attached = {end.name: self._attach(end, ids[end.region]) for end in self._args.ends}
        across = [
            route
            for one, other in combinations(gateways, 2)
            for route in self._peer_gateways(one, other, gateways)
        ]
        return [
            *across,
            *(
                aws.ec2.Route(
                    f"{self._name}-{end.name}-to-{peer.name}-{number}",
                    region=end.region,
                    route_table_id=table,
                    destination_cidr_block=peer.cidr,
                    transit_gateway_id=ids[end.region],
                    opts=pulumi.ResourceOptions(parent=self, depends_on=[attached[end.name]]),
                ).id
                for end, peer in permutations(self._args.ends, 2)
                for number, table in enumerate(end.route_table_ids)
            ),
        ]

    def _gateway(self, region: str) -> aws.ec2transitgateway.TransitGateway:
        return aws.ec2transitgateway.TransitGateway(
            f"{self._name}-{region}",
            region=region,
            description=f"Joins the mesh networks of {region}",
            dns_support="enable",
            auto_accept_shared_attachments="disable",
            tags=self._tags(region),
            opts=self._child,
        )

    def _attach(self, end: NetworkEnd, gateway: pulumi.Input[str]) -> aws.ec2transitgateway.VpcAttachment:
        return aws.ec2transitgateway.VpcAttachment(
            f"{self._name}-{end.name}",
            region=end.region,
            transit_gateway_id=gateway,
            vpc_id=end.vpc_id,
            subnet_ids=list(end.subnet_ids),
            dns_support="enable",
            tags=self._tags(end.name),
            opts=self._child,
        )

    def _peer_gateways(
        self, one: str, other: str, gateways: Mapping[str, aws.ec2transitgateway.TransitGateway]
    ) -> list[pulumi.Output[str]]:
        """Peers the gateways of two regions and routes each region's ranges from the other."""
        pair = f"{self._name}-{one}-{other}"
        asked = aws.ec2transitgateway.PeeringAttachment(
            pair,
            region=one,
            peer_region=other,
            transit_gateway_id=gateways[one].id,
            peer_transit_gateway_id=gateways[other].id,
            tags=self._tags(f"{one}-{other}"),
            opts=self._child,
        )
        accepted = aws.ec2transitgateway.PeeringAttachmentAccepter(
            f"{pair}-accepter",
            region=other,
            transit_gateway_attachment_id=asked.id,
            tags=self._tags(f"{one}-{other}"),
            opts=self._child,
        )
        return [
            aws.ec2transitgateway.Route(
                f"{self._name}-{region}-to-{end.name}",
                region=region,
                transit_gateway_route_table_id=gateways[region].association_default_route_table_id,
                destination_cidr_block=end.cidr,
                transit_gateway_attachment_id=accepted.transit_gateway_attachment_id,
                opts=self._child,
            ).id
            for region, remote in ((one, other), (other, one))
            for end in self._args.ends
            if end.region == remote
        ]
