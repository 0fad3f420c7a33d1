"""The language host speaks to the engine as Pulumi's own does, and ends with it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import language_pb2, language_pb2_grpc

HOST = Path(__file__).parents[3] / "testbed/lab/tools/pulumi-language-python"
PULUMI = "3.259.0"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, str(HOST), "-root=/", "127.0.0.1:1"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def service(host: subprocess.Popen[str]) -> language_pb2_grpc.LanguageRuntimeStub:
    assert host.stdout is not None
    return language_pb2_grpc.LanguageRuntimeStub(
        grpc.insecure_channel(f"127.0.0.1:{int(host.stdout.readline())}")
    )


def test_it_prints_its_port_and_answers_there(host: subprocess.Popen[str]) -> None:
    runtime = service(host)
    assert runtime.GetPluginInfo(empty_pb2.Empty(), timeout=60).version == PULUMI
    assert runtime.About(language_pb2.AboutRequest(), timeout=60).executable == sys.executable
    known = runtime.GetProgramDependencies(
        language_pb2.GetProgramDependenciesRequest(), timeout=20
    ).dependencies
    assert PULUMI in [package.version for package in known if package.name == "pulumi"]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_quietly_when_the_engine_says_so(host: subprocess.Popen[str], ending: signal.Signals) -> None:
    service(host).GetPluginInfo(empty_pb2.Empty(), timeout=60)
    host.send_signal(ending)
    assert host.wait(timeout=60) == 0


def test_it_ends_when_the_engine_is_gone(tmp_path: Path) -> None:
    engine = (
        f"import subprocess; p = subprocess.Popen([{sys.executable!r}, {str(HOST)!r}]); print(p.pid); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-u", "-c", engine],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        orphan = int(process.stdout.readline())
        int(process.stdout.readline())  # the host serves
        watch = os.pidfd_open(orphan)
        process.kill()
        with os.fdopen(watch) as exited:
            assert select.select([exited], [], [], 60)[0], "the host outlived the engine"


def test_a_run_that_breaks_is_an_answer_and_not_a_hang(host: subprocess.Popen[str], tmp_path: Path) -> None:
    (tmp_path / "__main__.py").touch()
    request = language_pb2.RunRequest(
        project="p", stack="s", pwd=str(tmp_path), monitor_address="127.0.0.1:1"
    )
    request.info.program_directory = str(tmp_path)
    request.info.entry_point = "."
    answer = service(host).Run(request, timeout=60)
    # nobody answers at the engine's address
    assert answer.error == "the program's process ended with code 1"
