"""Progress reports of a long build: the current step, the remaining ones and the elapsed time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

QUIET_INTERVAL = 30.0  # seconds between two lines if the output is not a terminal
TERMINAL_INTERVAL = 0.5


@dataclass
class Progress:
    """Reports on `steps` one after another; prints nothing when `quiet`."""

    steps: Sequence[str]
    quiet: bool = False
    output: TextIO = field(default_factory=lambda: sys.stderr)
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._done: list[str] = []
        self._last = float("-inf")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Runs the block as one of the steps."""
        began = time.monotonic()
        self._last = float("-inf")
        self.note(name, "started")
        yield
        self._done.append(name)
        self._write(f"{self._head()} {name}: done in {clock(time.monotonic() - began)}", final=True)

    def note(self, name: str, text: str) -> None:
        """Reports what the step is doing; may be called often, since only some reports are shown."""
        now = time.monotonic()
        if now - self._last >= (TERMINAL_INTERVAL if self.output.isatty() else QUIET_INTERVAL):
            self._last = now
            left = [step for step in self.steps if step not in self._done and step != name]
            then = f"; then {', '.join(left)}" if left else ""
            self._write(f"{self._head()} {name}: {text}{then}", final=False)

    def say(self, text: str) -> None:
        """Prints a line of its own."""
        self._write(text, final=True)

    def _head(self) -> str:
        return f"[{len(self._done)}/{len(self.steps)} {clock(time.monotonic() - self.started)}]"

    def _write(self, text: str, final: bool) -> None:
        if self.quiet:
            return
        if self.output.isatty():
            self.output.write(f"\r\033[K{text}" + ("\n" if final else ""))
        else:
            self.output.write(f"{text}\n")
        self.output.flush()


def clock(seconds: float) -> str:
    """A duration in minutes and seconds, such as "3m05s", or in seconds below a minute."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
