"""The links between two API servers by the real engine: applied, applied again, changed and taken away."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.engine.conftest import PROGRAMS, Checkout, Server, stack_config, unreachable

TRUST = "clusterfederatedtrustdomains"


def bundle(root: str, number: int = 1) -> str:
    """A bundle as SPIRE publishes it, with keys that the seed leaves out."""
    keys = [{"use": "x509-svid", "kty": "EC", "x5c": [root]}, {"use": "jwt-svid", "kid": f"key-{number}"}]
    return json.dumps({"keys": keys, "spiffe_sequence": number, "spiffe_refresh_hint": 60})


def publish(servers: dict[str, Server], content: str) -> None:
    """What a SPIRE server does with its bundle."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "published", "namespace": "spire"}}
    for server in servers.values():
        server.kubectl("apply", "-f", "-", given=json.dumps({**body, "data": {"bundle": content}}))


def trust_of(server: Server) -> dict[str, Any]:
    (trust,) = server.get(TRUST)["items"]
    return dict(trust)


@pytest.fixture(scope="module")
def checkout(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    publish(servers, bundle("first"))
    made = Checkout(tmp_path_factory.mktemp("trust"), PROGRAMS / "trust.py", stack_config(servers))
    up = made.run("up")
    assert up.went_well, up.output
    return made


def test_each_cluster_trusts_the_other_and_not_itself(checkout: Checkout, servers: dict[str, Server]) -> None:
    for here, there in (("cluster-1", "cluster-2"), ("cluster-2", "cluster-1")):
        trust = trust_of(servers[here])
        assert trust["metadata"]["name"] == there
        spec = trust["spec"]
        assert spec["trustDomain"] == f"wsc-cluster{there[-1]}.com"
        assert spec["bundleEndpointURL"].startswith("https://192.0.2.7:8443/#")
        assert spec["bundleEndpointProfile"] == {
            "type": "https_spiffe",
            "endpointSPIFFEID": f"spiffe://wsc-cluster{there[-1]}.com/spire/server",
        }
        assert [key["x5c"] for key in json.loads(spec["trustDomainBundle"])["keys"]] == [["first"]]


def test_the_storage_class_is_the_default_of_its_cluster(
    checkout: Checkout, servers: dict[str, Server]
) -> None:
    found = servers["cluster-1"].get("storageclass", "local")
    assert found["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
    assert found["volumeBindingMode"] == "WaitForFirstConsumer"


def test_a_second_up_changes_nothing_even_when_bundles_were_refreshed(
    checkout: Checkout, servers: dict[str, Server]
) -> None:
    publish(servers, bundle("first", number=2))
    again = checkout.run("up", "--expect-no-changes")
    assert again.went_well, again.output


def test_a_root_that_changed_is_handed_on_with_another_url_whatever_a_hand_wrote(
    checkout: Checkout, servers: dict[str, Server]
) -> None:
    before = trust_of(servers["cluster-1"])
    by_hand = json.dumps({"spec": {"bundleEndpointURL": "https://192.0.2.66:8443"}})
    servers["cluster-1"].kubectl(
        "patch", TRUST, "cluster-2", "--type=merge", "--field-manager=hand", "-p", by_hand
    )
    publish(servers, bundle("second"))
    up = checkout.run("up")
    assert up.went_well, up.output
    after = trust_of(servers["cluster-1"])
    assert after["metadata"]["uid"] == before["metadata"]["uid"], "pods keep their entries meanwhile"
    assert after["spec"]["bundleEndpointURL"] != before["spec"]["bundleEndpointURL"]
    assert after["spec"]["bundleEndpointURL"].startswith("https://192.0.2.7:8443/#")
    assert "second" in after["spec"]["trustDomainBundle"]
    again = checkout.run("up", "--expect-no-changes")
    assert again.went_well, again.output


def way_to(server: Server, peer: str) -> str:
    """The address at which istiod's Envoy on a cluster finds a peer."""
    data = server.get("configmap", "istio-peers", "-n", "istio-system")["data"]
    (cluster,) = [each for each in json.loads(data["clusters.json"])["resources"] if each["name"] == peer]
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    return str(endpoint["endpoint"]["address"]["socket_address"]["address"])


def test_a_remote_secret_holds_no_credential(checkout: Checkout, servers: dict[str, Server]) -> None:
    data = servers["cluster-1"].get("secret", "istio-remote-secret-cluster-2", "-n", "istio-system")["data"]
    kubeconfig = yaml.safe_load(base64.b64decode(data["cluster-2"]))
    assert kubeconfig["users"] == [{"name": "cluster-2", "user": {}}]


def test_secrets_are_not_in_the_state_in_plain_text(checkout: Checkout, servers: dict[str, Server]) -> None:
    state = str(checkout.state())
    key = servers["cluster-1"].kubeconfig.read_text().split("client-key-data: ")[1].split()[0]
    assert key not in state


MOVED = "192.0.2.10"  # as in programs/trust.py


@pytest.fixture
def with_one_down(
    checkout: Checkout, servers: dict[str, Server], tmp_path: Path
) -> Iterator[list[dict[str, Any]]]:
    """The second cluster does not answer and is declared down, and what the first one holds of it changes."""
    config = stack_config(servers)
    second = config["fedmesh:clusters"][1]
    answering = dict(second)
    before = checkout.resources()
    second |= {"kubeconfig": {"path": unreachable(tmp_path, servers["cluster-2"])}}
    second |= {"down": True, "apiServer": "https://192.0.2.11:6443"}
    checkout.configure(config)
    up = checkout.run("up")
    assert up.went_well, up.output
    yield before
    config["fedmesh:clusters"][1] = answering
    checkout.configure(config)
    up = checkout.run("up")
    assert up.went_well, up.output


def on_cluster_2(resources: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """What the engine holds of the cluster, and when it last changed it."""
    return {
        each["urn"]: (each["id"], each["modified"])
        for each in resources
        if each["provider"].split("::")[-2] == "cluster-2" and not each.get("external")
    }


def test_while_a_cluster_is_down_the_others_are_changed_and_it_is_left_as_it_is(
    checkout: Checkout, servers: dict[str, Server], with_one_down: list[dict[str, Any]]
) -> None:
    assert way_to(servers["cluster-1"], "cluster-2") == MOVED
    assert "second" in trust_of(servers["cluster-1"])["spec"]["trustDomainBundle"]
    assert on_cluster_2(checkout.resources()) == on_cluster_2(with_one_down) != {}
    again = checkout.run("up", "--expect-no-changes")
    assert again.went_well, again.output


def test_once_it_is_back_everything_is_as_before(checkout: Checkout, servers: dict[str, Server]) -> None:
    assert way_to(servers["cluster-1"], "cluster-2") != MOVED
    again = checkout.run("up", "--expect-no-changes")
    assert again.went_well, again.output


def test_what_somebody_deleted_comes_back(checkout: Checkout, servers: dict[str, Server]) -> None:
    servers["cluster-1"].kubectl("delete", TRUST, "cluster-2", "--wait=false")
    up = checkout.run("up", "--refresh")
    assert up.went_well, up.output
    assert servers["cluster-1"].names(TRUST) == {"cluster-2"}


def test_a_webhook_that_istiod_made_strict_is_left_so(checkout: Checkout, servers: dict[str, Server]) -> None:
    webhook = ("validatingwebhookconfiguration", "istiod-default-validator")
    strict = json.dumps([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Fail"}])
    servers["cluster-1"].kubectl(
        "patch", *webhook, "--type=json", "--field-manager=pilot-discovery", "-p", strict
    )
    refreshed = checkout.run("refresh")
    assert refreshed.went_well, refreshed.output
    again = checkout.run("up", "--expect-no-changes")
    assert again.went_well, again.output
    assert servers["cluster-1"].get(*webhook)["webhooks"][0]["failurePolicy"] == "Fail"


def test_destroy_leaves_nothing(checkout: Checkout, servers: dict[str, Server]) -> None:
    destroyed = checkout.run("destroy")
    assert destroyed.went_well, destroyed.output
    assert checkout.resources() == []
    for server in servers.values():
        for kind in ("crd", "storageclass", "validatingwebhookconfiguration", "secret"):
            assert server.names(kind) == set(), kind
