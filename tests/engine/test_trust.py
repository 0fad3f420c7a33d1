"""The links between two API servers by the real engine: applied, applied again, changed and taken away."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.engine.conftest import PROGRAMS, Checkout, Server, stack_config

TRUST = "clusterfederatedtrustdomains"


@pytest.fixture(scope="module")
def checkout(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    made = Checkout(
        tmp_path_factory.mktemp("trust"),
        PROGRAMS / "trust.py",
        {**stack_config(servers), "test:seed": "first"},
    )
    up = made.run("up")
    assert up.went_well, up.output
    return made


def test_each_cluster_trusts_the_other_and_not_itself(checkout: Checkout, servers: dict[str, Server]) -> None:
    for here, there in (("cluster-1", "cluster-2"), ("cluster-2", "cluster-1")):
        (trust,) = servers[here].get(TRUST)["items"]
        assert trust["metadata"]["name"] == there
        assert trust["spec"] == {
            "trustDomain": f"wsc-cluster{there[-1]}.com",
            "bundleEndpointURL": "https://192.0.2.7:8443",
            "bundleEndpointProfile": {
                "type": "https_spiffe",
                "endpointSPIFFEID": f"spiffe://wsc-cluster{there[-1]}.com/spire/server",
            },
            "trustDomainBundle": "first",
        }


def test_the_storage_class_is_the_default_of_its_cluster(
    checkout: Checkout, servers: dict[str, Server]
) -> None:
    found = servers["cluster-1"].get("storageclass", "local")
    assert found["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
    assert found["volumeBindingMode"] == "WaitForFirstConsumer"


def test_a_second_up_changes_nothing_even_when_bundles_were_refreshed(
    checkout: Checkout, servers: dict[str, Server]
) -> None:
    checkout.configure({**stack_config(servers), "test:seed": "second"})
    again = checkout.run("up", "--expect-no-changes")
    assert again.went_well, again.output


def peers_kubeconfig(server: Server, peer: str) -> dict[str, Any]:
    data = server.get("secret", f"istio-remote-secret-{peer}", "-n", "istio-system")["data"]
    return dict(yaml.safe_load(base64.b64decode(data[peer])))


def test_a_remote_secret_opens_the_peer(
    checkout: Checkout, servers: dict[str, Server], tmp_path: Path
) -> None:
    kubeconfig = tmp_path / "peer"
    kubeconfig.write_text(yaml.safe_dump(peers_kubeconfig(servers["cluster-1"], "cluster-2")))
    reader = Server("cluster-2", kubeconfig)
    account = "system:serviceaccount:istio-system:istio-reader-service-account"
    assert reader.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}") == account


def test_secrets_are_not_in_the_state_in_plain_text(checkout: Checkout, servers: dict[str, Server]) -> None:
    state = str(checkout.state())
    token = peers_kubeconfig(servers["cluster-1"], "cluster-2")["users"][0]["user"]["token"]
    key = servers["cluster-1"].kubeconfig.read_text().split("client-key-data: ")[1].split()[0]
    for secret in (token, base64.b64encode(token.encode()).decode(), key):
        assert secret not in state


def test_what_somebody_deleted_comes_back(checkout: Checkout, servers: dict[str, Server]) -> None:
    servers["cluster-1"].kubectl("delete", TRUST, "cluster-2", "--wait=false")
    up = checkout.run("up", "--refresh")
    assert up.went_well, up.output
    assert servers["cluster-1"].names(TRUST) == {"cluster-2"}


def test_destroy_leaves_nothing(checkout: Checkout, servers: dict[str, Server]) -> None:
    destroyed = checkout.run("destroy")
    assert destroyed.went_well, destroyed.output
    assert checkout.resources() == []
    for server in servers.values():
        for kind in ("crd", "storageclass", "validatingwebhookconfiguration", "secret"):
            assert server.names(kind) == set(), kind
