"""The engine's output: results as they come, or only failures."""

from __future__ import annotations

import pytest

from testbed.lab.engine_output import Printer

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


def printed(capsys: pytest.CaptureFixture[str], *, failed: bool, quiet: bool) -> list[str]:
    printer = Printer(quiet)
    for line in LINES.splitlines():
        printer.say(line)
    if failed:
        printer.failed()
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("failed", [True, False])
def test_only_results_are_shown_and_once(capsys: pytest.CaptureFixture[str], failed: bool) -> None:
    assert printed(capsys, failed=failed, quiet=False) == RESULTS


def test_a_quiet_run_that_succeeds_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, failed=False, quiet=True) == []


def test_a_quiet_run_that_fails_prints_it_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, failed=True, quiet=True) == RESULTS
