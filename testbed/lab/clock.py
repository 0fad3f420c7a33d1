"""Changes the time of day that the processes of a node see.

`python -m testbed.lab.clock --node NAME --seconds 600` runs until it is killed, and also changes the time of processes
that start later. Time namespaces do not cover the time of day, and preloaded libraries do not affect static programs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping

from testbed.lab import cgroups, config, paths, processes, vdso
from testbed.lab.config import Node

ROUND = 0.2
MODULE = "testbed.lab.clock"


def put(node: Node, seconds: int, environment: Mapping[str, str]) -> None:
    """Sets the node's clock ahead by `seconds` (back when negative), until `right`.

    `environment` is that of the process that does it.
    """
    right([node])
    _shift_all([node], seconds)
    line = [sys.executable, "-m", MODULE, "--node", node.name, f"--seconds={seconds}"]
    quiet = subprocess.DEVNULL
    subprocess.Popen(
        line, env=dict(environment), stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )


def right(nodes: Iterable[Node]) -> None:
    """Gives nodes the machine's time again; does nothing where they have it."""
    nodes = list(nodes)
    names = {node.name for node in nodes}
    processes.kill_all(lambda process: process.node in names and _keeps_clocks(process.number))
    _shift_all(nodes, 0)


def _keeps_clocks(process: int) -> bool:
    return MODULE in processes.arguments(process)


def _shift_all(nodes: Iterable[Node], seconds: int) -> None:
    image = vdso.own()
    names = {node.name for node in nodes}
    programs = {process.number for process in processes.find() if process.node in names}
    for number in programs.union(*(cgroups.processes(name) for name in names)):
        vdso.shift(number, image, seconds)


def main() -> int:
    """Changes the clocks of new processes, round after round."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}")
    parser.add_argument("--node", required=True)
    parser.add_argument("--seconds", type=int, required=True)
    options = parser.parse_args()
    node = next(
        node for _, node in config.current(paths.project() / ".lab").nodes() if node.name == options.node
    )
    while True:
        _shift_all([node], options.seconds)
        time.sleep(ROUND)


if __name__ == "__main__":
    sys.exit(main())
