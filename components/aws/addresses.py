"""Stable addresses: the names under which clusters reach each other, and the name that users call."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from components.aws.dns import MeshName, MeshNameArgs
from components.aws.edge import Edge, EdgeArgs, EdgeTarget
from components.aws.fleet import EksFleet
from components.aws.load_balancers import load_balancer_name
from components.mesh.gateways import IstioGateways


@dataclass(frozen=True)
class GatewayAddresses:
    """Addresses of the gateways.

    Attributes:
        east_west: name or IP of the east-west gateway by cluster.
        edge: the name that users call, None without an edge.
    """

    east_west: Mapping[str, pulumi.Input[str]]
    edge: pulumi.Output[str] | None


def stable_address(
    fleet: EksFleet, cluster: str, label: str, address: pulumi.Input[str]
) -> pulumi.Input[str]:
    """Returns the private DNS name of a load balancer of an EKS cluster.

    Existing clusters, and a fleet without a private zone, have no such name: the address itself is returned.

    Args:
        fleet: the EKS clusters of the stack.
        cluster: name of the cluster.
        label: first label of the name, such as `spire` or `eastwest`.
        address: name or IP of the load balancer.
    """
    zone = fleet.resources.zone if fleet.resources and cluster in fleet.specs else None
    if zone is None:
        return address
    args = MeshNameArgs(fqdn=f"{label}.{cluster}.{zone.domain}", zone_id=zone.zone_id, address=address)
    return MeshName(f"{cluster}-{label}-name", args, fleet.home).fqdn


def gateway_addresses(fleet: EksFleet, gateways: Mapping[str, IstioGateways]) -> GatewayAddresses:
    """Creates the stable names of the east-west gateways, and the edge where the stack has one."""
    east_west = {
        name: stable_address(fleet, name, "eastwest", each.east_west_address)
        for name, each in gateways.items()
    }
    aws = fleet.settings.aws
    if aws.edge.mode == "none" or not fleet.specs or not gateways:
        return GatewayAddresses(east_west, edge=None)
    drained = {spec.name for spec in fleet.settings.clusters if spec.drained}
    targets = [
        EdgeTarget(
            name=name,
            region=spec.region,
            address=gateways[name].ingress_address,
            load_balancer=load_balancer_name(pulumi.get_stack(), spec.eks_name, "ingress"),
            drained=name in drained,
        )
        for name, spec in fleet.specs.items()
    ]
    acm = fleet.settings.ingress.acm is not None
    args = EdgeArgs(targets=targets, spec=aws.edge, tags=aws.tags, tls_ends_there=acm)
    return GatewayAddresses(east_west, Edge("edge", args, fleet.home).address)
