"""A cluster without power, declared down: `up` changes the other, and catches up when it is back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PROJECT, kubectl, stack_file

from fedmesh.verify.command import examine as verify
from fedmesh.verify.runner import failures
from testbed.lab import config, faults, paths
from testbed.lab.faults import Lever
from testbed.lab.paths import State

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
RULE = "failover"


@pytest.fixture(scope="module")
def change(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """The engine's config with another connect time-out, and cluster-2 down or not."""

    def written(down: bool) -> Path:
        def changed(config: dict[str, Any]) -> None:
            config["fedmesh:clusters"][1]["down"] = down
            config["fedmesh:failover"] = {"connectTimeout": "1100ms"}

        return stack_file(tmp_path_factory.mktemp("config"), "lab", changed)

    return written


def up(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "testbed.lab", "pulumi", "-q", "up", *arguments]
    return subprocess.run(line, cwd=PROJECT, check=False, capture_output=True, text=True)


def time_out(cluster: str) -> str:
    rule = json.loads(kubectl(cluster, "get", "destinationrule", RULE, "-n", "istio-system", "-o", "json"))
    return str(rule["spec"]["trafficPolicy"]["connectionPool"]["tcp"]["connectTimeout"])


@pytest.fixture(scope="class")
def powerless() -> Iterator[None]:
    """cluster-2 without power."""
    lab = config.load()
    lever = Lever(lab, State(PROJECT / ".lab"), paths.cache() / "bin")
    targets = faults.nodes(lab, "cluster-2")
    faults.stop(lever, targets)
    try:
        yield
    finally:
        faults.start(lever, targets)


@pytest.mark.usefixtures("powerless")
class TestDown:
    """What `up` does while it is away."""

    def test_undeclared_it_is_named_before_anything_is_touched(self) -> None:
        done = up()
        assert done.returncode != 0
        assert "fedmesh:clusters[1] in Pulumi.lab.yaml" in done.stdout + done.stderr
        assert "set fedmesh:clusters[1].down" in done.stdout + done.stderr

    def test_declared_down_the_other_cluster_is_changed(self, change: Callable[[bool], Path]) -> None:
        other = str(change(True))
        assert time_out("cluster-1") == "1s"
        done = up("--config-file", other)
        assert done.returncode == 0, done.stdout + done.stderr
        assert time_out("cluster-1") == "1100ms"
        again = up("--config-file", other, "--expect-no-changes")
        assert again.returncode == 0, again.stdout + again.stderr


def test_when_it_is_back_up_catches_up_and_the_mesh_is_whole(
    topology: Any, patient: Any, change: Callable[[bool], Path]
) -> None:
    assert time_out("cluster-2") == "1s"
    done = up("--config-file", str(change(False)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert time_out("cluster-2") == "1100ms"
    done = up()
    assert done.returncode == 0, done.stdout + done.stderr
    assert time_out("cluster-1") == time_out("cluster-2") == "1s"
    again = up("--expect-no-changes")
    assert again.returncode == 0, again.stdout + again.stderr
    patient.wait_until_whole()
    assert failures(verify(topology)) == []
