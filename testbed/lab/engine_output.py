"""What the engine prints, cut to what a reader wants: results as they come, or only failures."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

# the engine says of each resource several times a second that it is still at it
UNDER_WAY = re.compile(
    r"^ *[-+~<>=]* +\S+:\S+ \S+ (creat|updat|delet|replac|read|refresh|import)\w*ing\b.*\(\d+s\)"
)


def is_under_way(line: str) -> bool:
    """Whether a line tells of a resource that the engine has not done with."""
    return UNDER_WAY.match(line) is not None


def run(command: Sequence[str], project: Path, environment: Mapping[str, str], quiet: bool) -> int:
    """Runs the engine and gives its exit code; `quiet` prints nothing unless it fails, and then all of it."""
    kept: list[str] = []
    with subprocess.Popen(
        command,
        cwd=project,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            if is_under_way(line):
                continue
            if quiet:
                kept.append(line)
            else:
                print(line, end="", flush=True)
    if process.returncode != 0:
        print("".join(kept), end="", flush=True)
    return process.returncode
