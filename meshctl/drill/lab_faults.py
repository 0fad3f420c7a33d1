"""Faults that only the lab's own means can make: links cut and slowed, nodes and clusters without power."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from lab import config, network
from lab.config import Node
from meshctl.drill.faults import calls_go_to_the_peer
from meshctl.drill.scene import Fault, Scene

DELAY = ("delay", "100ms", "loss", "5%")


def cut_peer(scene: Scene) -> None:
    """Pull the network cables of every node of the peer, its API server's among them."""
    for node in _nodes(scene.peer.name):
        _cut(scene, node)


def cut_workers_of_peer(scene: Scene) -> None:
    """Pull the cable of the peer's nodes other than the one with the control plane."""
    for node in _nodes(scene.peer.name):
        if not node.control_plane:
            _cut(scene, node)


def slow_peer(scene: Scene) -> None:
    """Make the links of every node of the peer slow and lossy."""
    for node in _nodes(scene.peer.name):
        name = network.namespace(node)
        scene.taken.push(
            f"take netem off {node.name}",
            lambda name=name: network.inside(name, "tc", "qdisc", "del", "dev", "eth0", "root", check=False),
        )
        network.inside(name, "tc", "qdisc", "replace", "dev", "eth0", "root", "netem", *DELAY)


def _cut(scene: Scene, node: Node) -> None:
    cable = _cable(node)
    scene.taken.push(
        f"plug {node.name} in (ip link set {cable} up)", lambda: network.ip("link", "set", cable, "up")
    )
    network.ip("link", "set", cable, "down")


def _cable(node: Node) -> str:
    """The machine's end of a node's cable: pulled there, the node keeps its own addresses and routes."""
    inner = _show("-n", network.namespace(node), "link", "show", "eth0")[0]
    return next(link["ifname"] for link in _show("link", "show") if link["ifindex"] == inner["link_index"])


def _show(*arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(["ip", "-json", *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def _nodes(cluster: str) -> tuple[Node, ...]:
    return config.load().cluster(cluster).nodes


FAULTS = (
    Fault(8, "node", "a node of the peer is cut off", cut_workers_of_peer, destructive=True, lab=True),
    Fault(9, "cluster-cut", "the peer is cut off, API server and all", cut_peer, destructive=True, lab=True),
    Fault(11, "slow-links", "the peer's links are slow and lossy", slow_peer, calls_go_to_the_peer, lab=True),
)
