"""Every pair of networks is joined once and routed both ways, however many there are."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.aws.links import Join, NetworkEnd, NetworkLinks, NetworkLinksArgs
from tests.unit.recording import Recorder, record


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
