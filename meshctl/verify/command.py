"""`meshctl verify`: connect, run every check, clean up, report."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from meshctl.kube import Kube, KubeError
from meshctl.probe import Janitor, remove_stale
from meshctl.reading import Cluster
from meshctl.topology import CLIENT, Member, Topology
from meshctl.verify import report
from meshctl.verify.checks import ALL
from meshctl.verify.model import Mesh, Result
from meshctl.verify.runner import UNREAD, run

DEADLINE = 18.0


def verify(topology: Topology, json_output: bool, quiet: bool, output: Path | None = None) -> int:
    """Examine the mesh and print the report; returns the exit code, 0 when every check passed."""
    began = time.monotonic()
    results = examine(topology)
    seconds = time.monotonic() - began
    text = report.as_json(topology.stack, results, seconds)
    if output:
        output.write_text(text + "\n")
    if json_output:
        print(text)
    else:
        report.print_table(Console(), results, seconds, quiet)
    return 0 if results and all(result.ok for result in results) else 1


def examine(topology: Topology) -> list[Result]:
    """Run every check against the live clusters, and remove what the checks made."""
    clusters, unreachable = connect(topology.members)
    janitor = Janitor()
    mesh = Mesh(topology, clusters, janitor)
    try:
        return run(mesh, ALL, unreachable, DEADLINE)
    finally:
        for path in janitor.clean():
            print(f"could not be removed, do so by hand: {path}", file=sys.stderr)


def connect(members: Iterable[Member]) -> tuple[dict[str, Cluster], dict[str, str]]:
    """Readings of each member by name, and why some cannot be read, also by name."""
    members = list(members)
    clusters: dict[str, Cluster] = {}
    unreachable: dict[str, str] = {}

    def reach(member: Member) -> tuple[Member, Cluster | str]:
        try:
            cluster = Cluster(member, Kube(member.kubeconfig, member.context))
            cluster.version()
            remove_stale(cluster, CLIENT)
        except KubeError as error:
            return member, UNREAD.format(error)
        return member, cluster

    with ThreadPoolExecutor(max_workers=max(1, len(members))) as pool:
        for member, outcome in pool.map(reach, members):
            if isinstance(outcome, Cluster):
                clusters[member.name] = outcome
            else:
                unreachable[member.name] = outcome
    return clusters, unreachable
