"""Checks of the clusters: API servers, nodes and clocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from fedmesh.kube import Json
from fedmesh.reading import LiveCluster, condition, full_name
from fedmesh.verify.model import Failed, Mesh, category, refuse
from fedmesh.verify.runner import REACH

check = category("Clusters")

# Seconds; certificates are backdated by about a minute.
CLOCKS = 10.0
# Seconds; a kubelet renews its lease every 10 s, and may miss a renewal.
LEASE = 30.0


@check(
    REACH, "Check that the cluster is running, and the path and context of its kubeconfig in the stack file."
)
def api_answers(_mesh: Mesh, cluster: LiveCluster) -> str:
    """The API server answers."""
    return cluster.version()


@check("nodes are ready", "Read `kubectl describe node`, and the log of the kubelet on the node.")
def nodes_are_ready(_mesh: Mesh, cluster: LiveCluster) -> str:
    """Every node is ready."""
    return judge_nodes(cluster.nodes())


@check(
    "clocks of the clusters agree",
    "Synchronise the clocks of the nodes (chrony, NTP): certificates are not yet or no longer valid otherwise.",
)
def clocks_agree(mesh: Mesh, cluster: LiveCluster) -> str:
    """The API servers' clocks agree with each other, and every node's with its API server's."""
    own = cluster.clock_ahead()
    peers = {peer.name: peer.clock_ahead() for peer in mesh.peers(cluster)}
    leases = cluster.api.items("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases")
    return judge_clocks(own, peers, node_clocks(leases, mesh.now() + timedelta(seconds=own)))


def judge_clocks(own: float, peers: Mapping[str, float], nodes: Mapping[str, float]) -> str:
    """Raises Failed when clocks differ too much.

    Args:
        own: seconds by which the API server is ahead of this machine.
        peers: the same of the peers' API servers, by cluster.
        nodes: seconds by which nodes are ahead of their API server, by name.
    """
    faults = [
        f"the clock differs by {abs(own - ahead):.0f} s from that of {peer}"
        for peer, ahead in peers.items()
        if abs(own - ahead) > CLOCKS
    ]
    faults += [f"{node} is {ahead:.0f} s ahead" for node, ahead in nodes.items() if ahead > CLOCKS]
    faults += [f"{node} is {-ahead:.0f} s behind" for node, ahead in nodes.items() if ahead < -CLOCKS - LEASE]
    refuse(faults)
    return f"within {max([0.0, *(abs(own - ahead) for ahead in peers.values())]):.0f} s"


def node_clocks(leases: Sequence[Json], now: datetime) -> dict[str, float]:
    """Seconds by which the last renewal of each node's lease, a time of the node's clock, is ahead of `now`."""
    return {
        lease["metadata"]["name"]: (datetime.fromisoformat(lease["spec"]["renewTime"]) - now).total_seconds()
        for lease in leases
        if lease["spec"].get("renewTime")
    }


def judge_nodes(nodes: Sequence[Json]) -> str:
    """Raises Failed unless there are nodes and all of them are ready."""
    if not nodes:
        raise Failed("the cluster has no nodes")
    refuse([f"{full_name(node)} is not ready" for node in nodes if condition(node, "Ready") is not True])
    return f"{len(nodes)} ready"


CHECKS = (
    api_answers,
    nodes_are_ready,
    clocks_agree,
)
