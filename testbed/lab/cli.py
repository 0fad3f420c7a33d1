"""`python -m testbed.lab`: the lab's commands."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from testbed.lab import (
    builder,
    clusters,
    config,
    engine_output,
    faults,
    image_store,
    paths,
    preflight,
    processes,
)
from testbed.lab.clusters import LabError
from testbed.lab.config import LabConfigError
from testbed.lab.environment import engine_environment
from testbed.lab.gomods import BuildError
from testbed.lab.paths import State
from testbed.lab.pki import PkiError
from testbed.lab.preflight import PreflightError
from testbed.lab.progress import clock
from testbed.lab.stack import Stack

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code, with a message on standard error unless it is 0.

    0 success, 1 failure, 2 wrong usage, wrong configuration, or a machine that lacks something.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.needs_root:
            preflight.require_root()
        return options.command(options)
    except (LabConfigError, PreflightError) as problem:
        print(f"lab: {problem}", file=sys.stderr)
        return 2
    except (BuildError, LabError, PkiError, OSError) as problem:
        print(f"lab: {problem}", file=sys.stderr)
    except subprocess.CalledProcessError as failed:
        print(
            f"lab: {shlex.join(map(str, failed.cmd))} failed: {(failed.stderr or '').strip()}",
            file=sys.stderr,
        )
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m testbed.lab", description="Real Kubernetes clusters on this machine."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, text: str, needs_root: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("-q", "--quiet", action="store_true", help="say only what fails")
        sub.set_defaults(command=command, needs_root=needs_root)
        return sub

    add("preflight", _preflight, "say what the machine lacks").add_argument(
        "--install", action="store_true", help="install what Debian's packages have"
    )
    build = add("build", _build, "build programs, images and charts into the cache")
    build.add_argument(
        "--for-engine", action="store_true", help="only what the engine and one API server need"
    )
    add("up", _up, "start the clusters", needs_root=True)
    add("down", _down, "stop the clusters and remove every trace of them", needs_root=True)
    add("status", _status, "show the nodes")
    logs = add("logs", _logs, "show the ends of the logs")
    logs.add_argument("cluster", nargs="?", help="one cluster's only")
    logs.add_argument("program", nargs="?", help="one program's only, such as kubelet")
    logs.add_argument("--lines", type=int, default=20)
    engine = add(
        "pulumi",
        _pulumi,
        "run the engine on a stack of the lab: up, unchanged, preview, refresh, destroy ...",
    )
    engine.add_argument("--stack", default="lab")
    engine.add_argument("verb", help="a verb of pulumi's, or `unchanged`: an up that must change nothing")
    engine.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on to pulumi")
    fault = add(
        "fault", _fault, "inject a fault into a cluster or node, or remove all faults (heal)", needs_root=True
    )
    fault.add_argument("kind", choices=[*faults.FAULTS, "kill", "heal"])
    fault.add_argument("target", help="a cluster or a node")
    fault.add_argument("program", nargs="?", help="what to kill, such as kubelet")
    fault.add_argument("--seconds", type=float, help="take it back after that long, and on Ctrl-C")
    add("env", _env, "print the environment for pulumi and fedmesh, for eval")
    return parser


def _state() -> State:
    return State(paths.project() / ".lab")


def _preflight(options: argparse.Namespace) -> int:
    preflight.require(config.load(), paths.cache(), options.install, _sayer(options))
    return 0


def _build(options: argparse.Namespace) -> int:
    if not options.for_engine:
        # images are unpacked with their owners
        preflight.require_root()
    tools = builder.build(paths.cache(), options.quiet, builder.FOR_ENGINE if options.for_engine else None)
    if not options.for_engine:
        image_store.ensure(paths.cache(), [image.path for image in tools.images])
    return 0


def _up(options: argparse.Namespace) -> int:
    tools = builder.build(paths.cache(), options.quiet)
    images = image_store.ensure(paths.cache(), [image.path for image in tools.images])
    charts = _state().root / "charts"
    charts.parent.mkdir(exist_ok=True)
    if not charts.is_symlink():
        charts.symlink_to(tools.charts)
    say = _sayer(options)
    with processes.only_command(lambda: say("another lab command is running: waiting for it")):
        clusters.up(config.load(), _state(), tools.bin, images, say)
    return 0


def _down(options: argparse.Namespace) -> int:
    say = _sayer(options)
    with processes.only_command(lambda: say("another lab command is running: waiting for it")):
        clusters.down(config.load(), _state(), say)
    return 0


def _sayer(options: argparse.Namespace) -> clusters.Say:
    started = time.monotonic()

    def say(text: str) -> None:
        if not options.quiet:
            print(f"[{clock(time.monotonic() - started)}] {text}", flush=True)

    return say


def _status(_options: argparse.Namespace) -> int:
    lab = config.load()
    nodes = clusters.status(lab, _state())
    for node in nodes:
        state = "running" if node.running else "down"
        missing = f"  not running: {', '.join(node.missing)}" if node.running and node.missing else ""
        print(f"{node.cluster:<12} {node.node:<20} {state:<8} Ready={node.ready}{missing}")
    return 0 if all(node.well for node in nodes) else 1


def _logs(options: argparse.Namespace) -> int:
    lab = config.load()
    if options.cluster:
        lab.cluster(options.cluster)
    for file in clusters.log_files(lab, _state(), options.cluster, options.program):
        print(f"== {file.relative_to(_state().root)}")
        print("\n".join(file.read_text(errors="replace").splitlines()[-options.lines :]))
    return 0


def _pulumi(options: argparse.Namespace) -> int:
    project = paths.project()
    environment = os.environ | engine_environment(project)
    stack = Stack(options.stack, project)
    stack.prepare(environment)
    known = {"up": stack.up, "destroy": stack.destroy}
    if options.verb == "unchanged":
        command = stack.unchanged()
    elif options.verb in known:
        command = known[options.verb]()
    else:
        command = stack.command(options.verb)
    return engine_output.run([*command, *options.arguments], project, environment, options.quiet)


def _fault(options: argparse.Namespace) -> int:
    lab = config.load()
    lever = faults.Lever(lab, _state(), paths.cache() / "bin")
    targets = faults.nodes(lab, options.target)
    if options.kind == "heal":
        faults.heal(lever, targets)
    elif options.kind == "kill":
        faults.kill(targets, options.program or "")
    else:
        fault = faults.FAULTS[options.kind]
        try:
            fault.make(lever, targets)
            time.sleep(options.seconds or 0)
        finally:
            if options.seconds is not None:
                fault.heal(lever, targets)
    return 0


def _env(_options: argparse.Namespace) -> int:
    for name, value in engine_environment(paths.project()).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0
