"""`make bench`: measures the lab's journey on this machine and writes docs/benchmarks.md.

Takes the lab down first. The report shows each figure beside its target; no target is enforced.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.lab import clusters, journey, paths
from testbed.lab.progress import clock
from testbed.lab.sections import sections_of
from testbed.lab.stack import engine_environment

REPORT = Path("docs/benchmarks.md")
COLD = "<!-- cold builds -->"


@dataclass(frozen=True)
class Figure:
    """One row of the report."""

    name: str
    bar: str
    value: str
    command: str


def timed(command: Sequence[str]) -> float:
    """Returns the duration of a command in seconds; raises CalledProcessError when it fails."""
    started = time.monotonic()
    subprocess.run(command, cwd=paths.project(), check=True)
    return time.monotonic() - started


def memory_gib() -> float:
    """Memory of all the lab's processes in GiB, as proportional set size (PSS)."""
    total = 0
    for process in clusters.all_processes():
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 2**20


def warm() -> tuple[list[Figure], dict[str, float]]:
    """Measures `make lab` with the tools in the cache, on a machine without a lab."""
    project = paths.project()
    lab = [sys.executable, "-m", "testbed.lab"]
    subprocess.run([*lab, "down", "-q"], cwd=project, check=True)
    environment = os.environ | engine_environment(project)
    phases = {phase.name: journey.run(phase, project, environment) for phase in journey.phases("lab", True)}
    again = timed([sys.executable, "-m", "testbed.lab.journey", "--quiet"])
    unchanged = timed([*lab, "pulumi", "-q", "unchanged"])
    figures = [
        Figure(
            "lab from nothing to verified, tools in the cache",
            "180 s",
            f"{sum(phases.values()):.0f} s",
            "make lab",
        ),
        Figure("`make lab` again", "seconds", f"{again:.0f} s", "make lab"),
        Figure("second `pulumi up`: no changes", "20 s", f"{unchanged:.1f} s", "make unchanged"),
        Figure("memory of the whole lab (PSS)", "6 GiB", f"{memory_gib():.1f} GiB", "make bench"),
        Figure("manual commands after `make lab`", "0", "0", "make lab"),
    ]
    return figures, phases


def cold() -> str:
    """Downloads and builds all tools with empty caches, and returns the report's row."""
    with tempfile.TemporaryDirectory(prefix="fedmesh-cold-") as folder:
        caches = {"GOCACHE": "go", "GOMODCACHE": "modules", "FEDMESH_CACHE": "cache"}
        environment = os.environ | {name: f"{folder}/{own}" for name, own in caches.items()}
        started = time.monotonic()
        command = [sys.executable, "-m", "testbed.lab", "build"]
        subprocess.run(command, cwd=paths.project(), env=environment, check=True)
    took = clock(time.monotonic() - started)
    return f"| tool builds, all caches empty, downloads included | 35 min | {took} | `make bench-cold` |"


def machine() -> str:
    """The date and the hardware on which a report was measured."""
    processor = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{datetime.date.today()}: {os.cpu_count()} cores ({processor}), {memory:.0f} GiB"


def report(figures: Sequence[Figure], phases: dict[str, float], cold_rows: Sequence[str]) -> str:
    """The text of docs/benchmarks.md."""
    rows = [f"| {figure.name} | {figure.bar} | {figure.value} | `{figure.command}` |" for figure in figures]
    parts = [f"| {name} | {seconds:.1f} s |" for name, seconds in phases.items()]
    return "\n".join(
        [
            "# Benchmarks",
            "",
            f"Made by `make bench` on {machine()}.",
            "",
            "| figure | bar | measured | command |",
            "| --- | --- | --- | --- |",
            *rows,
            *cold_rows,
            COLD,
            "",
            "Phases of `make lab` with the tools in the cache:",
            "",
            "| phase | time |",
            "| --- | --- |",
            *parts,
            "",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes the report."""
    parser = argparse.ArgumentParser(prog="python -m testbed.lab.bench", description=__doc__)
    parser.add_argument(
        "--cold", action="store_true", help="only the cold builds of the tools (half an hour)"
    )
    options = parser.parse_args(arguments)
    file = paths.project() / REPORT
    old = file.read_text() if file.exists() else ""
    if options.cold:
        kept = [line for line in old.splitlines() if "make bench-cold" not in line]
        if COLD not in kept:
            parser.error(f"{REPORT} does not exist yet: run make bench first")
        place = kept.index(COLD)
        file.write_text("\n".join([*kept[:place], cold(), *kept[place:], ""]))
        return 0
    cold_rows = [line for line in old.splitlines() if "make bench-cold" in line]
    file.write_text("\n".join([report(*warm(), cold_rows), *sections_of(old)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
