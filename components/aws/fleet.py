"""The EKS clusters that a stack creates, and the AWS providers of their regions."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import pulumi
import pulumi_aws as aws

from components.aws.clusters import AwsCluster, AwsClusters, AwsClustersArgs
from components.config.aws_facts import support_warning
from components.config.settings import Settings


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
        providers: an AWS provider for each of their regions.
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
                "clusterSecurityGroupId": self.resources.clusters[name].security_group_id,
            }
            for name, network in self.resources.networks.items()
        }

    @property
    def home_region(self) -> str:
        """Region of the fleet's first cluster: resources that belong to no single cluster are created there."""
        return next(iter(self.specs.values())).region

    def in_region(self, region: str) -> pulumi.ResourceOptions:
        """Resource options that place a resource in a region."""
        return pulumi.ResourceOptions(providers=[self.providers[region]])


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
    providers = {
        region: aws.Provider(f"aws-{region}", region=region)
        for region in sorted({spec.region for spec in specs.values()})
    }
    args = AwsClustersArgs(
        clusters=list(specs.values()), settings=settings.aws, providers=providers, source=settings.source
    )
    return EksFleet(settings, specs, providers, AwsClusters("aws", args) if specs else None)
