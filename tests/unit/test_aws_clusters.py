"""All EKS clusters of a stack, in their networks, joined."""

import pulumi_aws as aws

from components.aws.clusters import AwsCluster, AwsClusters, AwsClustersArgs
from components.config.settings_aws import parse_aws
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
        providers = {region: aws.Provider(f"aws-{region}", region=region) for region in regions}
        AwsClusters("aws", AwsClustersArgs(specs, parse_aws(aws_config, FILE), providers))

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
    made = clusters(2, {"public": True, "cidrs": ["203.0.113.0/24"]})
    for cluster in made.of("Cluster"):
        assert len(cluster.inputs["publicAccessCidrs"]) == 2


def test_resources_of_the_program_are_named_by_cluster() -> None:
    made = clusters(2)
    assert made.one("cluster-1-eks", "eks:index:Cluster").inputs["name"] == "istio-eks-cluster-1"
