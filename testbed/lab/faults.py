"""Injects faults into nodes: links cut or slowed, clocks changed, nodes powered off, programs killed.

Each has an inverse that is idempotent. `heal` and `python -m testbed.lab up` remove every fault.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.lab import clock, clusters, network, processes
from testbed.lab.config import Lab, LabConfigError, Node
from testbed.lab.paths import State

DELAY = 0.1
LOSS = 0.05
CLOCK_SECONDS = 600


@dataclass(frozen=True)
class Lever:
    """A running lab, and the folder of its programs."""

    lab: Lab
    state: State
    tools: Path


@dataclass(frozen=True)
class NodeFault:
    """One kind of fault: how it is injected into nodes, and how it is removed."""

    title: str
    make: Callable[[Lever, Sequence[Node]], None]
    heal: Callable[[Lever, Sequence[Node]], None]


def nodes(lab: Lab, name: str) -> Sequence[Node]:
    """The nodes of the cluster called `name`, or the one node; raises LabConfigError when there is neither."""
    found = [node for cluster, node in lab.nodes() if name in (cluster.name, node.name)]
    if not found:
        known = [
            name for cluster in lab.clusters for name in (cluster.name, *(n.name for n in cluster.nodes))
        ]
        raise LabConfigError(f"no cluster and no node {name!r} in the lab; there are: {', '.join(known)}")
    return found


def cut(lever: Lever, targets: Iterable[Node]) -> None:
    """Disconnects the nodes, also from their API server; their programs keep running."""
    for node in targets:
        network.plug(lever.lab, node, False)


def plug_in(lever: Lever, targets: Iterable[Node]) -> None:
    """Reconnects the nodes."""
    for node in targets:
        network.plug(lever.lab, node, True)


def slow(lever: Lever, targets: Iterable[Node], delay: float = DELAY, loss: float = LOSS) -> None:
    """Delays the nodes' outgoing packets by `delay` seconds, and drops the fraction `loss` of them."""
    for node in targets:
        network.slow(lever.lab, node, delay, loss, clusters.environment(lever.state, node))


def smooth(lever: Lever, targets: Iterable[Node]) -> None:
    """Ends `slow`."""
    for node in targets:
        network.smooth(lever.lab, node)


def put_clocks(lever: Lever, targets: Iterable[Node], seconds: int = CLOCK_SECONDS) -> None:
    """Sets the clocks of all processes on the nodes ahead by `seconds`, or back when negative."""
    for node in targets:
        clock.put(node, seconds, clusters.environment(lever.state, node))


def right_clocks(_lever: Lever, targets: Iterable[Node]) -> None:
    """Gives the nodes the machine's time again."""
    clock.right(targets)


def stop(_lever: Lever, targets: Iterable[Node]) -> None:
    """Powers off the nodes: all their processes are killed at once, their disks stay."""
    for node in targets:
        clusters.stop_node(node)


def start(lever: Lever, targets: Sequence[Node], wait: bool = True) -> None:
    """Starts the stopped nodes, and waits until their clusters are ready; raises LabError after two minutes."""
    for cluster, node in lever.lab.nodes():
        if node in targets and processes.first(node) is None:
            clusters.start_node(lever.state, cluster, node, lever.tools)
    for cluster in lever.lab.clusters if wait else ():
        if any(node in targets for node in cluster.nodes):
            clusters.wait_ready(cluster, lever.state)


def freeze(_lever: Lever, targets: Iterable[Node]) -> None:
    """Stops the API servers on the nodes: they accept connections and answer nothing. The data plane goes on."""
    _signal(targets, signal.SIGSTOP)


def thaw(_lever: Lever, targets: Iterable[Node]) -> None:
    """Lets the API servers on the nodes go on."""
    _signal(targets, signal.SIGCONT)


def _signal(targets: Iterable[Node], number: signal.Signals) -> None:
    for node in targets:
        running = processes.programs(node).get("kube-apiserver")
        if running is not None:
            os.kill(running, number)


def kill(targets: Iterable[Node], program: str) -> None:
    """Kills one program, such as kubelet, on the nodes that run it; their first process restarts it.

    Raises LabError when none runs it.
    """
    running = [processes.programs(node) for node in targets]
    if not any(program in found for found in running):
        known = ", ".join(sorted(set().union(*running)))
        raise clusters.LabError(f"{program} does not run on these nodes; running are: {known}")
    for found in running:
        if program in found:
            processes.kill(found[program])


FAULTS = {
    "cut": NodeFault("pull the cables of nodes", cut, plug_in),
    "slow": NodeFault(f"make links slow and lossy ({DELAY * 1000:.0f} ms, {LOSS:.0%})", slow, smooth),
    "clock": NodeFault(f"put clocks {CLOCK_SECONDS} s forward", put_clocks, right_clocks),
    "freeze": NodeFault("stop API servers from answering", freeze, thaw),
    "stop": NodeFault("take the nodes' power away", stop, start),
}


def heal(lever: Lever, targets: Sequence[Node]) -> None:
    """Removes every fault that `targets` may have."""
    for fault in FAULTS.values():
        fault.heal(lever, targets)
