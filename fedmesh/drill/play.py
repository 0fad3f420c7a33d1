"""Plays one drill: situation, load, fault, end of the fault, load over, everything put back, findings."""

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
from fedmesh.drill.scene import Fault, Scene
from fedmesh.topology import ISTIO_NAMESPACE, SERVER, SERVER_HOST, SERVER_PORT

# Loads start this long after the command that starts them, so that all of them run when the clock does.
LEAD = 0.5
SETTLE = 2.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Pace:
    """Requests per second of each load, seconds that a caller waits for an answer, and seconds of load before the
    fault, of the fault (None: as long as it needs) and after it.
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
    """Address of the caller's ingress gateway; raises LookupError when it has none."""
    for service in scene.client.api.items(f"/api/v1/namespaces/{ISTIO_NAMESPACE}/services"):
        if service["metadata"].get("labels", {}).get("istio") == "ingressgateway":
            for entry in service.get("status", {}).get("loadBalancer", {}).get("ingress") or []:
                return entry.get("ip") or entry["hostname"]
    raise LookupError(f"the ingress gateway of {scene.client.name} has no address")


def answerers(scene: Scene) -> dict[str, str]:
    """The cluster behind each version of helloworld; raises LookupError when two clusters share one."""
    found: dict[str, str] = {}
    for cluster in scene.clusters.values():
        pods = cluster.api.items(f"/api/v1/namespaces/{SERVER}/pods", labelSelector=f"app={SERVER}")
        for version in {pod["metadata"]["labels"].get("version", "") for pod in pods}:
            if found.setdefault(version, cluster.name) != cluster.name:
                raise LookupError(f"{version} of {SERVER} runs on {found[version]} and {cluster.name}")
    return found


def play(fault: Fault, scene: Scene, loads: Sequence[Running], pace: Pace, say: Say) -> DrillReport:
    """Play a drill and put everything back, also when it is interrupted or fails on the way."""
    who = answerers(scene)
    lasts = fault.seconds if pace.fault is None else pace.fault
    seconds = pace.before + lasts + pace.after
    notes: list[str] = []
    try:
        fault.prepare(scene)
        time.sleep(SETTLE)
        # what the situation alone brings is not the fault's doing
        known = scene.means.complaints() if fault.degrades else []
        retries = [running.pod.retries() for running in loads]
        ahead = [running.pod.clock_ahead() for running in loads]
        at, origin = datetime.now(UTC), time.time()
        for running in loads:
            running.pod.fire(running.stream, Rate(pace.rate, pace.timeout, seconds))
        _until(origin + pace.before)
        say(f"fault: {fault.title}")
        start = time.time() - origin
        fault.inject(scene)
        if fault.degrades:
            new = [complaint for complaint in scene.means.complaints() if complaint not in known]
            scene.remarks.extend(f"while it lasts: {complaint}" for complaint in new)
        _until(origin + pace.before + lasts)
        end = time.time() - origin
        if end > pace.before + lasts + 1:
            notes.append(
                f"the fault lasted {end - pace.before - lasts:.0f} s longer than the load was meant for"
            )
        notes += _put_back(scene, say)
        say("the fault is over")
        _until(origin + seconds + pace.timeout + LEAD)
        reports = [
            _load_report(running, running.pod.collect(running.stream, origin + skew, who), old, (start, end))
            for running, skew, old in zip(loads, ahead, retries, strict=True)
        ]
        if fault.degrades:
            scene.remarks.extend(slower(load) for load in reports)
    finally:
        notes += _put_back(scene, say)
        for complaint in scene.situation.run():
            say(f"could not be put back: {complaint}")
    if fault.heals:
        notes += _wait_until_whole(scene, origin + end, fault.heals)
    return DrillReport(
        number=fault.number,
        fault=fault.name,
        title=fault.title,
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
        bar=fault.bar,
        remarks=tuple(scene.remarks),
        notes=tuple(notes),
    )


def _wait_until_whole(scene: Scene, ended: float, allowed: float) -> list[str]:
    """Wait until nothing is found wrong any more; returns what still is when that takes too long."""
    while complaints := scene.means.complaints():
        if time.time() - ended > allowed:
            return [f"not whole {allowed:.0f} s after the end: {complaint}" for complaint in complaints]
        time.sleep(SETTLE)
    scene.remarks.append(f"found whole {time.time() - ended:.0f} s after the fault's end")
    return []


def _load_report(
    running: Running, samples: list[Sample], before: dict[str, int], fault: tuple[float, float]
) -> LoadReport:
    stream = running.stream
    retried: int | None = None
    if stream.upstream:
        retried = running.pod.retries().get(stream.upstream, 0) - before.get(stream.upstream, 0)
    return LoadReport(stream.name, stream.title, analyse(samples, *fault), retried, tuple(samples))


def _put_back(scene: Scene, say: Say) -> list[str]:
    failed = [f"could not be put back: {complaint}" for complaint in scene.taken.run()]
    for complaint in failed:
        say(complaint)
    return failed


def _until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))
