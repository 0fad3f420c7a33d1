"""`fedmesh drill`: which drills, on which clusters, and may they."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from rich.console import Console

from fedmesh.drill import baseline, faults, lab_faults, published, renewal, report, trust_faults
from fedmesh.drill.load import LoadPod
from fedmesh.drill.means import DrillError, Means, every_cluster
from fedmesh.drill.play import Pace, Running, ingress_address, ingress_stream, mesh_stream, play
from fedmesh.drill.report import DrillReport
from fedmesh.drill.scene import Fault, Scene
from fedmesh.kube import KubeError
from fedmesh.probe import Janitor, wait_for
from fedmesh.reading import Cluster, is_ready
from fedmesh.topology import CLIENT, SERVER, Topology

ALL: tuple[Fault, ...] = tuple(
    sorted(
        (*faults.FAULTS, *renewal.FAULTS, *lab_faults.FAULTS, *trust_faults.FAULTS),
        key=lambda fault: fault.number,
    )
)


@dataclass(frozen=True)
class Options:
    """What the command line says of a drill."""

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


def drill(topology: Topology, project: Path, options: Options) -> int:
    """Play the drills and print what they found; 1 when one is below its bar or something was not put back.

    Raises DrillError when one could not be played to its end, after the others.
    """
    console = Console(stderr=options.json)
    chosen = choose(options.names)
    means = Means(topology, project, in_lab(topology, project))
    refuse_unconfirmed(chosen, means.lab, topology.stack, options.destructive)
    clusters = every_cluster(topology, "a drill")
    client = clusters.get(options.client or topology.members[0].name)
    if client is None:
        raise DrillError(f"there is no cluster {options.client}; there are: {', '.join(clusters)}")
    peer = next(cluster for cluster in clusters.values() if cluster is not client)
    reports: list[DrillReport] = []
    unplayed: list[str] = []
    janitor = Janitor()
    stop_orderly()
    try:
        loads = _loads(Scene(clusters, client, peer, means), janitor, options)
        # those after which the mesh needs long to heal come last
        for fault in sorted(chosen, key=lambda fault: fault.heals):
            scene = Scene(clusters, client, peer, means)
            try:
                wait_until_whole(clusters.values())
                played = play(fault, scene, loads, options.pace, console.log)
            except (DrillError, KubeError, LookupError) as error:
                # the others of a long row are played all the same
                console.log(f"drill {fault.number} was not played to its end: {error}")
                unplayed.append(f"drill {fault.number} ({fault.title}): {error}")
                continue
            reports.append(replace(played, stack=topology.stack))
            report.print_table(console, reports[-1])
            reports.sort(key=lambda drilled: drilled.number)
            _write(options, reports)
    except (KubeError, LookupError) as error:
        raise DrillError(str(error)) from error
    finally:
        for path in janitor.clean():
            print(f"could not be removed, do so by hand: {path}", file=sys.stderr)
    if options.json:
        print(report.as_json(reports))
    if unplayed:
        raise DrillError("; ".join(unplayed))
    return 1 if any(report.missed(drilled) for drilled in reports) else 0


def choose(names: Sequence[str]) -> list[Fault]:
    """Faults by number or name, all of them for `all`, in the order of their numbers. Raises DrillError."""
    if "all" in names:
        return list(ALL)
    known = {name for fault in ALL for name in (str(fault.number), fault.name)}
    if unknown := [name for name in names if name not in known]:
        listed = ", ".join(f"{fault.number} {fault.name}" for fault in ALL)
        raise DrillError(f"there is no drill {unknown[0]}; there are: {listed}")
    return [fault for fault in ALL if str(fault.number) in names or fault.name in names]


def refuse_unconfirmed(chosen: Iterable[Fault], lab: bool, stack: str, typed: str | None) -> None:
    """Raise DrillError for faults that need the lab, or that were not confirmed by the stack's typed name."""
    for fault in chosen:
        if lab:
            continue
        if fault.lab:
            raise DrillError(f"drill {fault.number} ({fault.title}) works in the lab only")
        if fault.destructive and typed != stack:
            raise DrillError(
                f"drill {fault.number} ({fault.title}) is destructive and {stack} is not the lab: "
                f"confirm with --destructive and the stack's name"
            )


def in_lab(topology: Topology, project: Path) -> bool:
    """Whether every cluster of the stack is one that the lab made in this project."""
    home = (project / ".lab" / "clusters").resolve()
    return all(m.kubeconfig is not None and home in m.kubeconfig.resolve().parents for m in topology.members)


def wait_until_whole(clusters: Iterable[Cluster], timeout: float = 120.0) -> None:
    """Wait until helloworld and its caller are ready everywhere, so that a drill does not hurt the next."""
    for cluster in clusters:
        for app in (SERVER, CLIENT):
            path = f"/api/v1/namespaces/{app}/pods"

            def whole(cluster: Cluster = cluster, path: str = path, app: str = app) -> bool | None:
                pods = cluster.api.items(path, labelSelector=f"app={app}")
                return True if pods and all(is_ready(pod) for pod in pods) else None

            wait_for(whole, f"{app} is not ready on {cluster.name}", timeout)


def _loads(scene: Scene, janitor: Janitor, options: Options) -> list[Running]:
    if options.baseline:
        for cluster in scene.clusters.values():
            baseline.make(janitor, cluster)
    inside = LoadPod.start(janitor, scene.client, options.image, injected=True)
    outside = LoadPod.start(janitor, scene.client, options.image, injected=False)
    # The proxy's first request opens connections; let that not count for the fault.
    time.sleep(1.0)
    loads = [Running(mesh_stream(), inside), Running(ingress_stream(ingress_address(scene)), outside)]
    return [*loads, Running(baseline.stream(), inside)] if options.baseline else loads


def _write(options: Options, reports: Sequence[DrillReport]) -> None:
    """Write what is known so far, so that a long row of drills that ends early was not for nothing."""
    for place, text in (
        (options.html, report.page(reports)),
        (options.output, report.as_json(reports) + "\n"),
    ):
        if place:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
    if options.docs:
        published.publish(options.docs, reports)


def stop_orderly() -> None:
    """Let a request to end, such as a CI's, unwind as Ctrl-C does: everything is put back."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
