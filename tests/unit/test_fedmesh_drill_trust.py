"""Drills of trust: new roots, lost volumes, the program run again, and a mesh that must be whole afterwards."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from fedmesh_samples import TARGET, FakeApi, pod

from fedmesh.drill import means as module
from fedmesh.drill import play, trust_faults
from fedmesh.drill.environment import ANY_CLUSTER, Environment
from fedmesh.drill.means import DrillError, Means
from fedmesh.drill.scene import Drill, Scene
from fedmesh.kube import KubeError, Output
from fedmesh.reading import LiveCluster
from fedmesh.topology import Member, Topology

MEMBERS = tuple(Member(f"cluster-{n}", f"td{n}", f"network-{n}", None, "") for n in (1, 2))


ENGINE = Environment(up=lambda stack: ["engine", stack], owns=lambda *_: True)


def means(environment=ENGINE):
    return Means(Topology("blue", MEMBERS), Path("/project"), environment)


def scene(api):
    one, two = (LiveCluster(member, api) for member in MEMBERS)
    return Scene({"cluster-1": one, "cluster-2": two}, client=one, peer=two, means=means(), target=TARGET)


class Changing(FakeApi):
    """Gives the answers of a path one after the other, the last for good."""

    def get(self, path, **_query):
        answers = self.answers[path]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def secret(certificate):
    return {"data": {"tls.crt": certificate}}


def test_a_new_root_is_waited_for():
    api = Changing({trust_faults.ROOT: [secret("old"), KubeError("gone", 404), secret("old"), secret("new")]})
    trust_faults.make_new_root(LiveCluster(MEMBERS[0], api))
    assert api.deleted == [trust_faults.ROOT]


def test_an_api_server_that_refuses_is_not_taken_for_a_secret_that_is_gone():
    api = Changing({trust_faults.ROOT: [secret("old"), KubeError("forbidden", 403)]})
    with pytest.raises(KubeError, match="forbidden"):
        trust_faults.make_new_root(LiveCluster(MEMBERS[0], api))


def prepared_by(root):
    answer = {"prepared_authority": {"authority_id": "next", trust_faults.SUBJECT: root}}
    server = pod("spire-server-0", namespace="spire", app="spire-server")
    server["spec"]["containers"] = [{"name": "spire-server"}]

    def run(*_):
        return Output(json.dumps(answer), "", 0)

    return LiveCluster(MEMBERS[1], FakeApi({"/api/v1/pods": [server]}, run))


def test_only_an_authority_under_the_new_root_is_activated():
    assert trust_faults._prepared(prepared_by("new"), "old")["authority_id"] == "next"
    assert trust_faults._prepared(prepared_by("old"), "old") is None


def test_a_lost_volume_is_back_when_both_volume_and_server_are_new():
    gone = KubeError("not found", 404)
    server = f"{trust_faults.SPIRE_PODS}/spire-server-0"
    api = Changing(
        {
            trust_faults.SPIRE_CLAIM: [{"metadata": {"uid": uid}} for uid in ("1", "1", "2")],
            server: [gone, pod("spire-server-0", namespace="spire")],
        }
    )
    stage = scene(api)
    trust_faults.lose_volume(stage)
    assert api.deleted == [trust_faults.SPIRE_CLAIM, server]
    assert "ready on an empty volume" in stage.remarks[0]


# The program, and what is found afterwards

PULUMI = ["pulumi", "up", "--stack", "blue", "--yes", "--skip-preview", "--suppress-outputs"]


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        (ENGINE, ["engine", "blue"]),
        (replace(ENGINE, owns=lambda *_: False), PULUMI),
        (ANY_CLUSTER, PULUMI),
    ],
)
def test_the_program_is_run_by_the_engine_of_the_stack(monkeypatch, environment, line):
    ran = []

    def run(command, **kind):
        ran.append((command, kind["cwd"]))
        return module.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", run)
    assert means(environment).up() < 5
    assert ran == [(line, Path("/project"))]


def test_a_run_that_fails_is_an_error_with_its_end(monkeypatch):
    failed = module.subprocess.CompletedProcess([], 1, "long story", "the cause")
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(DrillError, match="the cause"):
        means().up()


def test_a_mesh_that_does_not_heal_is_a_note_and_not_a_remark(monkeypatch):
    stage = scene(FakeApi())
    monkeypatch.setattr(Means, "complaints", lambda _: ["cluster-1: x: y"])
    assert play._wait_until_healed(stage, 0, 60) == ["not healed 60 s after the end: cluster-1: x: y"]
    assert stage.remarks == []


def test_a_mesh_that_is_whole_again_says_when(monkeypatch):
    stage, answers = scene(FakeApi()), [["cluster-1: x: y"], []]
    monkeypatch.setattr(play, "SETTLE", 0)
    monkeypatch.setattr(Means, "complaints", lambda _: answers.pop(0))
    assert play._wait_until_healed(stage, play.time.time(), 60) == []
    assert stage.remarks == ["healed 0 s after the end of the fault"]


def test_what_the_situation_alone_brings_is_not_said_of_the_fault(monkeypatch):
    pods = {f"/api/v1/namespaces/{play.SERVER}/pods": []}
    stage, answers = scene(FakeApi(pods)), [["the situation's"], ["the situation's", "the fault's"]]
    monkeypatch.setattr(play, "SETTLE", 0)
    monkeypatch.setattr(play, "LAUNCH", 0)
    monkeypatch.setattr(Means, "complaints", lambda _: answers.pop(0))
    fault = Drill(0, "odd", "odd", inject=lambda _: None, prepare=lambda _: None, degrades=True)
    play.play(fault, stage, [], play.Pace(1, 0, 0, 0, 0), lambda _: None)
    assert stage.remarks == ["during the fault: the fault's"]


def test_one_value_from_the_command_line_leaves_the_others_of_its_section(tmp_path, monkeypatch):
    (tmp_path / "Pulumi.blue.yaml").write_text(
        "config:\n  fedmesh:istio: {plainEnvoy: true, trust: aliases}\n"
    )
    given = []

    def run(command, **_):
        given.extend(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    Means(Topology("blue", MEMBERS), tmp_path).up(trust="strict")
    assert given[-4:] == [
        "--config",
        "fedmesh:istio.plainEnvoy=true",
        "--config",
        "fedmesh:istio.trust=strict",
    ]
