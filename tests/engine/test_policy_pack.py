"""The policy pack in the real engine: a program that breaks every rule is stopped, one that keeps them is not."""

from pathlib import Path

import pytest

from policies.rules import RULES
from testbed.engine import EngineError
from testbed.sandbox.engine import SandboxEngine
from tests.engine.conftest import PROJECT

HERE = Path(__file__).parent
PACKS = [str(PROJECT / "policies")]


def program(name: str, cloud: dict[str, str], folder: Path) -> SandboxEngine:
    engine = SandboxEngine(PROJECT, folder / "engine", "dev", cloud, program=HERE / name)
    engine.configure({"aws:region": "us-east-1"})
    return engine


def test_a_preview_stops_at_every_rule_that_a_program_breaks(cloud: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(EngineError) as stopped:
        program("broken_program", cloud, tmp_path).run("preview", policy_packs=PACKS)
    for rule in RULES:
        assert f"[mandatory]  {rule.name}" in str(stopped.value), rule.name


def test_a_preview_passes_a_program_that_keeps_every_rule(cloud: dict[str, str], tmp_path: Path) -> None:
    planned, outcome = program("kept_program", cloud, tmp_path).planned(policy_packs=PACKS)
    assert {rule.name for rule in RULES} <= {each["urn"].rsplit("::", 1)[1] for each in planned}
    assert set(outcome.changes) == {"create"}
