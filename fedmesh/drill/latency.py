"""`fedmesh latency`: the latency that a call to another cluster adds, over new and kept connections.

helloworld gets another host name. Its paths lead to the calling cluster or to the peer, over connections that are
kept or opened for every request: the caller's to its proxy, and the mTLS connection of the proxy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fedmesh.defaults import LOAD_IMAGE
from fedmesh.drill import second_name
from fedmesh.drill.analysis import percentile
from fedmesh.drill.load import Caller, Load, LoadPod, Rate
from fedmesh.drill.means import DrillError, every_cluster
from fedmesh.drill.play import LEAD
from fedmesh.drill.published import LATENCY
from fedmesh.drill.samples import Sample
from fedmesh.drill.target import Target
from fedmesh.interrupts import tell
from fedmesh.kube import Json
from fedmesh.probe import Janitor
from fedmesh.reading import LiveCluster
from fedmesh.topology import SERVER, SERVER_PORT, Topology

TARGET = Target(SERVER, f"{SERVER}-latency", SERVER_PORT, {"app": SERVER}, SERVER_PORT)
# Istio adds it to every endpoint.
CLUSTER_LABEL = "topology.istio.io/cluster"
CONNECTIONS = ("kept", "new")
PLACES = ("local", "remote")
RATE, ROUND_SECONDS, ROUNDS, TIMEOUT = 40, 10.0, 3, 5.0
# Seconds until every proxy and gateway has the host name.
SETTLE = 8.0
FIGURES = "latency.json"


@dataclass(frozen=True)
class Figures:
    """Calls of one kind: the cluster that answered, the numbers sent and lost, p50 and p99 in seconds."""

    place: str
    connections: str
    by: str
    sent: int
    lost: int
    p50: float
    p99: float


@dataclass(frozen=True)
class LatencyReport:
    """The latencies of calls from the cluster `client` to itself and to `peer`."""

    at: datetime
    client: str
    peer: str
    rate: int
    figures: tuple[Figures, ...]

    def of(self, place: str, connections: str) -> Figures:
        """The figures of one kind of call."""
        return next(f for f in self.figures if (f.place, f.connections) == (place, connections))


def latency(topology: Topology, as_json: bool, docs: Path | None, image: str = LOAD_IMAGE) -> int:
    """Measures and prints the latencies, and writes them into the folder `docs`; returns 1 when a request was lost."""
    clusters = every_cluster(topology, "fedmesh latency")
    if not topology.samples:
        raise DrillError("fedmesh latency needs the sample apps: enable fedmesh:samples in the stack file")
    client, peer = list(clusters.values())[:2]
    janitor = Janitor()
    try:
        for cluster in clusters.values():
            for collection, body in objects(client.name, peer.name):
                janitor.create(cluster.api, collection, body)
        pod = LoadPod.start(janitor, client, image, Caller(), injected=True)
        time.sleep(SETTLE)
        report = measure(pod, client, peer)
    finally:
        for path in janitor.clean():
            tell(f"not removed, remove it by hand: {path}")
    _print(Console(stderr=as_json), report)
    if as_json:
        print(as_text(report))
    if docs:
        docs.mkdir(parents=True, exist_ok=True)
        (docs / LATENCY).write_text(document(report), encoding="utf-8")
        (docs / FIGURES).write_text(as_text(report) + "\n", encoding="utf-8")
    return 1 if any(figures.lost for figures in report.figures) else 0


def measure(pod: LoadPod, client: LiveCluster, peer: LiveCluster) -> LatencyReport:
    """Sends the kinds of calls in turn, in several rounds, so that other load on the machines affects all alike.

    Raises DrillError when a call was answered by another cluster than it was meant for.
    """
    at = datetime.now(UTC)
    met: dict[tuple[str, str], list[Sample]] = {}
    for round_number in range(ROUNDS):
        for place in PLACES:
            for connections in CONNECTIONS:
                load = load_of(place, connections, round_number)
                pod.fire(load, Rate(RATE, TIMEOUT, ROUND_SECONDS), load.name)
                time.sleep(ROUND_SECONDS + LEAD)
                samples = pod.collect(load, 0.0)
                # The first second of each round has proxies without open connections.
                met.setdefault((place, connections), []).extend(samples[RATE:])
    figures = tuple(summary(*kind, samples) for kind, samples in met.items())
    meant = {"local": client.name, "remote": peer.name}
    for found in figures:
        if found.by != meant[found.place]:
            raise DrillError(f"{found.place} calls were answered by {found.by}, not by {meant[found.place]}")
    return LatencyReport(at, client.name, peer.name, RATE, figures)


def load_of(place: str, connections: str, round_number: int) -> Load:
    """The load of one kind of call in one round."""
    return Load(
        f"{place}-{connections}-{round_number}",
        f"{place}, connections {connections}",
        f"{TARGET.url}{place}/{connections}",
        keepalive=connections == "kept",
    )


def summary(place: str, connections: str, samples: Sequence[Sample]) -> Figures:
    """Percentiles of the answered calls. Raises DrillError when none was answered, or by more than one cluster."""
    answered = [sample for sample in samples if not sample.lost]
    clusters = {sample.by for sample in answered}
    times = [sample.latency for sample in answered]
    p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
    if p50 is None or p99 is None or len(clusters) != 1:
        raise DrillError(f"{place} calls were answered by {', '.join(sorted(clusters)) or 'nobody'}")
    return Figures(place, connections, clusters.pop(), len(samples), len(samples) - len(answered), p50, p99)


def objects(client: str, peer: str) -> list[tuple[str, Json]]:
    """The Service and rules of the host name, each with its API collection. Gateways need the subsets too."""
    subsets: list[Json] = []
    routes: list[Json] = []
    for place, cluster in zip(PLACES, (client, peer), strict=True):
        for connections in CONNECTIONS:
            name = f"{place}-{connections}"
            subset: Json = {"name": name, "labels": {CLUSTER_LABEL: cluster}}
            if connections == "new":
                subset["trafficPolicy"] = {"connectionPool": {"http": {"maxRequestsPerConnection": 1}}}
            subsets.append(subset)
            routes.append(
                {
                    "match": [{"uri": {"prefix": f"/{place}/{connections}"}}],
                    "rewrite": {"uri": "/hello"},
                    "retries": {"attempts": 0},
                    "route": [{"destination": {"host": TARGET.host, "subset": name}}],
                }
            )
    return second_name.objects(TARGET, {"subsets": subsets}, routes)


def as_text(report: LatencyReport) -> str:
    """The report as JSON; times in seconds."""
    whole = {**asdict(report), "at": report.at.isoformat(timespec="seconds")}
    return json.dumps(whole, indent=2)


def rows(report: LatencyReport) -> list[tuple[str, ...]]:
    """Rows of connections, percentile, local, cross-cluster and added latency."""
    found: list[tuple[str, ...]] = []
    for connections in CONNECTIONS:
        for share in ("p50", "p99"):
            local, remote = (getattr(report.of(place, connections), share) for place in PLACES)
            found.append((connections, share, _ms(local), _ms(remote), f"{(remote - local) * 1000:+.2f} ms"))
    return found


def document(report: LatencyReport) -> str:
    """The report as a page of Markdown."""
    lines = [
        "# Added latency across clusters",
        "",
        f"Made by `fedmesh latency` on {report.at:%Y-%m-%d}, in the lab: a pod in the mesh on {report.client} calls "
        f"helloworld on {report.client} and on {report.peer} (through its east-west gateway) at {report.rate} "
        f"requests/s, {ROUNDS} times {ROUND_SECONDS:g} s of each kind in turn, of which the first second is left out. "
        "Kept: one connection for many requests. New: every request opens a connection from the caller to its proxy "
        "and an mTLS connection from the proxy.",
        "",
        "| connections | | local | cross-cluster | added |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [f"| {' | '.join(row)} |" for row in rows(report)]
    sent, lost = (sum(getattr(f, what) for f in report.figures) for what in ("sent", "lost"))
    return "\n".join([*lines, "", f"{lost} of {sent} requests lost.", ""])


def _print(console: Console, report: LatencyReport) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("connections", "", "local", "cross-cluster", "added"):
        table.add_column(column)
    for row in rows(report):
        table.add_row(*row)
    console.print(table)
    for figures in report.figures:
        if figures.lost:
            console.print(
                f"[red]{figures.place}, {figures.connections}: {figures.lost} of {figures.sent} lost[/]"
            )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"
