"""Address plans hold for every VPC size and number of zones."""

from ipaddress import IPv4Network
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config.cidr import first_overlap, plan_subnets

vpcs = st.builds(
    lambda prefix, number: str(
        IPv4Network((int(IPv4Network("10.0.0.0/8")[0]) + (number << (32 - prefix)), prefix))
    ),
    prefix=st.integers(16, 22),
    number=st.integers(0, 255),
)
zone_counts = st.integers(2, 6)


@given(vpcs, zone_counts)
def test_every_zone_gets_one_private_and_one_public_subnet(vpc: str, zones: int) -> None:
    plan = plan_subnets(vpc, zones)
    assert len(plan.private) == len(plan.public) == zones


@given(vpcs, zone_counts)
def test_subnets_lie_inside_the_vpc_and_never_overlap(vpc: str, zones: int) -> None:
    plan = plan_subnets(vpc, zones)
    subnets = [IPv4Network(cidr) for cidr in plan.private + plan.public]
    assert all(subnet.subnet_of(IPv4Network(vpc)) for subnet in subnets)
    assert not any(one.overlaps(other) for one, other in combinations(subnets, 2))


@given(vpcs, zone_counts)
def test_every_subnet_is_one_that_aws_accepts(vpc: str, zones: int) -> None:
    plan = plan_subnets(vpc, zones)
    assert all(16 <= IPv4Network(cidr).prefixlen <= 28 for cidr in plan.private + plan.public)


@given(vpcs, zone_counts)
def test_private_subnets_are_at_least_as_large_as_public_ones(vpc: str, zones: int) -> None:
    plan = plan_subnets(vpc, zones)
    assert IPv4Network(plan.private[0]).num_addresses >= IPv4Network(plan.public[0]).num_addresses


def test_the_dev_network_is_cut_into_quarters() -> None:
    plan = plan_subnets("10.2.0.0/16", 3)
    assert plan.private == ("10.2.0.0/18", "10.2.64.0/18", "10.2.128.0/18")
    assert plan.public == ("10.2.192.0/20", "10.2.208.0/20", "10.2.224.0/20")


@pytest.mark.parametrize("cidr", ["10.0.0.0/15", "10.0.0.0/23", "10.0.0.1/16", "ten"])
def test_a_range_that_no_vpc_can_have_is_refused(cidr: str) -> None:
    with pytest.raises(ValueError):
        plan_subnets(cidr, 3)


@pytest.mark.parametrize("zones", [1, 7])
def test_too_few_or_too_many_zones_are_refused(zones: int) -> None:
    with pytest.raises(ValueError, match="2 to 6"):
        plan_subnets("10.0.0.0/16", zones)


@given(st.integers(2, 12), st.data())
def test_an_overlap_is_found_wherever_it_hides(count: int, data: st.DataObject) -> None:
    ranges = {f"cluster-{number}": f"10.{number}.0.0/16" for number in range(count)}
    assert first_overlap(ranges) is None
    one, other = sorted(data.draw(st.lists(st.integers(0, count - 1), min_size=2, max_size=2, unique=True)))
    ranges[f"cluster-{other}"] = f"10.{one}.128.0/17"
    assert first_overlap(ranges) == (f"cluster-{one}", f"cluster-{other}")
