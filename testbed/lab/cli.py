"""`python -m testbed.lab`: the lab's commands."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from testbed.engine import EngineError
from testbed.engine import kill as kill_engines
from testbed.lab import (
    builder,
    clusters,
    config,
    faults,
    image_store,
    paths,
    preflight,
    processes,
)
from testbed.lab.clusters import LabError
from testbed.lab.config import LabConfigError
from testbed.lab.engine_output import Printer
from testbed.lab.gomods import BuildError
from testbed.lab.paths import State
from testbed.lab.pki import PkiError
from testbed.lab.preflight import PreflightError
from testbed.lab.progress import clock
from testbed.lab.stack import FOLDER, LabEngine, engine_environment, with_values

Command = Callable[[argparse.Namespace], int]
VERBS = ("up", "unchanged", "preview", "refresh", "destroy")


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
    except KeyboardInterrupt:
        return 130
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
        sub.add_argument("-q", "--quiet", action="store_true", help="print only failures")
        sub.set_defaults(command=command, needs_root=needs_root)
        return sub

    check = add("preflight", _preflight, "check what the lab needs of the machine")
    check.add_argument("--install", action="store_true", help="install missing Debian packages")
    _add_clusters(check)
    build = add("build", _build, "build programs, images and charts into the cache")
    build.add_argument(
        "--for-engine", action="store_true", help="build only what the engine and one API server need"
    )
    build.add_argument("--for-aws", action="store_true", help="build only the AWS Load Balancer Controller")
    _add_clusters(add("up", _up, "start the clusters", needs_root=True))
    add("down", _down, "stop the clusters and remove every trace of them", needs_root=True)
    add("status", _status, "show the nodes")
    logs = add("logs", _logs, "show the last lines of the logs")
    logs.add_argument("cluster", nargs="?", help="show the logs of this cluster only")
    logs.add_argument("program", nargs="?", help="show the logs of this program only, such as kubelet")
    logs.add_argument("--lines", type=int, default=20)
    _add_engine(add("pulumi", _pulumi, "run the engine on a stack of the lab, without asking"))
    fault = add(
        "fault", _fault, "inject a fault into a cluster or node, or remove all faults (heal)", needs_root=True
    )
    fault.add_argument("kind", choices=[*faults.FAULTS, "kill", "heal"])
    fault.add_argument("target", help="a cluster or a node")
    fault.add_argument("program", nargs="?", help="the program to kill, such as kubelet")
    fault.add_argument("--seconds", type=float, help="remove the fault after this time, and on Ctrl-C")
    add("env", _env, "print environment variables for pulumi and fedmesh, to be evaluated by a shell")
    return parser


def _add_clusters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--clusters", type=int, help="number of clusters (default: those of the lab that is there, or 2)"
    )


def _add_engine(engine: argparse.ArgumentParser) -> None:
    engine.add_argument(
        "--stack", help="name of the stack (default: the lab's: lab, or lab3 for three clusters)"
    )
    engine.add_argument(
        "verb", choices=VERBS, help="`unchanged` is an up that fails if it would change anything"
    )
    engine.add_argument("--config-file", help="configuration to use in place of the stack's own")
    engine.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a value for this run; KEY may be a path, such as fedmesh:istio.revision",
    )
    # `pulumi` needs this flag for keys that are paths; here every key is one
    engine.add_argument("--config-path", action="store_true", help=argparse.SUPPRESS)
    engine.add_argument("--expect-no-changes", action="store_true", help="fail if anything changes")
    engine.add_argument("--refresh", action="store_true", help="read the resources' state first")
    engine.add_argument("--diff", action="store_true", help="show changes in detail")
    engine.add_argument("--target", action="append", metavar="URN", help="work on this resource only")


def _state() -> State:
    return State(paths.project() / FOLDER)


def _lab() -> config.Lab:
    return config.current(_state().root)


def _preflight(options: argparse.Namespace) -> int:
    lab = config.wanted(_state().root, options.clusters)
    preflight.require(lab, paths.cache(), options.install, _sayer(options))
    return 0


def _build(options: argparse.Namespace) -> int:
    chosen = {
        *(builder.FOR_ENGINE if options.for_engine else ()),
        *(builder.FOR_AWS if options.for_aws else ()),
    }
    if not chosen:
        # images are unpacked with their owners
        preflight.require_root()
    tools = builder.build(paths.cache(), options.quiet, chosen or None)
    if not chosen:
        image_store.ensure(paths.cache(), [image.path for image in tools.images])
    return 0


def _up(options: argparse.Namespace) -> int:
    lab = config.wanted(_state().root, options.clusters)
    tools = builder.build(paths.cache(), options.quiet)
    images = image_store.ensure(paths.cache(), [image.path for image in tools.images])
    charts = _state().root / "charts"
    charts.parent.mkdir(exist_ok=True)
    if not charts.is_symlink():
        charts.symlink_to(tools.charts)
    say = _sayer(options)
    with processes.only_command(lambda: say("another lab command is running: waiting for it")):
        clusters.up(lab, _state(), tools.bin, images, say)
    return 0


def _down(options: argparse.Namespace) -> int:
    say = _sayer(options)
    # an engine that keeps running would write its state into the folder after it is removed
    _end_commands()
    with processes.only_command(lambda: say("another lab command is running: waiting for it")):
        clusters.down(_lab(), _state(), say)
    return 0


def _end_commands() -> None:
    """Kills the commands that change this checkout's stacks on the lab, such as `make lab`, and their engines."""
    project = paths.project()
    for number in processes.others():
        words = processes.arguments(number)
        if words[1:3] == ["-m", "testbed.lab.journey"] or words[1:4] == ["-m", "testbed.lab", "pulumi"]:
            with contextlib.suppress(OSError):
                if Path(f"/proc/{number}/cwd").readlink() == project:
                    processes.kill(number)
    for folder in (project / FOLDER, project / ".sandbox" / "lab"):
        kill_engines(folder)


def _sayer(options: argparse.Namespace) -> clusters.Say:
    started = time.monotonic()

    def say(text: str) -> None:
        if not options.quiet:
            print(f"[{clock(time.monotonic() - started)}] {text}", flush=True)

    return say


def _status(_options: argparse.Namespace) -> int:
    lab = _lab()
    nodes = clusters.status(lab, _state())
    for node in nodes:
        state = "running" if node.running else "down"
        missing = f"  not running: {', '.join(node.missing)}" if node.running and node.missing else ""
        print(f"{node.cluster:<12} {node.node:<20} {state:<8} Ready={node.ready}{missing}")
    return 0 if all(node.well for node in nodes) else 1


def _logs(options: argparse.Namespace) -> int:
    lab = _lab()
    if options.cluster:
        lab.cluster(options.cluster)
    for file in clusters.log_files(lab, _state(), options.cluster, options.program):
        print(f"== {file.relative_to(_state().root)}")
        print("\n".join(file.read_text(errors="replace").splitlines()[-options.lines :]))
    return 0


def _pulumi(options: argparse.Namespace) -> int:
    engine = LabEngine(options.stack or _lab().stack, paths.project())
    engine.configure(with_values(engine.committed(), options.config))
    asked = {name: getattr(options, name) for name in ("config_file", "refresh", "diff", "target")}
    settings: dict[str, Any] = {name: value for name, value in asked.items() if value}
    if options.expect_no_changes or options.verb == "unchanged":
        settings["expect_no_changes"] = True
    if options.verb != "preview":
        settings["suppress_outputs"] = True
    printer = Printer(options.quiet)
    try:
        engine.run("up" if options.verb == "unchanged" else options.verb, printer.say, **settings)
    except EngineError:
        printer.failed()
        return 1
    return 0


def _fault(options: argparse.Namespace) -> int:
    lab = _lab()
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
