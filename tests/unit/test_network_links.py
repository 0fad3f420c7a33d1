"""Every pair of networks is joined once and routed both ways, however many there are."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.aws.links import Join, NetworkEnd, NetworkLinks, NetworkLinksArgs
from components.config.errors import ConfigError
from components.config.networks import check_gateway
from components.config.settings import parse
from tests.unit.recording import Recorder, record
from tests.unit.stacks import TODAY, values


def ends(regions: list[str]) -> list[NetworkEnd]:
    return [
        NetworkEnd(
            name=f"c{number}",
            region=region,
            cidr=f"10.{number}.0.0/16",
            vpc_id=f"vpc-{number}",
            subnet_ids=[f"subnet-{number}"],
            route_table_ids=[f"rtb-{number}-public", f"rtb-{number}-private"],
        )
        for number, region in enumerate(regions)
    ]


def linked(regions: list[str], join: Join = "peering") -> Recorder:
    return record(
        lambda: NetworkLinks("links", NetworkLinksArgs(ends(regions), join, {"project": "fedmesh"}))
    )


@pytest.mark.parametrize("join", ["peering", "transit-gateway"])
@given(regions=st.lists(st.sampled_from(["us-east-1", "eu-west-1"]), min_size=2, max_size=12))
@settings(max_examples=8, deadline=None)
def test_every_table_of_every_network_has_a_route_to_every_other(join: Join, regions: list[str]) -> None:
    routes = [r for r in linked(regions, join).resources if r.type == "aws:ec2/route:Route"]
    made = sorted((r.inputs["routeTableId"], r.inputs["destinationCidrBlock"]) for r in routes)
    wanted = [
        (table, peer.cidr) for end, peer in permutations(ends(regions), 2) for table in end.route_table_ids
    ]
    assert made == sorted(wanted)


@given(count=st.integers(2, 12))
@settings(max_examples=5, deadline=None)
def test_every_pair_is_peered_once_and_resolves_names_both_ways(count: int) -> None:
    made = linked(["us-east-1"] * count)
    pairs = {frozenset((p.inputs["vpcId"], p.inputs["peerVpcId"])) for p in made.of("VpcPeeringConnection")}
    assert len(made.of("VpcPeeringConnection")) == len(pairs) == count * (count - 1) // 2
    options = made.of("PeeringConnectionOptions")
    for side in ("requester", "accepter"):
        sides = [o.inputs[side] for o in options if side in o.inputs]
        assert sides == [{"allowRemoteVpcDnsResolution": True}] * len(pairs)


def test_one_region_accepts_its_own_peerings() -> None:
    made = linked(["us-east-1", "us-east-1"])
    assert made.of("VpcPeeringConnection")[0].inputs["autoAccept"] is True
    assert not made.of("VpcPeeringConnectionAccepter")


def test_another_region_accepts_in_its_own_region() -> None:
    made = linked(["us-east-1", "eu-west-1"])
    (asked,) = made.of("VpcPeeringConnection")
    (accepted,) = made.of("VpcPeeringConnectionAccepter")
    assert asked.inputs["peerRegion"] == accepted.inputs["region"] == "eu-west-1"
    assert "autoAccept" not in asked.inputs
    assert {r.inputs["region"] for r in made.of("Route")} == {"us-east-1", "eu-west-1"}


def test_a_transit_gateway_stands_in_every_region_and_is_peered_with_the_others() -> None:
    made = linked(["us-east-1", "us-east-1", "eu-west-1"], "transit-gateway")
    assert sorted(g.inputs["region"] for g in made.of("TransitGateway")) == ["eu-west-1", "us-east-1"]
    assert len(made.of("VpcAttachment")) == 3
    assert len(made.of("PeeringAttachmentAccepter")) == 1
    across = [r for r in made.resources if r.type == "aws:ec2transitgateway/route:Route"]
    assert sorted((r.inputs["region"], r.inputs["destinationCidrBlock"]) for r in across) == [
        ("eu-west-1", "10.0.0.0/16"),
        ("eu-west-1", "10.1.0.0/16"),
        ("us-east-1", "10.2.0.0/16"),
    ]


def test_a_gateway_that_exists_gets_attachments_and_routes_alone() -> None:
    args = NetworkLinksArgs(ends(["us-east-1"] * 3), "transit-gateway", {}, transit_gateway="tgw-1")
    made = record(lambda: NetworkLinks("links", args))
    assert not made.of("TransitGateway")
    assert {each.inputs["transitGatewayId"] for each in made.of("VpcAttachment")} == {"tgw-1"}
    assert {each.inputs["transitGatewayId"] for each in made.of("Route")} == {"tgw-1"}
    assert len(made.of("Route")) == 3 * 2 * 2


GATEWAY = {
    "id": "tgw-1",
    "owner": "1",
    "association": True,
    "propagation": True,
    "dns": True,
    "auto_accept": False,
}


def test_a_gateway_must_join_what_is_attached_to_it() -> None:
    assert check_gateway(GATEWAY, "1", "Pulumi.dev.yaml")
    assert check_gateway({**GATEWAY, "auto_accept": True}, "2", "Pulumi.dev.yaml")
    for option, reason in (
        ("association", "association"),
        ("propagation", "propagation"),
        ("dns", "DNS support"),
    ):
        with pytest.raises(ConfigError, match=f"fedmesh:aws.transitGatewayId in .*: tgw-1 needs .*{reason}"):
            check_gateway({**GATEWAY, option: False}, "1", "Pulumi.dev.yaml")
    with pytest.raises(ConfigError, match="auto-accept shared attachments"):
        check_gateway(GATEWAY, "2", "Pulumi.dev.yaml")


@pytest.mark.parametrize(
    ("aws", "reason"),
    [
        ({"transitGatewayId": "tgw-0123456789abcdef0"}, "is used with join: transit-gateway alone"),
        ({"join": "transit-gateway", "transitGatewayId": "mine"}, "must be a transit gateway's id"),
        (
            {"join": "transit-gateway", "transitGatewayId": "tgw-0123456789abcdef0"},
            "joins the networks of one region, and the stack's are in eu-west-1, us-east-1",
        ),
    ],
)
def test_a_gateway_of_ones_own_is_for_one_region(aws: dict[str, str], reason: str) -> None:
    stack = values("prod")
    stack["aws"] = aws
    with pytest.raises(ConfigError, match=rf"fedmesh:aws.transitGatewayId in Pulumi.prod.yaml: {reason}"):
        parse(stack, "Pulumi.prod.yaml", TODAY)
