"""Drills that need the lab: nodes without power, links cut or slowed, clocks that are wrong."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from fedmesh.drill.environment import Environment
from fedmesh.drill.faults import calls_go_to_the_peer, kill_istiod, scale, take_ingress_gateways
from fedmesh.drill.load import APP
from fedmesh.drill.renewal import SHORTEST_LIFE, shorten_lives_below_the_fault
from fedmesh.drill.scene import HEALING, TAKEOVER, UNNOTICED, Drill, Objective, Scene
from fedmesh.topology import ISTIO_NAMESPACE, Topology
from testbed.lab import config
from testbed.lab import faults as lab_faults
from testbed.lab.config import Node
from testbed.lab.drill_app import bring
from testbed.lab.faults import Lever
from testbed.lab.paths import State, cache, project


def cut_peer(scene: Scene) -> None:
    """Pulls the network cables of every node of the peer, its API server's among them."""
    _cut(scene, _nodes(scene.peer.name))


def stop_peer(scene: Scene) -> None:
    """Powers off every node of the peer."""
    _stop(scene, _nodes(scene.peer.name))


def cut_callers(scene: Scene) -> None:
    """Pulls the network cables of every node of the callers' cluster."""
    _cut(scene, _nodes(scene.client.name))


def take_control_plane(scene: Scene) -> None:
    """Takes istiod and then the API server away from the callers' cluster; the proxies keep what they know."""
    collection = f"/apis/apps/v1/namespaces/{ISTIO_NAMESPACE}/deployments"
    for item in scene.client.api.items(collection):
        if item["spec"]["template"]["metadata"].get("labels", {}).get("app") == "istiod":
            scale(scene, scene.client, f"{collection}/{item['metadata']['name']}", item, 0)
    kill_istiod(scene)
    lever, nodes = _lever(), _nodes(scene.client.name)
    scene.taken.push(
        f"let the API server of {scene.client.name} go on", lambda: lab_faults.thaw(lever, nodes)
    )
    lab_faults.freeze(lever, nodes)


def stop_half(scene: Scene) -> None:
    """Powers off half of the callers' nodes, but for the API server's and those that the load comes from.

    Raises LookupError where no such node has a pod of the target.
    """
    nodes = [node for node in _nodes(scene.client.name) if not node.control_plane and not node.taints]
    callers = scene.client.api.items("/api/v1/pods", labelSelector=f"app={APP}")
    busy = {pod["spec"].get("nodeName") for pod in callers}
    serving = {pod["spec"].get("nodeName") for pod in scene.target.pods(scene.client)}
    chosen = [node for node in nodes if node.name not in busy and node.name in serving]
    if not chosen:
        raise LookupError(
            f"{scene.client.name} has no second node for apps with a pod of {scene.target.host}"
        )
    _stop(scene, chosen[: max(1, len(nodes) // 2)])


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
    return Lever(_lab(), State(project() / ".lab"), cache() / "bin")


def _lab() -> config.Lab:
    return config.current(project() / ".lab")


def _nodes(name: str) -> Sequence[Node]:
    return lab_faults.nodes(_lab(), name)


def _names(nodes: Sequence[Node]) -> str:
    return ", ".join(node.name for node in nodes)


# Seconds; longer than the detection of every edge, and than the way back of a cluster that lost power.
USERS_WAIT, USERS_RETURN = 100.0, 130.0
# Users whose edge repeats GET notice the takeover as answers that took two tries: as CloudFront, the edge checks no
# health, and tries the first cluster again for each request while the fault lasts.
# What callers in the mesh, on other clusters, have open stays open.
USERS = Objective(longest=2.0, takeover=3.0, kept=True)
DRILLS = (
    *(
        Drill(
            8,
            name,
            title,
            inject,
            seconds=USERS_WAIT,
            after=USERS_RETURN,
            destructive=True,
            contained=True,
            users=True,
            gradual=inject is take_ingress_gateways,
            objective=USERS,
        )
        for name, title, inject in (
            ("users-power", "the users' cluster loses power", stop_peer),
            ("users-cut", "the users' cluster is cut off from the network", cut_peer),
            ("users-gateways", "the users' cluster loses its ingress gateways", take_ingress_gateways),
        )
    ),
    *(
        Drill(
            9,
            name,
            title,
            inject,
            calls_go_to_the_peer,
            after=60.0,
            destructive=True,
            contained=True,
            objective=TAKEOVER,
            clusters=3,
            in_use=True,
        )
        for name, title, inject in (
            ("peer-cut", "a peer in use is cut off, and a third cluster lives", cut_peer),
            ("peer-power", "a peer in use loses power, and a third cluster lives", stop_peer),
        )
    ),
    Drill(
        10,
        "callers-cut",
        "the callers' own cluster is cut off from all others",
        cut_callers,
        destructive=True,
        contained=True,
        objective=UNNOTICED,
    ),
    Drill(
        10,
        "control-plane",
        "API server and istiod of the callers' cluster are away for longer than a certificate's life",
        take_control_plane,
        shorten_lives_below_the_fault,
        # the longest life, and some seconds until the API server has stopped
        seconds=SHORTEST_LIFE.total_seconds() + 30.0,
        destructive=True,
        contained=True,
        heals=HEALING,
        objective=UNNOTICED,
    ),
    Drill(
        10,
        "nodes",
        "half of the nodes for apps of the callers' cluster lose power",
        stop_half,
        after=60.0,
        destructive=True,
        contained=True,
        objective=TAKEOVER,
        clusters=3,
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
        in_use=True,
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
        in_use=True,
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


def load_nodes(cluster: str) -> list[str]:
    """The nodes of a cluster that no drill powers off alone: that of the control plane."""
    return [node.name for node in _nodes(cluster) if node.control_plane]


def stack() -> str:
    """The stack of commands that name none: that of the lab that is there."""
    return (config.kept(project() / ".lab") or config.DEFAULT_FILE).stem


ENVIRONMENT = Environment(drills=DRILLS, stack=stack(), up=up, owns=owns, load_nodes=load_nodes, stage=bring)
