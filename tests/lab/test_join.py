"""Three clusters under load: one is drained, comes back, leaves and joins, and no call and no pod is lost elsewhere.

Runs on the lab of three clusters (`make lab CLUSTERS=3`).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from calls import Calls
from conftest import PROJECT, pulumi, stack_file

from fedmesh.drain import follows
from fedmesh.kube import Json
from fedmesh.stack import load
from fedmesh.verify.command import examine as verify
from fedmesh.verify.runner import failures
from testbed.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(2400)]
FIRST, LAST = "cluster-1", "cluster-3"
OTHERS = ("cluster-1", "cluster-2")


@pytest.fixture(scope="session")
def topology() -> Any:
    return load(PROJECT, "lab3")


def up(*arguments: str) -> float:
    """Seconds that `up` takes."""
    began = time.monotonic()
    pulumi("-q", "up", *arguments)
    return time.monotonic() - began


def command(*arguments: str) -> str:
    line = [sys.executable, "-m", "testbed.fedmesh", *arguments, "--stack", "lab3"]
    done = subprocess.run(line, cwd=PROJECT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pods(patient: Any) -> dict[str, int]:
    """The pods of the clusters that stay, and how often their containers were restarted."""
    found: dict[str, int] = {}
    for name in OTHERS:
        for pod in patient.apis[name].items("/api/v1/pods"):
            statuses: list[Json] = [
                *pod["status"].get("containerStatuses", []),
                *pod["status"].get("initContainerStatuses", []),
            ]
            meta = pod["metadata"]
            restarts = sum(status["restartCount"] for status in statuses)
            found[f"{name}/{meta['namespace']}/{meta['name']}"] = restarts
    return found


def faults() -> list[str]:
    """What verify finds wrong, other than that the first cluster's helloworld was taken away by the test."""
    return [
        f"{each.name} on {each.cluster}: {each.detail}"
        for each in failures(verify(load(PROJECT, "lab3")))
        if not (each.cluster == FIRST and each.detail.startswith("no pod of helloworld"))
    ]


@pytest.fixture
def calls(patient: Any, tmp_path: Path) -> Iterator[Calls]:
    """Calls of the first cluster, whose own helloworld is away: the peers answer."""
    collection = "/apis/apps/v1/namespaces/helloworld/deployments"
    for item in patient.api(1).items(collection):
        patient.scale(f"{collection}/{item['metadata']['name']}", 0)
    time.sleep(5)
    running = Calls(FIRST, tmp_path / "answers")
    time.sleep(5)
    yield running
    running.stop()


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """The stack without the last cluster."""
    return stack_file(tmp_path, "lab3", lambda config: config["fedmesh:clusters"].pop())


def test_a_cluster_is_drained_returns_leaves_and_joins_and_nobody_notices(
    patient: Any, calls: Calls, two: Path
) -> None:
    stack = PROJECT / "Pulumi.lab3.yaml"
    before, old = stack.read_text(), pods(patient)
    assert set(calls.answers()) == {"v1", "v2"}, "both peers answer"
    try:
        command("drain", LAST)
        drained = len(calls.answers())
        up()
        pulumi("-q", "unchanged")
        assert Counter(calls.answers(drained + 5)).keys() == {"v2"}, "cluster-2 alone answers"
        assert faults() == []
        command("undrain", LAST)
        up()
        back = len(calls.answers())
        time.sleep(5)
        assert set(calls.answers(back)) == {"v1", "v2"}
        command("drain", LAST)
        up()
    finally:
        stack.write_text(before)
    up("--config-file", str(two))
    took = up()
    print(f"\n{LAST} joined in {took:.0f} s")
    wait_until(lambda: not faults(), 180, lambda: f"verify finds {faults()}", pause=5)
    for name in OTHERS:
        assert follows(patient.clusters[name], LAST, drained=False)
    pulumi("-q", "unchanged")
    assert calls.lost() == []
    new = pods(patient)
    assert {name: new.get(name) for name in old} == old, "nothing of the others restarted"
