"""Clusters that are declared down: nothing is read from them, the others keep what was known of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.config.errors import ConfigError
from components.config.settings import parse
from components.kube.last_known import validate_states
from tests.unit.program import LOCAL, Program, members, run


def config(folder: Path, *down: int, count: int = 3) -> dict[str, Any]:
    clusters = members(count, folder)
    for number in down:
        clusters[number - 1]["down"] = True
    return {"clusters": clusters, "storage": LOCAL}


@pytest.fixture(scope="module")
def mesh(folder: Path) -> Program:
    return run(config(folder, 2))


def test_nothing_is_read_from_it_and_as_before_from_the_others(mesh: Program) -> None:
    read = {each.provider for each in mesh.objects if each.read and each.type.startswith("kubernetes:")}
    assert read == {"cluster-1", "cluster-3"}


def test_what_is_on_it_is_left_as_it_is(mesh: Program) -> None:
    skips = {
        each.name: each.inputs.get("skipUpdateUnreachable")
        for each in mesh.objects
        if each.type == "pulumi:providers:kubernetes"
    }
    assert skips == {"cluster-1": None, "cluster-2": "true", "cluster-3": None}


def test_the_others_keep_its_roots_and_only_they(mesh: Program) -> None:
    for here in ("cluster-1", "cluster-3"):
        spec = mesh.one(f"federation-{here}-cluster-2-clusterfederatedtrustdomain").inputs["spec"]
        assert [key["x5c"] for key in json.loads(spec["trustDomainBundle"])["keys"]] == [["of the last run"]]
    of_another = mesh.one("federation-cluster-1-cluster-3-clusterfederatedtrustdomain").inputs["spec"]
    assert json.loads(of_another["trustDomainBundle"])["keys"] == []


def test_its_objects_are_still_the_stacks(mesh: Program) -> None:
    def kinds(cluster: str) -> list[str]:
        return sorted(
            each.type for each in mesh.objects if each.name.startswith(f"{cluster}-") and not each.read
        )

    assert kinds("cluster-2") == kinds("cluster-1")


def test_only_those_that_are_not_down_are_asked_for_a_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        "components.kube.clusters.check_answers", lambda _cluster, key, _source: asked.append(key)
    )
    run(config(tmp_path, 2))
    assert sorted(asked) == ["fedmesh:clusters[0]", "fedmesh:clusters[2]"]


def test_one_that_was_never_up_is_refused() -> None:
    known = {"cluster-2": {}}
    assert validate_states(known, {"cluster-2": 1}, "Pulumi.x.yaml") is known
    for exported in (known, None):
        with pytest.raises(
            ConfigError,
            match=r"clusters\[2\].down in Pulumi.x.yaml.*exported no bundle and addresses of cluster-3",
        ):
            validate_states(exported, {"cluster-3": 2}, "Pulumi.x.yaml")


def test_not_all_can_be_down(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fedmesh:clusters\[0\].down in Pulumi.x.yaml: must be false"):
        parse(config(tmp_path, 1, 2, count=2), "Pulumi.x.yaml")
