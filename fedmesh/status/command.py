"""`fedmesh status`: prints the state of the mesh, once or repeatedly."""

from __future__ import annotations

import time

from rich.live import Live

from fedmesh.connect import connect
from fedmesh.console import console_for
from fedmesh.status.snapshot import Snapshot, take
from fedmesh.status.view import draw
from fedmesh.topology import Topology


def status(topology: Topology, watch: bool, interval: float) -> int:
    """Prints the state, with `watch` every `interval` seconds until Ctrl-C; returns 1 when a part cannot be read."""
    console = console_for()
    snapshot = _snapshot(topology)
    if not watch:
        console.print(draw(snapshot))
        return 1 if snapshot.unread else 0
    with Live(draw(snapshot), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            before, snapshot = snapshot, _snapshot(topology)
            live.update(draw(snapshot, before), refresh=True)


def _snapshot(topology: Topology) -> Snapshot:
    clusters, unreachable = connect(topology.members)
    return take(topology.members, clusters, unreachable)
