"""Drills as documents: the full set with every timeline, and a summary that a repository keeps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from fedmesh.drill import report
from fedmesh.drill.report import COMPARISONS, DrillReport, LoadReport, milliseconds
from fedmesh.drill.scene import RECOVERY, REOPENED, Objective

PAGE, FIGURES, TABLE = "drills.html", "drills.json", "README.md"
# Written by `fedmesh latency`.
LATENCY = "latency.md"
# The loads that a timeline puts below each other, as far as the drill has them.
PICTURED = ("users-origin-failover", "users-accelerator", "mesh", *COMPARISONS)
COLUMNS = (
    "calls",
    "sent",
    "lost",
    "last loss",
    "executed twice",
    "takeover: p50, p99, longest",
    "answered during the fault by",
)
# The timelines that a summary keeps: README.md shows them.
KEPT = ("03-app-hangs.svg",)


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
    documents = any(load.name in COMPARISONS for each in reports for load in each.loads)
    beside = [
        "*Istio's documents*: the same pods under two more names, with the rules of two pages of Istio's documentation "
        "in place of the program's: the multi-primary set-up with Istio's own retries, and the locality failover task "
        "with the retries of the GET that its owner declares safe to repeat. The same load at the same time; the "
        "program's TCP keepalive stays in force for both.",
        "",
    ]
    lines = [
        "# Drills",
        "",
        f"Made by `make drill` on {first.at:%Y-%m-%d}, in the lab: each load {first.rate} requests/s on a fixed "
        f"schedule, time-out {first.timeout:g} s. Every request counts, those before and after the fault too. {full}",
        "",
        *(beside if documents else []),
        "A service whose owner declares nothing may lose what is under way when the fault begins; a request that was "
        "executed twice is a fault of the mesh. Figures of the takeover are of the answers from the start of the fault "
        "until the last lost or slow (> 0.5 s) request, at least of 3 s.",
        "",
        *([f"Added latency of calls across clusters: [{LATENCY}]({LATENCY}).", ""] if measured else []),
        "| drill | fault | objective | lost |",
        "| --- | --- | --- | --- |",
        *(_row(each) for each in reports),
        "",
    ]
    for each in reports:
        lines += _chapter(each, kept)
    return "\n".join(lines)


def _row(drilled: DrillReport) -> str:
    lost = "; ".join(
        f"{load.title}: {load.findings.lost} of {load.findings.sent} lost" for load in drilled.loads
    )
    verdict = "" if not report.missed(drilled) else " **missed**"
    title = f"[{drilled.title}](#{anchor(heading(drilled))})"
    return f"| {drilled.number} | {title} | {_objective(drilled.objective)}{verdict} | {lost} |"


def heading(drilled: DrillReport) -> str:
    """The heading of a drill's chapter."""
    return f"{drilled.number}. {drilled.title}"


def anchor(text: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = "".join(each for each in text.lower() if each.isalnum() or each in " -_")
    return kept.replace(" ", "-")


def _chapter(drilled: DrillReport, kept: Collection[str] | None) -> list[str]:
    name = picture_name(drilled)
    below = [f"- **missed**: {each}" for each in report.missed(drilled)]
    return [
        f"## {heading(drilled)}",
        "",
        f"Callers on {drilled.client}, peer {drilled.peer}; the fault lasted {report.length(drilled):.0f} s.",
        "",
        *([f"![timeline]({name})", ""] if kept is None or name in kept else []),
        f"| {' | '.join(COLUMNS)} |",
        f"|{' --- |' * len(COLUMNS)}",
        *(_figures(load) for load in drilled.loads),
        "",
        *(f"- {load.title}: {report.in_words(load)}." for load in drilled.loads),
        *(f"- {each.title}: {report.connections_in_words(each)}." for each in drilled.lasting),
        *(f"- {remark}" for remark in drilled.remarks),
        *below,
        "",
    ]


def _figures(load: LoadReport) -> str:
    found, window = load.findings, load.findings.window
    last = "-" if found.last_error is None else f"{found.last_error:+.1f} s"
    doubled = "not told" if load.doubled is None else str(load.doubled)
    takeover = ", ".join(milliseconds(value) for value in (window.p50, window.p99, window.longest))
    answered = ", ".join(f"{name} {count}" for name, count in sorted(found.phases[1].answered.items()))
    cells = (load.title, str(found.sent), str(found.lost), last, doubled, takeover, answered or "nobody")
    return f"| {' | '.join(cells)} |"


def _objective(objective: Objective) -> str:
    if objective.goodput:
        return f"goodput as in Istio's documents or more, as before within {RECOVERY:g} s after the fault"
    wanted = ["0 lost of any kind" if objective.lossless else "0 lost"]
    if objective.p99 is not None:
        wanted.append(f"p99 {objective.p99:g} s in the takeover")
    if objective.longest is not None:
        wanted.append(f"no answer over {objective.longest:g} s")
    if objective.takeover is not None:
        wanted.append(f"taken over in {objective.takeover:g} s")
    if objective.steady is not None:
        wanted.append(f"steady in {objective.steady:g} s")
    if objective.recovery is not None:
        wanted.append(f"as before within {objective.recovery:g} s after the fault")
    if objective.kept:
        wanted.append("no connection ends")
    if objective.ended is not None:
        wanted.append(f"connections end within {objective.ended:g} s, new ones open {REOPENED:g} s later")
    return ", ".join(wanted)
