"""Runs stacks against a simulated AWS with the real engine: `python -m sandbox run`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.journey import PhaseError
from sandbox import complete, journey
from sandbox.engine import EngineError


def main(arguments: Sequence[str] | None = None) -> int:
    """Gives 0 when every step did what it must."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="the life of stacks, from preview to destroy")
    run.add_argument("stacks", nargs="*", default=["dev", "prod"], help="stacks (default: dev prod)")
    run.add_argument("--figures", type=Path, help="write the seconds of each step to this JSON file")
    scale = commands.add_parser("scale", help="seconds of a preview by the number of clusters")
    scale.add_argument("counts", nargs="*", type=int, default=[2, 10])
    lab = commands.add_parser("lab", help="a stack's AWS half simulated, its mesh on the lab's clusters")
    lab.add_argument("--stack", default="dev", help="name of the stack (default: dev)")
    lab.add_argument("-q", "--quiet", action="store_true", help="less of what the lab's phases say")
    options = parser.parse_args(arguments)
    try:
        if options.command == "lab":
            complete.run(Path.cwd(), options.stack, _say, options.quiet)
            return 0
        if options.command == "scale":
            journey.scale(Path.cwd(), "dev", options.counts, _say)
            return 0
        seconds = journey.run(Path.cwd(), options.stacks, _say)
    except (EngineError, PhaseError, journey.JourneyError, TimeoutError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    if options.figures:
        options.figures.write_text(json.dumps(journey.as_json(seconds), indent=2) + "\n", encoding="utf-8")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
