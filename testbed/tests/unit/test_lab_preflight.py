"""The check of the machine: everything that is missing in one message, before anything is changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from testbed.lab import cli, preflight
from testbed.lab.preflight import Lack

PACKAGE = Lack("the command containerd", "containerd")
DISK = Lack("30 GiB of free disk")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The packages that were installed instead of really installing them."""
    packages: list[str] = []
    monkeypatch.setattr(preflight, "install", packages.extend)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    return packages


def lacks(monkeypatch: pytest.MonkeyPatch, *rounds: list[Lack]) -> None:
    """Lets the first check find the first of these lists, and so on."""
    found = list(rounds)
    monkeypatch.setattr(preflight, "lacks", lambda *_: iter(found.pop(0)))


def test_missing_packages_are_installed(monkeypatch: pytest.MonkeyPatch, installed: list[str]) -> None:
    lacks(monkeypatch, [PACKAGE], [])
    assert cli.main(["preflight", "--install", "-q"]) == 0
    assert installed == ["containerd"]


def test_nothing_is_installed_on_a_machine_that_lacks_something_else(
    monkeypatch: pytest.MonkeyPatch, installed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lacks(monkeypatch, [PACKAGE, DISK])
    assert cli.main(["preflight", "--install"]) == 2
    assert installed == []
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("lab:") == 1
    assert "30 GiB of free disk" in said.err
    assert "the command containerd (Debian: apt-get install containerd)" in said.err


def test_without_install_nothing_is_installed(monkeypatch: pytest.MonkeyPatch, installed: list[str]) -> None:
    lacks(monkeypatch, [PACKAGE])
    assert cli.main(["preflight"]) == 2
    assert installed == []


@pytest.mark.parametrize(
    "command", [["preflight", "--install"], ["up"], ["down"], ["build"], ["fault", "cut", "cluster-2"]]
)
def test_a_user_without_root_gets_one_message(
    monkeypatch: pytest.MonkeyPatch,
    installed: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: list[str],
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    monkeypatch.setenv("FEDMESH_CACHE", str(tmp_path / "cache"))
    assert cli.main(command) == 2
    said = capsys.readouterr().err
    assert said.count("lab:") == 1
    assert "root privileges" in said
    assert installed == []
    assert not (tmp_path / "cache").exists()


def test_a_checkout_that_nodes_would_cover_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(preflight.paths, "project", lambda: Path("/opt/fedmesh"))
    found = [lack.what for lack in preflight.lacks(cli.config.load(), tmp_path)]
    assert any("a checkout outside of" in what for what in found)
