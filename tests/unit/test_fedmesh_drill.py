"""What a drill makes of requests, and that it puts back what it took away."""

import base64
import io
import json
import re
import signal
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fedmesh_samples import TARGET, FakeApi, pod
from rich.console import Console

from fedmesh.drill import baseline, command, faults, picture, play, published, report
from fedmesh.drill.analysis import analyse, lost_early, lost_late, percentile, usual_answerer
from fedmesh.drill.command import DrillError, available, catalogue, choose, refuse_unconfirmed
from fedmesh.drill.environment import Environment
from fedmesh.drill.lasting import (
    TIME_IS_UP,
    Connection,
    ConnectionFindings,
    analyse_connections,
    named,
    parse_connections,
    script,
)
from fedmesh.drill.load import Caller, Load, LoadPod, Rate, Running, attack, load_pod, parse_retries, witness
from fedmesh.drill.means import Means
from fedmesh.drill.play import in_use
from fedmesh.drill.report import DrillReport, LastingReport, LoadReport
from fedmesh.drill.samples import ANSWERED_BY, NOBODY, UNKNOWN, Sample, cluster_of, parse
from fedmesh.drill.scene import GOODPUT, Drill, Objective, Scene
from fedmesh.drill.target import find
from fedmesh.drill.undo import Undo
from fedmesh.kube import KubeError
from fedmesh.probe import LABEL, Janitor
from fedmesh.reading import LiveCluster
from fedmesh.topology import Member, Topology

START = 1_795_440_866


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def line(at, *, status=200, latency=0.002, by="cluster-1", error="", body="ok", headers=""):
    """A request as `vegeta encode -to csv` writes it, with Istio's metadata of the endpoint that answered."""
    quoted = '"' + error.replace('"', '""') + '"' if error else ""
    answered = f"X-Fedmesh-Drill-Answered-By: orders;shop;orders;v1;{by}\r\n" if by else ""
    return (
        f"{int((START + at) * 1e9)},{status},{int(latency * 1e9)},0,40,{quoted},{encoded(body) if body else ''},mesh,0,"
        f"GET,http://h/,{encoded(answered + headers)}"
    )


def sample(at, by="cluster-1", status=200, latency=0.002):
    return Sample(at, latency, status, by if status == 200 else NOBODY, "" if status else "timeout")


def taken_over():
    """10 s at home, then 2 lost and the peer for 10 s, then home again; ten requests a second."""
    home = [sample(n / 10) for n in range(100)]
    lost = [sample(10.0, status=503), sample(10.1, status=0, latency=1.0)]
    away = [sample(10.2 + n / 10, by="cluster-2", latency=0.005) for n in range(98)]
    back = [sample(20.5 + n / 10) for n in range(50)]
    return [*home, *lost, *away, *back]


# Requests


def test_requests_are_read_with_the_cluster_that_answered_and_sorted_by_time():
    found = parse([line(0.5, by="cluster-2"), line(0.1, body="whatever the app says")], START)
    assert [(round(s.at, 3), s.by, s.lost) for s in found] == [
        (0.1, "cluster-1", False),
        (0.5, "cluster-2", False),
    ]


def test_a_request_without_an_answer_keeps_its_error():
    (found,) = parse([line(1, status=0, error='Get "http://h/": dial tcp: i/o timeout', body="")], START)
    assert (found.lost, found.by, found.error) == (True, NOBODY, 'Get "http://h/": dial tcp: i/o timeout')


def test_a_refusal_comes_with_the_reason_that_the_proxy_gives():
    (found,) = parse(
        [line(1, status=503, error="503 Service Unavailable", body="no healthy upstream")], START
    )
    assert (found.by, found.error) == (NOBODY, "503 Service Unavailable: no healthy upstream")


@pytest.mark.parametrize("by", ["", "-"])
def test_an_answer_that_names_no_cluster_says_so(by):
    (found,) = parse([line(1, by="")], START)
    assert (found.lost, found.by) == (False, UNKNOWN)
    assert cluster_of(by) == UNKNOWN


def test_a_grpc_call_is_lost_by_its_status_and_not_by_that_of_http():
    refused = line(1, body="", headers="Grpc-Status: 14\r\nGrpc-Message: connection refused\r\n")
    cut_short = line(2, body="")
    good = line(3, body="\0\0\0\0\0")
    found = parse([refused, cut_short, good], START, grpc=True)
    assert [(s.lost, s.error) for s in found] == [
        (True, "grpc-status 14: connection refused"),
        (True, "grpc-status unknown"),
        (False, ""),
    ]
    assert not any(s.lost for s in parse([refused], START))


# Findings


def test_takeover_and_failback_are_measured_from_the_faults_ends():
    found = analyse(taken_over(), 10.0, 20.0)
    assert found.takeover == pytest.approx(0.205)
    assert found.failback == pytest.approx(0.502)
    assert (found.sent, found.lost) == (250, 2)
    assert (found.first_error, found.last_error) == (0.0, pytest.approx(0.1))
    assert found.steady == pytest.approx(1.1)
    assert found.errors == {"HTTP 503": 1, "timeout": 1}


def test_each_phase_has_its_own_figures():
    before, during, after = analyse(taken_over(), 10.0, 20.0).phases
    assert (before.sent, before.lost, before.answered) == (100, 0, {"cluster-1": 100})
    assert (during.sent, during.lost, during.answered) == (100, 2, {"cluster-2": 98})
    assert (after.sent, after.longest) == (50, 0.002)


def test_a_fault_that_nobody_notices_needs_no_takeover():
    found = analyse([sample(n / 10) for n in range(300)], 10.0, 20.0)
    assert (found.takeover, found.failback, found.steady, found.first_error) == (None, None, 0.0, None)


def test_a_load_that_was_spread_has_no_takeover():
    spread = [sample(n / 10, by=f"cluster-{n % 2 + 1}") for n in range(300)]
    found = analyse(spread, 10.0, 20.0)
    assert usual_answerer(spread) is None
    assert (found.takeover, found.failback) == (None, None)


def test_a_load_that_never_got_an_answer_has_no_latencies():
    found = analyse([sample(n, status=503) for n in range(5)], 1.0, 3.0)
    assert found.lost == 5
    assert found.phases[0].p99 is None


def test_what_was_under_way_at_the_cut_is_not_lost_before_it():
    ended, under_way = sample(2.0, status=503), sample(9.9, latency=5.0, status=503)
    assert lost_early([ended, under_way, sample(12.0, status=503)], 10.0) == 1


def test_what_was_under_way_at_the_cut_is_not_lost_late():
    early = [sample(9.8, status=0, latency=5.0), sample(12.9, status=503)]
    late = [sample(15.8, status=503)]
    assert lost_late([*early, *late, sample(14.0)], 10.0, 3.0) == 1
    assert lost_late([sample(2.0, status=503)], 10.0, 3.0) == 1
    assert lost_late(early, 10.0, 0.0) == 2
    assert lost_late([*early, *late, sample(14.0)], 10.0, 3.0, complete=14.0) == 0
    assert lost_late([sample(17.2, status=503)], 10.0, 3.0, complete=14.0) == 1


def test_a_pod_that_is_killed_a_moment_later_loses_what_it_had_then():
    killed = [sample(11.5, status=503), sample(13.1, status=503), sample(14.4, status=503)]
    assert lost_late(killed, 10.0, 3.0) == 0
    assert lost_late([*killed, sample(14.6, status=503)], 10.0, 3.0) == 1
    assert lost_late([sample(15.1, status=503)], 10.0, 3.0) == 1


def test_the_takeover_window_and_the_changes_after_the_fault_are_figures_of_their_own():
    found = analyse(taken_over(), 10.0, 20.0)
    assert (found.window.sent, found.window.lost, found.switches) == (30, 2, 0)
    flapping = [*taken_over(), sample(26.0, by="cluster-2"), sample(27.0)]
    assert analyse(flapping, 10.0, 20.0).switches == 2


def test_percentiles_are_of_the_values_themselves():
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([], 0.5)) == (50.0, 99.0, None)
    assert percentile([7.0], 0.99) == 7.0


# Putting back


def test_what_was_taken_last_is_put_back_first_and_once():
    told, undo = [], Undo()
    undo.push("a", lambda: told.append("a"))
    undo.push("b", lambda: told.append("b"))
    assert undo.run() == []
    assert undo.run() == []
    assert told == ["b", "a"]


def test_one_way_back_that_fails_does_not_bar_the_others():
    told, undo = [], Undo()
    undo.push("a", lambda: told.append("a"))
    undo.push("b", lambda: 1 / 0)
    assert undo.run() == ["b: division by zero"]
    assert told == ["a"]


class Broken(FakeApi):
    """Refuses every change after it noted it."""

    def patch(self, path, body):
        self.created.append((path, body))
        if body["spec"]["replicas"] == 0:
            raise OSError("connection lost")


def scene(api):
    members = [Member(f"cluster-{n}", f"td{n}", f"network-{n}", None, "") for n in (1, 2)]
    one, two = (LiveCluster(member, api) for member in members)
    means = Means(Topology("s", tuple(members)), Path())
    return Scene({"cluster-1": one, "cluster-2": two}, client=one, peer=two, means=means, target=TARGET)


DEPLOYMENTS = "/apis/apps/v1/namespaces/shop/deployments"
STATEFULSETS = "/apis/apps/v1/namespaces/shop/statefulsets"


def workload(replicas, name="orders-v1", app="orders"):
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"replicas": replicas, "template": {"metadata": {"labels": {"app": app, "version": "v1"}}}},
    }


def test_an_app_is_scaled_back_to_what_it_had_even_if_taking_it_away_failed():
    api = Broken({DEPLOYMENTS: [workload(3), workload(5, "other", "other")], STATEFULSETS: []})
    stage = scene(api)
    with pytest.raises(OSError, match="connection lost"):
        faults.scale_app_away(stage)
    assert stage.taken.run() == []
    assert [body["spec"]["replicas"] for _, body in api.created] == [0, 3]


def test_a_broken_app_is_mended_by_removing_the_filter():
    api = FakeApi()
    stage = scene(api)
    faults.break_app(stage)
    ((path, body),) = api.created
    assert body["spec"]["configPatches"][0]["match"]["context"] == "SIDECAR_INBOUND"
    assert body["spec"]["workloadSelector"]["labels"] == TARGET.selector
    stage.taken.run()
    assert api.deleted == [f"{path}/{body['metadata']['name']}"]


def test_killing_nobody_is_an_error_not_a_passed_drill():
    path = "/api/v1/namespaces/shop/pods"
    with pytest.raises(LookupError, match="no ready pod to kill"):
        faults.kill_app(scene(FakeApi({path: []})))


@pytest.mark.parametrize("take", [faults.scale_app_away, faults.calls_go_to_the_peer])
def test_an_app_that_cannot_be_scaled_is_an_error_not_a_passed_drill(take):
    api = FakeApi({DEPLOYMENTS: [workload(5, "other", "other")], STATEFULSETS: []})
    with pytest.raises(LookupError, match=r"no Deployment or StatefulSet of orders.* is on cluster-1"):
        take(scene(api))


def test_a_spire_server_that_is_not_found_is_an_error_not_a_passed_drill():
    api = FakeApi({"/apis/apps/v1/namespaces/spire/statefulsets": []})
    with pytest.raises(LookupError, match="no StatefulSet spire-server is on cluster-1"):
        faults.take_spire_server(scene(api))


def test_killed_pods_get_no_grace():
    path = "/api/v1/namespaces/shop/pods"
    api = FakeApi({path: [pod("orders-v1-x", namespace="shop")]})
    faults.kill_app(scene(api))
    assert api.deleted == [f"{path}/orders-v1-x"]


# Which drills may be played


def test_drills_are_chosen_by_number_or_name():
    assert [fault.name for fault in choose(["4", "app-scaled"])] == ["app-scaled", "gateway"]
    assert [fault.name for fault in choose(["3"])] == ["app-503", "app-hangs"]
    assert choose(["all"]) == [each for each in available() if not each.contained]
    with pytest.raises(DrillError, match="there is no drill 77"):
        choose(["1", "77"])


def test_every_drill_has_a_name_of_its_own():
    names = [*(each.name for each in command.DRILLS), *command.ELSEWHERE]
    assert len(set(names)) == len(names)


PACE = play.Pace(rate=1, timeout=0, before=0, fault=0, after=0)


def a_fault(**kind):
    return Drill(5, "x", "something is taken", lambda _: None, **kind)


def test_a_destructive_drill_outside_the_lab_needs_the_stacks_name():
    fault = a_fault(destructive=True)
    refuse_unconfirmed([fault], contained=True, stack="lab", typed=None)
    refuse_unconfirmed([fault], contained=False, stack="prod", typed="prod")
    for typed in (None, "lab", ""):
        with pytest.raises(DrillError, match="confirm it with --destructive"):
            refuse_unconfirmed([fault], contained=False, stack="prod", typed=typed)


def test_a_drill_of_a_test_environment_is_refused_elsewhere():
    with pytest.raises(DrillError, match="needs a stack of a test environment"):
        refuse_unconfirmed([a_fault(contained=True)], contained=False, stack="prod", typed="prod")


@pytest.mark.parametrize("name", ["9", "peer-cut"])
def test_a_drill_that_only_a_test_environment_has_is_named_as_such(name):
    with pytest.raises(DrillError, match=f"drill {name} needs a test environment"):
        choose([name])


def test_an_environment_adds_its_drills():
    mine = Drill(9, "peer-cut", "the peer is cut off", lambda _: None, contained=True)
    environment = Environment(drills=(mine,))
    assert choose(["9"], environment) == [mine]
    assert mine in choose(["all"], environment)
    assert "peer-cut" in catalogue(environment)
    assert "In a test environment only: 8 users-power" in catalogue()


# Drills that were killed


def test_the_next_drill_removes_what_a_killed_one_left(capsys):
    def left(name):
        return {"metadata": {"name": name, "creationTimestamp": datetime.now(UTC).isoformat()}}

    places = command.collections(["shop"])
    pods, services, _deployments, _rules, routes, filters = places
    api = FakeApi(
        {
            **{place: [] for place in places},
            pods: [left("fedmesh-drill-ab12-mesh")],
            services: [left("orders-documents")],
            routes: KubeError("forbidden", 403),
            filters: [left(faults.BREAKAGE)],
        }
    )
    command.remove_leftovers([scene(api).client], ["shop", "shop"])
    assert api.deleted == [
        f"{pods}/fedmesh-drill-ab12-mesh",
        f"{services}/orders-documents",
        f"{filters}/{faults.BREAKAGE}",
    ]
    assert f"not removed: {routes}: forbidden" in capsys.readouterr().err


def test_a_load_pod_ends_by_itself():
    assert load_pod("r", "vegeta:1", Caller(), injected=True)["spec"]["activeDeadlineSeconds"] <= 7200


def test_an_injected_fault_can_be_found_by_the_next_drill():
    assert LABEL in faults.breakage({}, {})["metadata"]["labels"]


# The load


def test_the_outside_load_has_no_proxy_and_the_inside_one_keeps_retry_counters():
    outside, inside = (
        load_pod("r", "vegeta:1", Caller(), injected=injected)["metadata"] for injected in (False, True)
    )
    assert outside["labels"]["sidecar.istio.io/inject"] == "false"
    assert "sidecar.istio.io/inject" not in inside["labels"]
    assert "upstream_rq_(retry" in inside["annotations"]["sidecar.istio.io/statsInclusionRegexps"]


class Keeping(FakeApi):
    """An API server that keeps what is created; pods are ready at once, and with a proxy where `injected`."""

    def __init__(self, injected=True):
        super().__init__()
        self.injected = injected
        self.down = False

    def create(self, path, body):
        super().create(path, body)
        name = f"{path}/{body['metadata']['name']}"
        if name in self.answers:
            raise KubeError("it exists", 409)
        containers = [{"name": "istio-proxy"}] if self.injected else []
        conditions = [{"type": "Ready", "status": "True"}]
        spec = {**body["spec"], "initContainers": containers}
        self.answers[name] = {**body, "spec": spec, "status": {"conditions": conditions}}
        return body

    def get(self, path, **query):
        if path not in self.answers:
            raise KubeError("not found", 404)
        return super().get(path, **query)

    def delete(self, path, **query):
        if self.down:
            raise KubeError("does not answer")
        super().delete(path, **query)
        self.answers.pop(path, None)


def test_a_load_pod_that_is_not_usable_leaves_nothing_for_the_next_drill():
    api, janitor = Keeping(injected=False), Janitor()
    for _ in range(2):
        with pytest.raises(KubeError, match="has no sidecar"):
            LoadPod.start(janitor, scene(api).client, "vegeta:1", Caller(), injected=True)
    assert api.answers == {}


def test_a_load_pod_outside_the_mesh_leaves_the_answers_of_the_one_inside_named():
    api, janitor = Keeping(), Janitor()
    inside, outside = (
        LoadPod.start(janitor, scene(api).client, "vegeta:1", Caller(), injected=injected)
        for injected in (True, False)
    )
    outside.remove()
    assert any("envoyfilters" in path for path in api.answers)
    inside.remove()
    assert api.answers == {}


class Users:
    """A stage whose users' loads are ended."""

    def __init__(self):
        self.halted = 0
        self.target, self.loads = TARGET, ()

    def halt(self):
        self.halted += 1


def a_crew(api, loads=(), stage=None):
    stack = scene(api)
    target = stage.target if stage else TARGET
    return command.Crew(stack.clusters, stack.means, OPTIONS, Janitor(), Caller(), target, loads, stage)


OPTIONS = command.Options(
    names=(),
    target="shop/orders",
    protocol="http",
    method="GET",
    path="/",
    caller=None,
    client=None,
    pace=PACE,
    image="vegeta:1",
    destructive=None,
    baseline=False,
    json=False,
    html=None,
    output=None,
    docs=None,
    summary=None,
)


def test_the_loads_of_a_failed_drill_are_ended_before_the_next_one(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    api, users = Keeping(), Users()
    crew = a_crew(api, [Load("mesh", "GET", "http://h/")], users)
    (first,) = crew.loads(a_fault(), scene(api))
    assert crew.loads(a_fault(), scene(api))[0].source is first.source
    crew.halt()
    assert (api.answers, users.halted) == ({}, 1)
    (second,) = crew.loads(a_fault(), scene(api))
    assert second.source is not first.source


def test_no_drill_starts_beside_loads_that_could_not_be_ended(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    api = Keeping()
    crew = a_crew(api, [Load("mesh", "GET", "http://h/")])
    crew.loads(a_fault(), scene(api))
    api.down = True
    crew.halt()
    with pytest.raises(KubeError, match="does not answer"):
        crew.loads(a_fault(), scene(api))
    api.down = False
    assert crew.loads(a_fault(), scene(api))
    assert len(api.answers) == 2


@pytest.mark.parametrize(("contained", "wanted"), [(True, ["cluster-1-node"]), (False, [])])
def test_load_pods_prefer_the_nodes_that_a_test_environment_names(monkeypatch, contained, wanted):
    monkeypatch.setattr("time.sleep", lambda _: None)
    api = Keeping()
    crew = a_crew(api, [Load("mesh", "GET", "http://h/")])
    environment = Environment(owns=lambda *_: contained, load_nodes=lambda name: [f"{name}-node"])
    crew.means = replace(crew.means, environment=environment)
    crew.loads(a_fault(), scene(api))
    (body,) = [body for path, body in api.created if path.endswith("pods")]
    affinity = body["spec"].get("affinity", {}).get("nodeAffinity", {})
    # Elsewhere the pod must run as well.
    assert set(affinity) <= {"preferredDuringSchedulingIgnoredDuringExecution"}
    terms = [term for terms in affinity.values() for term in terms]
    assert [field["values"] for term in terms for field in term["preference"]["matchFields"]] == [
        [name] for name in wanted
    ]


@pytest.mark.parametrize("protocol", ["tcp", "websocket"])
def test_connections_that_last_have_no_answers_to_compare(monkeypatch, protocol):
    monkeypatch.setattr("time.sleep", lambda _: None)
    target = replace(TARGET, protocol=protocol)
    crew = a_crew(Keeping(), (*command.own_loads(target), *baseline.loads(target)))
    crew.target = target
    with pytest.raises(LookupError, match=f"connections of {protocol} have none"):
        crew.loads(a_fault(objective=GOODPUT), scene(crew.clusters["cluster-1"].api))


def test_calls_are_compared_with_those_of_the_documents(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    crew = a_crew(Keeping(), (*command.own_loads(TARGET), *baseline.loads(TARGET)))
    compared = crew.loads(a_fault(objective=GOODPUT), scene(crew.clusters["cluster-1"].api))
    assert [each.load.name for each in compared] == ["mesh", report.COMPARISON]


def test_a_drill_that_fails_halts_its_loads(monkeypatch):
    api, halted = FakeApi(), []
    crew = a_crew(api)
    monkeypatch.setattr(command, "every_cluster", lambda *_: crew.clusters)
    monkeypatch.setattr(command.Crew, "gather", lambda *_: crew)
    monkeypatch.setattr(command, "wait_until_ready", lambda *_: None)
    monkeypatch.setattr(command.Crew, "loads", lambda *_: [])
    monkeypatch.setattr(command.Crew, "halt", lambda _: halted.append(True))
    monkeypatch.setattr(command, "play", lambda *_, **__: (_ for _ in ()).throw(KubeError("no answer")))
    with pytest.raises(DrillError, match=r"drill 1 .*no answer; drill 2 .*no answer"):
        command.drill(crew.means.topology, Path(), replace(OPTIONS, names=("1", "2")))
    assert len(halted) == 2


def test_retries_are_read_by_upstream_cluster():
    stats = "cluster.outbound|5000||h.svc;.upstream_rq_retry: 3\ncluster.x.upstream_rq_retry_success: 2\n"
    assert parse_retries(stats) == {"outbound|5000||h.svc": 3}


def set_ups(kind, retries=None, target=TARGET):
    """The specs of the two set-ups of Istio's documents, in the order of SET_UPS."""
    return [body["spec"] for _, body in baseline.objects(target, retries) if body["kind"] == kind]


def test_the_multi_primary_set_up_inherits_none_of_the_meshs_failover():
    policy = set_ups("DestinationRule")[0]["trafficPolicy"]
    # a block that is left out would come from meshConfig.defaultTrafficPolicy, or from its localityLbSetting
    assert policy["outlierDetection"]["consecutive5xxErrors"] == 0
    assert policy["outlierDetection"]["consecutiveGatewayErrors"] == 0
    assert policy["loadBalancer"]["localityLbSetting"] == {"enabled": False}
    assert policy["connectionPool"]["tcp"]["connectTimeout"] == "10s"


def test_the_set_ups_of_istios_documents_have_host_names_of_their_own_for_the_same_pods():
    rules, routes = set_ups("DestinationRule"), set_ups("VirtualService")
    assert [each["hosts"] for each in routes] == [[each["host"]] for each in rules]
    assert all(each["selector"] == TARGET.selector for each in set_ups("Service"))
    assert len({rule["host"] for rule in rules} | {TARGET.host}) == 3
    assert {load.upstream for load in baseline.loads(TARGET)} == {
        f"outbound|{TARGET.port}||{rule['host']}" for rule in rules
    }


def test_only_the_failover_task_has_the_retries_of_the_owner():
    owners = {"attempts": 5, "retryOn": "reset"}
    assert [each["http"][0]["retries"] for each in set_ups("VirtualService", owners)] == [
        baseline.RETRIES,
        owners,
    ]


def test_connections_that_last_are_compared_with_connections_that_last():
    tcp = replace(TARGET, protocol="tcp")
    assert set_ups("VirtualService", target=tcp) == []
    assert all(load.lasting and load.url.startswith("tcp://") for load in baseline.loads(tcp))


def test_requests_are_told_apart_by_their_tag_and_their_number():
    load = Load("post", "POST", "http://orders.shop:8080/", method="POST")
    line = attack(load, Rate(40, 5.0, 45.0), "post-17", "/data/post.bin")
    assert (
        "echo 'POST http://orders.shop:8080/' | vegeta attack -name=post-17 -rate=40/1s -duration=45s" in line
    )


def test_a_grpc_call_is_http2_with_an_empty_message():
    load = Load("grpc", "gRPC", "http://orders.shop:8081/shop.Orders/Get", "grpc", "POST")
    line = attack(load, Rate(40, 5.0, 45.0), "grpc-17", "/data/grpc.bin")
    assert "printf '\\0\\0\\0\\0\\0' | vegeta attack" in line
    assert "-h2c" in line
    assert "-header='content-type: application/grpc'" in line


def test_the_callers_proxies_name_the_endpoint_that_answered_and_nobody_elses_do():
    spec = witness()["spec"]
    assert spec["workloadSelector"]["labels"] == {
        "app": load_pod("r", "i", Caller(), injected=True)["metadata"]["labels"]["app"]
    }
    header = spec["configPatches"][0]["patch"]["value"]["response_headers_to_add"][0]["header"]
    assert header["key"] == ANSWERED_BY


# The target


ORDERS = "/api/v1/namespaces/shop/services/orders"


def test_a_target_is_any_service_by_default_at_its_first_port():
    ports = [{"port": 80, "targetPort": "http"}, {"port": 8443}]
    cluster = scene(FakeApi({ORDERS: {"spec": {"selector": {"app": "orders"}, "ports": ports}}})).client
    found = find(cluster, "shop/orders", "http", "PUT", "/x")
    assert (found.url, found.target_port) == ("http://orders.shop.svc.cluster.local:80/x", "http")
    assert (found.method, found.selector) == ("PUT", {"app": "orders"})
    assert (
        find(cluster, "shop/orders:8443", "tcp", "GET", "/").url == "tcp://orders.shop.svc.cluster.local:8443"
    )
    assert find(cluster, "shop/orders", "grpc", "GET", "/shop.Orders/Get").method == "POST"


@pytest.mark.parametrize("text", ["orders", "shop/", "shop/orders:http", "/orders"])
def test_a_target_without_namespace_or_with_a_name_for_its_port_is_refused(text):
    with pytest.raises(LookupError, match="not of the form NAMESPACE/SERVICE"):
        find(scene(FakeApi()).client, text, "http", "GET", "/")


@pytest.mark.parametrize(
    ("spec", "lacks"),
    [
        ({"selector": {"app": "orders"}, "ports": [{"port": 80}]}, "no port 81"),
        ({"ports": [{"port": 81}]}, "no selector"),
    ],
)
def test_a_target_that_cannot_be_called_is_named(spec, lacks):
    with pytest.raises(LookupError, match=lacks):
        find(scene(FakeApi({ORDERS: {"spec": spec}})).client, "shop/orders:81", "http", "GET", "/")


class Answers:
    """A source of load whose calls some clusters answer."""

    def __init__(self, *by):
        self.by = by

    def fire(self, load, rate, tag):
        pass

    def collect(self, _load, _origin):
        return [sample(n, by=name) for n, name in enumerate(self.by)]

    def connections(self, _load, _origin):
        nothing = Connection(0, 2, 0, "nobody", 7)
        return [nothing, nothing, *(Connection(0, 2, 9, name, TIME_IS_UP) for name in self.by)]

    def clock_ahead(self):
        return 0.0

    def retries(self):
        return {}


def test_the_peer_is_the_cluster_that_is_in_use(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    stage = scene(FakeApi())
    third = LiveCluster(Member("cluster-3", "td3", "network-3", None, ""), FakeApi())
    stage.clusters["cluster-3"] = third
    load = Load("mesh", "GET", "http://h/")
    assert in_use(stage, Running(load, Answers("cluster-2", "cluster-3", "cluster-3"))).peer is third
    with pytest.raises(LookupError, match="answered by cluster-1, not by cluster-2 or cluster-3"):
        in_use(stage, Running(load, Answers("cluster-1")))


def test_the_peer_in_use_is_found_by_connections_where_there_are_no_calls(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    stage = scene(FakeApi())
    load = Load("mesh", "TCP", "tcp://h:1", "tcp", lasting=True)
    assert in_use(stage, Running(load, Answers("cluster-2"))).peer.name == "cluster-2"
    with pytest.raises(LookupError, match="answered by nobody, not by cluster-2"):
        in_use(stage, Running(load, Answers()))


def test_a_drill_of_connections_alone_finds_the_peer_in_use(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    stage = scene(FakeApi())
    load = Load("mesh", "TCP", "tcp://h:1", "tcp", lasting=True)
    found = play.play(
        a_fault(in_use=True), stage, [Running(load, Answers("cluster-2"))], PACE, lambda _: None
    )
    assert (found.peer, [each.name for each in found.lasting]) == ("cluster-2", ["mesh"])


@pytest.mark.parametrize("when", ["situation", "taken"])
def test_a_drill_whose_changes_are_not_undone_has_failed(monkeypatch, when):
    monkeypatch.setattr("time.sleep", lambda _: None)
    stage, said = scene(FakeApi()), []
    getattr(stage, when).push("scale it back", lambda: 1 / 0)
    found = play.play(a_fault(), stage, [], PACE, said.append)
    assert report.missed(found) == ["not undone: scale it back: division by zero"]
    assert report.missed(found)[0] in said


def test_the_situation_is_undone_when_ctrl_c_or_a_closed_pipe_meets_the_undo_of_the_fault(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    stage, undone = scene(FakeApi()), []
    stage.situation.push("situation", lambda: undone.append("situation"))

    def fail(_scene):
        stage.taken.push("fault", lambda: (signal.raise_signal(signal.SIGINT), 1 / 0))
        raise KubeError("no answer")

    def say(text):
        if text.startswith("not undone"):
            raise BrokenPipeError

    with pytest.raises(KeyboardInterrupt):
        play.play(replace(a_fault(), inject=fail), stage, [], PACE, say)
    assert undone == ["situation"]


def test_a_drill_that_leaves_nobody_with_two_clusters_needs_three():
    mine = Drill(9, "peer-cut", "the peer is cut off", lambda _: None, contained=True, clusters=3)
    environment = Environment(drills=(mine,))
    assert choose(["9"], environment, 3) == [mine]
    assert mine not in choose(["all"], environment, 2)
    with pytest.raises(DrillError, match="needs 3 clusters"):
        choose(["9"], environment, 2)


# Connections that last


def test_a_connection_that_ends_before_its_time_is_broken():
    lines = [
        f"{START}.0,{START + 12}.5,56,200,900,orders;shop;orders;v1;cluster-1",
        f"{START + 13},{START + 13}.1,56,503,0,-",
        f"{START + 14},{START + 40},28,200,700,orders;shop;orders;v1;cluster-2",
        f"{START}.2,{START + 40},28,200,1800,orders;shop;orders;v1;cluster-2",
        "curl: no such option",
    ]
    found = analyse_connections(parse_connections(lines, START), 10.0, 40.0)
    assert (found.opened, found.broken, found.hung, found.refused) == (3, 1, 0, 1)
    assert (found.last_break, found.restored) == (2.5, 4.0)
    assert found.answered == {"cluster-2": 2}


def test_a_tcp_connection_has_the_cluster_that_its_proxy_logged():
    kept = [Connection(0.1, 40.0, 9, UNKNOWN, 28), Connection(20.0, 40.0, 9, UNKNOWN, 28)]
    log = [
        f"fedmesh-drill {START + 0.2} outbound|8082||h; orders;shop;orders;;cluster-1",
        f"fedmesh-drill {START + 20.1} outbound|9||other orders;shop;orders;;cluster-3",
        f"fedmesh-drill {START + 20.1} outbound|8082||h ;;;;cluster-2",
        "2026-11-27T08:00:00Z info something else",
    ]
    assert [each.by for each in named(kept, log, "outbound|8082||h", START)] == ["cluster-1", "cluster-2"]
    assert named(kept, [], "outbound|8082||h", START) == kept


def test_a_connection_that_ended_for_silence_hung():
    lines = [f"{START},{START + 18},28,200,400,-", f"{START + 18},{START + 40},28,200,400,-"]
    found = analyse_connections(parse_connections(lines, START), 10.0, 40.0)
    assert (found.broken, found.hung) == (1, 1)
    load = Load("x", "x", "http://h:1/x", lasting=True, silence=3.0)
    assert "--speed-time 3" in script(load, 45.0, "/data/x.csv")


def test_connections_that_all_last_have_no_break():
    lines = [f"{START},{START + 40},28,000,1800,"]
    found = analyse_connections(parse_connections(lines, START), 10.0, 40.0)
    assert (found.opened, found.broken, found.last_break, found.restored) == (1, 0, None, None)


@pytest.mark.parametrize(
    ("protocol", "part"),
    [
        ("tcp", "gopher://h:1"),
        ("websocket", "Upgrade: websocket"),
        ("grpc", "--http2-prior-knowledge"),
        ("http", "http://h"),
    ],
)
def test_each_protocol_has_its_kind_of_connection(protocol, part):
    url = "tcp://h:1" if protocol == "tcp" else "http://h:1/x"
    assert part in script(Load("x", "x", url, protocol, lasting=True), 45.0, "/data/x.csv")


# The report


def drilled(notes=()):
    load = LoadReport("mesh", "From inside <the mesh>", analyse(taken_over(), 10, 20), 7, tuple(taken_over()))
    return DrillReport(
        number=1,
        fault="app-scaled",
        title="the local app is scaled to 0",
        stack="lab",
        client="cluster-1",
        peer="cluster-2",
        at=datetime(2026, 11, 23, tzinfo=UTC),
        rate=10,
        timeout=5,
        start=10.0,
        end=20.0,
        seconds=30.0,
        loads=(load,),
        notes=notes,
    )


def test_what_answers_took_longer_is_named():
    samples = [
        Sample(at=at, latency=0.2 if 10 <= at < 20 else 0.002, status=200, by="cluster-2", error="")
        for at in range(30)
    ]
    load = LoadReport("mesh", "From inside the mesh", analyse(samples, 10, 20), 0, ())
    assert report.slower(load) == (
        "during the fault: answers, From inside the mesh: p50 200 ms instead of 2.0 ms, p99 200 ms instead of 2.0 ms"
    )


def test_the_table_tells_losses_takeover_and_retries():
    console = Console(file=io.StringIO(), width=160)
    report.print_table(console, drilled(notes=("could not be put back: x",)))
    text = console.file.getvalue()
    for part in (
        "2 of 250 lost",
        "7 retried",
        "taken over in 0.2",
        "failed back in 0.50 s",
        "1 x HTTP 503",
    ):
        assert part in text
    assert "could not be put back: x" in text


def test_the_json_has_findings_without_the_single_requests():
    (found,) = json.loads(report.as_json([drilled()]))["drills"]
    assert found["loads"][0]["lost"] == 2
    assert "samples" not in found["loads"][0]
    assert found["at"] == "2026-11-23T00:00:00+00:00"


def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_it_shows():
    text = report.page([drilled()])
    assert not re.search(r"(src|href)=|url\(|<script|@import", text)
    assert "From inside &lt;the mesh&gt;" in text
    assert len(re.findall(r"M[\d.]+ [\d.]+h0", text)) == 248
    assert text.count("l6 6m0-6l-6 6") == 2


def test_a_drill_is_judged_by_its_bar_and_not_by_istios_documents():
    documents = replace(drilled().loads[0], judged=False)
    assert report.missed(replace(drilled(), loads=(documents,))) == []
    assert report.missed(drilled()) == ["mesh: 2 of 250 lost"]
    strict = replace(
        drilled(), objective=Objective(p99=0.004, steady=1.0), notes=("could not be put back: x",)
    )
    assert report.missed(strict) == [
        "could not be put back: x",
        "mesh: 2 of 250 lost",
        "mesh: p99 of 5.0 ms in the takeover, 0.004 s allowed",
        "mesh: steady after 1.1 s, 1 s allowed",
    ]


def test_a_drill_is_judged_by_its_longest_answer_its_takeover_and_its_recovery():
    kept = replace(drilled().loads[0], may_lose_for=0.0, samples=())
    report_ = replace(drilled(), loads=(kept,))
    findings = kept.findings
    assert (findings.takeover, findings.window.longest) != (None, None)
    took, longest = findings.takeover, findings.window.longest
    generous = Objective(longest=longest, takeover=took, recovery=0.0)
    assert report.missed(replace(report_, objective=generous)) == []
    strict = Objective(longest=longest / 2, takeover=took / 2, recovery=-10.0)
    words = " ".join(report.missed(replace(report_, objective=strict)))
    assert "an answer took" in words and "taken over in" in words and "after the fault" in words
    # a fault that takes one pod after the other is complete later
    assert (
        report.missed(replace(report_, objective=Objective(takeover=took / 2), complete=report_.start + took))
        == []
    )


def test_a_load_that_may_lose_what_is_in_flight_is_judged_by_what_it_loses_later():
    excused = replace(drilled().loads[0], may_lose_for=3.0)
    assert report.missed(replace(drilled(), loads=(excused,))) == []
    late = replace(excused, samples=(*excused.samples, sample(14.0, status=503)))
    assert report.missed(replace(drilled(), loads=(late,))) == [
        "mesh: 1 lost later than 3 s after the start of the fault"
    ]


def test_a_request_that_was_executed_twice_is_a_fault():
    twice = replace(drilled().loads[0], may_lose_for=3.0, doubled=2)
    assert report.missed(replace(drilled(), loads=(twice,))) == ["mesh: 2 executed more than once"]
    assert report.missed(replace(drilled(), loads=(replace(twice, repeatable=True),))) == []
    assert "2 executed twice" in report.in_words(twice)


def test_a_request_that_was_executed_twice_is_a_fault_of_calls_that_are_not_judged_by_their_losses_too():
    twice = replace(drilled().loads[0], judged=False, doubled=2)
    assert report.missed(replace(drilled(), loads=(twice,))) == ["mesh: 2 executed more than once"]
    documents = replace(twice, name="documents")
    assert report.missed(replace(drilled(), loads=(documents,))) == []


def test_a_fault_that_nobody_may_notice_excuses_no_loss():
    excused = replace(drilled().loads[0], may_lose_for=3.0)
    lossless = replace(drilled(), loads=(excused,), objective=Objective(lossless=True))
    assert report.missed(lossless) == ["mesh: 2 of 250 lost"]


def lasting(*, name="tcp", opened=8, broken=4, hung=0, last_break=3.0, restored=3.2):
    findings = ConnectionFindings(opened, broken, hung, 0, last_break, restored, {"cluster-2": 4})
    return LastingReport(name, "TCP", findings)


@pytest.mark.parametrize(
    ("objective", "found", "faults"),
    [
        (Objective(), lasting(), []),
        (Objective(kept=True), lasting(), ["tcp: 4 connections ended, which nothing had to end"]),
        (Objective(kept=True), lasting(opened=4, broken=0, last_break=None, restored=None), []),
        (Objective(ended=5.0), lasting(), []),
        (
            Objective(ended=5.0),
            lasting(last_break=6.0, restored=6.2),
            ["tcp: a connection ended 6.0 s after the start of the fault, 5 s allowed"],
        ),
        (
            Objective(ended=5.0),
            lasting(restored=4.5),
            ["tcp: open again 1.5 s after the last end, 1 s allowed"],
        ),
        (Objective(), lasting(hung=2), ["tcp: 2 connections hung without an error"]),
        (Objective(), lasting(restored=None), ["tcp: no connection lasted after 4 had broken"]),
        (Objective(kept=True), lasting(name="documents", hung=4), []),
        (Objective(kept=True), lasting(name="failover-task@cluster-2", hung=4), []),
    ],
)
def test_connections_that_last_are_judged_by_their_ends(objective, found, faults):
    judged = replace(drilled(), loads=(), lasting=(found,), objective=objective)
    assert report.missed(judged) == faults


def overloaded(name, lost, until=20):
    """A load at 10/s of which a share is lost between 10 and `until`."""
    samples = [
        sample(at / 10, status=503 if 100 <= at < until * 10 and at % 10 < lost * 10 else 200)
        for at in range(300)
    ]
    return LoadReport(name, name, analyse(samples, 10, 20), None, tuple(samples), judged=name != "documents")


@pytest.mark.parametrize(
    ("loads", "faults"),
    [
        ([overloaded("mesh", 0.5), overloaded("documents", 0.5)], []),
        ([overloaded("mesh", 0.1), overloaded("documents", 0.5)], []),
        ([overloaded("mesh", 0.5, until=24), overloaded("documents", 0.5, until=24)], []),
        (
            [overloaded("mesh", 0.5), overloaded("documents", 0.4)],
            ["mesh: 5.0 answers per second during the fault, 6.0 as in Istio's documents"],
        ),
        (
            [overloaded("mesh", 0.5, until=28), overloaded("documents", 0.5)],
            [
                "mesh: 14 lost later than 5 s after the end of the fault",
                "mesh: 6.0 answers per second after the fault, 10.0 as in Istio's documents",
            ],
        ),
        (
            [
                overloaded("mesh", 0.5),
                overloaded("documents", 0.5),
                overloaded("mesh@cluster-2", 0.5),
                overloaded("documents@cluster-2", 0.2),
            ],
            ["mesh@cluster-2: 5.0 answers per second during the fault, 8.0 as in Istio's documents"],
        ),
    ],
)
def test_an_overload_is_judged_by_the_answers_of_istios_documents_beside_it(loads, faults):
    judged = replace(drilled(), objective=GOODPUT, loads=tuple(loads))
    assert report.missed(judged) == faults
    told = report.with_goodput(judged).remarks
    assert len(told) == len(loads)
    assert told[0].startswith("answers per second, mesh: 10 before, ")


def test_a_request_that_was_executed_twice_is_a_fault_under_overload_too():
    twice = replace(overloaded("mesh", 0.5), doubled=1)
    assert report.missed(replace(drilled(), objective=GOODPUT, loads=(twice,))) == [
        "mesh: 1 executed more than once"
    ]


def test_the_documents_have_a_row_a_picture_and_what_was_missed_of_every_drill(tmp_path):
    published.publish(tmp_path, [drilled(), replace(drilled(), number=12, fault="clock", title="a clock")])
    text = (tmp_path / "README.md").read_text()
    assert (
        "| 1 | [the local app is scaled to 0](#1-the-local-app-is-scaled-to-0) | 0 lost **missed** |" in text
    )
    assert "## 1. the local app is scaled to 0" in text
    assert "- **missed**: mesh: 2 of 250 lost" in text
    for name in re.findall(r"!\[timeline\]\((.+?)\)", text):
        picture_file = ElementTree.parse(tmp_path / name)  # noqa: S314 (made a moment ago)
        assert picture_file.getroot().tag.endswith("svg")
    assert {file.name for file in tmp_path.iterdir()} == {
        "01-app-scaled.svg",
        "12-clock.svg",
        "README.md",
        "drills.html",
        "drills.json",
    }


def test_the_summary_holds_every_drill_in_words_and_the_timelines_of_the_readme_alone(tmp_path):
    shown = replace(drilled(), number=3, fault="app-hangs", title="the local app does not answer")
    published.summarize(tmp_path, [drilled(), shown])
    text = (tmp_path / "README.md").read_text()
    assert "## 1. the local app is scaled to 0" in text
    assert "## 3. the local app does not answer" in text
    assert re.findall(r"!\[timeline\]\((.+?)\)", text) == ["03-app-hangs.svg"]
    assert not re.findall(r"\]\(drills\.", text)
    assert {file.name for file in tmp_path.iterdir()} == {"README.md", "03-app-hangs.svg"}


def test_users_come_first_in_a_timeline_of_several_loads():
    (inside,) = drilled().loads
    users = replace(inside, name="users-accelerator", title="Users' GET")
    several = replace(drilled(), loads=(inside, users, replace(inside, name="post", title="POST")))
    text = report.timelines(several, published.PICTURED)
    assert 0 < text.index("Users&#39; GET") < text.index("From inside")
    assert "POST" not in text


def test_the_picture_keeps_within_its_canvas():
    samples = [*taken_over(), sample(29.99, latency=99.0), sample(0.0, latency=0.00001)]
    drawn = picture.draw(samples, 10, 20, 30)
    places = [place for dots in drawn.dots for place in dots.places]
    assert all(drawn.left <= x <= drawn.right and drawn.top <= y <= drawn.floor for x, y in places)
    assert all(bar.x + bar.width <= drawn.right + 0.2 and bar.y <= drawn.height for bar in drawn.bars)
    assert dict(drawn.legend)["nobody"] == picture.LOST
