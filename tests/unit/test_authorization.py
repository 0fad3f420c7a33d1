"""Default-deny by config: what the platform needs stays allowed, and nobody is denied in between."""

from pathlib import Path
from typing import Any

import pytest

from components.config.errors import ConfigError
from tests.unit.program import LOCAL, Program, members, run

DENIED: dict[str, Any] = {"istio": {"authorization": "default-deny"}}


def policies(mesh: Program, cluster: str) -> dict[str, Any]:
    return {
        f"{each.document['metadata']['namespace']}/{each.document['metadata']['name']}": each
        for each in mesh.kind("AuthorizationPolicy")
        if each.provider == cluster
    }


@pytest.fixture(scope="module")
def denying(folder: Path) -> Program:
    return run({"clusters": members(2, folder), "storage": LOCAL, **DENIED})


def test_by_default_the_mesh_denies_nothing_but_strange_readers(mesh: Program) -> None:
    assert set(policies(mesh, "cluster-1")) == {"istio-remote-access/remote-access"}


@pytest.mark.parametrize("cluster", ["cluster-1", "cluster-2"])
def test_one_rule_of_the_root_namespace_allows_nothing(denying: Program, cluster: str) -> None:
    found = policies(denying, cluster)
    assert set(found) == {
        "istio-system/default-deny",
        "istio-gateways/gateways",
        "helloworld/helloworld",
        "istio-remote-access/remote-access",
    }
    # without a selector for the whole mesh, and without rules for nobody
    assert found["istio-system/default-deny"].inputs["spec"] == {"action": "ALLOW"}


def test_gateways_take_all_calls_and_the_sample_its_callers(denying: Program) -> None:
    found = policies(denying, "cluster-1")
    assert found["istio-gateways/gateways"].inputs["spec"]["rules"] == [{}]
    (rule,) = found["helloworld/helloworld"].inputs["spec"]["rules"]
    assert rule == {
        "from": [
            {"source": {"principals": ["*/ns/sleep/sa/sleep", "*/ns/istio-gateways/sa/istio-ingressgateway"]}}
        ]
    }


def test_nothing_is_denied_before_all_else_is_allowed(denying: Program) -> None:
    name = "cluster-1-authorization-{}-authorizationpolicy"
    deny = name.format("default-deny")
    for allowed in ("gateways", "helloworld"):
        assert denying.comes_after(deny, name.format(allowed))
    assert denying.comes_after(name.format("helloworld"), "cluster-1-samples-helloworld-namespace")
    assert denying.comes_after(name.format("gateways"), "cluster-1-gateways-istio-gateways-namespace")


def test_without_samples_there_is_no_rule_for_them(folder: Path) -> None:
    mesh = run({"clusters": members(2, folder), "storage": LOCAL, "samples": {"enabled": False}, **DENIED})
    assert "helloworld/helloworld" not in policies(mesh, "cluster-1")


@pytest.mark.parametrize(
    ("istio", "message"),
    [
        ({"migrating": True, "authorization": "default-deny"}, "must be allow while migrating"),
        ({"migrating": True, "previousRevision": "v1-30"}, "must be unset while migrating"),
        ({"authorization": "deny"}, "authorization"),
    ],
)
def test_one_change_at_a_time(folder: Path, istio: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run({"clusters": members(2, folder), "storage": LOCAL, "istio": istio})
