"""The steps that undo a drill's changes: run in reverse order, each exactly once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from fedmesh.interrupts import shielded


@dataclass(frozen=True)
class _Step:
    description: str
    back: Callable[[], object]


class Undo:
    """A stack of steps. Push a step before the change that it undoes, so that half a change is undone as well."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._lock = threading.Lock()

    def push(self, description: str, back: Callable[[], object]) -> None:
        """Adds a step; `description` names it in the message when it fails."""
        with self._lock:
            self._steps.append(_Step(description, back))

    def run(self) -> list[str]:
        """Runs every step, even after one fails and after Ctrl-C; returns the failed steps with their errors."""
        failed: list[str] = []
        with shielded():
            while step := self._pop():
                try:
                    step.back()
                except Exception as error:  # The other steps must still run.
                    failed.append(f"{step.description}: {error}")
        return failed

    def _pop(self) -> _Step | None:
        with self._lock:
            return self._steps.pop() if self._steps else None
