"""`make lab`: runs the commands that lead from a fresh clone to a verified mesh.

Each phase runs as a process of its own, as a user would start it, and is idempotent: an interrupted run is repeated.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.lab import config
from testbed.lab.stack import FOLDER, engine_environment


@dataclass(frozen=True)
class Phase:
    """One phase: its name, and its command, which runs in the project folder."""

    name: str
    run: Callable[[], Sequence[str]]


class PhaseError(Exception):
    """A phase's command ended with an exit code other than 0."""

    def __init__(self, phase: str, command: Sequence[str], code: int) -> None:
        super().__init__(f"{phase} failed with exit code {code}: {' '.join(command)}")
        self.code = code


def module(name: str, command: str, *arguments: str, quiet: bool) -> list[str]:
    """The command line of one of the project's own Python programs."""
    return [sys.executable, "-m", name, command, *(["-q"] if quiet else []), *arguments]


def phases(stack: str, quiet: bool, clusters: int | None = None) -> list[Phase]:
    """The phases from nothing to a verified mesh, in order. Without a number of clusters the lab stays as it is."""
    size = ["--clusters", str(clusters)] if clusters else []
    return [
        Phase("preflight", lambda: module("testbed.lab", "preflight", "--install", *size, quiet=quiet)),
        Phase("tools", lambda: module("testbed.lab", "build", quiet=quiet)),
        Phase("clusters", lambda: module("testbed.lab", "up", *size, quiet=quiet)),
        Phase("pulumi up", lambda: module("testbed.lab", "pulumi", "up", "--stack", stack, quiet=quiet)),
        Phase("verify", lambda: module("fedmesh", "verify", "--stack", stack, "--wait", "180", quiet=quiet)),
    ]


def run(phase: Phase, project: Path, environment: Mapping[str, str]) -> float:
    """Runs one phase and returns its duration in seconds; raises PhaseError when its command fails."""
    started = time.monotonic()
    command = phase.run()
    code = subprocess.run(command, cwd=project, env=dict(environment), check=False).returncode
    if code != 0:
        raise PhaseError(phase.name, command, code)
    return time.monotonic() - started


def summary(durations: Mapping[str, float]) -> str:
    """A table of phases and their durations."""
    width = max(len(name) for name in [*durations, "total"])
    rows = [f"  {name:<{width}}  {seconds:7.1f} s" for name, seconds in durations.items()]
    return "\n".join([*rows, f"  {'total':<{width}}  {sum(durations.values()):7.1f} s"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs every phase, prints the durations, and returns 0 or the exit code of the phase that failed."""
    parser = argparse.ArgumentParser(prog="python -m testbed.lab.journey", description=__doc__)
    parser.add_argument(
        "--clusters", type=int, help="number of clusters (default: those that are there, or 2)"
    )
    parser.add_argument("--stack", help="name of the stack (default: the lab's)")
    parser.add_argument("-q", "--quiet", action="store_true", help="print only failures and the summary")
    options = parser.parse_args(arguments)
    project = Path.cwd()
    durations: dict[str, float] = {}
    try:
        stack: str = options.stack or config.wanted(project / FOLDER, options.clusters).stack
    except config.LabConfigError as fault:
        print(f"make lab: {fault}", file=sys.stderr)
        return 2
    for phase in phases(stack, options.quiet, options.clusters):
        if not options.quiet:
            print(f"\n== {phase.name}", flush=True)
        try:
            durations[phase.name] = run(phase, project, os.environ | engine_environment(project))
        except PhaseError as failure:
            print(f"\nmake lab: {failure}", file=sys.stderr)
            return failure.code
    print(f"\nThe mesh of stack {stack} is up and verified.\n{summary(durations)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
