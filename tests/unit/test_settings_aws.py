"""A wrong AWS configuration is refused before the first resource, naming key, file and what is allowed."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config.errors import ConfigError
from components.config.settings_aws import EksSpec, check_topology, parse_aws, parse_eks
from tests.unit.test_eks import EKS

FILE = "Pulumi.dev.yaml"
TODAY = date(2026, 11, 1)


def parse(**changes: Any) -> EksSpec:
    return parse_eks({**EKS, **changes}, "fedmesh:clusters[0].eks", FILE, TODAY)


def spec(number: int, **changes: Any) -> EksSpec:
    return parse(vpcCidr=f"10.{number}.0.0/16", serviceCidr=f"172.{16 + number}.0.0/16", **changes)


def test_the_defaults_are_a_private_cluster_with_two_kinds_of_nodes() -> None:
    cluster = parse()
    assert not cluster.public_endpoint
    assert sorted(cluster.node_groups) == ["general", "spire-server"]
    assert cluster.node_groups["general"].desired_size == 2
    assert cluster.node_groups["spire-server"].desired_size == 1


@pytest.mark.parametrize(
    ("changes", "key", "text"),
    [
        ({"version": "1.24"}, "version", "no longer supports 1.24"),
        ({"version": 1.34}, "version", "quoted"),
        ({"vpcCidr": "10.2.0.0/24"}, "vpcCidr", "/16 to a /22"),
        ({"vpcCidr": "10.2.0.7/16"}, "vpcCidr", "host bits"),
        ({"vpcCidr": "8.8.0.0/16"}, "vpcCidr", "private"),
        ({"serviceCidr": "172.20.0.0/28"}, "serviceCidr", "/12 to /24"),
        ({"zones": ["us-east-1a"]}, "zones", "2 to 6"),
        ({"zones": ["us-east-1a", "us-east-1a"]}, "zones", "different"),
        ({"nat": "two"}, "nat", "one, per-zone"),
        ({"endpoint": {"public": True}}, "endpoint.cidrs", "list of ranges"),
        ({"endpoint": {"public": True, "cidrs": ["0.0.0.0/0"]}}, "endpoint.cidrs", "everybody"),
        ({"nodeGroups": {"general": {}}}, "nodeGroups.spire-server", "is missing"),
        (
            {"nodeGroups": {"general": {"instanceTypes": ["m5large"]}, "spire-server": {}}},
            "instanceTypes",
            "m5.large",
        ),
        ({"nodeGroups": {"general": {"min": 5}, "spire-server": {}}}, "desired", "min <= desired <= max"),
        ({"nodeGroups": {"general": {"sizes": 1}, "spire-server": {}}}, "sizes", "unknown"),
        ({"addons": {"coredns": "1.11"}}, "addons.coredns", "latest"),
        ({"admins": ["root"]}, "admins", "ARNs"),
        ({"publicSubnets": 3}, "publicSubnets", "unknown"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_file(changes: dict[str, Any], key: str, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(**changes)
    assert key in refused.value.key
    assert FILE in str(refused.value)
    assert text in str(refused.value)


def test_a_version_goes_out_of_support_on_its_day() -> None:
    assert parse_eks({**EKS, "version": "1.31"}, "eks", FILE, date(2026, 11, 26)).version == "1.31"
    with pytest.raises(ConfigError, match=r"use 1\.32 or newer"):
        parse_eks({**EKS, "version": "1.31"}, "eks", FILE, date(2026, 11, 27))


def test_versions_newer_than_the_table_are_left_to_eks() -> None:
    assert parse(version="1.39").version == "1.39"


@given(count=st.integers(2, 12))
def test_disjoint_clusters_of_any_number_are_accepted(count: int) -> None:
    clusters = {f"c{n}": ("us-east-1", spec(n)) for n in range(count)}
    check_topology(clusters, parse_aws({}, FILE), FILE)


def refused(clusters: dict[str, tuple[str, EksSpec]], aws: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        check_topology(clusters, parse_aws(aws, FILE), FILE)
    return str(error.value)


def test_overlapping_networks_are_refused_naming_both() -> None:
    text = refused({"a": ("us-east-1", spec(2)), "b": ("us-east-1", parse(vpcCidr="10.2.128.0/17"))})
    assert "10.2.0.0/16 overlaps 10.2.128.0/17" in text


def test_overlapping_service_ranges_are_refused_too() -> None:
    text = refused(
        {
            "a": ("us-east-1", spec(2)),
            "b": ("us-east-1", parse(vpcCidr="10.9.0.0/16", serviceCidr="172.18.0.0/16")),
        }
    )
    assert "serviceCidr" in text


def test_an_unknown_region_is_refused() -> None:
    assert "'us-middle-1' is no AWS region" in refused({"a": ("us-middle-1", spec(1))})


def test_zones_of_another_region_are_refused() -> None:
    assert "us-east-1a is not in the region eu-west-1" in refused({"a": ("eu-west-1", spec(1))})


def test_regions_that_no_peering_joins_are_refused() -> None:
    china = spec(3, zones=["cn-north-1a", "cn-north-1b"])
    text = refused({"a": ("us-east-1", spec(1)), "b": ("cn-north-1", china)})
    assert "a in aws, b in aws-cn" in text


def test_health_checks_from_the_internet_need_a_gateway_on_the_internet() -> None:
    edge = {"mode": "route53", "domain": "app.example.com", "hostedZoneId": "Z1"}
    text = refused({"a": ("us-east-1", spec(1, ingressScheme="internal"))}, {"edge": edge})
    assert "can't reach the internal ingress of a" in text


def test_route53_needs_a_domain_and_a_zone() -> None:
    with pytest.raises(ConfigError, match="needs domain and hostedZoneId"):
        parse_aws({"edge": {"mode": "route53"}}, FILE)
