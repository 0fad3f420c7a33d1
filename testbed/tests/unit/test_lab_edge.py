"""The edges outside the lab's clusters: what they prefer, repeat and publish, and what the app executed twice."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmesh.drill.load import Rate
from testbed.lab import config, drill_app, edge
from testbed.lab.drill_app import Executions
from testbed.lab.edge import Gateway, Names
from testbed.lab.paths import State

GATEWAYS = [
    Gateway("cluster-1", "10.90.0.96"),
    Gateway("cluster-2", "10.90.0.112"),
    Gateway("cluster-3", "10.90.0.128"),
]


def clusters() -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in edge.envoy(GATEWAYS)["static_resources"]["clusters"]}


@pytest.mark.parametrize("name", ["accelerator", "origin-failover"])
def test_an_edge_prefers_the_clusters_in_the_owners_order(name: str) -> None:
    placed = {
        place["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["address"]: place["priority"]
        for place in clusters()[name]["load_assignment"]["endpoints"]
    }
    assert placed == {gateway.address: number for number, gateway in enumerate(GATEWAYS)}


def test_the_accelerator_checks_what_stands_behind_the_gateway_as_the_programs_nlbs_do() -> None:
    (check,) = clusters()["accelerator"]["health_checks"]
    assert check["http_health_check"] == {"path": "/", "host": edge.HOST}
    assert (check["interval"], check["timeout"], check["unhealthy_threshold"]) == ("5s", "4s", 2)
    assert edge.DETECTION["accelerator"] == 18


def test_origins_are_not_checked_and_only_reads_are_repeated_once_for_each_other_cluster() -> None:
    assert "health_checks" not in clusters()["origin-failover"]
    listener = edge.envoy(GATEWAYS)["static_resources"]["listeners"][1]
    requests = listener["filter_chains"][0]["filters"][0]["typed_config"]
    repeated, others = requests["route_config"]["virtual_hosts"][0]["routes"]
    assert repeated["match"]["headers"][0]["string_match"]["safe_regex"]["regex"] == "GET|HEAD|OPTIONS"
    assert repeated["route"]["retry_policy"]["num_retries"] == 2
    assert "retry_policy" not in others["route"]
    (limits,) = clusters()["origin-failover"]["circuit_breakers"]["thresholds"]
    assert limits["max_retries"] >= 1000


def test_a_name_moves_after_two_failed_checks_and_back_after_two_good_ones(tmp_path: Path) -> None:
    dead: set[str] = set()
    names = Names(tmp_path / "hosts", GATEWAYS[:2], lambda address, _timeout: address not in dead)
    published: list[str] = []
    for change in ({"10.90.0.96"}, None, None, set[str](), None, None):
        if change is not None:
            dead.clear()
            dead.update(change)
        names.round()
        published.append(names.file.read_text().split()[0])
    first, second = "10.90.0.96", "10.90.0.112"
    assert published == [first, second, second, second, first, first]


def test_without_a_healthy_cluster_the_name_stays_with_the_first(tmp_path: Path) -> None:
    names = Names(tmp_path / "hosts", GATEWAYS[:2], lambda *_: False)
    for _ in range(edge.ROUTE53_THRESHOLD):
        names.round()
    assert names.file.read_text().split()[0] == "10.90.0.96"


def test_a_loads_detection_is_that_of_its_edge() -> None:
    allowed = {load.name: load.may_lose_for for load in drill_app.user_loads()}
    assert allowed["users-origin-failover"] == 0
    assert allowed["users-accelerator"] == edge.DETECTION["accelerator"]
    assert allowed["users-dns"] == edge.DETECTION["dns"]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    folder = State(tmp_path).node("cluster-1", "cluster-1-general") / (
        "root/var/log/pods/helloworld_drill-target-x_u/drill-target"
    )
    folder.mkdir(parents=True)
    yield folder / "0.log"


def test_a_request_that_two_pods_executed_is_counted_also_when_one_of_them_is_gone(
    tmp_path: Path, log: Path
) -> None:
    log.write_text("2026-11-27T08:00:00Z stdout F post-17/1\n2026-11-27T08:00:01Z stdout F post-17/2\n")
    executions = Executions(config.load(), State(tmp_path))
    try:
        executions.take("another")
        log.with_name("1.log").write_text(
            "2026-11-27T08:00:02Z stdout F post-17/2\n2026-11-27T08:00:02Z stdout F post-170/2\n"
        )
        log.unlink()
        assert executions.take("post-17") == {"1": 1, "2": 2}
        assert executions.take("post-17") == {}
    finally:
        executions.close()


def test_a_line_that_is_being_written_counts_once_it_is_whole(tmp_path: Path, log: Path) -> None:
    log.write_text("2026-11-27T08:00:00Z stdout F post-17/1\n2026-11-27T08:00:01Z stdout F pos")
    executions = Executions(config.load(), State(tmp_path))
    try:
        executions.take("another")
        with log.open("a") as more:
            more.write("t-17/2\n")
        assert executions.take("post-17") == {"1": 1, "2": 1}
    finally:
        executions.close()


def test_the_app_stands_behind_both_names_and_the_gateway() -> None:
    made = {(body["kind"], body["metadata"]["name"]): body["spec"] for body in drill_app.objects()}
    for name in (drill_app.NAME, "drill-idempotent"):
        assert made["Service", name]["selector"] == drill_app.TARGET.selector
    assert made["VirtualService", "drill-target"]["hosts"] == [edge.HOST]
    assert ("VirtualService", "drill-target") in made


def test_the_loads_of_users_can_be_ended_and_started_again(tmp_path: Path) -> None:
    vegeta = tmp_path / "vegeta"
    vegeta.write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    vegeta.chmod(0o755)
    stage = object.__new__(drill_app.LabStage)
    stage._machine = machine = drill_app.Machine(tmp_path, tmp_path)
    for _ in range(2):
        machine.fire(drill_app.user_loads()[0], Rate(1, 1.0, 60.0), "tag")
        (process,) = machine._running
        stage.halt()
        assert process.returncode == -signal.SIGKILL
    assert machine._running == []
