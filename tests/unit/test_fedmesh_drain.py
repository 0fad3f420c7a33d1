"""`fedmesh drain`: what it changes, what it refuses, and what it waits for."""

import json
import time

import pytest
import yaml
from fedmesh_samples import FakeApi, pod

from components.mesh import remote_secrets
from fedmesh import drain, topology
from fedmesh.drill.means import DrillError
from fedmesh.kube import KubeError, Output
from fedmesh.reading import LiveCluster
from fedmesh.topology import Member, Topology

STACK = """config:
  fedmesh:clusters:
    - name: a # the first
      region: r1
    - {name: b, region: r2, drained: false}
    - region: r3
      name: c
  fedmesh:samples: {enabled: false}
"""
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
GATEWAYS = "/api/v1/namespaces/istio-gateways/pods"


def drained_in(text):
    return {each["name"]: each.get("drained") for each in yaml.safe_load(text)["config"]["fedmesh:clusters"]}


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_only_the_clusters_own_entry_of_the_stack_file_changes(name):
    text = drain.with_drained(STACK, name, True)
    assert drained_in(text)[name] is True
    changed = [line for line in text.splitlines() if line not in STACK.splitlines()]
    assert len(changed) == 1
    assert drain.with_drained(text, name, True) == text
    back = drain.with_drained(text, name, False)
    assert not drained_in(back)[name]
    assert {key: value for key, value in drained_in(back).items() if value} == {}


def test_a_file_that_ends_with_the_entry_is_still_a_stack_file():
    text = "config:\n  fedmesh:clusters:\n  - name: a\n  - name: b"
    assert drained_in(drain.with_drained(text, "b", True)) == {"a": None, "b": True}


def test_a_cluster_that_the_file_does_not_list_is_not_drained_in_silence():
    with pytest.raises(DrillError, match="lists no cluster d"):
        drain.with_drained(STACK, "d", True)


class Istiod(FakeApi):
    """A cluster whose istiod reads the peers whose remote secrets are in force."""

    def __init__(self, *peers, answers=None):
        super().__init__(
            {
                "/api/v1/pods": [pod("istiod-1", namespace="istio-system", app="istiod")],
                "/api/v1/namespaces": [namespace("shop")],
                "/api/v1/services": [service("shop", "web")],
                SLICES: [slice_of("shop", "web")],
                GATEWAYS: [],
                **(answers or {}),
            },
            run=self._run,
        )
        self.reads = set(peers)
        self.open = {}

    def patch(self, path, body):
        name = path.rpartition("istio-remote-secret-")[2]
        in_force = body["metadata"]["labels"]["istio/multiCluster"] == "true"
        (self.reads.add if in_force else self.reads.discard)(name)
        return body

    def _run(self, _namespace, name, _container, _command, _stdin):
        if name.startswith("istiod"):
            return Output(json.dumps([{"id": each, "syncStatus": "synced"} for each in self.reads]), "", 0)
        hosts = [
            {"name": own, "host_statuses": [{"stats": [{"name": "cx_active", "value": str(count)}]}]}
            for own, count in self.open.items()
        ]
        return Output(json.dumps({"cluster_statuses": hosts}), "", 0)


def namespace(name):
    return {"metadata": {"name": name, "labels": {"istio-injection": "enabled"}}}


def service(space, name):
    return {"metadata": {"namespace": space, "name": name}}


def slice_of(space, name, ready=True):
    labels = {"kubernetes.io/service-name": name}
    return {
        "metadata": {"namespace": space, "labels": labels},
        "endpoints": [{"conditions": {"ready": ready}}],
    }


@pytest.fixture
def mesh(tmp_path, monkeypatch):
    """Three clusters, their stack file, and a way to run the command on them."""
    (tmp_path / "Pulumi.s.yaml").write_text(STACK)
    apis = {"a": Istiod("b", "c"), "b": Istiod("a", "c"), "c": Istiod("a", "b")}
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(drain, "TOLD", 0.0)

    class Mesh:
        file = tmp_path / "Pulumi.s.yaml"
        members = tuple(Member(name, name, name, None, "") for name in apis)

        def __init__(self):
            self.down: dict[str, str] = {}
            self.said: list[str] = []

        def run(self, name, *, drained=True, force=False, members=None):
            found = Topology("s", members or self.members)
            said = self.said = []
            return drain.drain(found, tmp_path, name, drained=drained, force=force, wait=0.0, say=said.append)

        def connect(self, members):
            up = {m.name: LiveCluster(m, apis[m.name]) for m in members if m.name not in self.down}
            return up, self.down

    made = Mesh()
    made.apis = apis
    monkeypatch.setattr(drain, "connect", made.connect)
    return made


def test_the_others_forget_a_drained_cluster_and_it_keeps_its_own_peers(mesh):
    assert mesh.run("c") == 0
    assert {name: api.reads for name, api in mesh.apis.items()} == {
        "a": {"b"},
        "b": {"a"},
        "c": {"a", "b"},
    }
    assert drained_in(mesh.file.read_text())["c"] is True
    assert mesh.run("c", drained=False) == 0
    assert all(len(api.reads) == 2 for api in mesh.apis.values())


def test_a_cluster_that_serves_something_alone_is_drained_by_force_only(mesh):
    mesh.apis["c"].answers["/api/v1/services"] = [service("shop", "web"), service("shop", "db")]
    mesh.apis["c"].answers[SLICES] = [slice_of("shop", "web"), slice_of("shop", "db")]
    with pytest.raises(DrillError, match=r"db.shop.svc.cluster.local: on c alone"):
        mesh.run("c")
    assert mesh.file.read_text() == STACK
    assert mesh.apis["a"].reads == {"b", "c"}
    assert mesh.run("c", force=True) == 0


def test_endpoints_of_a_drained_cluster_count_for_nobody(mesh):
    for name in ("a", "b"):
        mesh.apis[name].answers[SLICES] = [slice_of("shop", "web", ready=name == "b")]
    rest = tuple(Member(m.name, m.name, m.name, None, "", drained=m.name == "b") for m in mesh.members)
    with pytest.raises(DrillError, match="on c alone"):
        mesh.run("c", members=rest)


def test_the_last_cluster_that_takes_calls_is_not_drained(mesh):
    rest = tuple(Member(m.name, m.name, m.name, None, "", drained=m.name != "c") for m in mesh.members)
    with pytest.raises(DrillError, match="the last cluster"):
        mesh.run("c", members=rest)


def test_a_peer_that_does_not_answer_or_follow_is_named_and_fails_the_command(mesh, monkeypatch):
    mesh.down = {"a": "no route"}
    assert mesh.run("c") == 1
    assert "not done, `pulumi up` will: a: no route" in mesh.said
    mesh.down = {}
    monkeypatch.setattr(mesh.apis["b"], "patch", lambda _path, body: body)
    mesh.apis["b"].reads.add("c")
    assert mesh.run("c") == 1
    assert any("b: its istiod did not follow" in line for line in mesh.said)
    refused = KubeError("forbidden", 403)
    monkeypatch.setattr(mesh.apis["b"], "patch", lambda _path, _body: (_ for _ in ()).throw(refused))
    assert mesh.run("c") == 1


def test_connections_that_are_left_are_named_and_those_of_istiods_are_not_counted(mesh):
    mesh.apis["c"].answers[GATEWAYS] = [pod("gateway", namespace="istio-gateways")]
    mesh.apis["c"].open = {
        "outbound_.5432_._.db.shop.svc.cluster.local": 2,
        "outbound_.8001_._.remote-access.istio-remote-access.svc.cluster.local": 2,
        "BlackHoleCluster": 1,
    }
    assert mesh.run("c") == 0
    assert any("2 to db.shop.svc.cluster.local:5432" in line and "8001" not in line for line in mesh.said)
    mesh.apis["c"].open = {}
    mesh.run("c")
    assert "c: no calls of the other clusters are left" in mesh.said


def test_a_gateway_that_cannot_be_asked_hides_nothing_that_is_left_to_do(mesh, monkeypatch):
    mesh.apis["c"].answers[GATEWAYS] = [pod("gateway", namespace="istio-gateways")]
    mesh.down = {"a": "no route"}
    made = tuple(Member(m.name, m.name, m.name, None, "", created=True) for m in mesh.members)
    monkeypatch.setattr(mesh.apis["c"], "run", lambda *_: Output("", "it ended", 1))
    said: list[str] = []
    found = Topology("s", made, edge="route53")
    assert drain.drain(found, mesh.file.parent, "c", drained=True, force=True, wait=0.0, say=said.append) == 1
    for part in ("is not known: pilot-agent in", "the edge (route53)", "will: a: no route"):
        assert any(part in line for line in said)


def test_a_gateway_that_answers_at_the_second_look_is_silent(mesh, monkeypatch):
    answers = [Output("", "it starts", 1), Output(json.dumps({"cluster_statuses": []}), "", 0)]
    mesh.apis["c"].answers[GATEWAYS] = [pod("gateway", namespace="istio-gateways")]
    monkeypatch.setattr(mesh.apis["c"], "run", lambda *_: answers.pop(0))
    cluster = LiveCluster(mesh.members[2], mesh.apis["c"])
    assert drain.await_silence(cluster, 60.0) == "c: no calls of the other clusters are left"


def test_the_edge_is_left_to_pulumi_up(mesh):
    made = tuple(Member(m.name, m.name, m.name, None, "", created=True) for m in mesh.members)
    topology_ = Topology("s", made, edge="route53")
    said: list[str] = []
    drain.drain(topology_, mesh.file.parent, "c", drained=True, force=False, wait=0.0, say=said.append)
    assert "the edge (route53) sends users to c until `pulumi up`" in said


def test_the_command_and_the_program_set_the_same_label():
    assert (topology.ROTATION, topology.DRAINED) == (remote_secrets.ROTATION, remote_secrets.DRAINED)
