"""The command line: which stack, which command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from meshctl.stack import load, project_folder
from meshctl.status.command import status
from meshctl.verify.command import verify


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 well, 1 not well, 2 wrongly called or configured."""
    options = _parser().parse_args(arguments)
    try:
        project = options.project or project_folder(Path.cwd())
        mesh = load(project, options.stack)
    except (FileNotFoundError, ValueError) as error:
        print(f"meshctl: {error}", file=sys.stderr)
        return 2
    try:
        return options.run(mesh, options)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="meshctl", description="Operate a mesh that fedmesh built.")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "-s", "--stack", default="lab", help="stack whose config describes the mesh (default: lab)"
    )
    shared.add_argument("--project", type=Path, help="folder with Pulumi.yaml (default: here or above)")
    commands = parser.add_subparsers(dest="command", required=True)
    examine = commands.add_parser(
        "verify", parents=[shared], help="examine the live mesh; exit code 1 on any failure"
    )
    examine.add_argument("--json", action="store_true", help="print the report as JSON")
    examine.add_argument("--output", type=Path, metavar="FILE", help="also write the JSON report to a file")
    examine.add_argument("-q", "--quiet", action="store_true", help="print failures only")
    examine.set_defaults(run=lambda mesh, given: verify(mesh, given.json, given.quiet, given.output))
    show = commands.add_parser(
        "status", parents=[shared], help="show clusters, certificates, federation, traffic"
    )
    show.add_argument("-w", "--watch", action="store_true", help="keep showing until interrupted")
    show.add_argument(
        "--interval", type=float, default=3.0, metavar="SECONDS", help="between two looks (default: 3)"
    )
    show.set_defaults(run=lambda mesh, given: status(mesh, given.watch, given.interval))
    return parser
