"""Runs one drill: preparation, load, fault, end of the fault, end of the load, undo, findings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from fedmesh import envoy
from fedmesh.drill.analysis import analyse
from fedmesh.drill.load import LoadPod, Rate, Stream
from fedmesh.drill.report import DrillReport, LoadReport, slower
from fedmesh.drill.samples import Sample
from fedmesh.drill.scene import Drill, Scene
from fedmesh.probe import poll
from fedmesh.reading import load_balancer_addresses
from fedmesh.topology import GATEWAY_NAMESPACE, SERVER, SERVER_HOST, SERVER_PORT

# Seconds between the command that starts a load and its first request: all loads have started by then.
LEAD = 0.5
SETTLE = 2.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Pace:
    """The rate and the phases of a drill.

    Attributes:
        rate: requests per second of each load.
        timeout: seconds that a caller waits for an answer.
        before: seconds of load before the fault.
        fault: seconds of the fault; None: the drill's own.
        after: seconds of load after the fault.
    """

    rate: int
    timeout: float
    before: float
    fault: float | None
    after: float


@dataclass(frozen=True)
class Running:
    """A load and the pod that sends it."""

    stream: Stream
    pod: LoadPod


def mesh_stream() -> Stream:
    """Calls of a pod in the mesh to helloworld."""
    upstream = envoy.outbound(SERVER_PORT, SERVER_HOST)
    return Stream("mesh", "From inside the mesh", f"http://{SERVER}.{SERVER}:{SERVER_PORT}/hello", upstream)


def ingress_stream(address: str) -> Stream:
    """Calls from outside the mesh to helloworld through an ingress gateway."""
    return Stream("ingress", "Through the ingress gateway", f"http://{address}/hello")


def ingress_address(scene: Scene) -> str:
    """The address of the ingress gateway of the calling cluster. Raises LookupError when it has none."""
    for service in scene.client.api.items(f"/api/v1/namespaces/{GATEWAY_NAMESPACE}/services"):
        if service["metadata"].get("labels", {}).get("istio") == "ingressgateway":
            for address in load_balancer_addresses(service):
                return address
    raise LookupError(f"the ingress gateway of {scene.client.name} has no address")


def answerers(scene: Scene) -> dict[str, str]:
    """The cluster of each helloworld version. Raises LookupError when two clusters run the same version."""
    found: dict[str, str] = {}
    for cluster in scene.clusters.values():
        pods = cluster.api.items(f"/api/v1/namespaces/{SERVER}/pods", labelSelector=f"app={SERVER}")
        for version in {pod["metadata"]["labels"].get("version", "") for pod in pods}:
            if found.setdefault(version, cluster.name) != cluster.name:
                raise LookupError(f"{version} of {SERVER} runs on {found[version]} and {cluster.name}")
    return found


def play(drill: Drill, scene: Scene, loads: Sequence[Running], pace: Pace, say: Say) -> DrillReport:
    """Runs a drill and undoes its changes, also when it fails or is interrupted."""
    clusters = answerers(scene)
    lasts = drill.seconds if pace.fault is None else pace.fault
    seconds = pace.before + lasts + pace.after
    notes: list[str] = []
    try:
        drill.prepare(scene)
        time.sleep(SETTLE)
        # Failures that the preparation causes are not the fault's.
        known = scene.means.complaints() if drill.degrades else []
        retries = [running.pod.retries() for running in loads]
        ahead = [running.pod.clock_ahead() for running in loads]
        at, origin = datetime.now(UTC), time.time()
        for running in loads:
            running.pod.fire(running.stream, Rate(pace.rate, pace.timeout, seconds))
        _until(origin + pace.before)
        say(f"fault: {drill.title}")
        start = time.time() - origin
        drill.inject(scene)
        if drill.degrades:
            new = [complaint for complaint in scene.means.complaints() if complaint not in known]
            scene.remarks.extend(f"during the fault: {complaint}" for complaint in new)
        _until(origin + pace.before + lasts)
        end = time.time() - origin
        if end > pace.before + lasts + 1:
            notes.append(f"the fault lasted {end - pace.before - lasts:.0f} s longer than planned")
        notes += _undo_fault(scene, say)
        say("the fault is over")
        _until(origin + seconds + pace.timeout + LEAD)
        reports = [
            _load_report(
                running, running.pod.collect(running.stream, origin + skew, clusters), old, (start, end)
            )
            for running, skew, old in zip(loads, ahead, retries, strict=True)
        ]
        if drill.degrades:
            scene.remarks.extend(slower(load) for load in reports)
    finally:
        notes += _undo_fault(scene, say)
        for failed in scene.situation.run():
            say(f"not undone: {failed}")
    if drill.heals:
        notes += _wait_until_healed(scene, origin + end, drill.heals)
    return DrillReport(
        number=drill.number,
        fault=drill.name,
        title=drill.title,
        stack="",
        client=scene.client.name,
        peer=scene.peer.name,
        at=at,
        rate=pace.rate,
        timeout=pace.timeout,
        start=start,
        end=end,
        seconds=seconds,
        loads=tuple(reports),
        objective=drill.objective,
        remarks=tuple(scene.remarks),
        notes=tuple(notes),
    )


def _wait_until_healed(scene: Scene, ended: float, allowed: float) -> list[str]:
    """Waits until `fedmesh verify` passes; returns the checks that still fail after `allowed` seconds."""
    failed: list[str] = []

    def healed() -> bool | None:
        failed[:] = scene.means.complaints()
        return None if failed else True

    if poll(healed, ended + allowed - time.time(), SETTLE) is None:
        return [f"not healed {allowed:.0f} s after the end: {complaint}" for complaint in failed]
    scene.remarks.append(f"healed {time.time() - ended:.0f} s after the end of the fault")
    return []


def _load_report(
    running: Running, samples: list[Sample], before: dict[str, int], fault: tuple[float, float]
) -> LoadReport:
    stream = running.stream
    retried: int | None = None
    if stream.upstream:
        retried = running.pod.retries().get(stream.upstream, 0) - before.get(stream.upstream, 0)
    return LoadReport(stream.name, stream.title, analyse(samples, *fault), retried, tuple(samples))


def _undo_fault(scene: Scene, say: Say) -> list[str]:
    failed = [f"not undone: {step}" for step in scene.taken.run()]
    for step in failed:
        say(step)
    return failed


def _until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))
