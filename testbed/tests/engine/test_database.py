"""A database with the real engine: each run makes up a password, and only the first run's counts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.lab import paths
from testbed.sandbox import inventory
from testbed.sandbox.cloud import running
from testbed.sandbox.engine import SandboxEngine

PROJECT, REGION = paths.project(), "us-east-1"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SandboxEngine]:
    """The engine of a user who may do what docs/iam-policy.json allows."""
    with running.running(tmp_path / "aws.log", PROJECT / "docs" / "iam-policy.json") as cloud:
        program = Path(__file__).parent / "database"
        made = SandboxEngine(PROJECT, tmp_path, "test", cloud, program)
        made.configure({"aws:region": REGION})
        yield made


def test_a_second_run_changes_nothing_and_a_destroy_leaves_nothing(
    engine: SandboxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**engine.environment, "AWS_ACCESS_KEY_ID": "observer"}.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    before = inventory.take((REGION,)).left
    assert set(engine.run("up").changes) == {"create"}
    connection = engine.outputs()["connection"]
    assert "host=istio-eks-one-spire." in connection
    assert "sslmode=verify-full" in connection
    assert engine.run("up", expect_no_changes=True).changed == 0
    assert engine.run("refresh").changed == 0
    assert engine.run("up", expect_no_changes=True).changed == 0
    assert engine.outputs()["connection"] == connection
    password = connection.split("password=")[1].split()[0]
    assert password not in str(engine.state()), "the state holds it encrypted alone"
    engine.run("destroy")
    assert inventory.take((REGION,)).left == before
