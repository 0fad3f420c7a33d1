"""Faults of real life, made on purpose: cables pulled, links slow, clocks wrong, power gone, programs killed.

Each has what takes it back, which does no harm where there is nothing to take back: a fault that was interrupted is
healed by `heal`, and by `python -m testbed.lab up`.
"""

from __future__ import annotations

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
    """A lab that runs, and the folder of the programs that it runs."""

    lab: Lab
    state: State
    tools: Path


@dataclass(frozen=True)
class Fault:
    """One kind of fault: what it is, how it is made on nodes, and how it is taken back."""

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
    """Pulls the nodes' cables, API server's and all; what runs on a node goes on and reaches nobody."""
    for node in targets:
        network.plug(lever.lab, node, False)


def plug_in(lever: Lever, targets: Iterable[Node]) -> None:
    """Puts the nodes' cables back in."""
    for node in targets:
        network.plug(lever.lab, node, True)


def slow(lever: Lever, targets: Iterable[Node], delay: float = DELAY, loss: float = LOSS) -> None:
    """Delays what the nodes send to others by `delay` seconds, and loses the share `loss` of it."""
    for node in targets:
        network.slow(lever.lab, node, delay, loss, clusters.environment(lever.state, node))


def smooth(lever: Lever, targets: Iterable[Node]) -> None:
    """Ends `slow`."""
    for node in targets:
        network.smooth(lever.lab, node)


def put_clocks(lever: Lever, targets: Iterable[Node], seconds: int = CLOCK_SECONDS) -> None:
    """Puts the nodes' clocks forward by `seconds`, or back when negative, for all that runs on them."""
    for node in targets:
        clock.put(node, seconds, clusters.environment(lever.state, node))


def right_clocks(_lever: Lever, targets: Iterable[Node]) -> None:
    """Gives the nodes the machine's time again."""
    clock.right(targets)


def stop(_lever: Lever, targets: Iterable[Node]) -> None:
    """Takes the nodes' power away: everything on them is killed at once, their disks stay."""
    for node in targets:
        clusters.stop_node(node)


def start(lever: Lever, targets: Sequence[Node], wait: bool = True) -> None:
    """Starts nodes that are stopped, and waits until their clusters are ready; raises LabError after two minutes."""
    for cluster, node in lever.lab.nodes():
        if node in targets and processes.first(node) is None:
            clusters.start_node(lever.state, cluster, node, lever.tools)
    for cluster in lever.lab.clusters if wait else ():
        if any(node in targets for node in cluster.nodes):
            clusters.wait_ready(cluster, lever.state)


def kill(targets: Iterable[Node], program: str) -> None:
    """Kills one program, such as kubelet, on the nodes that run it; their first process starts it again.

    Raises LabError when none runs it.
    """
    running = [processes.programs(node) for node in targets]
    if not any(program in found for found in running):
        known = ", ".join(sorted(set().union(*running)))
        raise clusters.LabError(f"{program} runs on none of these nodes; there are: {known}")
    for found in running:
        if program in found:
            processes.kill(found[program])


FAULTS = {
    "cut": Fault("pull the cables of nodes", cut, plug_in),
    "slow": Fault(f"make links slow and lossy ({DELAY * 1000:.0f} ms, {LOSS:.0%})", slow, smooth),
    "clock": Fault(f"put clocks {CLOCK_SECONDS} s forward", put_clocks, right_clocks),
    "stop": Fault("take the nodes' power away", stop, start),
}


def heal(lever: Lever, targets: Sequence[Node]) -> None:
    """Takes every fault back that `targets` may have."""
    for fault in FAULTS.values():
        fault.heal(lever, targets)
