"""The results as a table for people and as JSON for programs."""

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


def as_json(stack: str, results: Sequence[Result], seconds: float) -> str:
    """The whole report; `seconds` is the time that the run took."""
    report = {
        "stack": stack,
        "ok": all(result.ok for result in results),
        "seconds": round(seconds, 3),
        "results": [asdict(result) for result in results],
    }
    return json.dumps(report, indent=2)


def print_table(console: Console, results: Sequence[Result], seconds: float, quiet: bool) -> None:
    """A line per check and cluster, the hints of failures, and a summary. Quiet: failures only."""
    shown = [result for result in results if result.detail != UNEXAMINED and not (quiet and result.ok)]
    if shown:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("", "check", "cluster", "detail"):
            table.add_column(column, overflow="fold")
        table.add_column("s", justify="right")
        for result in shown:
            mark = "[green]ok[/]" if result.ok else "[red]FAIL[/]"
            table.add_row(mark, result.name, result.cluster, escape(result.detail), f"{result.duration:.1f}")
        console.print(table)
    for name, count in Counter(r.cluster for r in results if r.detail == UNEXAMINED).items():
        console.print(f"[red]{count} more checks of {name}[/]: {UNEXAMINED}")
    failed = [result for result in results if not result.ok]
    hints: dict[tuple[str, str], list[str]] = {}
    for result in failed:
        if result.hint:
            hints.setdefault((result.name, result.hint), []).append(result.cluster)
    for (name, hint), clusters in hints.items():
        console.print(f"[red]{name}[/] ({', '.join(clusters)}): {escape(hint)}")
    verdict = (
        f"[red]{len(failed)} of {len(results)} checks failed[/]" if failed else "[green]every check passed[/]"
    )
    if failed or not quiet:
        console.print(f"{verdict} ({len(results)} in {seconds:.1f} s)")
