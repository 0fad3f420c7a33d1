"""The wrapper of the engine, as far as it goes without one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from testbed import engine
from testbed.lab import cli, paths
from testbed.lab.stack import engine_environment, with_values

STUBBORN = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(); time.sleep(60)"


def stubborn(folder: Path) -> subprocess.Popen[bytes]:
    """A process that ignores Ctrl-C, started as one of an engine's."""
    started = subprocess.Popen(
        [sys.executable, "-c", STUBBORN],
        env={**os.environ, engine.FOLDER_MARKER: str(folder)},
        stdout=subprocess.PIPE,
    )
    assert started.stdout is not None
    started.stdout.readline()
    started.send_signal(signal.SIGINT)
    return started


def test_the_engine_works_on_a_backend_of_the_checkouts_own(tmp_path: Path) -> None:
    variables = engine_environment(tmp_path)
    assert variables["PULUMI_BACKEND_URL"] == f"file://{tmp_path}/.lab/state?metadata=skip"
    assert variables["PULUMI_HOME"] == str(tmp_path / ".lab" / "pulumi")
    assert "PULUMI_CONFIG_PASSPHRASE" not in variables


def test_engines_of_one_folder_are_killed_and_no_others(tmp_path: Path) -> None:
    own, other = stubborn(tmp_path / "own"), stubborn(tmp_path / "other")
    try:
        engine.kill(tmp_path / "own")
        assert own.wait(timeout=5) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_lab_down_first_ends_an_engine_that_ignores_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "project", lambda: tmp_path)
    running = stubborn(tmp_path / ".lab")
    seen: list[int | None] = []
    monkeypatch.setattr(cli.clusters, "down", lambda *_: seen.append(running.poll()))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    # one that has ended is a zombie until it is waited for, and is no longer found
    assert cli.main(["down", "-q"]) == 0
    assert running.wait(timeout=5) == -signal.SIGKILL
    assert len(seen) == 1


def lock(backend: Path, process: int, host: str) -> None:
    folder = backend / ".pulumi" / "locks" / "organization" / "fedmesh" / "lab"
    folder.mkdir(parents=True)
    (folder / "lock.json").write_text(json.dumps({"pid": process, "hostname": host}))


def test_the_lock_of_a_process_that_ended_is_recognized(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    lock(tmp_path, ended.pid, os.uname().nodename)
    assert engine.locked_by_the_dead(tmp_path)


@pytest.mark.parametrize("host", [os.uname().nodename, "another-machine"])
def test_the_lock_of_a_living_or_unknown_process_stays(tmp_path: Path, host: str) -> None:
    lock(tmp_path, os.getpid(), host)
    assert not engine.locked_by_the_dead(tmp_path)


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("fedmesh:istio.revision=1-31", "1-31"),
        ("fedmesh:istio.revision=1.31", "1.31"),
        ("fedmesh:istio.revision=true", True),
        ("fedmesh:istio.revision=3", 3),
        ('fedmesh:istio.revision={"a": [1]}', {"a": [1]}),
        ("fedmesh:istio.revision=a=b", "a=b"),
    ],
)
def test_values_of_the_command_line_become_part_of_the_configuration(assignment: str, value: Any) -> None:
    config = {"fedmesh:istio": {"locality": "zone"}}
    changed = with_values(config, [assignment])
    assert changed == {"fedmesh:istio": {"locality": "zone", "revision": value}}
    assert config == {"fedmesh:istio": {"locality": "zone"}}


def test_a_value_without_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match="KEY=VALUE"):
        with_values({}, ["fedmesh:istio"])
