"""The running program reads all keys of its namespace, the ones that it does not know included."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import config as runtime

from components.config.errors import ConfigError
from components.config.settings import load_settings
from tests.unit.program import LOCAL, members, run

CLUSTERS = [
    {
        "name": f"cluster-{number}",
        "trustDomain": f"td{number}.example",
        "network": f"network-{number}",
        "region": "region-1",
        "kubeconfig": {"path": "it"},
    }
    for number in (1, 2)
]


@pytest.fixture(autouse=True)
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pulumi, "get_stack", lambda: "unit")
    before = runtime.CONFIG.get()
    pulumi.runtime.set_all_config({})
    yield
    pulumi.runtime.set_all_config(before)


def set_by_the_engine(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    """As the engine hands the configuration to the program."""
    texts = {key.replace("__", ":"): value for key, value in values.items()}
    monkeypatch.setenv(
        "PULUMI_CONFIG",
        json.dumps({k: v if isinstance(v, str) else json.dumps(v) for k, v in texts.items()}),
    )


def test_the_engines_configuration_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    set_by_the_engine(monkeypatch, fedmesh__clusters=CLUSTERS, fedmesh__mesh={"id": "mesh9"})
    settings = load_settings()
    assert settings.mesh_id == "mesh9"
    assert settings.source == "Pulumi.unit.yaml"
    assert settings.clusters[1].alias == "cluster-2"


def test_an_unknown_key_is_refused_by_the_running_program(monkeypatch: pytest.MonkeyPatch) -> None:
    set_by_the_engine(monkeypatch, fedmesh__clusters=CLUSTERS, fedmesh__failovr={"connectTimeout": "1s"})
    with pytest.raises(ConfigError, match="did you mean failover") as refused:
        load_settings()
    assert str(refused.value).startswith("fedmesh:failovr in Pulumi.unit.yaml: is unknown")


def test_keys_of_other_namespaces_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    set_by_the_engine(
        monkeypatch, fedmesh__clusters=CLUSTERS, aws__region="us-east-1", kubernetes__context="it"
    )
    assert len(load_settings().clusters) == 2


def test_a_value_that_is_no_mapping_is_refused_in_the_same_form(monkeypatch: pytest.MonkeyPatch) -> None:
    set_by_the_engine(monkeypatch, fedmesh__clusters=CLUSTERS, fedmesh__mesh="mesh9")
    with pytest.raises(ConfigError) as refused:
        load_settings()
    assert str(refused.value) == "fedmesh:mesh in Pulumi.unit.yaml: must be a mapping, not 'mesh9'"


def test_a_stack_without_configuration_is_told_what_it_needs() -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings()
    missing = "fedmesh:clusters in Pulumi.unit.yaml: is missing: a list of two clusters or more"
    assert str(refused.value) == missing


def test_the_whole_program_makes_nothing_of_a_misspelt_section(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"fedmesh:failovr in Pulumi\.unit\.yaml"):
        run({"clusters": members(2, folder), "storage": LOCAL, "failovr": {}})
