"""A long build tells what it does, what is left and how long it has taken."""

from __future__ import annotations

import io

import pytest

from testbed.lab.progress import Progress, clock


def test_each_step_is_told_with_what_is_left_and_the_time() -> None:
    output = io.StringIO()
    progress = Progress(["cluster", "mesh", "images"], output=output)
    with progress.step("cluster"):
        pass
    with progress.step("mesh"):
        pass
    assert output.getvalue().splitlines() == [
        "[0/3 0s] cluster: started; then mesh, images",
        "[1/3 0s] cluster: done in 0s",
        "[1/3 0s] mesh: started; then images",
        "[2/3 0s] mesh: done in 0s",
    ]


def test_notes_do_not_flood_a_log() -> None:
    output = io.StringIO()
    progress = Progress(["mesh"], output=output)
    with progress.step("mesh"):
        for done in range(1000):
            progress.note("mesh", f"{done} packages")
    assert len(output.getvalue().splitlines()) == 2


def test_quiet_says_nothing() -> None:
    output = io.StringIO()
    with Progress(["mesh"], quiet=True, output=output).step("mesh"):
        pass
    assert output.getvalue() == ""


def test_a_step_that_fails_is_not_told_as_done() -> None:
    output = io.StringIO()
    progress = Progress(["mesh"], output=output)
    with pytest.raises(RuntimeError), progress.step("mesh"):
        raise RuntimeError
    assert "done" not in output.getvalue()


def test_durations_read_as_minutes_and_seconds() -> None:
    assert [clock(seconds) for seconds in (0.4, 59.9, 60, 185)] == ["0s", "59s", "1m00s", "3m05s"]
