"""The gateways: in a namespace of their own, without rights, each with the ports that its callers need."""

from pathlib import Path
from typing import Any

import pytest

from components.config.mesh import ChartSettings, IstioSettings
from components.kube.last_known import ClusterState
from components.kube.load_balancers import LoadBalancerService, LoadBalancerSettings
from components.mesh.gateways import IstioGateways, IstioGatewaysArgs
from tests.unit.program import LOCAL, Object, Program, members, run
from tests.unit.recording import record

GATEWAYS = {"ingress": "istio-ingressgateway", "eastwest": "istio-eastwestgateway"}


def two(folder: Path, **sections: Any) -> Program:
    return run({"clusters": members(2, folder), "storage": LOCAL, **sections})


def gateway(mesh: Program, label: str) -> Object:
    return mesh.one(f"cluster-1-gateways-{label}-gateway")


@pytest.mark.parametrize("label", GATEWAYS)
def test_gateways_are_alone_in_their_namespace(mesh: Program, label: str) -> None:
    release = gateway(mesh, label)
    assert release.inputs["namespace"] == "istio-gateways"
    assert release.inputs["name"] == GATEWAYS[label]
    assert mesh.comes_after(release.name, "cluster-1-gateways-istio-gateways-namespace")


@pytest.mark.parametrize("label", GATEWAYS)
def test_a_gateway_has_no_rights_and_no_token_for_the_api_server(mesh: Program, label: str) -> None:
    values = gateway(mesh, label).inputs["values"]
    assert values["rbac"] == {"enabled": False}
    assert values["serviceAccount"] == {"create": False, "name": GATEWAYS[label]}
    account = mesh.one(f"cluster-1-gateways-{GATEWAYS[label]}-serviceaccount").inputs
    assert account["metadata"]["namespace"] == "istio-gateways"
    assert account["automountServiceAccountToken"] is False
    assert mesh.comes_after(gateway(mesh, label).name, f"cluster-1-gateways-{GATEWAYS[label]}-serviceaccount")


def test_only_an_ingress_that_ends_tls_may_read_the_secrets_of_its_namespace(folder: Path) -> None:
    mesh = two(folder, istio={"ingressTls": True})
    enabled = {label: gateway(mesh, label).inputs["values"]["rbac"]["enabled"] for label in GATEWAYS}
    assert enabled == {"ingress": True, "eastwest": False}


def test_the_namespace_of_the_gateways_takes_restricted_pods_only(mesh: Program) -> None:
    labels = mesh.one("cluster-1-gateways-istio-gateways-namespace").inputs["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for label in GATEWAYS:
        context = gateway(mesh, label).inputs["values"]["securityContext"]
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert context["sysctls"] == [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]


def test_the_east_west_gateway_opens_its_own_port_and_health_only(mesh: Program) -> None:
    values = gateway(mesh, "eastwest").inputs["values"]
    assert "networkGateway" not in values, "the chart opens istiod's ports with it"
    assert [port["port"] for port in values["service"]["ports"]] == [15021, 15443]
    assert values["labels"] == {"topology.istio.io/network": "network-1"}
    assert values["env"] == {"ISTIO_META_REQUESTED_NETWORK_VIEW": "network-1"}
    assert "ports" not in gateway(mesh, "ingress").inputs["values"]["service"]


def test_gateway_objects_of_teams_reach_the_ingress_unless_the_stack_says_otherwise(
    mesh: Program, folder: Path
) -> None:
    env = mesh.one("cluster-1-istio-istiod").inputs["values"]["env"]
    assert env["PILOT_SCOPE_GATEWAY_TO_NAMESPACE"] == "false"
    scoped = two(folder, istio={"scopeGateways": True}).one("cluster-1-istio-istiod").inputs["values"]["env"]
    assert scoped["PILOT_SCOPE_GATEWAY_TO_NAMESPACE"] == "true"


def test_gateway_objects_of_the_platform_stand_in_the_gateways_namespace(mesh: Program) -> None:
    for each in mesh.kind("Gateway"):
        assert each.inputs["metadata"]["namespace"] == "istio-gateways", each.name


def test_the_samples_come_in_through_hosts_of_their_namespace(mesh: Program) -> None:
    (server,) = mesh.one("cluster-1-samples-helloworld-gateway-gateway").inputs["spec"]["servers"]
    assert server["hosts"] == ["helloworld/*"]
    route = mesh.one("cluster-1-samples-helloworld-virtualservice").inputs
    assert route["metadata"]["namespace"] == "helloworld"
    assert route["spec"]["gateways"] == ["istio-gateways/helloworld-gateway"]
    assert mesh.comes_after(
        "cluster-1-samples-helloworld-gateway-gateway", "cluster-1-gateways-istio-gateways-namespace"
    )


def test_previous_gateways_stay_as_they_are_while_addresses_move(folder: Path) -> None:
    moving = two(folder, istio={"migrating": True, "scopeGateways": True})
    for label, name in GATEWAYS.items():
        old = moving.one(f"cluster-1-gateways-{label}")
        assert (old.inputs["namespace"], old.inputs["name"]) == ("istio-system", name)
        assert {"chart", "version", "values"} <= set(old.ignores)
        assert gateway(moving, label).inputs["namespace"] == "istio-gateways"
    env = moving.one("cluster-1-istio-istiod").inputs["values"]["env"]
    assert env["PILOT_SCOPE_GATEWAY_TO_NAMESPACE"] == "false", "Gateways of tenants serve the old pods"
    kept = moving.one("cluster-1-istio-cross-network-gateway-gateway").inputs
    assert kept["metadata"]["namespace"] == "istio-system"


def test_peers_leave_the_previous_gateway_when_its_successor_is_ready(folder: Path) -> None:
    moving = two(folder, istio={"migrating": True})
    name = "cluster-1-gateways-istio-eastwestgateway-servicepatch"
    patch = moving.one(name).inputs["metadata"]
    assert (patch["namespace"], patch["labels"]) == ("istio-system", {"topology.istio.io/network": ""})
    assert moving.comes_after(name, "cluster-1-gateways-eastwest-gateway")
    assert moving.comes_after(name, "cluster-1-gateways-eastwest"), "and is removed before"


def test_previous_gateways_go_when_nobody_keeps_them(mesh: Program) -> None:
    names = {each.name for each in mesh.objects}
    assert not names & {
        "cluster-1-gateways-ingress",
        "cluster-1-istio-cross-network-gateway-gateway",
        "cluster-1-gateways-istio-eastwestgateway-servicepatch",
    }


@pytest.mark.parametrize("gated", [True, False])
def test_gateways_that_are_ready_late_are_replaced_all_at_once(gated: bool) -> None:
    service = LoadBalancerService(gated=gated)
    args = IstioGatewaysArgs(
        "istio-system",
        "network-1",
        ChartSettings().istio_gateway,
        IstioSettings(replicas=3),
        [],
        LoadBalancerSettings(ingress=service, east_west=service),
        ClusterState("", dict.fromkeys(GATEWAYS, "192.0.2.7")),
    )
    made = record(lambda: IstioGateways("one", args))
    for label in GATEWAYS:
        inputs = made.one(f"one-{label}-gateway").inputs
        at_once = {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}} if gated else None
        assert inputs["values"].get("strategy") == at_once
        assert inputs["timeout"] == (1200 if gated else 600)
