"""`fedmesh verify`: connect, run every check, clean up, report."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.console import Console

from fedmesh.connect import connect
from fedmesh.defaults import DEADLINE
from fedmesh.probe import COLLECTIONS, Janitor, remove_stale
from fedmesh.topology import Topology
from fedmesh.verify import report
from fedmesh.verify.checks import ALL
from fedmesh.verify.model import Mesh, Result
from fedmesh.verify.runner import run


def verify(topology: Topology, *, as_json: bool, quiet: bool, output: Path | None, timeout: float) -> int:
    """Examine the mesh and print the report; returns the exit code, 0 when every check passed."""
    began = time.monotonic()
    results = examine(topology, timeout)
    seconds = time.monotonic() - began
    text = report.as_json(topology.stack, results, seconds)
    if output:
        output.write_text(text + "\n")
    if as_json:
        print(text)
    else:
        report.print_table(Console(), results, seconds, quiet)
    return 0 if results and all(result.ok for result in results) else 1


def examine(topology: Topology, timeout: float = DEADLINE) -> list[Result]:
    """Run every check against the live clusters, and remove what the checks made."""
    clusters, unreachable = connect(topology.members)
    for cluster in clusters.values():
        for path in remove_stale(cluster, COLLECTIONS):
            print(f"left by an earlier run on {cluster.name}, not removed: {path}", file=sys.stderr)
    janitor = Janitor()
    mesh = Mesh(topology, clusters, janitor)
    try:
        return run(mesh, ALL, unreachable, timeout)
    finally:
        for path in janitor.clean():
            print(f"not removed, remove it by hand: {path}", file=sys.stderr)
