"""Checks of Istio: the control plane, its remote clusters, and the east-west gateway."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedmesh.kube import Json
from fedmesh.reading import LiveCluster, containers, full_name, load_balancer_addresses
from fedmesh.topology import GATEWAY_NAMESPACE, ISTIO_NAMESPACE
from fedmesh.verify.model import Failed, Mesh, category, refuse

check = category("Istio")

CROSS_NETWORK_PORT = 15443
CNI_NAMESPACE, CNI_AGENTS, CNI_VALIDATION = "kube-system", "istio-cni-node", "istio-validation"
NETWORK_LABEL = "topology.istio.io/network"


@check("istiod is ready", "See `kubectl -n istio-system describe deployment istiod` and istiod's log.")
def istiod_is_ready(_mesh: Mesh, cluster: LiveCluster) -> str:
    """Every istiod replica is available."""
    return judge_istiod(cluster.deployments(ISTIO_NAMESPACE))


@check(
    "istiod reads every other cluster",
    "Is the remote secret in istio-system there, and the peer's Deployment remote-access in istio-remote-access ready?",
)
def remote_clusters_are_synced(mesh: Mesh, cluster: LiveCluster) -> str:
    """Every istiod replica is synchronized with every other cluster."""
    istiods = cluster.istiods()
    if not istiods:
        raise Failed("no pod of istiod is running")
    wanted = [peer.name for peer in mesh.peers_in_rotation(cluster)]
    for istiod in istiods:
        judge_remote_clusters(wanted, cluster.remote_clusters(istiod))
    return f"{', '.join(wanted)} synced" if wanted else "no peers"


@check(
    "the east-west gateway has an address",
    "See the gateway's Service: is a load balancer controller running, and are the gateway's pods ready?",
)
def gateway_has_an_address(_mesh: Mesh, cluster: LiveCluster) -> str:
    """The east-west gateway of this network has an address."""
    return ", ".join(gateway_addresses(cluster.services(GATEWAY_NAMESPACE), cluster.member.network))


@check(
    "Istio's CNI plugin is on every node",
    "See `kubectl -n kube-system describe daemonset istio-cni-node` and the log of its pods.",
)
def cni_plugin_is_on_every_node(_mesh: Mesh, cluster: LiveCluster) -> str:
    """Where pods rely on the plugin for the redirection to their proxies, its agent runs on every node."""
    return judge_cni(cluster.daemonsets(CNI_NAMESPACE), cluster.mesh_pods(starting=True))


def judge_cni(daemonsets: Sequence[Json], pods: Iterable[Json]) -> str:
    """Raises Failed unless the agents of Istio's CNI plugin are ready, or no pod needs them."""
    agents = next((each for each in daemonsets if each["metadata"]["name"] == CNI_AGENTS), None)
    if agents is None:
        needing = [full_name(pod) for pod in pods if CNI_VALIDATION in containers(pod)]
        if needing:
            raise Failed(f"{CNI_AGENTS} is missing, and {needing[0]} relies on it", "Run `pulumi up`.")
        return "not used: init containers redirect pods"
    status = agents.get("status", {})
    wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
    if ready < wanted or not wanted:
        raise Failed(f"{ready} of {wanted} agents are ready: new pods on the other nodes do not start")
    return f"{ready} agents ready"


def judge_istiod(deployments: Sequence[Json]) -> str:
    """Raises Failed unless all replicas of istiod's Deployments, one per revision, are available."""
    istiods = [d for d in deployments if d["metadata"].get("labels", {}).get("app") == "istiod"]
    if not istiods:
        raise Failed("there is no Deployment of istiod", "Run `pulumi up`.")
    faults: list[str] = []
    for istiod in istiods:
        wanted, available = (
            istiod["spec"].get("replicas", 1),
            istiod.get("status", {}).get("availableReplicas", 0),
        )
        if available < wanted:
            faults.append(f"{istiod['metadata']['name']} has {available} of {wanted} replicas available")
    refuse(faults)
    return ", ".join(f"{d['metadata']['name']} {d['status']['availableReplicas']} available" for d in istiods)


def judge_remote_clusters(wanted: Iterable[str], remotes: Sequence[Json]) -> None:
    """Raises Failed unless istiod is synchronized with every wanted cluster."""
    states = {remote["id"]: remote.get("syncStatus", "unknown") for remote in remotes}
    faults: list[str] = []
    for name in wanted:
        if name not in states:
            faults.append(f"istiod has no remote secret for {name}")
        elif states[name] != "synced":
            faults.append(f"{name} is {states[name]}")
    refuse(faults)


def gateway_addresses(services: Sequence[Json], network: str) -> list[str]:
    """The addresses of the east-west gateway of a network. Raises Failed when there are none."""
    gateways = [s for s in services if s["metadata"].get("labels", {}).get(NETWORK_LABEL) == network]
    gateways = [
        s for s in gateways if any(p["port"] == CROSS_NETWORK_PORT for p in s["spec"].get("ports", []))
    ]
    if not gateways:
        raise Failed(
            f"no Service with label {NETWORK_LABEL}={network} offers port {CROSS_NETWORK_PORT}",
            "The gateway's label must be the network that the stack file gives this cluster.",
        )
    addresses = [address for gateway in gateways for address in load_balancer_addresses(gateway)]
    if not addresses:
        raise Failed(f"{gateways[0]['metadata']['name']} has no address yet")
    return addresses


CHECKS = (
    istiod_is_ready,
    cni_plugin_is_on_every_node,
    remote_clusters_are_synced,
    gateway_has_an_address,
)
