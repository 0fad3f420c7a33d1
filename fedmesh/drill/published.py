"""Drills as documents: the full set with every timeline, and a summary that a repository keeps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from fedmesh.drill import report
from fedmesh.drill.report import COMPARISON, DrillReport, LoadReport, milliseconds
from fedmesh.drill.scene import Objective

PAGE, FIGURES, TABLE = "drills.html", "drills.json", "README.md"
# Written by `fedmesh latency`.
LATENCY = "latency.md"
# The two loads that a timeline puts beside each other.
PICTURED = ("mesh", COMPARISON)
# The timelines that a summary keeps: README.md shows them.
KEPT = ("03-app-hangs.svg", "10-cluster-stopped.svg")


def publish(folder: Path, reports: Sequence[DrillReport]) -> None:
    """Writes the full set: page, JSON, a timeline per drill and README.md. Timelines of other drills stay."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PAGE).write_text(report.page(reports), encoding="utf-8")
    (folder / FIGURES).write_text(report.as_json(reports) + "\n", encoding="utf-8")
    _write_timelines(folder, reports)
    measured = (folder / LATENCY).exists()
    (folder / TABLE).write_text(readme(reports, measured), encoding="utf-8")


def summarize(folder: Path, reports: Sequence[DrillReport]) -> None:
    """Writes README.md with the table and the findings in words, and the timelines that README.md shows."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_timelines(folder, [each for each in reports if picture_name(each) in KEPT])
    measured = (folder / LATENCY).exists()
    (folder / TABLE).write_text(readme(reports, measured, kept=KEPT), encoding="utf-8")


def _write_timelines(folder: Path, reports: Sequence[DrillReport]) -> None:
    for drilled in reports:
        (folder / picture_name(drilled)).write_text(report.timelines(drilled, PICTURED), encoding="utf-8")


def picture_name(drilled: DrillReport) -> str:
    """The file name of a drill's timeline."""
    return f"{drilled.number:02}-{drilled.fault}.svg"


def readme(
    reports: Sequence[DrillReport], measured: bool = False, kept: Collection[str] | None = None
) -> str:
    """Returns the text of README.md: the load, a row per drill, and a chapter per drill.

    Args:
        measured: whether the added latency of crossing clusters is in the same folder.
        kept: file names of the timelines in the folder; None where page, JSON and all timelines are there.
    """
    first = reports[0]
    full = (
        f"The same with all loads and phases: [{PAGE}]({PAGE}), as data: [{FIGURES}]({FIGURES})."
        if kept is None
        else f"`make drill` writes the same with all loads, phases and timelines to `build/drills/{PAGE}`."
    )
    intro = [
        "# Drills",
        "",
        f"Made by `make drill` on {first.at:%Y-%m-%d}, in the lab: callers on {first.client}, peer {first.peer}, each "
        f"load {first.rate} requests/s on a fixed schedule, time-out {first.timeout:g} s. Every request counts, those "
        f"before and after the fault too. {full}",
        "",
        "*Istio's documents*: the same pods under a second name, with Istio's own retries and load balancing and "
        "without the program's failover rules, under the same load at the same time.",
        "",
        "p99 is of the answers while the fault lasts; *steady* is when the last lost or slow (> 0.5 s) request ended.",
        "",
        *([f"Added latency of calls across clusters: [{LATENCY}]({LATENCY}).", ""] if measured else []),
        "| drill | fault | objective | from inside the mesh | through the ingress gateway | Istio's documents |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join(
        [*intro, *map(_row, reports), "", *(line for each in reports for line in _chapter(each, kept))]
    )


def _row(drilled: DrillReport) -> str:
    loads = {load.name: load for load in drilled.loads}
    cells = [_figures(loads.get(name)) for name in ("mesh", "ingress", COMPARISON)]
    verdict = "" if not report.missed(drilled) else " **missed**"
    title = f"[{drilled.title}](#{anchor(heading(drilled))})"
    return f"| {drilled.number} | {title} | {_objective(drilled.objective)}{verdict} | {' | '.join(cells)} |"


def heading(drilled: DrillReport) -> str:
    """The heading of a drill's chapter."""
    return f"{drilled.number}. {drilled.title}"


def anchor(text: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = "".join(each for each in text.lower() if each.isalnum() or each in " -_")
    return kept.replace(" ", "-")


def _chapter(drilled: DrillReport, kept: Collection[str] | None) -> list[str]:
    name = picture_name(drilled)
    loads = [f"- {load.title}: {report.in_words(load)}." for load in drilled.loads]
    below = [f"- **missed**: {each}" for each in report.missed(drilled)]
    return [
        f"## {heading(drilled)}",
        "",
        *([f"![timeline]({name})", ""] if kept is None or name in kept else []),
        *loads,
        *(f"- {remark}" for remark in drilled.remarks),
        *below,
        "",
    ]


def _figures(load: LoadReport | None) -> str:
    if load is None:
        return "-"
    found = load.findings
    steady = f", steady after {found.steady:.1f} s" if found.steady else ""
    return f"{found.lost} of {found.sent} lost, p99 {milliseconds(found.phases[1].p99)}{steady}"


def _objective(objective: Objective) -> str:
    wanted = ["0 lost"]
    if objective.p99 is not None:
        wanted.append(f"p99 {objective.p99:g} s")
    if objective.steady is not None:
        wanted.append(f"steady in {objective.steady:g} s")
    return ", ".join(wanted)
