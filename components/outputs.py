"""Stack outputs."""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from components.aws.addresses import GatewayAddresses
from components.aws.fleet import CreatedCluster
from components.config.settings import Settings
from components.kube.clusters import ExistingCluster
from components.kube.last_known import OUTPUT, ClusterState, state_output
from components.mesh.federation import seed
from components.mesh.gateways import IstioGateways
from components.mesh.spire import Spire


def export_outputs(
    settings: Settings,
    clusters: Mapping[str, ExistingCluster | CreatedCluster],
    spire: Mapping[str, Spire],
    gateways: Mapping[str, IstioGateways],
    addresses: GatewayAddresses,
    *,
    networks: Mapping[str, Mapping[str, Any]],
) -> None:
    """Exports the stack's outputs; kubeconfigs are secrets. The mappings are by cluster name."""
    kubeconfigs = {
        spec.alias: pulumi.Output.secret(clusters[spec.name].kubeconfig) for spec in settings.clusters
    }
    outputs: dict[str, Any] = {
        "kubeconfigs": kubeconfigs,
        "endpoints": {name: cluster.api_server for name, cluster in clusters.items()},
        "trustDomains": {spec.name: spec.trust_domain for spec in settings.clusters},
        "bundleEndpoints": {name: server.bundle_address for name, server in spire.items()},
        "gateways": dict(addresses.east_west),
        "ingress": {name: gateway.ingress_address for name, gateway in gateways.items()},
        "next": next_steps(list(kubeconfigs), pulumi.get_stack()),
    }
    if spire:
        outputs[OUTPUT] = state_output(
            {
                name: ClusterState(
                    spire[name].bundle.apply(seed),
                    pulumi.Output.all(ingress=each.ingress_address, eastwest=each.east_west_address),
                )
                for name, each in gateways.items()
            }
        )
    if networks:
        outputs["networks"] = dict(networks)
    if addresses.edge is not None:
        outputs["edge"] = addresses.edge
    for key, value in outputs.items():
        pulumi.export(key, value)


def next_steps(aliases: Sequence[str], stack: str) -> list[str]:
    """Shell commands for after `pulumi up`: they write each kubeconfig to a file of mode 0600, and verify the mesh."""
    written = (
        f"(umask 077; pulumi stack output kubeconfigs --stack {stack} --show-secrets | "
        f"jq -r '.[\"{alias}\"]' > {alias}.kubeconfig)"
        for alias in aliases
    )
    return [*written, f".venv/bin/fedmesh verify --stack {stack}"]
