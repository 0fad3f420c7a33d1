"""A wrong AWS configuration is refused before the first resource, naming key, file and what is allowed."""

from datetime import date
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config.aws_facts import support_warning
from components.config.cidr import RESERVED
from components.config.eks import EksSpec
from components.config.errors import ConfigError, validated
from components.config.settings import Settings
from components.config.settings import parse as parse_stack
from tests.unit.test_eks import EKS

FILE = "Pulumi.dev.yaml"
TODAY = date(2026, 11, 1)
ADMIN = "arn:aws:iam::123456789012:"
ROUTE53 = {"mode": "route53", "domain": "app.example.com", "hostedZoneId": "Z1"}


def parse(**changes: Any) -> EksSpec:
    return validated(EksSpec, {**EKS, **changes}, "fedmesh:clusters[0].eks", FILE, {"today": TODAY})


def spec(number: int, **changes: Any) -> EksSpec:
    return parse(vpcCidr=f"10.{number}.0.0/16", serviceCidr=f"172.{16 + number}.0.0/16", **changes)


def test_the_defaults_are_a_private_cluster_with_two_kinds_of_nodes() -> None:
    cluster = parse()
    assert not cluster.endpoint.public
    assert sorted(cluster.node_groups) == ["general", "spire-server"]
    assert cluster.node_groups["general"].desired_size == 2
    assert cluster.node_groups["spire-server"].desired_size == 1


@pytest.mark.parametrize(
    ("changes", "key", "text"),
    [
        ({"version": "1.24"}, "version", "no longer supports 1.24"),
        (
            {"version": "1.33"},
            "version",
            "has only extended support for 1.33: use 1.34 or newer, or set supportType",
        ),
        ({"version": "1.99"}, "version", "EKS has no 1.99"),
        ({"version": 1.34}, "version", "quoted"),
        ({"vpcCidr": "10.2.0.0/24"}, "vpcCidr", "/16 to a /22"),
        ({"vpcCidr": "10.2.0.7/16"}, "vpcCidr", "host bits"),
        *[
            ({"vpcCidr": cidr}, "vpcCidr", "private range")
            for cidr in ("8.8.0.0/16", "127.0.0.0/16", "169.254.0.0/16", "100.64.0.0/16", "198.18.0.0/16")
        ],
        ({"vpcCidr": "10.2.0.0/255.255.0.0"}, "vpcCidr", "an IPv4 range such as"),
        ({"vpcCidr": "10.2.0.0"}, "vpcCidr", "an IPv4 range such as"),
        ({"serviceCidr": "172.20.0.0/28"}, "serviceCidr", "/12 to /24"),
        ({"serviceCidr": "169.254.0.0/16"}, "serviceCidr", "private"),
        ({"zones": ["us-east-1a"]}, "zones", "2 to 6"),
        ({"zones": ["us-east-1a", "us-east-1a"]}, "zones", "different"),
        ({"nat": "two"}, "nat", "one, per-zone"),
        ({"endpoint": {"public": True}}, "endpoint.cidrs", "list of ranges"),
        *[
            ({"endpoint": {"public": True, "cidrs": cidrs}}, "endpoint.cidrs", text)
            for cidrs, text in (
                (["0.0.0.0/0"], "everybody"),
                (["0.0.0.0/1", "128.0.0.0/1"], "a large part of the internet"),
                (["1.2.3.4/0"], "host bits"),
                (["10.0.0.5/8"], "host bits"),
                (["8.8.4.1/24"], "host bits"),
                (["999.0.0.0/99"], "IPv4 range"),
                (["8.8.4.0/99"], "IPv4 range"),
                (["8.8.8.8"], "IPv4 range"),
                (["203.0.113.0/24"], "reserved for documentation"),
                (["8.8.4.0/24", "127.0.0.0/8"], "reserved for loopback"),
                (["169.254.0.0/16"], "reserved for link-local"),
                (["10.0.0.0/8"], "reserved for private networks"),
                (["192.0.0.0/8"], "reserved for"),
                (["100.64.1.0/24"], "reserved for the shared addresses"),
                (["224.0.0.0/8"], "reserved for multicast"),
                (["3.0.0.0/8", "4.0.0.0/32"], "larger than a /8"),
                ("8.8.4.0/24", "a list"),
            )
        ],
        ({"endpoint": {"cidrs": ["8.8.4.0/24"]}}, "endpoint.cidrs", "only used with public"),
        ({"endpoint": {"publik": True}}, "endpoint.publik", "did you mean public?"),
        ({"nodeGroups": {"general": {}}}, "nodeGroups.spire-server", "is missing"),
        (
            {"nodeGroups": {"general": {"instanceTypes": ["m5large"]}, "spire-server": {}}},
            "instanceTypes",
            "m5.large",
        ),
        *[
            ({"nodeGroups": {"general": {"instanceTypes": types}, "spire-server": {}}}, "instanceTypes", text)
            for types, text in (
                (["m8gb.large", "m5.large"], "m8gb.large is arm64, m5.large is x86_64"),
                (["m5.large", "m8gb.large"], "of one architecture"),
                ([], "1 to 20"),
                (["m5.large"] * 21, "1 to 20"),
            )
        ],
        ({"nodeGroups": {"general": {"min": 5}, "spire-server": {}}}, "desired", "min <= desired <= max"),
        ({"nodeGroups": {"general": {"sizes": 1}, "spire-server": {}}}, "sizes", "unknown"),
        ({"addons": {"coredns": "1.11"}}, "addons.coredns", "latest"),
        *[
            ({"admins": [admin]}, "admins[0]", "the ARN of an IAM role or user")
            for admin in (
                "root",
                "arn:aws:iam::123456789012:role/a b/!!",
                "arn:aws:iam::123456789012:root",
                "arn:aws:iam::12345:role/a",
                "arn:aws:sts::123456789012:assumed-role/a/b",
                f"arn:aws:iam::123456789012:role/{'a' * 65}",
            )
        ],
        ({"admins": [f"{ADMIN}role/a", f"{ADMIN}role/a"]}, "admins[1]", "is listed twice"),
        ({"flowLogDays": 31}, "flowLogDays", "one of 1, 3, 5"),
        ({"flowLogDays": 0}, "flowLogDays", "one of 1, 3, 5"),
        ({"logTypes": ["api", "all"]}, "logTypes[1]", "one of api, audit"),
        ({"publicSubnets": 3}, "publicSubnets", "unknown"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_file(changes: dict[str, Any], key: str, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(**changes)
    assert key in refused.value.key
    assert FILE in str(refused.value)
    assert text in str(refused.value)


def test_a_version_goes_out_of_standard_support_on_its_day() -> None:
    def on(day: date) -> EksSpec:
        return validated(EksSpec, {**EKS, "version": "1.34"}, "eks", FILE, {"today": day})

    assert on(date(2026, 12, 2)).version == "1.34"
    with pytest.raises(ConfigError, match=r"only extended support for 1\.34: use 1\.35 or newer"):
        on(date(2026, 12, 3))
    with pytest.raises(ConfigError, match=r"no longer supports 1\.34"):
        on(date(2027, 12, 3))


def test_a_version_in_extended_support_is_taken_where_the_stack_says_so() -> None:
    def on(day: date) -> EksSpec:
        eks = {**EKS, "version": "1.34", "supportType": "extended"}
        return validated(EksSpec, eks, "eks", FILE, {"today": day})

    assert on(date(2026, 12, 3)).support_type == "extended"
    with pytest.raises(ConfigError, match=r"no longer supports 1\.34: use 1\.35 or newer$"):
        on(date(2027, 12, 3))


def test_the_last_ninety_days_of_support_are_told() -> None:
    assert support_warning("1.34", "standard", date(2026, 9, 2)) == ""
    told = support_warning("1.34", "standard", date(2026, 9, 3))
    assert "standard support for 1.34 on 2026-12-02" in told
    assert "use 1.35" in told
    assert support_warning("1.34", "extended", date(2026, 12, 3)) == ""
    assert support_warning("1.99", "standard", date(2026, 12, 3)) == ""


def test_versions_are_still_refused_when_the_table_has_aged() -> None:
    with pytest.raises(ConfigError, match=r"EKS no longer supports 1\.29"):
        validated(EksSpec, {**EKS, "version": "1.29"}, "eks", FILE, {"today": date(2040, 1, 1)})


def test_versions_newer_than_the_table_are_left_to_eks() -> None:
    assert parse(version="1.39").version == "1.39"


@pytest.mark.parametrize(
    ("architecture", "types"),
    [
        ("ARM_64", ["m7g.large", "r8gb.large", "m8gb.large", "i8ge.large", "is4gen.large", "im4gn.large"]),
        ("ARM_64", ["c7gn.large", "x2gd.large", "t4g.small", "g5g.xlarge", "hpc7g.4xlarge", "a1.large"]),
        ("ARM_64", ["m6gd.metal", "c8gn.metal-24xl", "p6e-gb200.36xlarge"]),
        (
            "x86_64",
            ["m5.large", "g4dn.xlarge", "g6e.xlarge", "gr6.4xlarge", "m7i-flex.large", "p5en.48xlarge"],
        ),
        ("x86_64", ["u-3tb1.56xlarge", "u7i-12tb.224xlarge", "trn1.2xlarge", "inf2.xlarge", "c7a.medium"]),
    ],
)
def test_the_image_is_that_of_the_instance_types_architecture(architecture: str, types: list[str]) -> None:
    for each in types:
        group = {"instanceTypes": [each]}
        spec = parse(nodeGroups={"general": group, "spire-server": {**group, "os": "bottlerocket"}})
        assert spec.node_groups["general"].ami_type == f"AL2023_{architecture}_STANDARD", each
        assert spec.node_groups["spire-server"].ami_type == f"BOTTLEROCKET_{architecture}", each
    parse(nodeGroups={"general": {"instanceTypes": types}, "spire-server": {}})


def test_spires_nodes_have_defaults_of_their_own() -> None:
    spire = parse(nodeGroups={"general": {}, "spire-server": {"max": 5}}).node_groups["spire-server"]
    assert (spire.min_size, spire.desired_size, spire.max_size) == (1, 1, 5)


@pytest.mark.parametrize(
    "cidrs", [["8.8.4.0/24"], ["3.0.0.0/8"], ["8.8.8.8/32", "8.8.8.8/32"], ["3.0.0.0/9", "3.128.0.0/9"]]
)
def test_ranges_on_the_internet_may_call_a_public_api_server(cidrs: list[str]) -> None:
    spec = parse(endpoint={"public": True, "cidrs": cidrs})
    assert spec.endpoint.public
    assert spec.endpoint.cidrs == tuple(cidrs)


@given(st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_no_range_that_is_accepted_is_large_reserved_or_inexact(address: int, prefix: int) -> None:
    text = f"{IPv4Address(address)}/{prefix}"
    try:
        accepted = parse(endpoint={"public": True, "cidrs": [text]}).endpoint.cidrs
    except ConfigError as error:
        accepted = ()
        assert error.key.startswith("fedmesh:clusters[0].eks.endpoint.cidrs[0]")
    exact = prefix <= 32 and address % 2 ** (32 - prefix) == 0
    sound = exact and prefix >= 8 and IPv4Network(text).is_global and not IPv4Network(text).is_multicast
    if accepted:
        assert sound
        assert accepted == (text,)
    elif sound:
        # refused though Python calls it global: only for what the registry reserves beside
        assert any(IPv4Network(text).overlaps(reserved) for reserved in RESERVED)


def eks_cluster(number: int, region: str = "us-east-1", **changes: Any) -> dict[str, Any]:
    own = {
        "vpcCidr": f"10.{number}.0.0/16",
        "serviceCidr": f"172.{16 + number}.0.0/16",
        "zones": [f"{region}a", f"{region}b"],
    }
    return {
        "name": f"c{number}",
        "trustDomain": f"td{number}.example",
        "network": f"network-{number}",
        "region": region,
        "eks": {**EKS, **own, **changes},
    }


def existing_cluster(number: int) -> dict[str, Any]:
    return {**eks_cluster(number), "eks": None, "kubeconfig": {"path": "it"}}


def stack(*clusters: dict[str, Any], **aws: Any) -> Settings:
    return parse_stack({"clusters": list(clusters), "aws": aws}, FILE, TODAY)


@given(count=st.integers(2, 12))
def test_disjoint_clusters_of_any_number_are_accepted(count: int) -> None:
    assert len(stack(*(eks_cluster(number) for number in range(count))).clusters) == count


def refused(*clusters: dict[str, Any], **aws: Any) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        stack(*clusters, **aws)
    assert FILE in str(error.value)
    return error.value


def test_overlapping_networks_are_refused_naming_both() -> None:
    error = refused(eks_cluster(2), eks_cluster(3, vpcCidr="10.2.128.0/17"))
    assert error.key == "fedmesh:clusters[0].eks.vpcCidr"
    assert "10.2.0.0/16 overlaps 10.2.128.0/17, the vpcCidr of c3" in error.allowed


def test_overlapping_service_ranges_are_refused_too() -> None:
    error = refused(eks_cluster(2), eks_cluster(3, serviceCidr="172.18.0.0/16"))
    assert error.key == "fedmesh:clusters[0].eks.serviceCidr"


def test_an_unknown_region_is_refused() -> None:
    error = refused(eks_cluster(1, "us-middle-1"), eks_cluster(2))
    assert error.key == "fedmesh:clusters[0].region"
    assert "'us-middle-1' is not an AWS region" in error.allowed


@pytest.mark.parametrize(
    ("zones", "text"),
    [
        (["eu-west-1a", "us-east-1a"], "us-east-1a is not in the region eu-west-1"),
        (["eu-west-1a", "eu-west-1z"], "eu-west-1z is not an availability zone of eu-west-1"),
        (["eu-west-1a", "eu-west-1-lon-1a"], "no control plane in local zones"),
        (["eu-west-1a", "eu-west-1"], "a letter from a to f"),
    ],
)
def test_zones_that_eks_can_not_use_are_refused(zones: list[str], text: str) -> None:
    error = refused(eks_cluster(1, "eu-west-1", zones=zones), eks_cluster(2))
    assert error.key == "fedmesh:clusters[0].eks.zones[1]"
    assert text in error.allowed


def test_regions_that_no_peering_joins_are_refused() -> None:
    error = refused(eks_cluster(1), existing_cluster(2), eks_cluster(3, "cn-north-1"))
    assert error.key == "fedmesh:clusters[2].region"
    assert "c1 in aws, c3 in aws-cn" in error.allowed


def test_admins_are_of_the_regions_partition() -> None:
    error = refused(eks_cluster(1), eks_cluster(2, admins=["arn:aws-cn:iam::123456789012:role/a"]))
    assert error.key == "fedmesh:clusters[1].eks.admins[0]"
    assert "not of the partition aws" in error.allowed


def test_health_checks_from_the_internet_need_a_gateway_on_the_internet() -> None:
    error = refused(eks_cluster(1, ingressScheme="internal"), eks_cluster(2), edge=ROUTE53)
    assert error.key == "fedmesh:aws.edge.mode"
    assert "can't reach the internal ingress of c1" in error.allowed


@pytest.mark.parametrize(
    ("clusters", "edge", "text"),
    [
        ((eks_cluster(1), existing_cluster(2)), ROUTE53, "2 EKS clusters or more, and the stack has 1"),
        (
            (existing_cluster(1), existing_cluster(2)),
            {"mode": "global-accelerator"},
            "an EKS cluster, and the stack has 0",
        ),
    ],
)
def test_an_edge_needs_eks_clusters_to_lead_to(
    clusters: tuple[dict[str, Any], ...], edge: dict[str, Any], text: str
) -> None:
    error = refused(*clusters, edge=edge)
    assert error.key == "fedmesh:aws.edge.mode"
    assert text in error.allowed


@pytest.mark.parametrize(
    ("edge", "key", "text"),
    [
        ({"mode": "route53"}, "domain", "needs domain and hostedZoneId"),
        ({**ROUTE53, "hostedZoneId": None}, "hostedZoneId", "needs domain and hostedZoneId"),
        ({**ROUTE53, "domain": "App.example.com"}, "domain", "a domain name such as"),
        ({**ROUTE53, "domain": f"{'a' * 64}.example.com"}, "domain", "a domain name such as"),
        ({**ROUTE53, "hostedZoneId": "/hostedzone/Z1"}, "hostedZoneId", "public hosted zone"),
        ({"mode": "dns"}, "mode", "none, route53, global-accelerator"),
        ({"healthPort": 0}, "healthPort", "from 1 to 65535"),
    ],
)
def test_a_wrong_edge_is_refused(edge: dict[str, Any], key: str, text: str) -> None:
    error = refused(eks_cluster(1), eks_cluster(2), edge=edge)
    assert error.key == f"fedmesh:aws.edge.{key}"
    assert text in error.allowed


def test_names_that_are_too_long_for_iam_are_refused() -> None:
    assert stack({**eks_cluster(1), "name": "c" * 36}, eks_cluster(2)).clusters[0].eks
    error = refused({**eks_cluster(1), "name": "c" * 37}, eks_cluster(2))
    assert error.key == "fedmesh:clusters[0].name"
    assert "36 characters at most" in error.allowed


def test_public_api_servers_leave_room_for_the_peers_addresses() -> None:
    callers = {"public": True, "cidrs": [f"8.8.{number}.0/24" for number in range(39)]}
    assert stack(eks_cluster(1, endpoint=callers), eks_cluster(2))
    error = refused(eks_cluster(1, endpoint=callers), eks_cluster(2, nat="per-zone"))
    assert error.key == "fedmesh:clusters[0].eks.endpoint.cidrs"
    assert "38 ranges at most" in error.allowed


@pytest.mark.parametrize(
    ("tags", "key", "text"),
    [
        ({"aws:owner": "me"}, "aws:owner", "must not begin with aws:"),
        ({"a\nb": "me"}, "a\nb", "a tag's key"),
        ({"owner": "<me>"}, "owner", "a tag's value"),
        ({"owner": 1}, "owner", "a tag's value"),
        ({f"tag-{number}": "" for number in range(41)}, "", "40 tags at most"),
    ],
)
def test_tags_that_aws_refuses_are_refused(tags: dict[str, Any], key: str, text: str) -> None:
    error = refused(eks_cluster(1), eks_cluster(2), tags=tags)
    assert error.key == f"fedmesh:aws.tags.{key}".rstrip(".")
    assert text in error.allowed


def test_every_resource_is_tagged_with_the_project() -> None:
    assert stack(eks_cluster(1), eks_cluster(2)).aws.tags == {"project": "fedmesh"}
    tagged = stack(eks_cluster(1), eks_cluster(2), tags={"owner": "me"}).aws.tags
    assert tagged == {"project": "fedmesh", "owner": "me"}
