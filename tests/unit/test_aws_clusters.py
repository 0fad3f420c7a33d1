"""All EKS clusters of a stack, in their networks, joined."""

import pytest

from components.aws.clusters import AwsCluster, AwsClusters, AwsClustersArgs
from components.aws.fleet import aws_providers
from components.config.aws import AwsSettings
from components.config.errors import ConfigError, validated
from components.config.zones import verified_zones
from tests.unit.recording import Recorder, record
from tests.unit.test_settings_aws import FILE, spec


def clusters(count: int, endpoint: dict[str, object] | None = None, **aws_config: object) -> Recorder:
    regions = ("us-east-1", "eu-west-1")

    def build() -> None:
        specs = [
            AwsCluster(
                f"cluster-{n}",
                f"cluster-{n}",
                regions[n % 2],
                spec(n, zones=[f"{regions[n % 2]}{zone}" for zone in "abc"], endpoint=endpoint or {}),
            )
            for n in range(count)
        ]
        providers = aws_providers({each.name: each for each in specs})
        settings = validated(AwsSettings, aws_config, "fedmesh:aws", FILE)
        AwsClusters("aws", AwsClustersArgs(specs, settings, providers, FILE))

    return record(build)


def test_every_cluster_has_its_own_network_and_knows_all_peers() -> None:
    made = clusters(3)
    assert len(made.of("Vpc")) == len(made.of("Cluster")) == 3
    rules = [r for r in made.of("SecurityGroupIngressRule") if "-from-cluster-" in r.name]
    assert len(rules) == 3 * 2


def test_every_vpc_sees_the_private_zone() -> None:
    (zone,) = clusters(3).of("Zone")
    assert len(zone.inputs["vpcs"]) == 3


def test_a_stack_can_do_without_a_private_zone() -> None:
    assert not clusters(2, privateZone="").of("Zone")


def test_a_public_api_server_lets_the_peers_in_by_their_nat_addresses() -> None:
    made = clusters(2, {"public": True, "cidrs": ["8.8.4.0/24"]})
    for cluster in made.of("Cluster"):
        assert len(cluster.inputs["publicAccessCidrs"]) == 2


def test_resources_of_the_program_are_named_by_cluster() -> None:
    made = clusters(2)
    assert made.one("cluster-1-eks", "eks:index:Cluster").inputs["name"] == "istio-eks-cluster-1"


ZONE_IDS = {"us-east-1a": "use1-az1", "us-east-1b": "use1-az2", "us-east-1e": "use1-az3"}


def test_zones_that_the_account_has_and_eks_takes_pass() -> None:
    assert list(verified_zones(["us-east-1a", "us-east-1b"], ZONE_IDS, "k", FILE)) == [
        "us-east-1a",
        "us-east-1b",
    ]


@pytest.mark.parametrize(
    ("zone", "reason"),
    [
        ("us-east-1e", "us-east-1e is use1-az3 in this account, which EKS does not support"),
        ("us-east-1z", "us-east-1z is not an availability zone of this account"),
    ],
)
def test_other_zones_are_refused_with_the_ones_that_are_allowed(zone: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"zones in {FILE}: {reason}; allowed: us-east-1a, us-east-1b$"):
        verified_zones(["us-east-1a", zone], ZONE_IDS, "fedmesh:clusters[c].eks.zones", FILE)


def test_subnets_are_created_in_verified_zones_alone() -> None:
    made = clusters(2)
    assert {s.inputs["availabilityZone"][:-1] for s in made.of("Subnet")} == {"us-east-1", "eu-west-1"}
    assert [token for token, _ in made.calls].count(
        "aws:index/getAvailabilityZones:getAvailabilityZones"
    ) == 2
