"""The real engine on the simulated AWS: policies stop what breaks them, and a stack comes and goes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from policies.rules import RULES
from sandbox import inventory, journey
from sandbox.cloud import running
from sandbox.engine import Engine, EngineError

PROJECT = Path(__file__).parents[2]
BROKEN = Path(__file__).parent / "broken_program"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[dict[str, str]]:
    with running.running(tmp_path / "aws.log") as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


def test_a_preview_stops_at_every_rule_that_a_program_breaks(cloud: dict[str, str], tmp_path: Path) -> None:
    engine = Engine(PROJECT, tmp_path / "engine", "dev", cloud, program=BROKEN)
    engine.configure({"aws:region": "us-east-1"})
    with pytest.raises(EngineError) as stopped:
        engine.run("preview", "--policy-pack", str(PROJECT / "policies"))
    for rule in RULES:
        assert f"[mandatory]  {rule.name}" in str(stopped.value), rule.name


def test_the_aws_half_of_dev_comes_stays_and_goes(cloud: dict[str, str], tmp_path: Path) -> None:
    engine = Engine(PROJECT, tmp_path / "engine", "dev", cloud)
    lines: list[str] = []
    taken = journey.Journey(engine, lines.append)
    with journey.api_servers(engine, taken.cluster_names[:2], tmp_path):
        before = inventory.take(("us-east-1",)).left
        taken.come_stay_and_go()
        assert inventory.take(("us-east-1",)).left == before
