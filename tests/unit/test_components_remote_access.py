"""Remote access: istiod sees its peers' services, and no cluster holds a credential of another."""

import json
import re
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from components.kube.manifests import load
from components.mesh.remote_secrets import peer_cluster, peer_routes, routing_data
from tests.unit.program import LOCAL, Program, members, run

CLUSTERS = ("cluster-1", "cluster-2", "cluster-3")
# What istiod's informers of a peer watch; without any of them it never counts the peer as synced.
DISCOVERY = {
    ("", "namespaces"),
    ("", "nodes"),
    ("", "pods"),
    ("", "services"),
    ("discovery.k8s.io", "endpointslices"),
    ("networking.istio.io", "workloadentries"),
    ("gateway.networking.k8s.io", "gateways"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
}


def document(kind: str, name: str) -> Any:
    (found,) = [
        each
        for each in load("remote_secrets/access.yaml")
        if (each["kind"], each["metadata"]["name"]) == (kind, name)
    ]
    return found


def test_the_reader_may_read_what_discovery_needs_and_nothing_else() -> None:
    rules = document("ClusterRole", "istio-remote-access")["rules"]
    assert {(group, each) for rule in rules for group in rule["apiGroups"] for each in rule["resources"]} == (
        DISCOVERY
    )
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}


def test_of_config_maps_the_reader_sees_the_mesh_configs_of_the_stacks_revisions(folder: Path) -> None:
    config = {"revision": "v1-32", "previousRevision": "default"}
    mesh = run({"clusters": members(2, folder), "storage": LOCAL, "istio": config})
    (rule,) = mesh.one("remote-secrets-cluster-1-istio-remote-access-role").inputs["rules"]
    assert rule["resourceNames"] == ["istio-v1-32", "istio"]
    policy = mesh.one("remote-secrets-cluster-1-remote-access-authorizationpolicy").inputs["spec"]
    (source,) = policy["rules"][0]["from"]
    assert source["source"]["principals"] == [
        "td2.example/ns/istio-system/sa/istiod-v1-32",
        "td2.example/ns/istio-system/sa/istiod",
    ]


def test_only_the_peers_istiods_reach_the_reader_and_only_to_read(mesh: Program) -> None:
    spec = mesh.one("remote-secrets-cluster-1-remote-access-authorizationpolicy").inputs["spec"]
    (rule,) = spec["rules"]
    assert spec["action"] == "ALLOW"
    assert rule["from"] == [
        {"source": {"principals": [f"td{number}.example/ns/istio-system/sa/istiod" for number in (2, 3)]}}
    ]
    assert rule["to"] == [{"operation": {"ports": ["8001"], "methods": ["GET"]}}]
    assert rule["when"] == [{"key": "request.headers[authorization]", "notValues": ["*"]}]


def test_the_reader_listens_on_loopback_behind_its_proxy(mesh: Program) -> None:
    (ingress,) = mesh.one("remote-secrets-cluster-1-remote-access-sidecar").inputs["spec"]["ingress"]
    assert ingress["defaultEndpoint"] == "127.0.0.1:8001"
    workload = mesh.one("remote-secrets-cluster-1-remote-access-deployment").inputs["spec"]["template"][
        "spec"
    ]
    (container,) = workload["containers"]
    assert not [each for each in container["args"] if each.startswith("--address")]
    assert not container.get("ports")


@pytest.mark.parametrize(
    ("path", "open_"),
    [
        ("/api/v1/services", True),
        ("/apis/discovery.k8s.io/v1/endpointslices", True),
        ("/version", True),
        ("/api/v1/namespaces/x/pods/y/exec", False),
        ("/api/v1/namespaces/x/pods/y/log", False),
        ("/api/v1/namespaces/x/services/y/proxy/", False),
        ("/metrics", False),
        ("/logs/", False),
    ],
)
def test_the_reader_takes_no_paths_that_lead_into_pods(mesh: Program, path: str, open_: bool) -> None:
    workload = mesh.one("remote-secrets-cluster-1-remote-access-deployment").inputs["spec"]["template"][
        "spec"
    ]
    given = dict(each.removeprefix("--").split("=", 1) for each in workload["containers"][0]["args"][1:])
    accepted = re.search(given["accept-paths"], path) and not re.search(given["reject-paths"], path)
    assert bool(accepted) is open_
    assert not re.search(given["reject-methods"], "GET")
    assert re.search(given["reject-methods"], "POST")


def test_a_remote_secret_holds_no_credential(mesh: Program) -> None:
    for here, there in permutations(CLUSTERS, 2):
        data = mesh.one(f"remote-secrets-{here}-istio-remote-secret-{there}-secret").inputs["stringData"]
        kubeconfig = json.loads(data[there])
        assert kubeconfig["clusters"] == [
            {"name": there, "cluster": {"server": f"http://127.0.0.1:15100/{there}"}}
        ]
        assert kubeconfig["users"] == [{"name": there, "user": {}}]


def test_the_peers_of_a_drained_cluster_ignore_it_and_it_reads_them(folder: Path) -> None:
    first, second, third = members(3, folder)
    config = {"clusters": [first, second, {**third, "drained": True}], "storage": LOCAL}
    mesh = run(config)
    for here, there in permutations(CLUSTERS, 2):
        labels = mesh.one(f"remote-secrets-{here}-istio-remote-secret-{there}-secret").inputs["metadata"][
            "labels"
        ]
        assert labels["istio/multiCluster"] == ("drained" if there == "cluster-3" else "true")


def test_no_token_of_a_service_account_outlives_its_pod_for_istiod(mesh: Program) -> None:
    tokens = [
        each.name
        for each in mesh.kind("Secret")
        if each.inputs.get("type") == "kubernetes.io/service-account-token"
    ]
    assert not [name for name in tokens if name.startswith("remote-secrets")]


def test_the_way_to_a_peer_is_known_before_istiod_is_told_of_it(mesh: Program) -> None:
    assert mesh.comes_after(
        "remote-secrets-cluster-1-istio-remote-secret-cluster-2-secret",
        "remote-secrets-cluster-1-istio-peers-configmap",
    )
    assert mesh.comes_after(
        "remote-secrets-cluster-1-istio-peers-configmap", "cluster-2-gateways-eastwest-service"
    )


def test_istiod_forgets_a_peer_that_leaves_before_its_gateway_goes(mesh: Program) -> None:
    """The ConfigMap stays, without the peer: what depends on the gateway through it alone would not go first."""
    for here, there in permutations(CLUSTERS, 2):
        secret = mesh.one(f"remote-secrets-{here}-istio-remote-secret-{there}-secret")
        assert f"{there}-gateways-eastwest-service" in secret.after


def test_a_peers_reader_is_accepted_by_its_identity_alone() -> None:
    cluster = peer_cluster("cluster-2", "10.90.0.115", "td2.example")
    context = cluster["transport_socket"]["typed_config"]["common_tls_context"]
    (name,) = context["combined_validation_context"]["default_validation_context"][
        "match_typed_subject_alt_names"
    ]
    assert name["matcher"] == {"exact": "spiffe://td2.example/ns/istio-remote-access/sa/remote-access"}
    assert context["combined_validation_context"]["validation_context_sds_secret_config"]["name"] == "ROOTCA"


def test_secrets_are_answered_beside_istiod_and_never_asked_of_a_peer() -> None:
    *answered, passed = peer_routes("cluster-2")
    assert all("direct_response" in route and "route" not in route for route in answered)
    assert {route["match"]["path"] for route in answered} == {"/cluster-2/api/v1/secrets"}
    assert passed["route"]["cluster"] == "cluster-2"
    files = routing_data({"cluster-2": "a", "cluster-3": "b"}, {"cluster-2": "x", "cluster-3": "y"})
    (routes,) = json.loads(files["routes.json"])["resources"]
    assert len(routes["virtual_hosts"][0]["routes"]) == 8


def test_a_watch_of_secrets_ends_soon_since_istiod_waits_for_it_when_a_cluster_is_drained() -> None:
    (watch,) = [
        route
        for route in peer_routes("cluster-2")
        if route["match"].get("query_parameters", [{}])[0].get("name") == "watch"
    ]
    (fault,) = watch["typed_per_filter_config"].values()
    assert 1 <= float(fault["delay"]["fixed_delay"].removesuffix("s")) <= 10
    event = json.loads(watch["direct_response"]["body"]["inline_string"])
    assert event["type"] == "BOOKMARK", "a watch without any event would have istiod list anew"
    assert watch["response_headers_to_add"][0]["header"] == {
        "key": "content-type",
        "value": "application/json",
    }


def test_istiod_has_its_own_way_and_the_charts_reader_is_gone(mesh: Program) -> None:
    values = mesh.one("cluster-1-istio-istiod").inputs["values"]
    (envoy,) = values["initContainers"]
    assert envoy["restartPolicy"] == "Always"
    assert envoy["image"].startswith("docker.io/istio/proxyv2:1.31.0@sha256:")
    assert values["global"]["enableReaderRBAC"] is False
    assert all(
        json.loads(json.dumps(options["values"]))["global"]["enableReaderRBAC"] is False
        for options in mesh.rendered
        if "defaultRevision" in options["values"]
    )


def test_a_switch_that_ends_istiod_is_never_set(mesh: Program) -> None:
    """Istio 1.31 ends with a nil pointer as soon as a remote cluster syncs."""
    for release in mesh.objects:
        env = release.inputs.get("values", {}).get("env", {}) if release.type.endswith(":Release") else {}
        assert "PILOT_ENABLE_REMOTE_CREDENTIALS_CONTROLLER" not in env
        assert "PILOT_ENABLE_CROSS_CLUSTER_WORKLOAD_ENTRY" not in env
