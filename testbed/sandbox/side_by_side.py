"""Runs several stacks in parallel, each in a process with an AWS of its own, since one engine seldom uses two cores."""

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from testbed.sandbox.journey import JourneyError, Say


def run(project: Path, stacks: Sequence[str], plans: Path | None, say: Say) -> None:
    """Runs the stacks; each line of output starts with the stack's name.

    Raises:
        JourneyError: names the stacks that failed; their errors have been printed.
    """
    arguments = ["--plans", str(plans)] if plans else []
    journeys = {
        stack: subprocess.Popen(
            [sys.executable, "-m", "testbed.sandbox", "run", stack, *arguments],
            cwd=project,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for stack in stacks
    }
    try:
        readers = [
            threading.Thread(target=_repeat, args=(stack, journey, say))
            for stack, journey in journeys.items()
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        failed = [stack for stack, journey in journeys.items() if journey.wait() != 0]
    finally:
        for journey in journeys.values():
            journey.terminate()
    if failed:
        raise JourneyError(f"failed: {', '.join(failed)}")


def _repeat(stack: str, journey: subprocess.Popen[str], say: Say) -> None:
    for line in journey.stdout or ():
        say(f"{stack:<5}{line.rstrip()}")
