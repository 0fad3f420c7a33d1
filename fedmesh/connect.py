"""Concurrent connections to all clusters: an unreachable one costs its own time-out and no more."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from fedmesh.kube import COMMANDS, Kube, KubeError
from fedmesh.reading import LiveCluster
from fedmesh.topology import Member


def connect(
    members: Sequence[Member], commands: int = COMMANDS
) -> tuple[dict[str, LiveCluster], dict[str, str]]:
    """The clusters whose API servers answer, and the errors of the others, both by name.

    Args:
        commands: how many commands in containers may run at a time on each cluster.
    """
    clusters: dict[str, LiveCluster] = {}
    unreachable: dict[str, str] = {}

    def reach(member: Member) -> LiveCluster | str:
        try:
            cluster = LiveCluster(member, Kube(member.kubeconfig, member.context, commands=commands))
            cluster.version()
        except KubeError as error:
            return str(error)
        return cluster

    with ThreadPoolExecutor(max_workers=max(1, len(members))) as pool:
        for member, outcome in zip(members, pool.map(reach, members), strict=True):
            if isinstance(outcome, LiveCluster):
                clusters[member.name] = outcome
            else:
                unreachable[member.name] = outcome
    return clusters, unreachable
