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
import yaml
from conftest import PROJECT, kubectl_line

from fedmesh.drain import follows
from fedmesh.kube import Json
from fedmesh.stack import load
from fedmesh.verify.command import examine as verify
from fedmesh.verify.runner import failures
from testbed.engine import SALT_KEY
from testbed.lab.stack import LabEngine

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]
ENGINE = LabEngine("lab3", PROJECT)
FIRST, LAST = "cluster-1", "cluster-3"
OTHERS = ("cluster-1", "cluster-2")
URL = "http://helloworld.helloworld:5000/hello"
# One call after the other, with each answer's status and version on a line.
CALLS = f"while true; do curl -s --max-time 5 -w ' %{{http_code}}\\n' {URL} | tr '\\n' ' '; echo; sleep 0.02; done"


@pytest.fixture(scope="session")
def topology() -> Any:
    return load(PROJECT, "lab3")


def engine(*arguments: str) -> float:
    began = time.monotonic()
    line = [sys.executable, "-m", "testbed.lab", "pulumi", "-q", *arguments]
    done = subprocess.run(line, cwd=PROJECT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
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


class Load:
    """Calls from a pod of the first cluster, whose own helloworld is away: the peers answer."""

    def __init__(self, file: Path) -> None:
        self._file = file
        words = ("exec", "-n", "sleep", "deploy/sleep", "-c", "sleep", "--", "sh", "-c", CALLS)
        line = kubectl_line(FIRST, *words)
        with file.open("w") as output:
            self.process = subprocess.Popen(line, stdout=output, stderr=output)

    def answers(self, start: int = 0) -> list[str]:
        """What came since the line `start`: `v1`, `v2`, or a line that is no answer."""
        lines = self._file.read_text().splitlines()[start:-1]
        return [
            line.partition("version: ")[2].partition(",")[0] if line.strip().endswith(" 200") else line
            for line in lines
        ]


@pytest.fixture
def load_(patient: Any, tmp_path: Path) -> Iterator[Load]:
    collection = "/apis/apps/v1/namespaces/helloworld/deployments"
    for item in patient.api(1).items(collection):
        patient.scale(f"{collection}/{item['metadata']['name']}", 0)
    time.sleep(5)
    running = Load(tmp_path / "answers")
    time.sleep(5)
    yield running
    running.process.kill()
    running.process.wait()


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """The stack without the last cluster."""
    ENGINE.prepare()
    document: dict[str, Any] = yaml.safe_load(ENGINE.config_file.read_text())
    assert document[SALT_KEY]
    document["config"]["fedmesh:clusters"].pop()
    file = tmp_path / "Pulumi.lab3.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


def test_a_cluster_is_drained_returns_leaves_and_joins_and_nobody_notices(
    patient: Any, load_: Load, two: Path
) -> None:
    stack = PROJECT / "Pulumi.lab3.yaml"
    before, old = stack.read_text(), pods(patient)
    assert set(load_.answers()) == {"v1", "v2"}, "both peers answer"
    try:
        command("drain", LAST)
        drained = len(load_.answers())
        engine("up")
        engine("unchanged")
        assert Counter(load_.answers(drained + 5)).keys() == {"v2"}, "cluster-2 alone answers"
        assert failures(verify(load(PROJECT, "lab3"))) == []
        command("undrain", LAST)
        engine("up")
        back = len(load_.answers())
        time.sleep(5)
        assert set(load_.answers(back)) == {"v1", "v2"}
        command("drain", LAST)
        engine("up")
    finally:
        stack.write_text(before)
    engine("up", "--config-file", str(two))
    took = engine("up")
    print(f"\n{LAST} joined in {took:.0f} s")
    command("verify", "--wait", "180")
    for name in OTHERS:
        assert follows(patient.clusters[name], LAST, drained=False)
    engine("unchanged")
    lost = [answer for answer in load_.answers() if answer not in ("v1", "v2")]
    assert lost == []
    new = pods(patient)
    assert {name: new.get(name) for name in old} == old, "nothing of the others restarted"
