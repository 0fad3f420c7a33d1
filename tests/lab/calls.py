"""Calls that go on for the length of a test."""

from __future__ import annotations

import subprocess
from pathlib import Path

from conftest import kubectl_line

URL = "http://helloworld.helloworld:5000/hello"
# One call after the other, with each answer's status and version on a line.
CALLS = f"while true; do curl -s --max-time 5 -w ' %{{http_code}}\\n' {URL} | tr '\\n' ' '; echo; sleep 0.02; done"


class Calls:
    """Calls from the sample client of a cluster to helloworld, written into a file."""

    def __init__(self, cluster: str, file: Path) -> None:
        self._file = file
        words = ("exec", "-n", "sleep", "deploy/sleep", "-c", "sleep", "--", "sh", "-c", CALLS)
        with file.open("w") as output:
            self._process = subprocess.Popen(kubectl_line(cluster, *words), stdout=output, stderr=output)

    def answers(self, start: int = 0) -> list[str]:
        """What came since the line `start`: `v1`, `v2`, or a line that is no answer."""
        lines = self._file.read_text().splitlines()[start:-1]
        return [
            line.partition("version: ")[2].partition(",")[0] if line.strip().endswith(" 200") else line
            for line in lines
        ]

    def lost(self) -> list[str]:
        """The lines that are no answer."""
        return [answer for answer in self.answers() if answer not in ("v1", "v2")]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
