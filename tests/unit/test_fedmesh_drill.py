"""What a drill makes of requests, and that it puts back what it took away."""

import base64
import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fedmesh_samples import FakeApi, pod
from rich.console import Console

from fedmesh.drill import baseline, command, faults, picture, published, report
from fedmesh.drill.analysis import analyse, percentile, usual_answerer
from fedmesh.drill.command import DrillError, available, catalogue, choose, refuse_unconfirmed
from fedmesh.drill.environment import Environment
from fedmesh.drill.load import load_pod, parse_retries
from fedmesh.drill.means import Means
from fedmesh.drill.report import DrillReport, LoadReport
from fedmesh.drill.samples import NOBODY, Sample, parse
from fedmesh.drill.scene import Drill, Objective, Scene
from fedmesh.drill.undo import Undo
from fedmesh.kube import KubeError
from fedmesh.probe import LABEL
from fedmesh.reading import LiveCluster
from fedmesh.topology import Member, Topology

WHO = {"v1": "cluster-1", "v2": "cluster-2"}
START = 1_795_440_866


def line(at, status=200, latency=0.002, version="v1", error=""):
    body = (
        base64.b64encode(f"Hello version: {version}, instance: x\n".encode()).decode()
        if status == 200
        else ""
    )
    quoted = '"' + error.replace('"', '""') + '"' if error else ""
    return (
        f"{int((START + at) * 1e9)},{status},{int(latency * 1e9)},0,40,{quoted},{body},mesh,0,GET,http://h/"
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


def test_requests_are_read_with_their_answerer_and_sorted_by_time():
    found = parse([line(0.5, version="v2"), line(0.1)], START, WHO)
    assert [(round(s.at, 3), s.by, s.lost) for s in found] == [
        (0.1, "cluster-1", False),
        (0.5, "cluster-2", False),
    ]


def test_a_request_without_an_answer_keeps_its_error():
    (found,) = parse([line(1, status=0, error='Get "http://h/": dial tcp: i/o timeout')], START, WHO)
    assert (found.lost, found.by, found.error) == (True, NOBODY, 'Get "http://h/": dial tcp: i/o timeout')


def test_an_unknown_version_answers_under_its_own_name():
    assert parse([line(1, version="v9")], START, WHO)[0].by == "v9"


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
    return Scene({"cluster-1": one, "cluster-2": two}, client=one, peer=two, means=means)


DEPLOYMENTS = "/apis/apps/v1/namespaces/helloworld/deployments"


def deployment(replicas):
    return {
        "metadata": {"name": "helloworld-v1", "namespace": "helloworld"},
        "spec": {"replicas": replicas, "template": {"metadata": {"labels": {"app": "helloworld"}}}},
    }


def test_an_app_is_scaled_back_to_what_it_had_even_if_taking_it_away_failed():
    api = Broken({DEPLOYMENTS: [deployment(3)]})
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
    stage.taken.run()
    assert api.deleted == [f"{path}/{body['metadata']['name']}"]


def test_killing_nobody_is_an_error_not_a_passed_drill():
    path = "/api/v1/namespaces/helloworld/pods"
    with pytest.raises(LookupError, match="no ready pod to kill"):
        faults.kill_app(scene(FakeApi({path: []})))


def test_killed_pods_get_no_grace():
    path = "/api/v1/namespaces/helloworld/pods"
    api = FakeApi({path: [pod("helloworld-v1-x", namespace="helloworld")]})
    faults.kill_app(scene(api))
    assert api.deleted == [f"{path}/helloworld-v1-x"]


# Which drills may be played


def test_drills_are_chosen_by_number_or_name():
    assert [fault.name for fault in choose(["4", "app-scaled"])] == ["app-scaled", "gateway"]
    assert [fault.name for fault in choose(["3"])] == ["app-503", "app-hangs"]
    assert choose(["all"]) == [each for each in available() if not each.contained]
    with pytest.raises(DrillError, match="there is no drill 77"):
        choose(["1", "77"])


def test_every_drill_has_a_name_of_its_own():
    names = [*(each.name for each in command.DRILLS), *command.ELSEWHERE.values()]
    assert len(set(names)) == len(names)


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


@pytest.mark.parametrize("name", ["9", "cluster-cut"])
def test_a_drill_that_only_a_test_environment_has_is_named_as_such(name):
    with pytest.raises(DrillError, match=f"drill {name} needs a test environment"):
        choose([name])


def test_an_environment_adds_its_drills():
    mine = Drill(9, "cluster-cut", "the peer is cut off", lambda _: None, contained=True)
    environment = Environment(drills=(mine,))
    assert choose(["9"], environment) == [mine]
    assert mine in choose(["all"], environment)
    assert "cluster-cut" in catalogue(environment)
    assert "In a test environment only: 8 node" in catalogue()


# Drills that were killed


def test_the_next_drill_removes_what_a_killed_one_left(capsys):
    def left(name):
        return {"metadata": {"name": name, "creationTimestamp": datetime.now(UTC).isoformat()}}

    pods, services, rules, routes, filters = command.COLLECTIONS
    api = FakeApi(
        {
            pods: [left("fedmesh-drill-ab12-mesh")],
            services: [left("helloworld-documents")],
            rules: [],
            routes: KubeError("forbidden", 403),
            filters: [left(faults.BREAKAGE)],
        }
    )
    command.remove_leftovers([scene(api).client])
    assert api.deleted == [
        f"{pods}/fedmesh-drill-ab12-mesh",
        f"{services}/helloworld-documents",
        f"{filters}/{faults.BREAKAGE}",
    ]
    assert f"not removed: {routes}: forbidden" in capsys.readouterr().err


def test_a_load_pod_ends_by_itself():
    assert load_pod("r", "vegeta:1", injected=True)["spec"]["activeDeadlineSeconds"] <= 7200


def test_an_injected_fault_can_be_found_by_the_next_drill():
    assert LABEL in faults.breakage({})["metadata"]["labels"]


# The load


def test_the_outside_load_has_no_proxy_and_the_inside_one_keeps_retry_counters():
    outside, inside = (load_pod("r", "vegeta:1", injected=injected)["metadata"] for injected in (False, True))
    assert outside["labels"]["sidecar.istio.io/inject"] == "false"
    assert "sidecar.istio.io/inject" not in inside["labels"]
    assert "upstream_rq_(retry" in inside["annotations"]["sidecar.istio.io/statsInclusionRegexps"]


def test_retries_are_read_by_upstream_cluster():
    stats = "cluster.outbound|5000||h.svc;.upstream_rq_retry: 3\ncluster.x.upstream_rq_retry_success: 2\n"
    assert parse_retries(stats) == {"outbound|5000||h.svc": 3}


def test_the_baseline_has_a_name_of_its_own_and_none_of_the_meshs_rules():
    specs = {body["kind"]: body["spec"] for _, body in baseline.objects()}
    assert "outlierDetection" not in specs["DestinationRule"]["trafficPolicy"]
    assert specs["VirtualService"]["hosts"] == [specs["DestinationRule"]["host"]]
    assert specs["Service"]["selector"] == {"app": "helloworld"}


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
        "during the fault: answers, from inside the mesh: p50 200 ms instead of 2.0 ms, p99 200 ms instead of 2.0 ms"
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
    documents = replace(drilled().loads[0], name=report.COMPARISON)
    assert report.missed(replace(drilled(), loads=(documents,))) == []
    assert report.missed(drilled()) == ["mesh: 2 of 250 lost"]
    strict = replace(
        drilled(), objective=Objective(p99=0.004, steady=1.0), notes=("could not be put back: x",)
    )
    assert report.missed(strict) == [
        "could not be put back: x",
        "mesh: 2 of 250 lost",
        "mesh: p99 of 5.0 ms during the fault, 0.004 s allowed",
        "mesh: steady after 1.1 s, 1 s allowed",
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
    shown = replace(drilled(), number=10, fault="cluster-stopped", title="the peer loses its power")
    published.summarize(tmp_path, [drilled(), shown])
    text = (tmp_path / "README.md").read_text()
    assert "## 1. the local app is scaled to 0" in text
    assert "## 10. the peer loses its power" in text
    assert re.findall(r"!\[timeline\]\((.+?)\)", text) == ["10-cluster-stopped.svg"]
    assert not re.findall(r"\]\(drills\.", text)
    assert {file.name for file in tmp_path.iterdir()} == {"README.md", "10-cluster-stopped.svg"}


def test_the_picture_keeps_within_its_canvas():
    samples = [*taken_over(), sample(29.99, latency=99.0), sample(0.0, latency=0.00001)]
    drawn = picture.draw(samples, 10, 20, 30)
    places = [place for dots in drawn.dots for place in dots.places]
    assert all(drawn.left <= x <= drawn.right and drawn.top <= y <= drawn.floor for x, y in places)
    assert all(bar.x + bar.width <= drawn.right + 0.2 and bar.y <= drawn.height for bar in drawn.bars)
    assert dict(drawn.legend)["nobody"] == picture.LOST
