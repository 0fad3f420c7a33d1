"""The engine's output as users see it: results as they come, or only those of a command that failed."""

from __future__ import annotations

import re

# the engine reports several times a second that it is still working on a resource
UNDER_WAY = re.compile(
    r"^ *[-+~<>=]* +\S+:\S+ \S+ (creat|updat|delet|replac|read|refresh|import)\w*ing\b.*\(\d+s\)"
)


def is_under_way(line: str) -> bool:
    """Whether a line reports a resource that the engine is still working on."""
    return UNDER_WAY.match(line) is not None


class Printer:
    """Prints lines as they come, without progress reports; `quiet` keeps them until the command has failed."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._kept: list[str] = []

    def say(self, line: str) -> None:
        """Takes one line of output."""
        if is_under_way(line):
            return
        if self._quiet:
            self._kept.append(line)
        else:
            print(line, flush=True)

    def failed(self) -> None:
        """Prints what was kept."""
        for line in self._kept:
            print(line, flush=True)
        self._kept.clear()
