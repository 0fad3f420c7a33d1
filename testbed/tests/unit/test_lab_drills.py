"""The lab's drills, and the stacks that belong to the lab."""

from __future__ import annotations

import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from fedmesh.drill import command
from fedmesh.drill.means import Means
from fedmesh.drill.scene import Scene
from fedmesh.reading import LiveCluster
from fedmesh.topology import Member, Topology
from testbed.lab import drills
from testbed.lab.config import Node
from testbed.lab.drill_app import TARGET

MEMBER = Member("cluster-1", "t", "n", None, "")
MEANS = Means(Topology("lab", (MEMBER,)), Path())
PODS = IPv4Network("10.91.1.0/24")
NODES = [
    Node(name, IPv4Address("10.90.0.11"), PODS, control_plane=name == "a", taints=taints)
    for name, taints in (("a", ()), ("b", ()), ("c", ()), ("spire", ({"key": "dedicated"},)))
]


class Api:
    """An API server with istiod, one load pod and some pods of the app; records how istiod is scaled."""

    server = ""

    def __init__(self, callers: str = "", servers: tuple[str, ...] = ()) -> None:
        self.callers = callers
        self.servers = servers
        self.scaled: list[int] = []

    def items(self, path: str, **_query: str) -> list[dict[str, Any]]:
        if path.endswith("deployments"):
            labels = {"metadata": {"labels": {"app": "istiod"}}}
            return [{"metadata": {"name": "istiod"}, "spec": {"replicas": 2, "template": labels}}]
        names = [self.callers] if path == "/api/v1/pods" else self.servers
        return [{"metadata": {"name": name}, "spec": {"nodeName": name}} for name in names]

    def patch(self, _path: str, body: dict[str, Any]) -> None:
        self.scaled.append(body["spec"]["replicas"])


def scene(callers: str, servers: list[str]) -> Scene:
    cluster = LiveCluster(MEMBER, Api(callers, tuple(servers)))
    return Scene({}, cluster, cluster, MEANS, TARGET)


def topology(*paths: Path | None) -> Topology:
    return Topology("s", tuple(Member(f"c{n}", "t", "n", path, "") for n, path in enumerate(paths)))


def test_a_stack_belongs_to_the_lab_when_the_lab_made_all_its_clusters(tmp_path: Path) -> None:
    inside = tmp_path / ".lab/clusters/c0/admin.kubeconfig"
    assert drills.owns(topology(inside), tmp_path)
    assert not drills.owns(topology(inside, Path("/home/me/.kube/config")), tmp_path)
    assert not drills.owns(topology(inside, None), tmp_path)


def test_the_command_names_the_labs_drills_where_there_is_no_lab() -> None:
    assert {each.name: each.number for each in drills.DRILLS} == command.ELSEWHERE


def test_no_drill_of_the_lab_has_the_name_of_another() -> None:
    names = [each.name for each in command.available(drills.ENVIRONMENT)]
    assert len(set(names)) == len(names)


def test_the_labs_engine_runs_the_program() -> None:
    assert drills.up("blue") == [sys.executable, "-m", "testbed.lab", "pulumi", "-q", "--stack", "blue", "up"]


def test_half_of_the_nodes_are_those_that_serve_and_send_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[str] = []
    monkeypatch.setattr(drills, "_nodes", lambda _name: NODES)
    monkeypatch.setattr(drills, "_stop", lambda _scene, nodes: stopped.extend(node.name for node in nodes))
    drills.stop_half(scene(callers="b", servers=["a", "b", "c"]))
    assert stopped == ["c"]
    with pytest.raises(LookupError, match="no second node for apps"):
        drills.stop_half(scene(callers="c", servers=["a", "c"]))


def test_load_pods_run_on_the_node_that_no_drill_powers_off_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drills, "_nodes", lambda _name: NODES)
    assert drills.ENVIRONMENT.load_nodes("cluster-1") == ["a"]


def test_the_control_plane_comes_back_before_istiod_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(drills, "_nodes", lambda _name: NODES)
    monkeypatch.setattr(drills.lab_faults, "freeze", lambda *_: done.append("freeze"))
    monkeypatch.setattr(drills.lab_faults, "thaw", lambda *_: done.append("thaw"))
    monkeypatch.setattr(drills, "kill_istiod", lambda _scene: done.append("kill istiod"))
    api = Api()
    stage = Scene({}, LiveCluster(MEMBER, api), LiveCluster(MEMBER, api), MEANS, TARGET)
    drills.take_control_plane(stage)
    stage.taken.push("note", lambda: done.append("undo"))
    assert stage.taken.run() == []
    assert done == ["kill istiod", "freeze", "undo", "thaw"]
    assert api.scaled == [0, 2]
