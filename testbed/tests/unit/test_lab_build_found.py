"""A program that is on PATH in a fitting version is used; anything less is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.lab import found

OFFICIAL = {
    "pulumi": "echo v3.259.4",
    "pulumi-language-python": "true",
    "coredns": "echo CoreDNS-1.13.2",
    **dict.fromkeys(found.KUBE_PROGRAMS, "echo Kubernetes v1.34.9"),
}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, with official programs in fitting versions."""
    folder = tmp_path / "usr-bin"
    folder.mkdir()
    for name, script in OFFICIAL.items():
        put(folder, name, script)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "pulumi"))
    return folder


def put(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(("target", "count"), [("pulumi", 2), ("kube", 6), ("coredns", 1)])
def test_fitting_programs_on_path_are_used(machine: Path, target: str, count: int) -> None:
    assert len(found.find(target, machine.parent / "own")) == count


def test_another_minor_version_does_not_fit(machine: Path) -> None:
    put(machine, "kubelet", "echo Kubernetes v1.33.1")
    put(machine, "pulumi", "echo v3.258.0")
    assert found.find("kube", machine.parent) == {}
    assert found.find("pulumi", machine.parent) == {}


def test_programs_used_together_are_used_together_or_not_at_all(machine: Path) -> None:
    (machine / "pulumi-language-python").unlink()
    (machine / "kube-proxy").unlink()
    assert found.find("pulumi", machine.parent) == {}
    assert found.find("kube", machine.parent) == {}


def test_the_labs_own_folder_does_not_count(machine: Path) -> None:
    assert found.find("pulumi", machine) == {}


def test_a_program_that_fails_or_cannot_start_is_not_used(machine: Path) -> None:
    put(machine, "coredns", "exit 1")
    assert found.find("coredns", machine.parent) == {}
    (machine / "pulumi").write_bytes(b"\x00not a program")
    assert found.find("pulumi", machine.parent) == {}


def test_the_official_provider_plugin_is_used_when_it_is_installed(machine: Path) -> None:
    assert found.find("pulumi-resource-kubernetes", machine.parent) == {}
    plugin = machine.parent / "pulumi/plugins/resource-kubernetes-v4.25.0/pulumi-resource-kubernetes"
    plugin.parent.mkdir(parents=True)
    plugin.touch()
    assert found.find("pulumi-resource-kubernetes", machine.parent) == {plugin.name: plugin}


def test_what_runs_only_in_images_is_never_looked_for(machine: Path) -> None:
    put(machine, "spire-server", "echo 1.15.3")
    assert found.find("spire-server", machine.parent) == {}
