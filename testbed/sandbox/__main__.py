"""Runs stacks against a simulated AWS with the real engine: `python -m testbed.sandbox run`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed.engine import EngineError
from testbed.lab.journey import PhaseError
from testbed.sandbox import bench, complete, findings, journey, side_by_side

ERRORS = (EngineError, PhaseError, journey.JourneyError, findings.FindingsError, TimeoutError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 success, 1 failure, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except ERRORS as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m testbed.sandbox", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        return sub

    run = add("run", _run, "take stacks from preview to destroy; several run in parallel")
    run.add_argument("stacks", nargs="*", default=["dev", "prod"], help="stacks (default: dev prod)")
    run.add_argument("--plans", type=Path, help="write the plans into this folder, for `findings`")
    scale = add("scale", _scale, "measure previews by the number of clusters")
    scale.add_argument("counts", nargs="*", type=int, default=[2, 10])
    lab = add("lab", _lab, "run a stack with a simulated AWS half and its mesh on the lab's clusters")
    lab.add_argument("--stack", default="dev", help="name of the stack (default: dev)")
    lab.add_argument("-q", "--quiet", action="store_true", help="print less of the lab's output")
    add("bench", _bench, "measure the AWS half and write its section of docs/benchmarks.md")
    checked = add(
        "findings", _findings, "check plans with checkov; fail on findings that docs/aws.md does not explain"
    )
    checked.add_argument("plans", type=Path, help="the folder that `run --plans` wrote")
    return parser


def _run(options: argparse.Namespace) -> None:
    if len(options.stacks) > 1:
        side_by_side.run(Path.cwd(), options.stacks, options.plans, _say)
    else:
        journey.run(Path.cwd(), options.stacks, _say, options.plans)


def _scale(options: argparse.Namespace) -> None:
    journey.scale(Path.cwd(), "dev", options.counts, _say)


def _lab(options: argparse.Namespace) -> None:
    complete.run(Path.cwd(), options.stack, _say, options.quiet)


def _bench(_options: argparse.Namespace) -> None:
    bench.run(Path.cwd(), _say)


def _findings(options: argparse.Namespace) -> None:
    findings.check(Path.cwd(), options.plans, _say)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
