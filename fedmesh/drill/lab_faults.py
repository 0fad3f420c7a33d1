"""Faults that only the lab's own means can make: links cut and slowed, clocks wrong, nodes without power."""

from __future__ import annotations

from collections.abc import Sequence

from fedmesh.drill.faults import calls_go_to_the_peer, kill_istiod
from fedmesh.drill.scene import HEALING, TAKEOVER, Fault, Scene
from testbed.lab import config
from testbed.lab import faults as lab_faults
from testbed.lab.config import Node
from testbed.lab.faults import Lever
from testbed.lab.paths import State, cache, project


def cut_peer(scene: Scene) -> None:
    """Pull the network cables of every node of the peer, its API server's among them."""
    _cut(scene, _nodes(scene.peer.name))


def stop_worker_of_peer(scene: Scene) -> None:
    """Take the power of the peer's nodes other than the one with the control plane."""
    _stop(scene, [node for node in _nodes(scene.peer.name) if not node.control_plane])


def stop_peer(scene: Scene) -> None:
    """Take the power of the whole peer, and kill the control plane that is left."""
    _stop(scene, _nodes(scene.peer.name))
    kill_istiod(scene)


def slow_peer(scene: Scene) -> None:
    """Make the links of every node of the peer slow and lossy."""
    lever, nodes = _lever(), _nodes(scene.peer.name)
    scene.taken.push(f"smooth the links of {scene.peer.name}", lambda: lab_faults.smooth(lever, nodes))
    lab_faults.slow(lever, nodes)


def put_clock_of_peer(scene: Scene) -> None:
    """Put the clocks of every node of the peer ten minutes forward."""
    lever, nodes = _lever(), _nodes(scene.peer.name)
    scene.taken.push(f"right the clocks of {scene.peer.name}", lambda: lab_faults.right_clocks(lever, nodes))
    lab_faults.put_clocks(lever, nodes)


def _cut(scene: Scene, nodes: Sequence[Node]) -> None:
    lever = _lever()
    scene.taken.push(f"plug {_names(nodes)} in", lambda: lab_faults.plug_in(lever, nodes))
    lab_faults.cut(lever, nodes)


def _stop(scene: Scene, nodes: Sequence[Node]) -> None:
    lever = _lever()
    # The load goes on while the nodes start: nobody waits for them here.
    scene.taken.push(f"start {_names(nodes)}", lambda: lab_faults.start(lever, nodes, wait=False))
    lab_faults.stop(lever, nodes)


def _lever() -> Lever:
    return Lever(config.load(), State(project() / ".lab"), cache() / "bin")


def _nodes(name: str) -> Sequence[Node]:
    return lab_faults.nodes(config.load(), name)


def _names(nodes: Sequence[Node]) -> str:
    return ", ".join(node.name for node in nodes)


FAULTS = (
    Fault(
        8,
        "node",
        "a node of the peer loses its power",
        stop_worker_of_peer,
        destructive=True,
        lab=True,
        bar=TAKEOVER,
    ),
    Fault(
        9,
        "cluster-cut",
        "the peer is cut off, API server and all",
        cut_peer,
        destructive=True,
        lab=True,
        bar=TAKEOVER,
    ),
    Fault(
        10,
        "cluster-stopped",
        "the peer loses its power, and istiod is killed meanwhile",
        stop_peer,
        destructive=True,
        lab=True,
        bar=TAKEOVER,
    ),
    Fault(
        11,
        "slow-links",
        "the peer's links are slow and lossy",
        slow_peer,
        calls_go_to_the_peer,
        seconds=30.0,
        lab=True,
        degrades=True,
    ),
    Fault(
        12,
        "clock",
        "the peer's clocks are 10 minutes ahead",
        put_clock_of_peer,
        calls_go_to_the_peer,
        seconds=40.0,
        destructive=True,
        lab=True,
        degrades=True,
        # tokens that the kubelets renewed meanwhile are valid ten minutes later only
        heals=lab_faults.CLOCK_SECONDS + HEALING,
    ),
)
