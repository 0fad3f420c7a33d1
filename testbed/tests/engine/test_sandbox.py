"""Wrong AWS config and missing credentials stop the real engine; the life of whole stacks is `make sandbox`."""

from collections.abc import Callable
from typing import Any

import pytest

from testbed.engine import EngineError
from testbed.lab import paths
from testbed.sandbox.engine import SandboxEngine

PROJECT = paths.project()

NOBODY = {
    "AWS_ACCESS_KEY_ID": "",
    "AWS_SECRET_ACCESS_KEY": "",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_CONFIG_FILE": "/dev/null",
}


@pytest.fixture(scope="module")
def dev(cloud: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> SandboxEngine:
    return SandboxEngine(PROJECT, tmp_path_factory.mktemp("dev"), "dev", cloud)


def overlapping(clusters: list[dict[str, Any]]) -> None:
    clusters[1]["eks"]["vpcCidr"] = "10.2.128.0/17"


def unsupported(clusters: list[dict[str, Any]]) -> None:
    clusters[0]["eks"]["version"] = "1.24"


def without_spire_servers(clusters: list[dict[str, Any]]) -> None:
    del clusters[1]["eks"]["nodeGroups"]["spire-server"]


def twice(clusters: list[dict[str, Any]]) -> None:
    clusters[1]["name"] = clusters[0]["name"]


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (overlapping, "10.2.0.0/16 overlaps 10.2.128.0/17"),
        (unsupported, "fedmesh:clusters[0].eks.version in Pulumi.dev.yaml: EKS no longer supports 1.24"),
        (without_spire_servers, "fedmesh:clusters[1].eks.nodeGroups.spire-server in Pulumi.dev.yaml"),
        (twice, "fedmesh:clusters[1].name in Pulumi.dev.yaml: must be unique"),
    ],
)
def test_a_mistake_is_one_message_and_nothing_is_made(
    dev: SandboxEngine, mistake: Callable[[list[dict[str, Any]]], None], said: str
) -> None:
    config = dev.committed()
    mistake(config["fedmesh:clusters"])
    dev.configure(config)
    with pytest.raises(EngineError) as refused:
        dev.run("up")
    diagnostics = str(refused.value).partition("Diagnostics:")[2]
    assert said in diagnostics
    assert diagnostics.count("error:") == 1
    assert "Traceback" not in str(refused.value)
    assert [each for each in dev.resources() if each["type"] != "pulumi:pulumi:Stack"] == []


def test_missing_credentials_stop_the_first_preview(dev: SandboxEngine) -> None:
    dev.configure(dev.committed())
    with pytest.raises(EngineError, match="No valid credential sources found"):
        dev.run("preview", variables=NOBODY)
