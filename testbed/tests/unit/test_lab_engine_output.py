"""The engine's output: results as they come, or only failures."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from testbed.lab import engine_output

LINES = """Updating (lab):
 +  pulumi:providers:kubernetes cluster-1 creating (0s)
 +  kubernetes:core/v1:Service cluster-1-spire-service creating (3s) [1/3] Finding Pods to direct traffic to
 +  kubernetes:core/v1:Service cluster-1-spire-service created (4s)
 ++ kubernetes:core/v1:Secret cluster-1-secret creating replacement (0s)
 -  kubernetes:core/v1:Secret cluster-1-secret deleting (0s)
 -  kubernetes:core/v1:Secret cluster-1-secret deleted (0.10s)
Resources:
    + 2 created
"""
RESULTS = [line for line in LINES.splitlines() if "creating" not in line and "deleting" not in line]


def said(tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int, quiet: bool) -> list[str]:
    command = [sys.executable, "-c", f"import sys; print({LINES!r}, end=''); sys.exit({code})"]
    assert engine_output.run(command, tmp_path, os.environ, quiet) == code
    return capsys.readouterr().out.splitlines()


def test_only_results_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(tmp_path, capsys, 0, quiet=False) == RESULTS


def test_a_quiet_run_that_goes_well_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(tmp_path, capsys, 0, quiet=True) == []


def test_a_quiet_run_that_fails_says_it_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(tmp_path, capsys, 1, quiet=True) == RESULTS
