"""The clusters that the stack makes on AWS, in the form in which the program uses every cluster."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components.aws.clusters import AwsCluster, AwsClusters, AwsClustersArgs
from components.aws.dns import MeshName, MeshNameArgs
from components.aws.edge import Edge, EdgeArgs, EdgeTarget
from components.aws.load_balancer_controller import (
    NO_DOORS,
    Doors,
    LoadBalancerController,
    LoadBalancerControllerArgs,
    load_balancer_name,
)
from components.config.settings import Settings
from components.mesh.gateways import IstioGateways


@dataclass(frozen=True)
class MadeCluster:
    """Access to a cluster: its kubeconfig (JSON, one context, a secret) and the URL of its API server."""

    kubeconfig: pulumi.Output[str]
    api_server: pulumi.Output[str]


@dataclass(frozen=True)
class WaysIn:
    """By cluster the name or address of its east-west gateway, and the name that users call, if there is one."""

    names: Mapping[str, pulumi.Input[str]]
    edge: pulumi.Output[str] | None


class MadeClusters:
    """Makes the stack's EKS clusters. Where a stack has none, everything here is empty and nothing is made.

    Attributes:
        clusters: access to each, by the cluster's name.
    """

    clusters: Mapping[str, MadeCluster]

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._specs = {
            spec.name: AwsCluster(spec.name, spec.alias, spec.region, spec.eks)
            for spec in settings.clusters
            if spec.eks
        }
        self._providers = {
            region: aws.Provider(f"aws-{region}", region=region)
            for region in sorted({spec.region for spec in self._specs.values()})
        }
        self._made = self._make()
        self.clusters = (
            {name: MadeCluster(made.kubeconfig, made.endpoint) for name, made in self._made.clusters.items()}
            if self._made
            else {}
        )

    def doors(self, on: Mapping[str, pulumi.ResourceOptions]) -> dict[str, Doors]:
        """Gives each made cluster its load balancer controller, and every cluster its way to ask for load balancers.

        Args:
            on: by cluster the options that put resources on it.
        """
        made = {
            name: LoadBalancerController(f"{name}-load-balancers", args, on[name]).doors
            for name, args in self._controllers().items()
        }
        return {name: made.get(name, NO_DOORS) for name in on}

    def named(self, name: str, label: str, address: pulumi.Input[str]) -> pulumi.Input[str]:
        """A name that lasts for a load balancer of a made cluster; for other clusters the address itself."""
        zone = self._made.zone if self._made and name in self._specs else None
        if zone is None:
            return address
        return MeshName(
            f"{name}-{label}-name",
            MeshNameArgs(f"{label}.{name}.{zone.domain}", zone.zone_id, address),
            self._in(self._settings.clusters[0].region),
        ).fqdn

    def ways_in(self, gateways: Mapping[str, IstioGateways]) -> WaysIn:
        """Names that last for the gateways between clusters, and the way in for users where the stack wants one."""
        names = {
            name: self.named(name, "eastwest", each.east_west_address) for name, each in gateways.items()
        }
        if self._settings.aws.edge.mode == "none" or not self._specs or not gateways:
            return WaysIn(names, None)
        targets = [
            EdgeTarget(
                name,
                spec.region,
                gateways[name].ingress_address,
                load_balancer_name(spec.eks_name, "ingress"),
            )
            for name, spec in self._specs.items()
        ]
        args = EdgeArgs(targets, self._settings.aws.edge, self._settings.aws.tags)
        return WaysIn(names, Edge("edge", args, self._in(targets[0].region)).address)

    def _make(self) -> AwsClusters | None:
        if not self._specs:
            return None
        return AwsClusters(
            "aws", AwsClustersArgs(list(self._specs.values()), self._settings.aws, self._providers)
        )

    def _controllers(self) -> dict[str, LoadBalancerControllerArgs]:
        wanted = self._settings.aws.controller.enabled and self._settings.meshed
        if not self._made or not wanted:
            return {}
        return {
            name: LoadBalancerControllerArgs(
                cluster_name=spec.eks_name,
                region=spec.region,
                vpc_id=self._made.networks[name].vpc_id,
                ingress_scheme=spec.spec.ingress_scheme,
                mesh_ranges=tuple(other.spec.vpc_cidr for other in self._specs.values()),
                chart=self._settings.aws.controller,
                tags=self._settings.aws.tags,
                provider=self._providers[spec.region],
            )
            for name, spec in self._specs.items()
        }

    def _in(self, region: str) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(providers=[self._providers[region]])
