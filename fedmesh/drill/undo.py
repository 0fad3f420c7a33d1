"""What a drill took away and how it is put back, last taken first, exactly once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class _Step:
    what: str
    back: Callable[[], object]


class Undo:
    """A stack of ways back. Push before taking away: a step taken half is put back as well."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._lock = threading.Lock()

    def push(self, what: str, back: Callable[[], object]) -> None:
        """Note how to put something back; `what` names it for the case that this fails."""
        with self._lock:
            self._steps.append(_Step(what, back))

    def run(self) -> list[str]:
        """Put everything back, whatever fails on the way; returns what could not be put back and why."""
        failed: list[str] = []
        while True:
            with self._lock:
                if not self._steps:
                    return failed
                step = self._steps.pop()
            try:
                step.back()
            except Exception as error:  # The other steps must still be put back.
                failed.append(f"{step.what}: {error}")
