"""The command line: which stack, which command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedmesh.dashboard import dashboard
from fedmesh.drill.command import Options, drill, in_lab, stop_orderly
from fedmesh.drill.latency import latency
from fedmesh.drill.load import IMAGE
from fedmesh.drill.means import DrillError, Means
from fedmesh.drill.play import Pace
from fedmesh.kube import KubeError
from fedmesh.security.command import refuse_unconfirmed_attack, security
from fedmesh.stack import load, project_folder
from fedmesh.status.command import status
from fedmesh.topology import Topology
from fedmesh.verify.command import DEADLINE, verify


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 well, 1 not well, 2 wrongly called or configured."""
    options = _parser().parse_args(arguments)
    try:
        project = options.project or project_folder(Path.cwd())
        mesh = load(project, options.stack)
    except (FileNotFoundError, ValueError) as error:
        print(f"fedmesh: {error}", file=sys.stderr)
        return 2
    try:
        return options.run(mesh, options)
    except (DrillError, KubeError) as error:
        print(f"fedmesh: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fedmesh", description="Operate a mesh that fedmesh built.")
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
    examine.add_argument(
        "--timeout",
        type=float,
        default=DEADLINE,
        metavar="SECONDS",
        help=f"a check that has not answered by then has failed (default: {DEADLINE:.0f})",
    )
    examine.set_defaults(
        run=lambda mesh, given: verify(mesh, given.json, given.quiet, given.output, given.timeout)
    )
    show = commands.add_parser(
        "status", parents=[shared], help="show clusters, certificates, federation, traffic"
    )
    show.add_argument("-w", "--watch", action="store_true", help="keep showing until interrupted")
    show.add_argument(
        "--interval", type=float, default=3.0, metavar="SECONDS", help="between two looks (default: 3)"
    )
    show.set_defaults(run=lambda mesh, given: status(mesh, given.watch, given.interval))
    _add_drill(commands, shared)
    measure = commands.add_parser(
        "latency", parents=[shared], help="measure what a call across clusters takes longer than a local one"
    )
    measure.add_argument("--json", action="store_true", help="print the figures as JSON")
    measure.add_argument("--docs", type=Path, metavar="FOLDER", help="write latency.md and latency.json")
    measure.add_argument("--image", default=IMAGE, help=f"image with vegeta and a shell (default: {IMAGE})")
    measure.set_defaults(run=lambda mesh, given: latency(mesh, given.json, given.docs, given.image))
    show = commands.add_parser(
        "dashboard", parents=[shared], help="open a dashboard on this machine's loopback"
    )
    show.add_argument("name", nargs="?", default="prometheus", choices=("prometheus", "grafana", "kiali"))
    show.add_argument("--cluster", help="whose dashboard (default: the first cluster's)")
    show.add_argument("--port", type=int, default=0, help="port of the loopback (default: a free one)")
    show.add_argument("--browse", action="store_true", help="open it in the browser as well")
    show.set_defaults(
        run=lambda mesh, given: dashboard(mesh, given.name, given.cluster, given.port, given.browse)
    )
    return parser


def _add_drill(commands: Any, shared: argparse.ArgumentParser) -> None:
    play = commands.add_parser(
        "drill", parents=[shared], help="make faults under load; exit code 1 when a request is lost"
    )
    play.add_argument("drills", nargs="*", metavar="DRILL", help="numbers or names of drills, or all")
    play.add_argument(
        "--security",
        action="store_true",
        help="attack the mesh instead; exit code 1 when an attack is not refused",
    )
    play.add_argument("--client", metavar="CLUSTER", help="cluster of the callers (default: the first)")
    play.add_argument("--rate", type=int, default=40, help="requests per second of each load (default: 40)")
    play.add_argument("--timeout", type=float, default=5.0, help="seconds that a caller waits (default: 5)")
    play.add_argument(
        "--before", type=float, default=10.0, help="seconds of load before the fault (default: 10)"
    )
    play.add_argument("--fault", type=float, help="seconds of the fault (default: as the drill needs)")
    play.add_argument(
        "--after", type=float, default=15.0, help="seconds of load after the fault (default: 15)"
    )
    play.add_argument("--image", default=IMAGE, help=f"image with vegeta and a shell (default: {IMAGE})")
    play.add_argument(
        "--destructive",
        metavar="STACK",
        help="allow destructive faults outside the lab: type the stack's name",
    )
    play.add_argument(
        "--baseline",
        action="store_true",
        help="put the set-up of Istio's documents under the same load beside ours",
    )
    play.add_argument("--json", action="store_true", help="print the findings as JSON")
    play.add_argument("--html", type=Path, metavar="FILE", help="write one self-contained page with pictures")
    play.add_argument("--output", type=Path, metavar="FILE", help="also write the findings as JSON to a file")
    play.add_argument(
        "--docs", type=Path, metavar="FOLDER", help="write page, JSON, pictures and a README.md into a folder"
    )
    play.set_defaults(run=_drill)


def _drill(mesh: Topology, given: argparse.Namespace) -> int:
    project = given.project or project_folder(Path.cwd())
    if given.security == bool(given.drills):
        raise DrillError("name drills, or --security alone")
    if given.security:
        means = Means(mesh, project, in_lab(mesh, project))
        refuse_unconfirmed_attack(means.lab, mesh.stack, given.destructive)
        stop_orderly()
        return security(mesh, means, given.json, given.output)
    options = Options(
        names=given.drills,
        client=given.client,
        pace=Pace(given.rate, given.timeout, given.before, given.fault, given.after),
        image=given.image,
        destructive=given.destructive,
        baseline=given.baseline,
        json=given.json,
        html=given.html,
        output=given.output,
        docs=given.docs,
    )
    return drill(mesh, project, options)
