"""Drills that need the lab: nodes without power, links cut or slowed, clocks that are wrong."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from fedmesh.drill.environment import Environment
from fedmesh.drill.faults import calls_go_to_the_peer, kill_istiod
from fedmesh.drill.scene import HEALING, TAKEOVER, Drill, Scene
from fedmesh.topology import Topology
from testbed.lab import config
from testbed.lab import faults as lab_faults
from testbed.lab.config import Node
from testbed.lab.faults import Lever
from testbed.lab.paths import State, cache, project


def cut_peer(scene: Scene) -> None:
    """Pulls the network cables of every node of the peer, its API server's among them."""
    _cut(scene, _nodes(scene.peer.name))


def stop_worker_of_peer(scene: Scene) -> None:
    """Powers off the peer's worker nodes."""
    _stop(scene, [node for node in _nodes(scene.peer.name) if not node.control_plane])


def stop_peer(scene: Scene) -> None:
    """Powers off every node of the peer, and kills istiod on the calling cluster."""
    _stop(scene, _nodes(scene.peer.name))
    kill_istiod(scene)


def slow_peer(scene: Scene) -> None:
    """Adds latency and packet loss to the links of every node of the peer."""
    lever, nodes = _lever(), _nodes(scene.peer.name)
    scene.taken.push(
        f"remove latency and loss from the links of {scene.peer.name}",
        lambda: lab_faults.smooth(lever, nodes),
    )
    lab_faults.slow(lever, nodes)


def advance_clocks_of_peer(scene: Scene) -> None:
    """Sets the clocks of every node of the peer ten minutes ahead."""
    lever, nodes = _lever(), _nodes(scene.peer.name)
    scene.taken.push(f"reset the clocks of {scene.peer.name}", lambda: lab_faults.right_clocks(lever, nodes))
    lab_faults.put_clocks(lever, nodes)


def _cut(scene: Scene, nodes: Sequence[Node]) -> None:
    lever = _lever()
    scene.taken.push(f"reconnect {_names(nodes)}", lambda: lab_faults.plug_in(lever, nodes))
    lab_faults.cut(lever, nodes)


def _stop(scene: Scene, nodes: Sequence[Node]) -> None:
    lever = _lever()
    # Not waited for: the load goes on while the nodes start.
    scene.taken.push(f"start {_names(nodes)}", lambda: lab_faults.start(lever, nodes, wait=False))
    lab_faults.stop(lever, nodes)


def _lever() -> Lever:
    return Lever(config.load(), State(project() / ".lab"), cache() / "bin")


def _nodes(name: str) -> Sequence[Node]:
    return lab_faults.nodes(config.load(), name)


def _names(nodes: Sequence[Node]) -> str:
    return ", ".join(node.name for node in nodes)


DRILLS = (
    Drill(
        8,
        "node",
        "a node of the peer loses power",
        stop_worker_of_peer,
        destructive=True,
        contained=True,
        objective=TAKEOVER,
    ),
    Drill(
        9,
        "cluster-cut",
        "the peer is cut off from the network, its API server included",
        cut_peer,
        destructive=True,
        contained=True,
        objective=TAKEOVER,
    ),
    Drill(
        10,
        "cluster-stopped",
        "the peer loses power while istiod is restarted",
        stop_peer,
        destructive=True,
        contained=True,
        objective=TAKEOVER,
    ),
    Drill(
        11,
        "slow-links",
        "the peer's links are slow and lossy",
        slow_peer,
        calls_go_to_the_peer,
        seconds=30.0,
        contained=True,
        degrades=True,
    ),
    Drill(
        12,
        "clock",
        "the peer's clocks are 10 minutes ahead",
        advance_clocks_of_peer,
        calls_go_to_the_peer,
        seconds=40.0,
        destructive=True,
        contained=True,
        degrades=True,
        # tokens that kubelets renewed during the fault become valid ten minutes later
        heals=lab_faults.CLOCK_SECONDS + HEALING,
    ),
)


def up(stack: str) -> list[str]:
    """The command line of `pulumi up` by the lab's engine."""
    return [sys.executable, "-m", "testbed.lab", "pulumi", "-q", "--stack", stack, "up"]


def owns(topology: Topology, folder: Path) -> bool:
    """Whether the lab in a project's folder made every cluster of a stack."""
    home = (folder / ".lab" / "clusters").resolve()
    return all(m.kubeconfig is not None and home in m.kubeconfig.resolve().parents for m in topology.members)


ENVIRONMENT = Environment(drills=DRILLS, stack="lab", up=up, owns=owns)
