"""`fedmesh drain` and `fedmesh undrain`: take a cluster out of the rotation of the others, and back.

The remote secrets of the other clusters have a label, by which their istiods read its endpoints or forget them.
`pulumi up` sets it by `drained` in the stack file. The command changes both, so that `up` agrees with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import yaml

from fedmesh import envoy
from fedmesh.connect import connect
from fedmesh.drill.means import DrillError
from fedmesh.kube import Json, KubeError
from fedmesh.probe import poll
from fedmesh.reading import LiveCluster
from fedmesh.topology import DRAINED, GATEWAY_NAMESPACE, ISTIO_NAMESPACE, ROTATION, Topology
from fedmesh.verify.hosts import host_of
from fedmesh.verify.services import meshed_services

# Seconds until the istiods of the others have forgotten a cluster, or read it anew.
TOLD = 60.0
SERVICE = "kubernetes.io/service-name"
# Through the gateway go calls of applications, and those of the peers' istiods, which a drain ends too.
READER = ".remote-access.istio-remote-access."

Say = Callable[[str], None]


def drain(
    topology: Topology, project: Path, name: str, *, drained: bool, force: bool, wait: float, say: Say
) -> int:
    """Takes a cluster out of the rotation of the others or back; returns 1 when one of the others did not follow.

    Args:
        name: the cluster.
        force: drain it also when services run there alone.
        wait: seconds to wait until calls of the others to it have ended; what is left then is not cut.
        say: gets what was done, line by line.

    Raises:
        DrillError: there is no such cluster, none would be left, or services run there alone; nothing was changed.
    """
    member = next((each for each in topology.members if each.name == name), None)
    if member is None:
        raise DrillError(
            f"there is no cluster {name}; there are: {', '.join(m.name for m in topology.members)}"
        )
    others = topology.others(member)
    if drained and all(other.drained for other in others):
        raise DrillError(f"{name} is the last cluster that takes calls")
    clusters, unreachable = connect(topology.members)
    told = {other.name: clusters[other.name] for other in others if other.name in clusters}
    if drained and name in clusters and not force:
        taking = [clusters[other.name] for other in others if other.name in told and not other.drained]
        if alone := only_there(clusters[name], taking):
            raise DrillError(
                f"{', '.join(alone)}: on {name} alone, out of reach for the others; drain it with --force"
            )
    file = project / f"Pulumi.{topology.stack}.yaml"
    file.write_text(with_drained(file.read_text(encoding="utf-8"), name, drained), encoding="utf-8")
    say(f"{file.name}: {name} has drained: {str(drained).lower()}")
    left = [f"{other.name}: {unreachable[other.name]}" for other in others if other.name in unreachable]
    for each, cluster in told.items():
        try:
            put_rotation(cluster, name, drained)
            followed = poll(lambda cluster=cluster: follows(cluster, name, drained), TOLD, 0.5)
        except KubeError as error:
            left.append(f"{each}: {error}")
            continue
        if followed is None:
            left.append(f"{each}: its istiod did not follow within {TOLD:.0f} s")
        else:
            say(f"{each}: {'sends no new calls to' if drained else 'reads the endpoints of'} {name}")
    if drained and name in clusters:
        say(await_silence(clusters[name], wait))
    if member.created and topology.edge != "none":
        say(
            f"the edge ({topology.edge}) {'sends users to' if drained else 'leaves out'} {name} until `pulumi up`"
        )
    for line in left:
        say(f"not done, `pulumi up` will: {line}")
    return 1 if left else 0


def with_drained(text: str, name: str, drained: bool) -> str:
    """A stack file in which a cluster has `drained` so; the rest stays as it is written. Raises DrillError."""
    entries = cast(yaml.SequenceNode, _value(_value(yaml.compose(text), "config"), "fedmesh:clusters"))
    for entry in entries.value if isinstance(entries, yaml.SequenceNode) else ():
        called = _value(entry, "name")
        if not isinstance(called, yaml.ScalarNode) or called.value != name:
            continue
        if now := _value(entry, DRAINED):
            return text[: now.start_mark.index] + str(drained).lower() + text[now.end_mark.index :]
        if not drained:
            return text
        if entry.flow_style:
            at = called.end_mark.index
            return f"{text[:at]}, {DRAINED}: true{text[at:]}"
        at = text.find("\n", called.end_mark.index)
        at, line = (len(text), "\n") if at < 0 else (at + 1, "")
        return f"{text[:at]}{line}{' ' * entry.start_mark.column}{DRAINED}: true\n{text[at:]}"
    raise DrillError(
        f"the stack file lists no cluster {name} under fedmesh:clusters; set its {DRAINED} by hand"
    )


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for own, value in node.value if own.value == key), None)


def put_rotation(cluster: LiveCluster, name: str, drained: bool) -> None:
    """Sets the label by which a cluster's istiod reads the endpoints of the cluster `name`, or not."""
    path = f"/api/v1/namespaces/{ISTIO_NAMESPACE}/secrets/istio-remote-secret-{name}"
    cluster.api.patch(path, {"metadata": {"labels": {ROTATION: DRAINED if drained else "true"}}})


def follows(cluster: LiveCluster, name: str, drained: bool) -> bool | None:
    """True when every istiod of a cluster has forgotten the cluster `name`, or reads it; None until then."""
    for istiod in cluster.istiods():
        states = {each["id"]: each.get("syncStatus") for each in cluster.remote_clusters(istiod)}
        if (name in states) if drained else states.get(name) != "synced":
            return None
    return True


def only_there(cluster: LiveCluster, others: Iterable[LiveCluster]) -> list[str]:
    """The hosts of the mesh with ready endpoints on a cluster, and on none of the others."""
    return sorted(served(cluster) - {host for other in others for host in served(other)})


def served(cluster: LiveCluster) -> set[str]:
    """The hosts of the mesh that have ready endpoints on a cluster."""
    ready = {
        (item["metadata"]["namespace"], item["metadata"].get("labels", {}).get(SERVICE))
        for item in cluster.api.items("/apis/discovery.k8s.io/v1/endpointslices")
        if any(each.get("conditions", {}).get("ready") for each in item.get("endpoints") or [])
    }
    return {
        host_of(each)
        for each in meshed_services(cluster)
        if (each["metadata"]["namespace"], each["metadata"]["name"]) in ready
    }


def await_silence(cluster: LiveCluster, wait: float) -> str:
    """Waits until no connection of another cluster's application is left; says how many are.

    The cluster is drained by then: where the last look cannot be had, this says why, and raises nothing.
    """
    left: dict[str, int] = {}
    unknown: list[str] = []

    def silent() -> bool | None:
        left.clear()
        unknown.clear()
        try:
            left.update(connections(cluster))
        except KubeError as error:
            unknown.append(str(error))
        return None if left or unknown else True

    if poll(silent, wait, 1.0):
        return f"{cluster.name}: no calls of the other clusters are left"
    if unknown:
        return f"{cluster.name}: whether calls of the other clusters are left is not known: {unknown[0]}"
    named = ", ".join(f"{count} to {host}" for host, count in sorted(left.items()))
    return f"{cluster.name}: connections of the other clusters stay until they end by themselves: {named}"


def connections(cluster: LiveCluster) -> Mapping[str, int]:
    """Open connections of the other clusters' applications through the east-west gateways, by host and port."""
    pods: Sequence[Json] = cluster.api.items(
        f"/api/v1/namespaces/{GATEWAY_NAMESPACE}/pods", labelSelector="istio=eastwestgateway"
    )
    found: dict[str, int] = {}
    for pod in pods:
        if pod.get("status", {}).get("phase") != "Running":
            continue
        answer = json.loads(cluster.proxy(pod, "clusters?format=json"))
        for name, count in envoy.parse_connections(answer).items():
            passed = re.fullmatch(r"outbound_\.(\d+)_\.[^_]*_\.(.+)", name)
            if passed and count and READER not in name:
                host = f"{passed[2]}:{passed[1]}"
                found[host] = found.get(host, 0) + count
    return found
