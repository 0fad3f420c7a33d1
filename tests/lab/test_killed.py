"""`make lab`, killed with SIGKILL at one point after another, ends well when it is run again. It leaves the lab up."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import conftest
import pytest

from testbed.lab import clusters, config, network, paths
from testbed.lab.paths import State

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1500)]
PROJECT = paths.project()
PATIENCE = 240.0


def journey() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "testbed.lab.journey", "--quiet"]
    return subprocess.Popen(command, cwd=PROJECT, start_new_session=True)


def kubectl(*arguments: str) -> str:
    return str(conftest.kubectl("cluster-1", "--request-timeout=3s", *arguments, check=False))


def a_node_has_its_namespace() -> bool:
    return bool(network.namespaces())


def a_node_runs() -> bool:
    return any(node.running for node in clusters.status(config.load(), State(PROJECT / ".lab")))


def cert_manager_is_being_installed() -> bool:
    return "pending-install" in kubectl("get", "secret", "-n", "cert-manager", "--show-labels")


def a_spire_server_exists() -> bool:
    return "spire-server" in kubectl("get", "statefulset", "-n", "spire", "-o", "name")


def istiod_exists() -> bool:
    return "istiod" in kubectl("get", "deployment", "-n", "istio-system", "-o", "name")


def a_sample_exists() -> bool:
    return "helloworld" in kubectl("get", "namespace", "-o", "name")


POINTS: list[Callable[[], bool]] = [
    a_node_has_its_namespace,
    a_node_runs,
    cert_manager_is_being_installed,
    a_spire_server_exists,
    istiod_exists,
    a_sample_exists,
]


def kill_when(point: Callable[[], bool]) -> None:
    """Starts the journey and kills all its processes once `point` is reached."""
    process = journey()
    deadline = time.monotonic() + PATIENCE
    try:
        while not point():
            assert process.poll() is None, f"the journey ended before {point.__name__}"
            assert time.monotonic() < deadline, f"{point.__name__} was not reached"
            time.sleep(0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(autouse=True, scope="module")
def from_nothing() -> None:
    subprocess.run([sys.executable, "-m", "testbed.lab", "down", "--quiet"], cwd=PROJECT, check=True)


def test_killed_at_six_points_the_journey_ends_well() -> None:
    for point in POINTS:
        kill_when(point)
    assert journey().wait(timeout=900) == 0


def test_what_was_interrupted_has_left_nothing_to_change() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "testbed.lab", "pulumi", "-q", "unchanged"], cwd=PROJECT, check=False
    )
    assert result.returncode == 0


def test_no_lock_and_no_half_installed_release_is_left() -> None:
    assert not list(Path(PROJECT / ".lab" / "state" / ".pulumi" / "locks").rglob("*.json"))
    assert "pending" not in kubectl("get", "secret", "--all-namespaces", "--show-labels")


def test_the_state_has_no_files_that_are_written_in_place() -> None:
    state = PROJECT / ".lab" / "state" / ".pulumi"
    assert (state / "stacks").is_dir()
    assert not list(state.rglob("*.attrs"))
