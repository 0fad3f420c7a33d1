"""`fedmesh drill`: selects drills, confirms destructive ones, runs them and reports their findings."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fedmesh.console import console_for
from fedmesh.drill import baseline, faults, published, renewal, report, trust_faults
from fedmesh.drill.environment import ANY_CLUSTER, Environment, Stage
from fedmesh.drill.load import ENVOY_FILTERS, Caller, Load, LoadPod, Running
from fedmesh.drill.means import DrillError, Means, every_cluster
from fedmesh.drill.play import Pace, ingress_address, ingress_load, play
from fedmesh.drill.report import FAILOVER_TASK, SENT_FROM, DrillReport
from fedmesh.drill.scene import Drill, Scene
from fedmesh.drill.target import Protocol, Target, find
from fedmesh.interrupts import shielded, tell
from fedmesh.kube import KubeError
from fedmesh.probe import NETWORKING, Janitor, remove_stale, wait_for
from fedmesh.reading import LiveCluster, is_ready
from fedmesh.topology import SERVER, Topology

# On any cluster, except those that are `contained`.
DRILLS: tuple[Drill, ...] = (*faults.DRILLS, *renewal.DRILLS, *trust_faults.DRILLS)
# Drills of test environments, for the message of the command where there is none.
ELSEWHERE = {
    "users-power": 8,
    "users-cut": 8,
    "users-gateways": 8,
    "peer-cut": 9,
    "peer-power": 9,
    "callers-cut": 10,
    "control-plane": 10,
    "nodes": 10,
    "slow-links": 11,
    "clock": 12,
}


def collections(namespaces: Iterable[str]) -> list[str]:
    """The API collections in which drills and `fedmesh latency` create objects."""
    return [
        collection
        for name in dict.fromkeys(namespaces)
        for collection in (
            f"/api/v1/namespaces/{name}/pods",
            f"/api/v1/namespaces/{name}/services",
            f"/apis/apps/v1/namespaces/{name}/deployments",
            f"{NETWORKING}/{name}/destinationrules",
            f"{NETWORKING}/{name}/virtualservices",
            f"{ENVOY_FILTERS}/{name}/envoyfilters",
        )
    ]


@dataclass(frozen=True)
class Options:
    """The command line of `fedmesh drill`."""

    names: Sequence[str]
    target: str | None
    protocol: Protocol
    method: str
    path: str
    caller: str | None
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
    chosen = choose(options.names, environment, len(topology.members))
    refuse_unconfirmed(chosen, means.contained, topology.stack, options.destructive)
    if any(each.objective.goodput for each in chosen):
        options = replace(options, baseline=True)
    clusters = every_cluster(topology, "fedmesh drill")
    if options.client and options.client not in clusters:
        raise DrillError(f"there is no cluster {options.client}; there are: {', '.join(clusters)}")
    reports: list[DrillReport] = []
    unfinished: list[str] = []
    janitor = Janitor()
    crew: Crew | None = None
    try:
        crew = Crew.gather(clusters, options, means, janitor)
        # The drills with the longest recovery come last.
        for each in sorted(chosen, key=lambda each: each.heals):
            try:
                wait_until_ready(clusters.values(), crew.target)
                scene = crew.scene(each)
                played = play(each, scene, crew.loads(each, scene), options.pace, say, stage=crew.stage)
            except (DrillError, KubeError, LookupError) as error:
                say(f"drill {each.number} did not finish: {error}")
                unfinished.append(f"drill {each.number} ({each.title}): {error}")
                crew.halt()
                continue
            reports.append(report.with_goodput(replace(played, stack=topology.stack)))
            report.print_table(console, reports[-1])
            reports.sort(key=lambda drilled: drilled.number)
            _write(options, reports)
    except (KubeError, LookupError) as error:
        raise DrillError(str(error)) from error
    finally:
        # Ctrl-C during the first must not leave out the second.
        with shielded():
            try:
                if crew and crew.stage:
                    crew.stage.close()
            finally:
                for path in janitor.clean():
                    tell(f"not removed, remove it by hand: {path}")
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
        needs += f"{', ' if needs else ''}{each.clusters} clusters" if each.clusters > 2 else ""
        lines.append(f"  {each.number:>2}  {each.name:<16} {each.title}{f' ({needs})' if needs else ''}")
    if not environment.drills:
        others = ", ".join(f"{number} {name}" for name, number in ELSEWHERE.items())
        lines.append(f"In a test environment only: {others}.")
    return "\n".join(["Drills:", *lines])


def choose(names: Sequence[str], environment: Environment = ANY_CLUSTER, clusters: int = 2) -> list[Drill]:
    """The drills with these numbers or names, or all that the environment and the stack can run for `all`, by number.

    Raises DrillError when there is no such drill, or only in a test environment or with more clusters.
    """
    drills = available(environment)
    if "all" in names:
        return [
            each
            for each in drills
            if (environment.drills or not each.contained) and each.clusters <= clusters
        ]
    known = {name for each in drills for name in (str(each.number), each.name)}
    for name in names:
        if name in known:
            continue
        if name in {*ELSEWHERE, *map(str, ELSEWHERE.values())}:
            raise DrillError(f"drill {name} needs a test environment: it acts on nodes, links or clocks")
        listed = ", ".join(f"{each.number} {each.name}" for each in drills)
        only = ", ".join(f"{number} {name}" for name, number in ELSEWHERE.items())
        more = "" if environment.drills else f"; in a test environment also: {only}"
        raise DrillError(f"there is no drill {name}; there are: {listed}{more}")
    chosen = [each for each in drills if str(each.number) in names or each.name in names]
    for each in chosen:
        if each.clusters > clusters:
            raise DrillError(
                f"drill {each.name} needs {each.clusters} clusters: with {clusters} nobody takes over"
            )
    return chosen


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


def remove_leftovers(clusters: Iterable[LiveCluster], namespaces: Iterable[str]) -> None:
    """Removes the objects of a drill that was killed. One that is still running fails: run one at a time."""
    places = collections(namespaces)
    for cluster in clusters:
        for path in remove_stale(cluster, places, age=timedelta(0)):
            print(f"left by an earlier drill on {cluster.name}, not removed: {path}", file=sys.stderr)


def wait_until_ready(clusters: Iterable[LiveCluster], target: Target, timeout: float = 180.0) -> None:
    """Waits until the target's pods are ready on every cluster, so that no drill affects the next."""
    for cluster in clusters:

        def ready(cluster: LiveCluster = cluster) -> bool | None:
            pods = target.pods(cluster)
            return True if pods and all(is_ready(pod) for pod in pods) else None

        wait_for(ready, f"{target.host} is not ready on {cluster.name}", timeout)


@dataclass
class Crew:
    """Who calls what: the target, the callers' pods on each cluster, and users outside the clusters.

    Attributes:
        halted: pods in which loads of a drill that failed may still run.
    """

    clusters: dict[str, LiveCluster]
    means: Means
    options: Options
    janitor: Janitor
    caller: Caller
    target: Target
    mesh_loads: tuple[Load, ...]
    stage: Stage | None = None
    pods: dict[tuple[str, bool], LoadPod] = field(default_factory=dict[tuple[str, bool], LoadPod])
    halted: list[LoadPod] = field(default_factory=list[LoadPod])

    @classmethod
    def gather(
        cls, clusters: dict[str, LiveCluster], options: Options, means: Means, janitor: Janitor
    ) -> Crew:
        """Finds the target, or brings the environment's own. Raises DrillError when there is none."""
        bring = means.environment.stage if means.contained and options.target is None else None
        samples = means.topology.samples
        if not (bring or options.target or samples):
            raise DrillError("name a service with --target NAMESPACE/SERVICE: the stack has no sample apps")
        namespace, _, account = (options.caller or "").partition("/")
        caller = Caller(namespace, account or "default") if namespace else Caller()
        place = (options.target or SERVER).partition("/")[0]
        if not namespace and not samples:
            caller = Caller(place, "default")
        remove_leftovers(clusters.values(), (caller.namespace, place))
        stage = bring(janitor, clusters) if bring else None
        target = stage.target if stage else _target(next(iter(clusters.values())), options)
        loads = stage.loads if stage else own_loads(target)
        if options.baseline:
            for cluster in clusters.values():
                baseline.make(janitor, cluster, target, stage.retries if stage else None)
            loads = (*loads, *baseline.loads(target))
        return cls(clusters, means, options, janitor, caller, target, loads, stage)

    def scene(self, drill: Drill) -> Scene:
        """The scene of a drill: users reach the first cluster first, and are called for by another one's pods."""
        home = next(iter(self.clusters.values()))
        client = self.clusters[self.options.client or home.name]
        if drill.users and client is home:
            client = next(each for each in self.clusters.values() if each is not home)
        peer = home if drill.users else next(each for each in self.clusters.values() if each is not client)
        return Scene(self.clusters, client, peer, self.means, self.target)

    def loads(self, drill: Drill, scene: Scene) -> list[Running]:
        """The loads of a drill, each with its source. Raises KubeError while those of a failed one cannot be ended."""
        self._remove_halted()
        if drill.objective.goodput:
            return self._compared(scene, everywhere=drill.everywhere)
        inside = self._pod(scene.client, injected=True)
        loads = [Running(load, inside) for load in self.mesh_loads]
        if drill.users:
            if self.stage is None:
                raise LookupError("users call the environment's own app: leave out --target")
            return [*loads, *self.stage.users(scene.peer.name)]
        if self.stage or self.options.target:
            return loads
        outside = self._pod(scene.client, injected=False)
        return [*loads, Running(ingress_load(ingress_address(scene)), outside)]

    def halt(self) -> None:
        """Ends the loads of a drill that failed, which would go on into the next one; that gets other pods."""
        if self.stage:
            self.stage.halt()
        self.halted += self.pods.values()
        self.pods.clear()
        # A cluster that the fault took away may answer again for the next drill.
        with suppress(KubeError):
            self._remove_halted()

    def _remove_halted(self) -> None:
        while self.halted:
            self.halted[-1].remove()
            self.halted.pop()

    def _compared(self, scene: Scene, *, everywhere: bool) -> list[Running]:
        """The calls of the target's kind and those of Istio's multi-primary set-up. Raises LookupError without any."""
        kind = (self.target.protocol, self.target.method)
        loads = [
            load
            for load in self.mesh_loads
            if not load.lasting and (load.protocol, load.method) == kind and load.name != FAILOVER_TASK
        ]
        if all(report.is_comparison(load.name) for load in loads):
            raise LookupError(
                f"it compares answers per second, and connections of {self.target.protocol} have none: "
                "call the target by http or grpc"
            )
        callers = self.clusters.values() if everywhere else [scene.client]
        return [
            Running(
                load
                if cluster is scene.client
                else replace(
                    load,
                    name=f"{load.name}{SENT_FROM}{cluster.name}",
                    title=f"{load.title}, from {cluster.name}",
                ),
                self._pod(cluster, injected=True),
            )
            for cluster in callers
            for load in loads
        ]

    def _pod(self, cluster: LiveCluster, *, injected: bool) -> LoadPod:
        """The load pod on a cluster; another one where a drill took it away."""
        pod = self.pods.get((cluster.name, injected))
        if pod is None or not pod.runs():
            if pod:
                pod.remove()
            nodes = self.means.environment.load_nodes(cluster.name) if self.means.contained else ()
            pod = LoadPod.start(
                self.janitor, cluster, self.options.image, self.caller, injected=injected, nodes=nodes
            )
            self.pods[cluster.name, injected] = pod
            # The first request of a proxy opens its connections, which must not count for the fault.
            time.sleep(1.0)
        return pod


def _target(cluster: LiveCluster, options: Options) -> Target:
    """The target that the command line names, by default the sample."""
    if options.target:
        return find(cluster, options.target, options.protocol, options.method, options.path)
    return find(cluster, f"{SERVER}/{SERVER}", "http", "GET", "/hello")


def own_loads(target: Target) -> tuple[Load, ...]:
    """The loads on a user's own service: calls at a rate, or connections that last where its protocol has no calls."""
    title = f"{target.calls} from inside the mesh"
    return (Load("mesh", title, target.url, target.protocol, target.method, target.upstream, target.lasting),)


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
