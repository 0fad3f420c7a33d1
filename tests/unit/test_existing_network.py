"""An EKS cluster in a VPC that exists: what is checked before anything is made, and what is left to its owner."""

import re
from typing import Any, ClassVar

import pytest

from components.aws.clusters import AwsCluster, AwsClusters, AwsClustersArgs
from components.aws.existing_network import FoundNetwork, FoundNetworkArgs
from components.aws.fleet import aws_providers
from components.config.aws import AwsSettings
from components.config.eks import EksSpec, ExistingNetwork
from components.config.errors import ConfigError, validated
from components.config.networks import check_network, one_per_zone
from components.config.settings import parse as parse_stack
from tests.unit import recording
from tests.unit.recording import Recorder, record, value
from tests.unit.test_eks import EKS
from tests.unit.test_settings_aws import FILE, TODAY, eks_cluster, refused, spec

VPC, PRIVATE = "vpc-0000000a", ("subnet-0000000a", "subnet-0000000b")
PUBLIC, TABLE = "subnet-0000000c", "rtb-0000000a"
NETWORK: dict[str, Any] = {
    "vpcId": VPC,
    "privateSubnetIds": list(PRIVATE),
    "publicSubnetIds": [PUBLIC],
    "routeTableIds": [TABLE],
    "natAddresses": ["8.8.4.4"],
}
WITHOUT_ZONES = {key: value for key, value in EKS.items() if key != "zones"}
SUBNETS: dict[str, dict[str, Any]] = {
    PRIVATE[0]: {"availabilityZone": "us-east-1a", "tags": {"kubernetes.io/role/internal-elb": "1"}},
    PRIVATE[1]: {"availabilityZone": "us-east-1b", "tags": {"kubernetes.io/role/internal-elb": "1"}},
    PUBLIC: {"availabilityZone": "us-east-1a", "tags": {"kubernetes.io/role/elb": "1"}},
}
RANGES = {"cidrBlock": "10.9.0.0/16", "cidrBlockAssociations": [{"cidrBlock": "10.2.0.0/16"}]}
NAMES = {"enableDnsSupport": True, "enableDnsHostnames": True}


def in_network(**changes: Any) -> dict[str, Any]:
    return {**WITHOUT_ZONES, "network": {**NETWORK, **changes}}


class Account(Recorder):
    """With the VPC and its subnets, some of them other than they should be."""

    changed: ClassVar[dict[str, dict[str, Any]]] = {}

    def call(self, args: Any) -> dict[str, Any]:
        answer = super().call(args)
        if args.token == "aws:ec2/getVpc:getVpc":
            return {**answer, **RANGES, **NAMES, **self.changed.get(VPC, {})}
        if args.token == "aws:ec2/getSubnet:getSubnet":
            id_ = args.args["id"]
            return {
                **answer,
                "vpcId": VPC,
                "availabilityZoneId": "use1-az1",
                **SUBNETS[id_],
                **self.changed.get(id_, {}),
            }
        return answer


def clusters(monkeypatch: pytest.MonkeyPatch, join: str = "peering", **found: dict[str, Any]) -> Recorder:
    """Two clusters, the first in an existing VPC."""
    monkeypatch.setattr(recording, "Recorder", Account)
    monkeypatch.setattr(Account, "changed", found)
    tables = [TABLE] if join != "none" else []
    old = validated(EksSpec, in_network(routeTableIds=tables), "eks", FILE, {"today": TODAY})

    def build() -> None:
        specs = [
            AwsCluster("old", "old", "us-east-1", old),
            AwsCluster("new", "new", "eu-west-1", spec(5, zones=["eu-west-1a", "eu-west-1b"])),
        ]
        providers = aws_providers({each.name: each for each in specs})
        settings = validated(AwsSettings, {"join": join}, "fedmesh:aws", FILE)
        AwsClusters("aws", AwsClustersArgs(specs, settings, providers, FILE))

    return record(build)


def test_nothing_is_made_of_a_network_that_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    made = clusters(monkeypatch)
    assert [each.name for each in made.of("Vpc")] == ["new-network-vpc"]
    assert not [each for each in made.of("Subnet") if each.name.startswith("old")]
    assert not [each for each in made.of("FlowLog") if each.name.startswith("old")]
    cluster = made.one("old-eks", "eks:index:Cluster").inputs
    assert (cluster["vpcId"], cluster["privateSubnetIds"]) == (VPC, list(PRIVATE))
    (zone,) = made.of("Zone")
    assert VPC in [each["vpcId"] for each in zone.inputs["vpcs"]]


def test_it_is_joined_by_routes_in_its_own_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    made = clusters(monkeypatch)
    (peering,) = made.of("VpcPeeringConnection")
    assert peering.inputs["vpcId"] == VPC
    routes = [each.inputs for each in made.of("Route") if each.name.startswith("aws-links-old")]
    assert [(each["routeTableId"], each["destinationCidrBlock"]) for each in routes] == [
        (TABLE, "10.5.0.0/16")
    ]


def test_networks_that_something_else_joins_get_no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    made = clusters(monkeypatch, join="none")
    assert not made.of("VpcPeeringConnection")
    assert not [each for each in made.of("Route") if "links" in each.name]
    assert [each for each in made.of("SecurityGroupIngressRule") if "from-new-api" in each.name]


def test_load_balancers_are_told_one_subnet_of_each_zone() -> None:
    zones = {"subnet-b": "us-east-1a", "subnet-a": "us-east-1a", "subnet-c": "us-east-1b"}
    assert one_per_zone(["subnet-b", "subnet-c", "subnet-a"], zones) == ["subnet-a", "subnet-c"]


def test_tags_of_other_clusters_hide_no_subnet_from_load_balancers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "Recorder", Account)
    network = validated(ExistingNetwork, NETWORK, "eks.network", FILE)
    made: list[FoundNetwork] = []
    args = FoundNetworkArgs(network, "10.2.0.0/16", "eks.network", FILE)
    record(lambda: made.append(FoundNetwork("old", args)))
    subnets = {scheme: value(ids) for scheme, ids in made[0].load_balancer_subnets.items()}
    assert subnets == {"internal": ",".join(PRIVATE), "internet-facing": PUBLIC}


FOUND: dict[str, dict[str, Any]] = {
    VPC: {"cidrs": ["10.9.0.0/16", "10.2.0.0/16"], "dns_support": True, "dns_hostnames": True},
    **{
        id_: {
            "vpc_id": VPC,
            "zone": each["availabilityZone"],
            "zone_id": "use1-az1",
            "tags": each["tags"],
        }
        for id_, each in SUBNETS.items()
    },
}


def check(found: dict[str, dict[str, Any]]) -> bool:
    network = validated(EksSpec, in_network(), "eks", FILE, {"today": TODAY}).network
    assert network
    subnets = {id_: found[id_] for id_ in SUBNETS}
    return check_network(network, "10.2.0.0/16", vpc=found[VPC], subnets=subnets, key="network", source=FILE)


def test_a_network_that_does_passes() -> None:
    assert check(FOUND)


@pytest.mark.parametrize(
    ("place", "found", "key", "text"),
    [
        (VPC, {"cidrs": ["10.9.0.0/16"]}, "vpcId", "has 10.9.0.0/16 and not the vpcCidr 10.2.0.0/16"),
        (VPC, {"dns_hostnames": False}, "vpcId", "enableDnsHostnames"),
        (PRIVATE[1], {"vpc_id": "vpc-0000000b"}, "privateSubnetIds[1]", "is in vpc-0000000b and not in"),
        (PRIVATE[1], {"zone": "us-east-1a"}, "privateSubnetIds", "two zones"),
        (PRIVATE[0], {"zone_id": "use1-az3"}, "privateSubnetIds[0]", "EKS does not support"),
        (PRIVATE[0], {"tags": {}}, "privateSubnetIds[0]", "the tag kubernetes.io/role/internal-elb"),
        (PUBLIC, {"tags": {"kubernetes.io/role/internal-elb": "1"}}, "publicSubnetIds[0]", "role/elb"),
    ],
)
def test_a_network_that_does_not_do_is_refused_by_its_key(
    place: str, found: dict[str, Any], key: str, text: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)) as refused:
        check({**FOUND, place: {**FOUND[place], **found}})
    assert refused.value.key == f"network.{key}"


def test_a_run_stops_at_a_network_that_does_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="needs the tag"):
        clusters(monkeypatch, **{PRIVATE[0]: {"tags": {}}})


@pytest.mark.parametrize(
    ("changes", "key", "text"),
    [
        ({"zones": ["us-east-1a", "us-east-1b"]}, "zones", "not used with network"),
        ({"nat": "one"}, "nat", "not used with network"),
        ({"vpcEndpoints": "s3"}, "vpcEndpoints", "not used with network"),
        ({"network": {**NETWORK, "privateSubnetIds": [PRIVATE[0]]}}, "network.privateSubnetIds", "2 to 16"),
        ({"network": {**NETWORK, "privateSubnetIds": []}}, "network.privateSubnetIds", "2 to 16"),
        (
            {"network": {**NETWORK, "publicSubnetIds": [PRIVATE[0]]}},
            "network.publicSubnetIds[0]",
            "private subnets too",
        ),
        (
            {"network": {**NETWORK, "publicSubnetIds": []}},
            "network.publicSubnetIds",
            "internet-facing ingress",
        ),
        ({"network": {**NETWORK, "vpcId": "my-vpc"}}, "network.vpcId", "such as vpc-"),
        (
            {"network": {**NETWORK, "natAddresses": ["10.0.0.1"]}},
            "network.natAddresses[0]",
            "on the internet",
        ),
        (
            {"network": {**NETWORK, "natAddresses": ["300.1.1.1"]}},
            "network.natAddresses[0]",
            "an IPv4 address",
        ),
    ],
)
def test_a_wrong_network_is_refused_by_its_key(changes: dict[str, Any], key: str, text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)) as refused:
        validated(EksSpec, {**in_network(), **changes}, "eks", FILE, {"today": TODAY})
    assert refused.value.key == f"eks.{key}"


def test_without_a_network_zones_are_required() -> None:
    with pytest.raises(ConfigError, match="is missing") as refused:
        validated(EksSpec, WITHOUT_ZONES, "eks", FILE, {"today": TODAY})
    assert refused.value.key == "eks.zones"


@pytest.mark.parametrize(
    ("join", "tables", "text"),
    [("peering", [], "needs the route tables of c1"), ("none", [TABLE], "makes no routes")],
)
def test_a_network_that_exists_is_joined_by_the_stack_or_by_something_else(
    join: str, tables: list[str], text: str
) -> None:
    eks = in_network(routeTableIds=tables)
    raw = [
        {**eks_cluster(1), "eks": {**eks, "vpcCidr": "10.1.0.0/16", "serviceCidr": "172.17.0.0/16"}},
        eks_cluster(2),
    ]
    assert refused(*raw, join=join).key == "fedmesh:clusters[0].eks.network.routeTableIds"
    with pytest.raises(ConfigError, match=text):
        parse_stack({"clusters": raw, "aws": {"join": join}}, FILE, TODAY)
