"""What the mesh does to a call whose owner declared nothing: the documents that decide it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.mesh.injection import with_spire
from tests.unit.program import LOCAL, Program, members, run

OUTLIERS = {
    "splitExternalLocalOriginErrors": True,
    "consecutive5xxErrors": 0,
    "consecutiveGatewayErrors": 5,
    "consecutiveLocalOriginFailures": 2,
    "interval": "1s",
    "baseEjectionTime": "5s",
    "maxEjectionPercent": 100,
    "minHealthPercent": 1,
}
# Envoy's conditions under which the request cannot have reached the app
BEFORE_THE_APP = {"connect-failure", "refused-stream", "reset-before-request"}


def two(folder: Path, **sections: Any) -> Program:
    return run({"clusters": members(2, folder), "storage": LOCAL, **sections})


def spec_of(mesh: Program, name: str) -> Any:
    return mesh.one(name).inputs["spec"]


def mesh_config(mesh: Program) -> Any:
    return mesh.one("cluster-1-istio-istiod").inputs["values"]["meshConfig"]


def keys_below(value: Any) -> set[str]:
    """The keys of all mappings inside a value."""
    if isinstance(value, Mapping):
        return {*value, *(key for each in value.values() for key in keys_below(each))}
    return {key for each in value for key in keys_below(each)} if isinstance(value, list) else set()


def test_no_request_gets_a_time_out_that_it_did_not_ask_for(mesh: Program) -> None:
    rule = spec_of(mesh, "cluster-1-istio-failover-destinationrule")
    for document in (mesh_config(mesh), rule):
        assert not {"perTryTimeout", "timeout", "idleTimeout"} & keys_below(document)


def test_only_what_cannot_have_reached_the_app_is_sent_again(mesh: Program) -> None:
    policy = mesh_config(mesh)["defaultHttpRetryPolicy"]
    assert set(policy["retryOn"].split(",")) == BEFORE_THE_APP
    assert policy["attempts"] >= 3, "the third attempt is the first that leaves the network"
    assert policy["retryRemoteLocalities"] is True
    assert policy["retryIgnorePreviousHosts"] is True, "Istio leaves it out under consistentHash otherwise"


def test_an_apps_own_answers_eject_nobody(mesh: Program) -> None:
    rule = spec_of(mesh, "cluster-1-istio-failover-destinationrule")
    assert rule["trafficPolicy"]["outlierDetection"] == OUTLIERS


def test_an_owners_rule_without_outlier_detection_inherits_the_mesh_s(mesh: Program) -> None:
    config = mesh_config(mesh)
    assert config["defaultTrafficPolicy"] == {"outlierDetection": OUTLIERS}
    assert config["connectTimeout"] == "1s"


def test_retries_have_a_budget_for_all_hosts_and_for_one(folder: Path) -> None:
    default = {"percent": 10, "minRetryConcurrency": 20, "budgetInterval": "10s"}
    host = {"a.b.svc.cluster.local": {"retryBudget": {"minConcurrency": 5}}}
    mesh = two(folder, failover={"retryBudget": {"percent": 7}, "hosts": host})
    found = {
        name: spec_of(mesh, f"cluster-1-istio-{name}-destinationrule")["trafficPolicy"]["retryBudget"]
        for name in ("failover", "failover-a-b-svc-cluster-local")
    }
    assert found == {
        "failover": {**default, "percent": 7},
        "failover-a-b-svc-cluster-local": {**default, "percent": 7, "minRetryConcurrency": 5},
    }


def test_the_zone_comes_before_the_region_before_other_networks(mesh: Program) -> None:
    balancing = spec_of(mesh, "cluster-1-istio-failover-destinationrule")["trafficPolicy"]["loadBalancer"]
    assert balancing == {
        "localityLbSetting": {
            "enabled": True,
            "failoverPriority": [
                "topology.istio.io/network",
                "topology.kubernetes.io/region",
                "topology.kubernetes.io/zone",
            ],
        }
    }


def test_priorities_hold_under_owners_rules_by_a_spelling_that_istiod_takes(mesh: Program) -> None:
    """istiod sorts by region on its own there, and refuses the zone's plain name: with `==` it is a label like any."""
    setting = mesh_config(mesh)["zoneAwareLbSetting"]
    assert setting == {"failoverPriority": ["topology.istio.io/network", "topology.kubernetes.io/zone=="]}


def test_the_numbers_of_the_stack_hold_with_and_without_owners_rules(folder: Path) -> None:
    own = {
        "connectTimeout": "2s",
        "outlierDetection": {"consecutiveGatewayErrors": 7, "baseEjectionTime": "9s"},
        "retries": {"perTryTimeout": "4s"},
    }
    mesh = two(folder, failover=own)
    expected = {**OUTLIERS, "consecutiveGatewayErrors": 7, "baseEjectionTime": "9s"}
    config = mesh_config(mesh)
    rule = spec_of(mesh, "cluster-1-istio-failover-destinationrule")["trafficPolicy"]
    assert rule["outlierDetection"] == config["defaultTrafficPolicy"]["outlierDetection"] == expected
    assert rule["connectionPool"] == {"tcp": {"connectTimeout": "2s"}}
    assert config["connectTimeout"] == "2s"
    assert config["defaultHttpRetryPolicy"]["perTryTimeout"] == "4s"


def test_callers_that_speak_http_1_0_are_answered(mesh: Program) -> None:
    """Istio's default is 426; nginx as a reverse proxy, ab and old clients speak it."""
    assert mesh.one("cluster-1-istio-istiod").inputs["values"]["env"]["PILOT_HTTP10"] == "true"


@pytest.mark.parametrize("context", ["SIDECAR_OUTBOUND", "GATEWAY"])
def test_data_that_nobody_acknowledges_ends_a_connection_within_seconds(mesh: Program, context: str) -> None:
    (patch,) = [each for each in dead_peers(mesh, "CLUSTER") if each["match"] == {"context": context}]
    (option,) = patch["patch"]["value"]["upstream_bind_config"]["socket_options"]
    tcp, user_timeout = 6, 18
    assert (option["level"], option["name"], option["int_value"]) == (tcp, user_timeout, 3000)


def test_an_app_has_more_time_to_take_a_connection_of_its_own_proxy(mesh: Program) -> None:
    """The kernel repeats a connection's first packet after a second, where the app's queue was full."""
    (patch,) = [each for each in dead_peers(mesh, "CLUSTER") if each["match"]["context"] == "SIDECAR_INBOUND"]
    assert "cluster" not in patch["match"], "all ports, also those of no Service"
    assert patch["patch"] == {"operation": "MERGE", "value": {"connect_timeout": "10s"}}


@pytest.mark.parametrize(("wanted", "milliseconds"), [("3s", 10_000), ("1m", 60_000), ("0s", None)])
def test_servers_outside_of_the_mesh_have_more_time_to_take_a_connection(
    folder: Path, wanted: str, milliseconds: int | None
) -> None:
    """The user time-out also ends a connection that is being made: the last one that is set holds."""
    patches = dead_peers(two(folder, istio={"deadPeers": {"userTimeout": wanted}}), "CLUSTER")
    outside = {"context": "SIDECAR_OUTBOUND", "cluster": {"name": "PassthroughCluster"}}
    last: dict[str, Any] = {}
    for patch in patches:
        if patch["match"] in ({"context": "SIDECAR_OUTBOUND"}, outside):
            last |= patch["patch"]["value"]
    assert last["connect_timeout"] == "10s"
    options = last.get("upstream_bind_config", {}).get("socket_options", [{}])
    assert [option.get("int_value") for option in options] == [milliseconds]


def test_idle_peers_are_asked_whether_they_live_on_both_sides(mesh: Program) -> None:
    assert mesh_config(mesh)["tcpKeepalive"] == {"time": "2s", "interval": "1s", "probes": 2}
    contexts = {each["match"]["context"] for each in dead_peers(mesh, "LISTENER")}
    assert contexts == {"SIDECAR_INBOUND", "GATEWAY"}
    for patch in dead_peers(mesh, "LISTENER"):
        assert patch["patch"]["value"] == {
            "tcp_keepalive": {"keepalive_time": 2, "keepalive_interval": 1, "keepalive_probes": 2}
        }


def test_no_listener_has_a_user_time_out(mesh: Program) -> None:
    """There it would cut a caller that reads slowly."""
    for patch in dead_peers(mesh, "LISTENER"):
        assert "socket_options" not in keys_below(patch)


def test_a_connection_that_is_not_made_is_tried_again_before_a_byte_was_sent(mesh: Program) -> None:
    patches = dead_peers(mesh, "NETWORK_FILTER")
    assert {each["match"]["context"] for each in patches} == {"SIDECAR_OUTBOUND", "GATEWAY"}
    for patch in patches:
        assert patch["patch"]["value"]["typed_config"]["max_connect_attempts"] == 3


def test_a_silent_connection_lives_as_long_as_its_peer(mesh: Program) -> None:
    assert mesh_config(mesh)["defaultConfig"]["proxyMetadata"]["ISTIO_META_IDLE_TIMEOUT"] == "0s"


def dead_peers(mesh: Program, kind: str) -> list[Any]:
    """The patches of one kind of Envoy's config."""
    patches = spec_of(mesh, "cluster-1-istio-dead-peers-envoyfilter")["configPatches"]
    return [each for each in patches if each["applyTo"] == kind]


def test_what_others_changed_by_hand_on_our_objects_is_taken_back_without_a_conflict(mesh: Program) -> None:
    ours = [each for each in mesh.objects if each.document and not each.read]
    assert ours
    free = [
        each.name
        for each in ours
        if "pulumi.com/patchForce" not in each.document["metadata"].get("annotations", {})
    ]
    assert not free


@pytest.mark.parametrize("template", ["sidecar", "gateway", "kube-gateway"])
def test_pods_that_name_a_template_of_istio_get_their_identity_from_spire(
    mesh: Program, template: str
) -> None:
    templates = mesh.one("cluster-1-istio-istiod").inputs["values"]["sidecarInjectorWebhook"]["templates"]
    text = templates[template].replace("\n      - ", "\n  - ").replace("\n        csi", "\n    csi")
    volumes = yaml.safe_load(text)["spec"]["volumes"]
    socket = {"name": "workload-socket", "csi": {"driver": "csi.spiffe.io", "readOnly": True}}
    assert volumes == [socket, {"name": "x"}]
    assert "csi.spiffe.io" in templates["spire"], "pods that ask for `gateway,spire` go on working"


def test_a_template_without_a_proxy_of_its_own_stays_as_it_is(mesh: Program) -> None:
    templates = mesh.one("cluster-1-istio-istiod").inputs["values"]["sidecarInjectorWebhook"]["templates"]
    assert "grpc-simple" not in templates


def test_a_version_of_istio_with_other_templates_is_refused() -> None:
    with pytest.raises(ValueError, match="template gateway has 0 volumes"):
        with_spire("gateway", "spec: {}")


@pytest.mark.parametrize(
    ("release", "app"),
    [
        ("istio-istiod", "istiod"),
        ("gateways-ingress-gateway", "istio-ingressgateway"),
        ("gateways-eastwest-gateway", "istio-eastwestgateway"),
    ],
)
def test_a_drain_takes_one_pod_after_the_other(mesh: Program, release: str, app: str) -> None:
    values = mesh.one(f"cluster-1-{release}").inputs["values"]
    budget = values.get("podDisruptionBudget") or values["pdb"]
    assert budget == {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    spread = values["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    for each in spread:
        assert each["labelSelector"] == {"matchLabels": {"app": app}}
        assert each["whenUnsatisfiable"] == "ScheduleAnyway", "one node must do"
