"""Runs one drill: preparation, load, fault, end of the fault, end of the load, undo, findings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from fedmesh.drill.analysis import analyse, lost_early
from fedmesh.drill.environment import Stage
from fedmesh.drill.lasting import analyse_connections
from fedmesh.drill.load import Load, Rate, Running
from fedmesh.drill.report import DrillReport, LastingReport, LoadReport, is_comparison, slower
from fedmesh.drill.scene import Drill, Scene
from fedmesh.drill.undo import Undo
from fedmesh.interrupts import shielded, unread
from fedmesh.probe import poll
from fedmesh.reading import load_balancer_addresses
from fedmesh.topology import GATEWAY_NAMESPACE, SERVER

# Seconds between the command that starts a load and its first request: all loads have started by then.
LEAD = 0.5
SETTLE = 2.0
# Seconds that the loads last longer than planned: a small machine takes them to start all of them.
LAUNCH = 5.0
# Seconds and requests per second of the calls that tell which cluster is in use.
LOOK = Rate(40, 2.0, 2.0)

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


def ingress_load(address: str) -> Load:
    """Calls from outside the mesh to the sample through an ingress gateway."""
    return Load("ingress", f"GET of {SERVER} through the ingress gateway", f"http://{address}/hello")


def ingress_address(scene: Scene) -> str:
    """The address of the ingress gateway of the calling cluster. Raises LookupError when it has none."""
    for service in scene.client.api.items(f"/api/v1/namespaces/{GATEWAY_NAMESPACE}/services"):
        if service["metadata"].get("labels", {}).get("istio") == "ingressgateway":
            for address in load_balancer_addresses(service):
                return address
    raise LookupError(f"the ingress gateway of {scene.client.name} has no address")


def in_use(scene: Scene, running: Running) -> Scene:
    """The scene with the cluster that answers most calls, or holds most connections, as its peer.

    Raises LookupError when the callers' own cluster answers, or a cluster that the stack does not have.
    """
    load, source, origin = running.load, running.source, time.time()
    source.fire(load, LOOK, "look")
    time.sleep(LOOK.seconds + LOOK.timeout + LEAD)
    if load.lasting:
        answered = [each.by for each in source.connections(load, origin) if each.received]
    else:
        answered = [sample.by for sample in source.collect(load, origin) if not sample.lost]
    busiest = max(set(answered), key=answered.count, default="nobody")
    others = [name for name in scene.clusters if name != scene.client.name]
    if busiest not in others:
        raise LookupError(
            f"calls from {scene.client.name} are answered by {busiest}, not by {' or '.join(others)}"
        )
    return replace(scene, peer=scene.clusters[busiest])


def play(
    drill: Drill, scene: Scene, loads: Sequence[Running], pace: Pace, say: Say, *, stage: Stage | None = None
) -> DrillReport:
    """Runs a drill and undoes its changes, also when it fails or is interrupted."""
    lasts, after = (
        (drill.seconds, max(pace.after, drill.after)) if pace.fault is None else (pace.fault, pace.after)
    )
    seconds = LAUNCH + pace.before + lasts + after
    notes: list[str] = []
    try:
        drill.prepare(scene)
        time.sleep(SETTLE)
        if drill.in_use:
            # Calls tell more than connections, of which there are few.
            scene = in_use(scene, min(loads, key=lambda each: each.load.lasting))
        # Failures that the preparation causes are not the fault's.
        known = scene.means.complaints() if drill.degrades else []
        sources = {running.source for running in loads}
        retries = {source: source.retries() for source in sources}
        ahead = {source: source.clock_ahead() for source in sources}
        at, origin = datetime.now(UTC), time.time()
        # Calls that are slow because loads are being started say nothing about the fault.
        begins = _fire(loads, Rate(pace.rate * drill.times, pace.timeout, seconds), origin) + pace.before
        _until(origin + begins)
        say(f"fault: {drill.title}")
        start = time.time() - origin
        drill.inject(scene)
        complete = time.time() - origin if drill.gradual else 0.0
        if drill.degrades:
            new = [complaint for complaint in scene.means.complaints() if complaint not in known]
            scene.remarks.extend(f"during the fault: {complaint}" for complaint in new)
        _until(origin + begins + lasts)
        end = time.time() - origin
        if end > begins + lasts + 1:
            notes.append(f"the fault lasted {end - begins - lasts:.0f} s longer than planned")
        notes += _undo(scene.taken, say)
        say("the fault is over")
        _until(origin + begins - pace.before + seconds + pace.timeout + LEAD)
        reports: list[LoadReport] = []
        lasting: list[LastingReport] = []
        retried = {source: source.retries() for source in sources}
        for running in loads:
            load, source = running.load, running.source
            if load.lasting:
                found = analyse_connections(source.connections(load, origin + ahead[source]), start, seconds)
                lasting.append(LastingReport(load.name, load.title, found))
                continue
            samples = source.collect(load, origin + ahead[source])
            more = retried[source].get(load.upstream, 0) - retries[source].get(load.upstream, 0)
            reports.append(
                LoadReport(
                    name=load.name,
                    title=load.title,
                    findings=analyse(samples, start, end),
                    retried=more if load.upstream else None,
                    samples=tuple(samples),
                    doubled=None if stage is None else stage.doubled(_tag(load, origin)),
                    may_lose_for=load.may_lose_for,
                    repeatable=load.repeatable,
                    judged=load.judged and not (drill.hopeless and load.may_lose_for),
                )
            )
        notes += [
            f"{load.name}: {early} lost before the fault, which the fault did not cause"
            for load in reports
            if not is_comparison(load.name) and (early := lost_early(load.samples, start))
        ]
        if drill.degrades:
            scene.remarks.extend(slower(load) for load in reports)
    finally:
        notes += _undo_all(scene, say)
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
        rate=pace.rate * drill.times,
        timeout=pace.timeout,
        start=start,
        end=end,
        seconds=seconds,
        loads=tuple(reports),
        lasting=tuple(lasting),
        objective=drill.objective,
        complete=complete,
        remarks=(*scene.remarks, *([drill.hopeless] if drill.hopeless else [])),
        notes=tuple(notes),
    )


def _fire(loads: Sequence[Running], rate: Rate, origin: float) -> float:
    """Starts all loads at once, so that they end together. Returns when all run, in seconds since `origin`."""
    with ThreadPoolExecutor(max_workers=max(1, len(loads))) as pool:
        started = [pool.submit(each.source.fire, each.load, rate, _tag(each.load, origin)) for each in loads]
        for each in started:
            each.result()
    return time.time() - origin


def _tag(load: Load, origin: float) -> str:
    """What the requests of one load in one drill have in common in the header X-Vegeta-Attack."""
    return f"{load.name}-{origin:.0f}"


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


def _undo_all(scene: Scene, say: Say) -> list[str]:
    # Ctrl-C during the first must not leave out the second.
    with shielded():
        return [*_undo(scene.taken, say), *_undo(scene.situation, say)]


def _undo(changes: Undo, say: Say) -> list[str]:
    failed = [f"not undone: {step}" for step in changes.run()]
    for step in failed:
        with unread():
            say(step)
    return failed


def _until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))
