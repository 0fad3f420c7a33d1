"""`make bench-sandbox`: measures the AWS half on this machine and writes its section of docs/benchmarks.md."""

from collections.abc import Mapping
from pathlib import Path

from lab.bench import REPORT, machine
from lab.sections import with_section
from sandbox import journey

SECTION = "sandbox"
COMMAND = "make bench-sandbox"
FEW, MANY = 2, 10

Seconds = Mapping[str, float]


def run(project: Path, say: journey.Say) -> None:
    """Measures, and writes the section. Raises what the journeys raise."""
    # The first preview reads the schemas, once per machine: it does not count.
    journey.scale(project, "dev", [FEW], say)
    previews = journey.scale(project, "dev", [FEW, MANY], say)
    stacks = journey.run(project, ["dev", "prod"], say)
    file = project / REPORT
    file.write_text(
        with_section(file.read_text(encoding="utf-8"), SECTION, section(previews, stacks)), encoding="utf-8"
    )


def section(previews: Mapping[int, float], stacks: Mapping[str, Seconds]) -> str:
    """The section's text: seconds of a preview by number of clusters, seconds of a journey's steps by stack."""
    totals = {name: {**steps, "all": sum(steps.values())} for name, steps in stacks.items()}
    names = list(dict.fromkeys(step for steps in totals.values() for step in steps if step != "all"))
    figures = [
        ("`pulumi preview` of dev, mesh included", "15 s", f"{previews[FEW]:.1f} s", COMMAND),
        (
            f"the same with {MANY} clusters",
            f"4 times {FEW} clusters",
            f"{previews[MANY]:.1f} s, {previews[MANY] / previews[FEW]:.1f} times",
            COMMAND,
        ),
        ("second `pulumi up`, else the steps below fail", "no changes", "no changes", "make sandbox"),
        (
            "commands from no cluster to a verified mesh",
            "`pulumi up` alone",
            "`pulumi up` alone",
            "make lab STACK=dev",
        ),
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
            "",
            "Steps of `make sandbox`:",
            "",
            f"| step | {' | '.join(totals)} |",
            f"| --- |{' --- |' * len(totals)}",
            *(
                f"| {step} | {' | '.join(_text(steps.get(step)) for steps in totals.values())} |"
                for step in [*names, "all"]
            ),
        ]
    )


def _text(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"
