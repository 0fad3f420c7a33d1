"""`fedmesh drill`: selects drills, confirms destructive ones, runs them and reports their findings."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fedmesh.console import console_for
from fedmesh.drill import baseline, faults, published, renewal, report, trust_faults
from fedmesh.drill.environment import ANY_CLUSTER, Environment
from fedmesh.drill.load import LoadPod
from fedmesh.drill.means import DrillError, Means, every_cluster
from fedmesh.drill.play import Pace, Running, ingress_address, ingress_stream, mesh_stream, play
from fedmesh.drill.report import DrillReport
from fedmesh.drill.scene import Drill, Scene
from fedmesh.kube import KubeError
from fedmesh.probe import NETWORKING, Janitor, remove_stale, wait_for
from fedmesh.reading import LiveCluster, is_ready
from fedmesh.topology import CLIENT, SERVER, Topology

# On any cluster, except those that are `contained`.
DRILLS: tuple[Drill, ...] = (*faults.DRILLS, *renewal.DRILLS, *trust_faults.DRILLS)
# Drills of test environments, for the message of the command where there is none.
ELSEWHERE = {8: "node", 9: "cluster-cut", 10: "cluster-stopped", 11: "slow-links", 12: "clock"}
# Where drills and `fedmesh latency` create objects.
COLLECTIONS = (
    f"/api/v1/namespaces/{CLIENT}/pods",
    f"/api/v1/namespaces/{SERVER}/services",
    f"{NETWORKING}/{SERVER}/destinationrules",
    f"{NETWORKING}/{SERVER}/virtualservices",
    f"{faults.ENVOY_FILTERS}/{SERVER}/envoyfilters",
)


@dataclass(frozen=True)
class Options:
    """The command line of `fedmesh drill`."""

    names: Sequence[str]
    client: str | None
    pace: Pace
    image: str
    destructive: str | None
    baseline: bool
    json: bool
    html: Path | None
    output: Path | None
    docs: Path | None
    summary: Path | None


def drill(topology: Topology, project: Path, options: Options, environment: Environment = ANY_CLUSTER) -> int:
    """Runs the drills and prints their findings; returns 1 when one missed its objective or was not undone.

    Raises DrillError, after the other drills, when one could not be run to its end.
    """
    console = console_for(stderr=options.json)

    def say(text: str) -> None:
        console.print(f"{datetime.now(UTC):%H:%M:%S} {text}", markup=False, highlight=False)

    means = Means(topology, project, environment)
    chosen = choose(options.names, environment)
    refuse_unconfirmed(chosen, means.contained, topology.stack, options.destructive)
    clusters = every_cluster(topology, "fedmesh drill")
    client = clusters.get(options.client or topology.members[0].name)
    if client is None:
        raise DrillError(f"there is no cluster {options.client}; there are: {', '.join(clusters)}")
    peer = next(cluster for cluster in clusters.values() if cluster is not client)
    remove_leftovers(clusters.values())
    reports: list[DrillReport] = []
    unfinished: list[str] = []
    janitor = Janitor()
    try:
        loads = _loads(Scene(clusters, client, peer, means), janitor, options)
        # The drills with the longest recovery come last.
        for each in sorted(chosen, key=lambda each: each.heals):
            scene = Scene(clusters, client, peer, means)
            try:
                wait_until_ready(clusters.values())
                played = play(each, scene, loads, options.pace, say)
            except (DrillError, KubeError, LookupError) as error:
                say(f"drill {each.number} did not finish: {error}")
                unfinished.append(f"drill {each.number} ({each.title}): {error}")
                continue
            reports.append(replace(played, stack=topology.stack))
            report.print_table(console, reports[-1])
            reports.sort(key=lambda drilled: drilled.number)
            _write(options, reports)
    except (KubeError, LookupError) as error:
        raise DrillError(str(error)) from error
    finally:
        for path in janitor.clean():
            print(f"not removed, remove it by hand: {path}", file=sys.stderr)
    if options.json:
        print(report.as_json(reports))
    if unfinished:
        raise DrillError("; ".join(unfinished))
    return 1 if any(report.missed(drilled) for drilled in reports) else 0


def available(environment: Environment = ANY_CLUSTER) -> list[Drill]:
    """The drills of the command and of its environment, by number."""
    return sorted((*DRILLS, *environment.drills), key=lambda each: each.number)


def catalogue(environment: Environment = ANY_CLUSTER) -> str:
    """The drills by number, one a line, and whether each needs a test environment or a confirmation."""
    lines: list[str] = []
    for each in available(environment):
        needs = "test environment" if each.contained else "--destructive" if each.destructive else ""
        lines.append(f"  {each.number:>2}  {each.name:<16} {each.title}{f' ({needs})' if needs else ''}")
    if not environment.drills:
        others = ", ".join(f"{number} {name}" for number, name in ELSEWHERE.items())
        lines.append(f"In a test environment only: {others}.")
    return "\n".join(["Drills:", *lines])


def choose(names: Sequence[str], environment: Environment = ANY_CLUSTER) -> list[Drill]:
    """The drills with these numbers or names, or all that the environment can run for `all`, by number.

    Raises DrillError when there is no such drill, or only in a test environment.
    """
    drills = available(environment)
    if "all" in names:
        return [each for each in drills if environment.drills or not each.contained]
    known = {name for each in drills for name in (str(each.number), each.name)}
    for name in names:
        if name in known:
            continue
        if name in {*map(str, ELSEWHERE), *ELSEWHERE.values()}:
            raise DrillError(f"drill {name} needs a test environment: it acts on nodes, links or clocks")
        listed = ", ".join(f"{each.number} {each.name}" for each in drills)
        only = ", ".join(f"{number} {name}" for number, name in ELSEWHERE.items())
        more = "" if environment.drills else f"; in a test environment also: {only}"
        raise DrillError(f"there is no drill {name}; there are: {listed}{more}")
    return [each for each in drills if str(each.number) in names or each.name in names]


def refuse_unconfirmed(chosen: Iterable[Drill], contained: bool, stack: str, typed: str | None) -> None:
    """Raises DrillError for drills that need a test environment or the confirmation by the stack's name."""
    for each in chosen:
        if contained:
            continue
        if each.contained:
            raise DrillError(f"drill {each.number} ({each.title}) needs a stack of a test environment")
        if each.destructive and typed != stack:
            raise DrillError(
                f"drill {each.number} ({each.title}) is destructive and {stack} is not a test environment: "
                f"confirm it with --destructive {stack}"
            )


def remove_leftovers(clusters: Iterable[LiveCluster]) -> None:
    """Removes the objects of a drill that was killed. One that is still running fails: run one at a time."""
    for cluster in clusters:
        for path in remove_stale(cluster, COLLECTIONS, age=timedelta(0)):
            print(f"left by an earlier drill on {cluster.name}, not removed: {path}", file=sys.stderr)


def wait_until_ready(clusters: Iterable[LiveCluster], timeout: float = 120.0) -> None:
    """Waits until helloworld and its caller are ready on every cluster, so that no drill affects the next."""
    for cluster in clusters:
        for app in (SERVER, CLIENT):
            path = f"/api/v1/namespaces/{app}/pods"

            def ready(cluster: LiveCluster = cluster, path: str = path, app: str = app) -> bool | None:
                pods = cluster.api.items(path, labelSelector=f"app={app}")
                return True if pods and all(is_ready(pod) for pod in pods) else None

            wait_for(ready, f"{app} is not ready on {cluster.name}", timeout)


def _loads(scene: Scene, janitor: Janitor, options: Options) -> list[Running]:
    if options.baseline:
        for cluster in scene.clusters.values():
            baseline.make(janitor, cluster)
    inside = LoadPod.start(janitor, scene.client, options.image, injected=True)
    outside = LoadPod.start(janitor, scene.client, options.image, injected=False)
    # The first request of a proxy opens its connections, which must not count for the fault.
    time.sleep(1.0)
    loads = [Running(mesh_stream(), inside), Running(ingress_stream(ingress_address(scene)), outside)]
    return [*loads, Running(baseline.stream(), inside)] if options.baseline else loads


def _write(options: Options, reports: Sequence[DrillReport]) -> None:
    """Writes the reports so far: a run that ends early keeps those of its finished drills."""
    for place, text in (
        (options.html, report.page(reports)),
        (options.output, report.as_json(reports) + "\n"),
    ):
        if place:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
    if options.docs:
        published.publish(options.docs, reports)
    if options.summary:
        published.summarize(options.summary, reports)
