"""Journeys of several stacks at once: what each says is told apart, and one that fails fails them all."""

import sys
from pathlib import Path

import pytest

from testbed.sandbox import side_by_side
from testbed.sandbox.journey import JourneyError


@pytest.fixture(autouse=True)
def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\necho "$4 goes to $6"\n[ "$4" != broken ]\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def test_every_line_says_whose_it_is(tmp_path: Path) -> None:
    lines: list[str] = []
    side_by_side.run(tmp_path, ["dev", "prod"], tmp_path / "plans", lines.append)
    assert sorted(lines) == [f"{stack:<5}{stack} goes to {tmp_path}/plans" for stack in ("dev", "prod")]


def test_one_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(JourneyError, match=r"^failed: broken$"):
        side_by_side.run(tmp_path, ["dev", "broken"], None, lambda _line: None)
