"""`fedmesh verify`: connect, run every check, clean up, report."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.console import Console

from fedmesh.connect import connect
from fedmesh.probe import Janitor, remove_stale
from fedmesh.topology import CLIENT, Topology
from fedmesh.verify import report
from fedmesh.verify.checks import ALL
from fedmesh.verify.model import Mesh, Result
from fedmesh.verify.runner import run

DEADLINE = 18.0


def verify(topology: Topology, json_output: bool, quiet: bool, output: Path | None, timeout: float) -> int:
    """Examine the mesh and print the report; returns the exit code, 0 when every check passed."""
    began = time.monotonic()
    results = examine(topology, timeout)
    seconds = time.monotonic() - began
    text = report.as_json(topology.stack, results, seconds)
    if output:
        output.write_text(text + "\n")
    if json_output:
        print(text)
    else:
        report.print_table(Console(), results, seconds, quiet)
    return 0 if results and all(result.ok for result in results) else 1


def examine(topology: Topology, timeout: float = DEADLINE) -> list[Result]:
    """Run every check against the live clusters, and remove what the checks made."""
    clusters, unreachable = connect(topology.members)
    for cluster in clusters.values():
        remove_stale(cluster, CLIENT)
    janitor = Janitor()
    mesh = Mesh(topology, clusters, janitor)
    try:
        return run(mesh, ALL, unreachable, timeout)
    finally:
        for path in janitor.clean():
            print(f"could not be removed, do so by hand: {path}", file=sys.stderr)
