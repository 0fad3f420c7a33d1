"""The report of `fedmesh verify`: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedmesh.verify.model import Result
from fedmesh.verify.runner import UNEXAMINED


def passed(results: Sequence[Result]) -> bool:
    """Whether there are results and none is a failure; warnings are none."""
    return bool(results) and not any(result.fatal for result in results)


def as_json(stack: str, results: Sequence[Result], seconds: float) -> str:
    """The whole report; `seconds` is the duration of the run."""
    report = {
        "stack": stack,
        "ok": passed(results),
        "seconds": round(seconds, 3),
        "results": [asdict(result) for result in results],
    }
    return json.dumps(report, indent=2)


def print_table(console: Console, results: Sequence[Result], seconds: float, quiet: bool) -> None:
    """Prints a row per check and cluster, the remedies of failures, and a summary. Quiet: failures only."""
    shown = [result for result in results if result.detail != UNEXAMINED and not (quiet and result.ok)]
    if shown:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("", "category", "check", "cluster", "detail"):
            table.add_column(column, overflow="fold")
        table.add_column("s", justify="right")
        for result in shown:
            cells = (result.category, result.name, result.cluster, escape(result.detail))
            table.add_row(_mark(result), *cells, f"{result.duration:.1f}")
        console.print(table)
    for name, count in Counter(r.cluster for r in results if r.detail == UNEXAMINED).items():
        console.print(f"[red]{count} more checks of {name}[/]: {UNEXAMINED}")
    hints: dict[tuple[str, str, str], list[str]] = {}
    for result in results:
        if result.hint and not result.ok:
            hints.setdefault((result.name, result.hint, result.url), []).append(result.cluster)
    for (name, hint, url), clusters in hints.items():
        see = f" See {url}" if url else ""
        console.print(f"[bold]{name}[/] ({', '.join(clusters)}): {escape(hint)}{see}", highlight=False)
    if not (quiet and all(result.ok for result in results)):
        console.print(f"{_summary(results)} ({len(results)} in {seconds:.1f} s)")


def _mark(result: Result) -> str:
    if result.ok:
        return "[green]ok[/]"
    return "[red]FAIL[/]" if result.fatal else "[yellow]warn[/]"


def _summary(results: Sequence[Result]) -> str:
    failed = sum(result.fatal for result in results)
    warnings = sum(not result.ok for result in results) - failed
    told = f", {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    if failed:
        return f"[red]{failed} of {len(results)} checks failed[/]{told}"
    if warnings:
        return f"[yellow]no check failed[/]{told}"
    return "[green]every check passed[/]"
