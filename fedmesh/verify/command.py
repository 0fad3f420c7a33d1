"""`fedmesh verify`: connects to the clusters, runs every check, cleans up and reports."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedmesh.connect import connect
from fedmesh.console import console_for
from fedmesh.defaults import DEADLINE, DEADLINE_PER_CLUSTER, PRE_DEADLINE
from fedmesh.probe import COLLECTIONS, Janitor, remove_stale
from fedmesh.topology import Topology
from fedmesh.verify import in_force, report
from fedmesh.verify.account import Account
from fedmesh.verify.account import examine as examine_account
from fedmesh.verify.checks import ALL, PRE
from fedmesh.verify.model import Check, Mesh, Result
from fedmesh.verify.reading_only import read_only
from fedmesh.verify.requirements import SERVICES
from fedmesh.verify.runner import run

PAUSE = 5.0  # seconds between two rounds of checks
# Commands in containers at a time on a cluster: with all checks' at once, small nodes answer none of them in time.
COMMANDS = 4


def verify(
    topology: Topology,
    *,
    pre: bool = False,
    as_json: bool = False,
    quiet: bool = False,
    output: Path | None = None,
    timeout: float | None = None,
    wait: float = 0.0,
    reads_only: bool = False,
    accounts: Sequence[Account] = (),
) -> int:
    """Checks the mesh, or with `pre` the clusters, and prints the report; returns 1 when a check failed.

    Args:
        timeout: seconds after which a check without an answer has failed.
        wait: seconds in which the checks are repeated until all of them pass.
        reads_only: whether nothing but objects may be read; what that cannot see is reported as warnings.
        accounts: the AWS accounts in which the stack's clusters are created.
    """
    began = time.monotonic()
    if pre:
        for name in (member.name for member in topology.members if member.created):
            print(f"{name}: `pulumi up` creates this cluster; it is not checked", file=sys.stderr)
        topology = existing(topology)
        if not topology.members and not accounts:
            return 0
    checks = PRE if pre else ALL
    deadline = timeout or (PRE_DEADLINE if pre else None)
    in_account = [result for each in accounts for result in examine_account(each)] if pre else []

    def examined() -> list[Result]:
        return [
            *in_account,
            *(examine(topology, deadline, checks, reads_only) if topology.members or not pre else []),
        ]

    results = examined()
    while not report.passed(results) and time.monotonic() - began + PAUSE < wait:
        time.sleep(PAUSE)
        results = examined()
    seconds = time.monotonic() - began
    text = report.as_json(topology.stack, results, seconds)
    if output:
        output.write_text(text + "\n", encoding="utf-8")
    if as_json:
        print(text)
    else:
        report.print_table(console_for(), results, seconds, quiet)
    return 0 if report.passed(results) else 1


def show_service(topology: Topology, service: str, *, as_json: bool = False) -> int:
    """Prints what is in force for the calls to a service (`namespace/name`) on every cluster that answers.

    Raises:
        LookupError: there is no such service in the mesh.
    """
    namespace, slash, name = service.partition("/")
    if not (namespace and slash and name):
        raise LookupError(f"--service {service}: must be <namespace>/<name>")
    clusters, unreachable = connect(topology.members)
    for cluster, reason in unreachable.items():
        print(f"{cluster} does not answer: {reason}", file=sys.stderr)
    found = in_force.in_force(clusters.values(), namespace, name)
    if as_json:
        print(in_force.as_json(found))
    else:
        in_force.print_in_force(console_for(), found)
    return 0


def existing(topology: Topology) -> Topology:
    """The topology of the clusters that the program does not create."""
    return replace(topology, members=tuple(each for each in topology.members if not each.created))


def deadline_of(topology: Topology) -> float:
    """Seconds in which the checks of an installed mesh must have answered."""
    return DEADLINE + DEADLINE_PER_CLUSTER * max(0, len(topology.members) - 2)


def examine(
    topology: Topology,
    timeout: float | None = None,
    checks: Sequence[Check] | None = None,
    reads_only: bool = False,
) -> list[Result]:
    """Runs checks, by default those of an installed mesh, against the live clusters and removes their objects.

    Args:
        timeout: seconds after which a check without an answer has failed; by default as many as the clusters need.
    """
    clusters, unreachable = connect(topology.members, COMMANDS)
    if reads_only:
        clusters = {name: read_only(cluster) for name, cluster in clusters.items()}
    for cluster in [] if reads_only else clusters.values():
        for path in remove_stale(cluster, (*COLLECTIONS, SERVICES)):
            print(f"left by an earlier run on {cluster.name}, not removed: {path}", file=sys.stderr)
    janitor = Janitor()
    mesh = Mesh(topology, clusters, janitor)
    try:
        return run(mesh, ALL if checks is None else checks, unreachable, timeout or deadline_of(topology))
    finally:
        for path in janitor.clean():
            print(f"not removed, remove it by hand: {path}", file=sys.stderr)
