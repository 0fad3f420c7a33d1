"""Whether a cluster's nodes have room for the mesh: allocatable resources minus the requests of pods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kubernetes.utils.quantity import parse_quantity

from fedmesh.kube import Json
from fedmesh.reading import full_name
from fedmesh.topology import (
    CLIENT,
    GATEWAY_NAMESPACE,
    ISTIO_NAMESPACE,
    OBSERVABILITY_NAMESPACE,
    SERVER,
    SPIRE_NAMESPACE,
)
from fedmesh.verify.model import refuse

# Label and taint of the SPIRE server's nodes.
RESERVED = "dedicated"
RESERVED_FOR = "spire-server"
# The mesh's own pods do not count as used when the check runs on an existing mesh.
OWN_NAMESPACES = frozenset(
    {
        SPIRE_NAMESPACE,
        ISTIO_NAMESPACE,
        OBSERVABILITY_NAMESPACE,
        "cert-manager",
        GATEWAY_NAMESPACE,
        CLIENT,
        SERVER,
    }
)


@dataclass(frozen=True)
class Room:
    """CPU in cores, memory in bytes, and a number of pods."""

    cpu: float
    memory: float
    pods: int

    def __add__(self, other: Room) -> Room:
        return Room(self.cpu + other.cpu, self.memory + other.memory, self.pods + other.pods)

    def __sub__(self, other: Room) -> Room:
        return Room(self.cpu - other.cpu, self.memory - other.memory, self.pods - other.pods)

    def lacks(self, needed: Room) -> list[str]:
        """Where this is less than what is needed, in words."""
        return [
            text
            for enough, text in (
                (self.cpu >= needed.cpu, f"{self.cpu:.2f} of {needed.cpu:.2f} CPUs"),
                (self.memory >= needed.memory, f"{_mebi(self)} of {_mebi(needed)} MiB"),
                (self.pods >= needed.pods, f"{self.pods} of {needed.pods} pods"),
            )
            if not enough
        ]


# Requests of the mesh's pods: on every node (SPIRE agent, CSI driver), on the reserved node (SPIRE server), for each
# replica of the control plane (istiod and two gateways), and once per cluster (cert-manager, Prometheus, samples).
PER_NODE = Room(0.04, 80 * 2**20, 2)
PER_SERVER = Room(0.07, 96 * 2**20, 1)
PER_REPLICA = Room(0.15, 384 * 2**20, 3)
PER_CLUSTER = Room(0.11, 320 * 2**20, 6)


def judge_room(nodes: Sequence[Json], pods: Sequence[Json], replicas: int) -> str:
    """Whether the nodes' free resources are enough for the mesh with this number of control plane replicas."""
    free = {full_name(node): free_of(node, pods) for node in nodes}
    faults = [
        f"{name} has {', '.join(lacking)}" for name, room in free.items() if (lacking := room.lacks(PER_NODE))
    ]
    reserved = [node for node in nodes if is_reserved(node)]
    if reserved and all(free[full_name(node)].lacks(PER_NODE + PER_SERVER) for node in reserved):
        node = full_name(reserved[0])
        faults.append(f"{node} has {', '.join(free[node].lacks(PER_NODE + PER_SERVER))} for the SPIRE server")
    total, needed = Room(0, 0, 0), PER_CLUSTER
    for node in nodes:
        if not _is_tainted(node):
            total += free[full_name(node)] - PER_NODE
    for _ in range(replicas):
        needed += PER_REPLICA
    if lacking := total.lacks(needed):
        faults.append(f"all nodes together have {', '.join(lacking)}")
    refuse(faults)
    return f"{total.cpu:.2f} CPUs and {_mebi(total)} MiB are free, {needed.cpu:.2f} and {_mebi(needed)} are needed"


def free_of(node: Json, pods: Sequence[Json]) -> Room:
    """Allocatable resources of a node minus the requests of its pods, without those of the mesh."""
    allocatable = node["status"].get("allocatable") or {}
    room = _room(allocatable, int(allocatable.get("pods", 110)))
    for pod in pods:
        ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        own = pod["metadata"].get("namespace") in OWN_NAMESPACES
        if pod["spec"].get("nodeName") == node["metadata"]["name"] and not ended and not own:
            room -= requests_of(pod)
    return room


def requests_of(pod: Json) -> Room:
    """What the scheduler reserves for a pod: its containers and sidecars, or its largest init container."""
    spec = pod["spec"]
    room, largest = Room(0, 0, 1), Room(0, 0, 0)
    for container in spec["containers"]:
        room += _requests(container)
    for container in spec.get("initContainers") or []:
        asked = _requests(container)
        if container.get("restartPolicy") == "Always":
            room += asked
        else:
            largest = Room(max(largest.cpu, asked.cpu), max(largest.memory, asked.memory), 0)
    return Room(max(room.cpu, largest.cpu), max(room.memory, largest.memory), 1)


def is_reserved(node: Json) -> bool:
    """Whether a node has the taint that reserves it for the SPIRE server."""
    return any(
        (taint["key"], taint.get("value"), taint["effect"]) == (RESERVED, RESERVED_FOR, "NoExecute")
        for taint in node["spec"].get("taints") or []
    )


def _is_tainted(node: Json) -> bool:
    taints = node["spec"].get("taints") or []
    return any(taint["effect"] in ("NoSchedule", "NoExecute") for taint in taints)


def _requests(container: Json) -> Room:
    return _room((container.get("resources") or {}).get("requests") or {}, 0)


def _room(quantities: Mapping[str, str], pods: int) -> Room:
    return Room(
        float(parse_quantity(quantities.get("cpu", "0"))),
        float(parse_quantity(quantities.get("memory", "0"))),
        pods,
    )


def _mebi(room: Room) -> int:
    return round(room.memory / 2**20)
