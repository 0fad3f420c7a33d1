"""Output for people: as wide as the terminal, and with one line per table row where there is none."""

from __future__ import annotations

from rich.console import Console

# Columns: wider than any row, so that nothing wraps and grep finds whole lines.
UNWRAPPED = 10_000


def console_for(stderr: bool = False) -> Console:
    """A console on standard output or standard error."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=UNWRAPPED)
