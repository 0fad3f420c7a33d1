"""Are the clusters there at all: API servers and nodes."""

from __future__ import annotations

from collections.abc import Sequence

from meshctl.kube import Json
from meshctl.reading import Cluster, condition, full_name
from meshctl.verify.model import Failed, Mesh, check, refuse
from meshctl.verify.runner import REACH


@check(REACH, "Is the cluster up, and are path and context of its kubeconfig in the stack file right?")
def api_answers(_mesh: Mesh, cluster: Cluster) -> str:
    """The API server answers."""
    return cluster.version()


@check("nodes are ready", "Look at `kubectl describe node` and at the kubelet's log on the node.")
def nodes_are_ready(_mesh: Mesh, cluster: Cluster) -> str:
    """Every node is ready."""
    return judge_nodes(cluster.nodes())


def judge_nodes(nodes: Sequence[Json]) -> str:
    """Whether there are nodes and all are ready."""
    if not nodes:
        raise Failed("the cluster has no nodes")
    refuse([f"{full_name(node)} is not ready" for node in nodes if condition(node, "Ready") is not True])
    return f"{len(nodes)} ready"


CHECKS = (
    api_answers,
    nodes_are_ready,
)
