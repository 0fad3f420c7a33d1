"""The EKS clusters that a stack creates, and the AWS providers of their regions."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import pulumi
import pulumi_aws as aws

from components.aws.clusters import AwsCluster, AwsClusters, AwsClustersArgs
from components.config.accounts import AccountSpec
from components.config.aws_facts import support_warning
from components.config.settings import Settings

SESSION = "fedmesh"  # as which CloudTrail shows the calls of an assumed role


@dataclass(frozen=True)
class CreatedCluster:
    """Access to a created cluster.

    Attributes:
        kubeconfig: JSON with one context, a secret.
        api_server: URL of the API server.
        requirements: components that must outlive every Kubernetes object of the cluster.
    """

    kubeconfig: pulumi.Output[str]
    api_server: pulumi.Output[str]
    requirements: tuple[pulumi.Resource, ...]


@dataclass(frozen=True)
class EksFleet:
    """All EKS clusters of a stack; a stack that has only existing clusters has an empty fleet.

    Attributes:
        settings: the stack's settings.
        specs: the EKS clusters by name.
        providers: the AWS provider of each, one for every account and region.
        resources: networks, clusters and private zone; None in an empty fleet.
    """

    settings: Settings
    specs: Mapping[str, AwsCluster]
    providers: Mapping[str, aws.Provider]
    resources: AwsClusters | None

    @property
    def clusters(self) -> dict[str, CreatedCluster]:
        """Access to each cluster by its name."""
        if self.resources is None:
            return {}
        return {
            name: CreatedCluster(each.kubeconfig, each.endpoint, self.resources.requirements(name))
            for name, each in self.resources.clusters.items()
        }

    @property
    def networks(self) -> dict[str, dict[str, Any]]:
        """Ids of each cluster's network, for attachments that are made outside this stack (VPN, transit gateway)."""
        if self.resources is None:
            return {}
        return {
            name: {
                "vpcId": network.vpc_id,
                "privateSubnetIds": network.private_subnet_ids,
                "routeTableIds": network.route_table_ids,
                "nodeRoleArn": self.resources.clusters[name].node_role_arn,
                "clusterSecurityGroupId": self.resources.clusters[name].security_group_id,
            }
            for name, network in self.resources.networks.items()
        }

    @property
    def home(self) -> pulumi.ResourceOptions:
        """Options of resources that belong to no single cluster: they are where the fleet's first cluster is."""
        return self.beside(next(iter(self.specs)))

    def beside(self, name: str) -> pulumi.ResourceOptions:
        """Options of resources that are in the account and region of a cluster."""
        return pulumi.ResourceOptions(providers=[self.providers[name]])


def create_fleet(settings: Settings) -> EksFleet:
    """Creates the networks and EKS clusters of a stack, and warns of versions whose support is about to end."""
    specs = {
        spec.name: AwsCluster(name=spec.name, alias=spec.alias, region=spec.region, spec=spec.eks)
        for spec in settings.clusters
        if spec.eks
    }
    for name, spec in specs.items():
        warning = support_warning(spec.spec.version, spec.spec.support_type, date.today())
        if warning:
            pulumi.log.warn(f"{name} in {settings.source}: {warning}")
    providers = aws_providers(specs)
    args = AwsClustersArgs(
        clusters=list(specs.values()),
        settings=settings.aws,
        providers=providers,
        source=settings.source,
        spire_servers=settings.spire.replicas,
    )
    return EksFleet(settings, specs, providers, AwsClusters("aws", args) if specs else None)


def aws_providers(clusters: Mapping[str, AwsCluster]) -> dict[str, aws.Provider]:
    """Returns the AWS provider of each cluster; clusters of one account and region share theirs."""
    made: dict[str, aws.Provider] = {}
    chosen: dict[str, aws.Provider] = {}
    for name, cluster in clusters.items():
        key = "-".join(filter(None, ("aws", cluster.region, cluster.spec.account_label)))
        if key not in made:
            made[key] = _provider(key, cluster.region, cluster.spec.account)
        chosen[name] = made[key]
    return chosen


def _provider(name: str, region: str, account: AccountSpec | None) -> aws.Provider:
    if account is None:
        return aws.Provider(name, region=region)
    if account.profile:
        return aws.Provider(name, region=region, profile=account.profile)
    role = aws.ProviderAssumeRoleArgs(role_arn=account.role_arn, session_name=SESSION)
    return aws.Provider(name, region=region, assume_roles=[role])
