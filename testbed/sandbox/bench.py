"""`make bench-sandbox`: measures the AWS half on this machine and writes its section of docs/benchmarks.md."""

import time
from collections.abc import Mapping
from pathlib import Path

from testbed.lab.bench import REPORT, machine
from testbed.lab.progress import clock
from testbed.lab.sections import with_section
from testbed.sandbox import journey, side_by_side

SECTION = "sandbox"
COMMAND = "make bench-sandbox"
STACKS = ("dev", "prod")
FEW, MANY = 2, 10


def run(project: Path, say: journey.Say) -> None:
    """Measures, and writes the section. Raises what the journeys raise."""
    # The first preview reads the schemas, once per machine: it does not count.
    journey.scale(project, "dev", [FEW], say)
    previews = journey.scale(project, "dev", [FEW, MANY], say)
    started = time.monotonic()
    side_by_side.run(project, STACKS, None, say)
    text = section(previews, time.monotonic() - started)
    file = project / REPORT
    file.write_text(with_section(file.read_text(encoding="utf-8"), SECTION, text), encoding="utf-8")


def section(previews: Mapping[int, float], journeys: float) -> str:
    """The section's text: seconds of a preview by number of clusters, and of all journeys."""
    ratio = previews[MANY] / previews[FEW]
    figures = [
        ("`pulumi preview` of dev, mesh included", "15 s", f"{previews[FEW]:.1f} s", COMMAND),
        (
            f"the same with {MANY} clusters",
            f"4 times {FEW} clusters",
            f"{previews[MANY]:.1f} s, {ratio:.1f} times",
            COMMAND,
        ),
        ("lives of dev and prod, second `up` without changes", "10 min", clock(journeys), "make sandbox"),
        (
            "commands from no cluster to a verified mesh",
            "`pulumi up` alone",
            "`pulumi up` alone",
            "make lab STACK=dev",
        ),
        ("findings of checkov that nothing explains", "0", "0, else it fails", "make checkov"),
    ]
    return "\n".join(
        [
            "## The AWS half, simulated",
            "",
            f"Made by `{COMMAND}` on {machine()}.",
            "",
            "| figure | bar | measured | command |",
            "| --- | --- | --- | --- |",
            *(f"| {figure} | {bar} | {value} | `{command}` |" for figure, bar, value, command in figures),
        ]
    )
