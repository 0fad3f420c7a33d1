"""Which nodes a fault is made on, and what the machine is told."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.lab import config, faults, network, pki, vdso
from testbed.lab.config import Lab, LabConfigError
from testbed.lab.faults import Lever
from testbed.lab.paths import State
from testbed.lab.relay import Line


@pytest.fixture
def lab() -> Lab:
    return config.load()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    commands: list[str] = []

    def ip(*words: str) -> None:
        commands.append(" ".join(words))

    def inside(name: str, *words: str) -> int:
        commands.append(f"{name}: {' '.join(words)}")
        return 0

    monkeypatch.setattr(network, "ip", ip)
    monkeypatch.setattr(network, "inside", inside)
    return commands


def lever(lab: Lab) -> Lever:
    return Lever(lab, State(Path("state")), Path("tools"))


def test_a_clusters_name_stands_for_all_its_nodes(lab: Lab) -> None:
    assert faults.nodes(lab, "cluster-2") == list(lab.cluster("cluster-2").nodes)


def test_a_nodes_name_stands_for_that_node(lab: Lab) -> None:
    assert [node.name for node in faults.nodes(lab, "cluster-1-spire")] == ["cluster-1-spire"]


def test_an_unknown_name_is_refused_with_those_there_are(lab: Lab) -> None:
    with pytest.raises(LabConfigError, match=r"cluster-3.*cluster-1, cluster-1-general"):
        faults.nodes(lab, "cluster-3")


def test_a_cut_pulls_the_cables_of_these_nodes_alone_and_healing_puts_them_back(
    lab: Lab, told: list[str]
) -> None:
    targets = faults.nodes(lab, "cluster-2")
    faults.cut(lever(lab), targets)
    faults.plug_in(lever(lab), targets)
    cables = [network.cable(lab, node) for node in targets]
    assert told == [
        *(f"link set {cable} down" for cable in cables),
        *(f"link set {cable} up" for cable in cables),
    ]


def test_every_node_has_a_cable_of_its_own(lab: Lab) -> None:
    cables = [network.cable(lab, node) for _, node in lab.nodes()]
    assert len(set(cables)) == len(cables)


def test_frames_arrive_in_order_after_the_delay_and_not_before() -> None:
    line = Line(delay=0.1, loss=0.0)
    line.take(b"one", now=1.0)
    line.take(b"two", now=1.05)
    assert line.due(now=1.09) == []
    assert line.pause(now=1.09) == pytest.approx(0.01)
    assert line.due(now=1.1) == [b"one"]
    assert line.due(now=1.2) == [b"two"]
    assert line.pause(now=1.2) is None


def test_a_lossy_line_loses_about_its_share() -> None:
    line = Line(delay=0.0, loss=0.2)
    arrived = 0
    for number in range(5000):
        line.take(b"frame", now=number)
        arrived += len(line.due(now=number))
    assert 0.15 < 1 - arrived / 5000 < 0.25


def test_certificates_of_another_lab_yaml_are_not_taken_for_this_ones(lab: Lab, tmp_path: Path) -> None:
    pki.make(lab.clusters[0], tmp_path)
    with pytest.raises(pki.PkiError, match="lab-down"):
        pki.make(lab.clusters[1], tmp_path)


CLOCK_PROGRAM = """
import datetime, sys, time
for _ in sys.stdin:
    print(time.time(), datetime.datetime.now().timestamp(), time.monotonic(), flush=True)
"""


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, "-c", CLOCK_PROGRAM]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        yield child
        child.kill()


def asked(process: subprocess.Popen[str]) -> tuple[float, float, float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    day, also_day, monotonic = process.stdout.readline().split()
    return float(day), float(also_day), float(monotonic)


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="the vDSO of Linux on x86_64"
)
@pytest.mark.parametrize("seconds", [600, -600])
def test_a_running_process_sees_another_time_of_day_until_it_is_put_right(
    process: subprocess.Popen[str], seconds: int
) -> None:
    asked(process)
    vdso.shift(process.pid, vdso.own(), seconds)
    day, also_day, monotonic = asked(process)
    assert day == pytest.approx(time.time() + seconds, abs=5)
    assert also_day == pytest.approx(day, abs=5)
    assert monotonic == pytest.approx(time.monotonic(), abs=5)
    vdso.shift(process.pid, vdso.own(), 0)
    assert asked(process)[0] == pytest.approx(time.time(), abs=5)


def test_a_process_that_has_gone_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    vdso.shift(child.pid, vdso.own(), 600)
