"""The lab's drills, and the stacks that belong to the lab."""

from __future__ import annotations

import sys
from pathlib import Path

from fedmesh.drill import command
from fedmesh.topology import Member, Topology
from testbed.lab import drills


def topology(*paths: Path | None) -> Topology:
    return Topology("s", tuple(Member(f"c{n}", "t", "n", path, "") for n, path in enumerate(paths)))


def test_a_stack_belongs_to_the_lab_when_the_lab_made_all_its_clusters(tmp_path: Path) -> None:
    inside = tmp_path / ".lab/clusters/c0/admin.kubeconfig"
    assert drills.owns(topology(inside), tmp_path)
    assert not drills.owns(topology(inside, Path("/home/me/.kube/config")), tmp_path)
    assert not drills.owns(topology(inside, None), tmp_path)


def test_the_command_names_the_labs_drills_where_there_is_no_lab() -> None:
    assert {each.number: each.name for each in drills.DRILLS} == command.ELSEWHERE


def test_no_drill_of_the_lab_has_the_name_of_another() -> None:
    names = [each.name for each in command.available(drills.ENVIRONMENT)]
    assert len(set(names)) == len(names)


def test_the_labs_engine_runs_the_program() -> None:
    assert drills.up("blue") == [sys.executable, "-m", "testbed.lab", "pulumi", "-q", "--stack", "blue", "up"]
