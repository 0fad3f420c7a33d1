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

from testbed.lab import clusters, config, journey, paths
from testbed.lab.progress import clock
from testbed.lab.sections import sections_of, with_section
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


@dataclass(frozen=True)
class Bars:
    """What a lab of a size must reach: seconds to a verified mesh, seconds for an `up` without changes, and memory."""

    journey: int
    unchanged: int
    memory: int


# Names of sections have letters only.
SECTIONS = {3: "lab-of-three"}
BARS = {2: Bars(journey=180, unchanged=20, memory=6), 3: Bars(journey=300, unchanged=30, memory=8)}


def warm(size: int = 2) -> tuple[list[Figure], dict[str, float]]:
    """Measures `make lab` of some clusters with the tools in the cache, on a machine without a lab."""
    bars, stack = BARS[size], config.file_for(size).stem
    command = "make lab" if size == 2 else f"make lab CLUSTERS={size}"
    project = paths.project()
    lab = [sys.executable, "-m", "testbed.lab"]
    subprocess.run([*lab, "down", "-q"], cwd=project, check=True)
    environment = os.environ | engine_environment(project)
    phases = {
        phase.name: journey.run(phase, project, environment) for phase in journey.phases(stack, True, size)
    }
    again = timed([sys.executable, "-m", "testbed.lab.journey", "--quiet"])
    unchanged = timed([*lab, "pulumi", "-q", "unchanged"])
    figures = [
        Figure(
            "lab from nothing to verified, tools in the cache",
            f"{bars.journey} s",
            f"{sum(phases.values()):.0f} s",
            command,
        ),
        Figure(f"`{command}` again", "seconds", f"{again:.0f} s", command),
        Figure(
            "second `pulumi up`: no changes", f"{bars.unchanged} s", f"{unchanged:.1f} s", "make unchanged"
        ),
        Figure(
            "memory of the whole lab (PSS)", f"{bars.memory} GiB", f"{memory_gib():.1f} GiB", "make bench"
        ),
        Figure(f"manual commands after `{command}`", "0", "0", command),
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
    return "\n".join(
        [
            "# Benchmarks",
            "",
            f"Made by `make bench` on {machine()}.",
            "",
            *_table(figures),
            *cold_rows,
            COLD,
            "",
            "Phases of `make lab` with the tools in the cache:",
            "",
            *_parts(phases),
            "",
        ]
    )


def section(size: int, figures: Sequence[Figure], phases: dict[str, float]) -> str:
    """The text of the section on a lab of more clusters."""
    made = f"Made by `make bench CLUSTERS={size}` on {machine()}."
    return "\n".join([f"## {size} clusters", "", made, "", *_table(figures), "", *_parts(phases)])


def _table(figures: Sequence[Figure]) -> list[str]:
    rows = [f"| {figure.name} | {figure.bar} | {figure.value} | `{figure.command}` |" for figure in figures]
    return ["| figure | bar | measured | command |", "| --- | --- | --- | --- |", *rows]


def _parts(phases: dict[str, float]) -> list[str]:
    return [
        "| phase | time |",
        "| --- | --- |",
        *(f"| {name} | {took:.1f} s |" for name, took in phases.items()),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes the report."""
    parser = argparse.ArgumentParser(prog="python -m testbed.lab.bench", description=__doc__)
    parser.add_argument(
        "--cold", action="store_true", help="only the cold builds of the tools (half an hour)"
    )
    parser.add_argument("--clusters", type=int, default=2, choices=BARS, help="number of clusters of the lab")
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
    if options.clusters != 2:
        text = section(options.clusters, *warm(options.clusters))
        file.write_text(with_section(old, SECTIONS[options.clusters], text))
        return 0
    cold_rows = [line for line in old.splitlines() if "make bench-cold" in line]
    file.write_text("\n".join([report(*warm(), cold_rows), *sections_of(old)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
