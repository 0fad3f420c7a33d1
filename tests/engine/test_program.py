"""The whole program under the real engine: previewed on clusters that are empty, stopped by mistakes in the config."""

from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import PROJECT, Checkout, Server, stack_config, unreachable


@pytest.fixture(scope="module")
def checkout(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("program"), PROJECT / "__main__.py", stack_config(servers))


def test_a_first_preview_shows_the_mesh_and_touches_nothing(
    checkout: Checkout, servers: dict[str, Server]
) -> None:
    preview = checkout.run("preview")
    assert preview.went_well, preview.output
    for line in (
        "fedmesh:spire:Spire cluster-1-spire create",
        "fedmesh:istio:Istio cluster-2-istio create",
        "federation-cluster-1-cluster-2-clusterfederatedtrustdomain create",
        "remote-secrets-cluster-2-istio-remote-secret-cluster-1-secret create",
        "cluster-2-samples-helloworld-v2-deployment create",
    ):
        assert line in preview.output
    assert checkout.resources() == []
    for server in servers.values():
        assert server.names("crd") == set()
        assert server.names("pods") == set()


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ({"name": "cluster-2"}, ["fedmesh:clusters[1].name in Pulumi.engine.yaml", "must be unique"]),
        (
            {"kubeconfig": {"path": "nowhere"}},
            ["fedmesh:clusters[0].kubeconfig.path in Pulumi.engine.yaml", "can't be read"],
        ),
        (
            {"kubeconfig": "unreachable"},
            ["fedmesh:clusters[0] in Pulumi.engine.yaml", "does not answer", "set fedmesh:clusters[0].down"],
        ),
        (
            {"kubeconfig": "unreachable", "down": True},
            [
                "fedmesh:clusters[0].down in Pulumi.engine.yaml",
                "exported no bundle and addresses of cluster-1",
            ],
        ),
        ({"colour": "blue"}, ["fedmesh:clusters[0].colour in Pulumi.engine.yaml", "unknown"]),
    ],
)
def test_a_mistake_stops_up_before_the_first_resource(
    checkout: Checkout,
    servers: dict[str, Server],
    tmp_path: Path,
    mistake: dict[str, Any],
    said: list[str],
) -> None:
    config = stack_config(servers)
    if mistake.get("kubeconfig") == "unreachable":
        mistake = mistake | {"kubeconfig": {"path": unreachable(tmp_path, servers["cluster-1"])}}
    config["fedmesh:clusters"][0] |= mistake
    checkout.configure(config)
    up = checkout.run("up")
    assert not up.went_well
    assert all(text in up.output for text in said), up.output
    assert "Traceback" not in up.output, up.output
    assert checkout.resources() == []
