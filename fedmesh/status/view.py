"""The tables of a snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fedmesh.certs import human
from fedmesh.status.snapshot import Snapshot, TrafficLine

SOON = timedelta(minutes=2)


def draw(snapshot: Snapshot, before: Snapshot | None = None) -> RenderableType:
    """Tables of clusters, certificates, federation and traffic; rates need the previous snapshot."""
    parts: list[RenderableType] = [
        _table(
            f"clusters at {snapshot.at:%H:%M:%S} UTC",
            ("cluster", "trust domain", "version", "nodes", "istiod", "remote clusters", "gateway"),
            (
                (_mark(c.name, c.well), c.trust_domain, c.version, c.nodes, c.istiod, c.remotes, c.gateway)
                for c in snapshot.clusters
            ),
        ),
        _table(
            "certificates",
            ("cluster", "certificate", "life left", "renewed in"),
            ((c.cluster, c.name, _left(c.left), _age(c.renewed_in)) for c in snapshot.certificates),
        ),
        _table(
            "federation",
            ("cluster", "bundle of", "state", "last change", "trouble"),
            (
                (f.cluster, f.trust_domain, _mark(f.state, f.well), _age(f.changed), escape(f.trouble))
                for f in snapshot.federation
            ),
        ),
    ]
    if snapshot.traffic:
        rates = _rates(snapshot, before)
        parts.append(
            _table(
                "traffic of sleep",
                ("cluster", "service", "endpoint", "priority", "requests", "errors", "requests/s"),
                (
                    (
                        t.cluster,
                        t.service,
                        _mark(t.endpoint, t.healthy),
                        *map(str, (t.priority, t.requests, t.errors)),
                        rates.get(_key(t), "-"),
                    )
                    for t in snapshot.traffic
                ),
            )
        )
    parts.extend(Text(f"not read: {line}", style="red") for line in snapshot.unread)
    return Group(*parts)


def _table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _rates(snapshot: Snapshot, before: Snapshot | None) -> dict[tuple[str, str, str], str]:
    if before is None:
        return {}
    seconds = (snapshot.at - before.at).total_seconds()
    old = {_key(line): line.requests for line in before.traffic}
    # The counters of a restarted proxy begin at zero: no rate for that interval.
    return {
        _key(line): f"{(line.requests - old[_key(line)]) / seconds:.1f}"
        for line in snapshot.traffic
        if old.get(_key(line), line.requests + 1) <= line.requests
    }


def _key(line: TrafficLine) -> tuple[str, str, str]:
    return line.cluster, line.service, line.endpoint


def _mark(text: str, well: bool) -> str:
    return f"[green]{escape(text)}[/]" if well else f"[red]{escape(text)}[/]"


def _left(left: timedelta | None) -> str:
    return "[red]none[/]" if left is None else _mark(human(left), left > SOON)


def _age(span: timedelta | None) -> str:
    return "-" if span is None else human(span)
