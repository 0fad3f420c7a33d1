"""The report of a drill: a table, JSON, and one page with timelines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape
from rich.console import Console
from rich.table import Table

from fedmesh.drill.analysis import Findings, lost_late
from fedmesh.drill.lasting import ConnectionFindings
from fedmesh.drill.picture import HEIGHT, WIDTH, Picture, draw
from fedmesh.drill.samples import Sample
from fedmesh.drill.scene import NOTHING_LOST, RECOVERY, REOPENED, Objective

# The loads on the set-ups of Istio's documentation, which have no objective: multi-primary, and locality failover.
COMPARISON = "documents"
FAILOVER_TASK = "failover-task"
COMPARISONS = (COMPARISON, FAILOVER_TASK)
# Between the name of a load and the cluster that sends it, where several do.
SENT_FROM = "@"
# The share of the documents' answers below which goodput counts as less: two loads never end at the same moment.
AS_MANY = 0.99


@dataclass(frozen=True)
class LoadReport:
    """One load: its findings and requests.

    Attributes:
        retried: None where no proxy counts retries.
        doubled: requests that were executed more than once; None where the app does not tell.
        may_lose_for: seconds after the start of the fault in which it may lose requests.
        repeatable: whether executing a request twice is no fault.
        judged: whether the drill fails by it.
    """

    name: str
    title: str
    findings: Findings
    retried: int | None
    samples: tuple[Sample, ...]
    doubled: int | None = None
    may_lose_for: float = 0.0
    repeatable: bool = False
    judged: bool = True


@dataclass(frozen=True)
class LastingReport:
    """The connections of one kind that were to last for the whole drill."""

    name: str
    title: str
    findings: ConnectionFindings


@dataclass(frozen=True)
class DrillReport:
    """One drill. Times are in seconds since the start of the loads; `complete` is 0 where the fault is sudden.

    `remarks` are observations, `notes` are faults of the drill itself: a drill with notes has failed.
    """

    number: int
    fault: str
    title: str
    stack: str
    client: str
    peer: str
    at: datetime
    rate: int
    timeout: float
    start: float
    end: float
    seconds: float
    loads: tuple[LoadReport, ...]
    lasting: tuple[LastingReport, ...] = ()
    objective: Objective = NOTHING_LOST
    complete: float = 0.0
    remarks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def as_dict(report: DrillReport) -> dict[str, object]:
    """The report without its single requests, for JSON."""
    loads = [
        {
            "name": load.name,
            "title": load.title,
            "retried": load.retried,
            "doubled": load.doubled,
            "mayLoseFor": load.may_lose_for,
            **asdict(load.findings),
        }
        for load in report.loads
    ]
    lasting = [{"name": each.name, "title": each.title, **asdict(each.findings)} for each in report.lasting]
    apart = ("loads", "lasting", "at", "objective")
    facts = {key: value for key, value in vars(report).items() if key not in apart}
    return {
        **facts,
        "at": report.at.isoformat(timespec="seconds"),
        "objective": {"lost": 0, **asdict(report.objective)},
        "missed": missed(report),
        "loads": loads,
        "lasting": lasting,
    }


def missed(report: DrillReport) -> list[str]:
    """The missed objectives of a drill, in words; empty when it passed."""
    found = list(report.notes)
    if report.objective.goodput:
        found += [fault for load in report.loads for fault in _less_than_documents(report, load)]
    for load in report.loads:
        if is_comparison(load.name):
            continue
        if load.doubled and not load.repeatable:
            found.append(f"{load.name}: {load.doubled} executed more than once")
        if not load.judged:
            continue
        findings, window = load.findings, load.findings.window
        allowed_for = 0.0 if report.objective.lossless else load.may_lose_for
        late = not report.objective.goodput and lost_late(
            load.samples, report.start, allowed_for, report.complete
        )
        if late and allowed_for:
            found.append(
                f"{load.name}: {late} lost later than {load.may_lose_for:g} s after the start of the fault"
            )
        elif late:
            found.append(f"{load.name}: {findings.lost} of {findings.sent} lost")
        if load.may_lose_for:
            continue
        taken = findings.takeover
        if taken is not None:
            taken -= max(report.complete - report.start, 0.0)
        after = findings.steady - (report.end - report.start)
        found += [
            f"{load.name}: {what}, {allowed:g} s allowed"
            for allowed, value, what in (
                (report.objective.p99, window.p99, f"p99 of {milliseconds(window.p99)} in the takeover"),
                (report.objective.longest, window.longest, f"an answer took {milliseconds(window.longest)}"),
                (report.objective.takeover, taken, f"taken over in {taken or 0.0:.1f} s"),
                (report.objective.steady, findings.steady, f"steady after {findings.steady:.1f} s"),
                (report.objective.recovery, after, f"steady {after:.1f} s after the fault"),
            )
            if allowed is not None and value is not None and value > allowed
        ]
    for each in report.lasting:
        if not is_comparison(each.name):
            found += _missed(each, report.objective)
    return found


def is_comparison(name: str) -> bool:
    """Whether a load is on a set-up of Istio's documentation."""
    return name.partition(SENT_FROM)[0] in COMPARISONS


def goodput(report: DrillReport, load: LoadReport) -> tuple[float, float, float]:
    """Answers per second before, during and after the fault, by the time at which the requests were sent."""
    lengths = (report.start, report.end - report.start, report.seconds - report.end)
    before, during, after = (
        (phase.sent - phase.lost) / seconds
        for phase, seconds in zip(load.findings.phases, lengths, strict=True)
    )
    return before, during, after


def with_goodput(report: DrillReport) -> DrillReport:
    """The report with the answers per second of each load among its remarks, where it is judged by them."""
    if not report.objective.goodput:
        return report
    remarks: list[str] = []
    for load in report.loads:
        before, during, after = (f"{value:.0f}" for value in goodput(report, load))
        remarks.append(
            f"answers per second, {load.title}: {before} before, {during} during the fault, {after} after it"
        )
    return replace(report, remarks=(*remarks, *report.remarks))


def _less_than_documents(report: DrillReport, load: LoadReport) -> list[str]:
    name, at, cluster = load.name.partition(SENT_FROM)
    late = sum(sample.lost and sample.at > report.end + RECOVERY for sample in load.samples)
    documents = [each for each in report.loads if each.name == f"{COMPARISON}{at}{cluster}"]
    if name in COMPARISONS:
        return []
    found = [f"{load.name}: {late} lost later than {RECOVERY:g} s after the end of the fault"] if late else []
    for beside in documents:
        figures = zip(
            ("during", "after"), goodput(report, load)[1:], goodput(report, beside)[1:], strict=True
        )
        found += [
            f"{load.name}: {own:.1f} answers per second {when} the fault, {theirs:.1f} as in Istio's documents"
            for when, own, theirs in figures
            if own < AS_MANY * theirs
        ]
    return found


def _missed(lasting: LastingReport, objective: Objective) -> list[str]:
    found = lasting.findings
    if not found.opened:
        return [f"{lasting.name}: no connection was ever open"]
    faults: list[str] = []
    if found.hung:
        faults.append(f"{found.hung} connections hung without an error")
    if objective.kept and found.broken:
        faults.append(f"{found.broken} connections ended, which nothing had to end")
    if found.last_break is not None and found.restored is None:
        faults.append(f"no connection lasted after {found.broken} had broken")
    elif found.last_break is not None and found.restored is not None and objective.ended is not None:
        if found.last_break > objective.ended:
            faults.append(
                f"a connection ended {found.last_break:.1f} s after the start of the fault, "
                f"{objective.ended:g} s allowed"
            )
        if found.restored - found.last_break > REOPENED:
            faults.append(
                f"open again {found.restored - found.last_break:.1f} s after the last end, {REOPENED:g} s allowed"
            )
    return [f"{lasting.name}: {fault}" for fault in faults]


def as_json(reports: Sequence[DrillReport]) -> str:
    """Several drills as one JSON text."""
    return json.dumps({"drills": [as_dict(report) for report in reports]}, indent=2)


def print_table(console: Console, report: DrillReport) -> None:
    """Prints a row per load and phase, then the findings in words."""
    console.print(
        f"[bold]drill {report.number}: {report.title}[/] ({report.rate}/s, fault of {length(report):.0f} s)"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("load", "phase", "sent", "lost", "p50", "p99", "max", "answered by"):
        table.add_column(column, justify="left" if column in ("load", "phase", "answered by") else "right")
    for load in report.loads:
        for phase in (*load.findings.phases, load.findings.window):
            lost = f"[red]{phase.lost}[/]" if phase.lost else "0"
            who = ", ".join(f"{name} {count}" for name, count in sorted(phase.answered.items()))
            figures = [milliseconds(value) for value in (phase.p50, phase.p99, phase.longest)]
            table.add_row(load.name, phase.name, str(phase.sent), lost, *figures, who or "nobody")
    console.print(table)
    for load in report.loads:
        console.print(f"{load.name}: {in_words(load)}")
    for lasting in report.lasting:
        console.print(f"{lasting.name}: {connections_in_words(lasting)}")
    for remark in report.remarks:
        console.print(remark)
    for below in missed(report):
        console.print(f"[red]{below}[/]")


def in_words(load: LoadReport) -> str:
    """One load's findings in a sentence."""
    found = load.findings
    parts = [f"{found.lost} of {found.sent} lost"]
    if load.doubled is not None:
        parts.append(f"{load.doubled} executed twice")
    if load.retried is not None:
        parts.append(f"{load.retried} retried")
    if found.first_error is not None and found.last_error is not None:
        parts.append(f"errors from {found.first_error:+.2f} s to {found.last_error:+.2f} s")
    parts.append("no takeover needed" if found.takeover is None else f"taken over in {found.takeover:.2f} s")
    if found.failback is not None:
        parts.append(f"failed back in {found.failback:.2f} s")
        times = f"{found.switches} time{'' if found.switches == 1 else 's'}"
        parts.append(f"the answering cluster changed {times} after the fault")
    parts.append(f"steady again after {found.steady:.2f} s" if found.steady else "steady throughout")
    if found.errors:
        parts.append("errors: " + ", ".join(f"{count} x {kind}" for kind, count in found.errors.items()))
    return "; ".join(parts)


def connections_in_words(lasting: LastingReport) -> str:
    """One lasting load's findings in a sentence."""
    found = lasting.findings
    parts = [f"{found.opened} connections opened", f"{found.broken} broken", f"{found.refused} refused"]
    if found.hung:
        parts.append(f"{found.hung} hung without an error")
    if found.last_break is not None:
        parts.append(f"the last broke at {found.last_break:+.2f} s")
    if found.restored is not None:
        parts.append(f"all open again at {found.restored:+.2f} s")
    parts += [f"{count} lasted on {name}" for name, count in found.answered.items()]
    return "; ".join(parts)


def page(reports: Sequence[DrillReport]) -> str:
    """One self-contained HTML page with a timeline and the figures of every drill."""
    drills = [
        (
            report,
            [(load, in_words(load), _picture(report, load)) for load in report.loads],
            [(each.title, connections_in_words(each)) for each in report.lasting],
            missed(report),
        )
        for report in reports
    ]
    return _templates().get_template("page.html.j2").render(drills=drills)


def timelines(report: DrillReport, names: Sequence[str]) -> str:
    """One SVG with the timelines of the named loads, as far as there are any, in the order of the names."""
    rows = [
        (load.title, f"{load.findings.lost} of {load.findings.sent} lost", _picture(report, load))
        for name in names
        for load in report.loads
        if load.name == name
    ]
    return _templates().get_template("picture.svg.j2").render(rows=rows, width=WIDTH, row=HEIGHT + 26)


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["ms"] = milliseconds
    return environment


def slower(load: LoadReport) -> str:
    """The latencies during the fault and before it, in words."""
    before, during, _ = load.findings.phases
    figures = [
        f"{name} {milliseconds(now)} instead of {milliseconds(then)}"
        for name, now, then in (("p50", during.p50, before.p50), ("p99", during.p99, before.p99))
    ]
    return f"during the fault: answers, {load.title}: {', '.join(figures)}"


def milliseconds(value: float | None) -> str:
    """Seconds, in milliseconds with two or three digits."""
    if value is None:
        return "-"
    return f"{value * 1000:.0f} ms" if value >= 0.01 else f"{value * 1000:.1f} ms"


def length(report: DrillReport) -> float:
    """The duration of the fault in seconds."""
    return report.end - report.start


def _picture(report: DrillReport, load: LoadReport) -> Picture:
    return draw(load.samples, report.start, report.end, report.seconds)
