"""The platform's NetworkPolicies let in what the platform needs, and nothing else; their reading is right by rule."""

from pathlib import Path
from typing import Any

import pytest

from components.kube.manifests import load
from fedmesh.network_policies import OUTSIDE, TrafficSource, closed_by
from tests.unit.program import LOCAL, Program, members, run

TENANT = TrafficSource({"app": "web"}, "shop", {"kubernetes.io/metadata.name": "shop"})
PROMETHEUS = TrafficSource(
    {"app": "prometheus"}, "observability", {"kubernetes.io/metadata.name": "observability"}
)
# What a tenant can give his own pods and namespace.
DRESSED_UP = TrafficSource(
    {"app": "prometheus", "istio": "eastwestgateway"}, "shop", {"kubernetes.io/metadata.name": "shop"}
)
GATEWAYS = {"kubernetes.io/metadata.name": "istio-gateways"}
EAST_WEST = TrafficSource({"istio": "eastwestgateway"}, "istio-gateways", GATEWAYS)
INGRESS = TrafficSource({"istio": "ingressgateway"}, "istio-gateways", GATEWAYS)


@pytest.fixture(scope="module")
def everything(folder: Path) -> Program:
    shown = {"grafana": {"enabled": True}, "kiali": {"enabled": True}}
    return run({"clusters": members(2, folder), "storage": LOCAL, "observability": shown})


def policies(mesh: Program, cluster: str) -> list[Any]:
    return [each.document for each in mesh.kind("NetworkPolicy") if each.provider == cluster]


def own(namespace: str, labels: dict[str, str], **ports: int) -> dict[str, Any]:
    container = {"name": "it", "ports": [{"name": n, "containerPort": p} for n, p in ports.items()]}
    return {"metadata": {"namespace": namespace, "labels": labels}, "spec": {"containers": [container]}}


def of_manifest(file: str, kind: str) -> dict[str, Any]:
    (workload,) = [each for each in load(file) if each["kind"] == kind]
    template = workload["spec"]["template"]
    return {
        "metadata": {**template["metadata"], "namespace": workload["metadata"]["namespace"]},
        "spec": template["spec"],
    }


PODS = {
    "spire-server": of_manifest("spire/server.yaml", "StatefulSet"),
    "spiffe-csi-driver": of_manifest("spire/csi-driver.yaml", "DaemonSet"),
    "istiod": own("istio-system", {"app": "istiod", "istio.io/rev": "v1-32"}),
    # labels and names of ports as cert-manager's chart has them
    "webhook": own(
        "cert-manager",
        {"app.kubernetes.io/instance": "cert-manager", "app.kubernetes.io/name": "webhook"},
        https=10250,
        healthcheck=6080,
    ),
    "cert-manager": own(
        "cert-manager",
        {"app.kubernetes.io/instance": "cert-manager", "app.kubernetes.io/name": "cert-manager"},
        **{"http-metrics": 9402},
    ),
    "remote-access": of_manifest("remote_secrets/reader.yaml", "Deployment"),
    "prometheus": of_manifest("observability/prometheus.yaml", "StatefulSet"),
    "grafana": of_manifest("observability/grafana.yaml", "Deployment"),
    "kiali": own("observability", {"app.kubernetes.io/name": "kiali"}),
}
AGENT = OUTSIDE  # on the network of its node
API_SERVER = OUTSIDE
PEER = OUTSIDE


@pytest.mark.parametrize(
    ("pod", "port", "caller"),
    [
        ("spire-server", 8081, AGENT),
        ("spire-server", 8443, PEER),
        ("spire-server", 9988, PROMETHEUS),
        ("istiod", 15012, TENANT),  # the proxy of his pod
        ("istiod", 15012, INGRESS),
        ("istiod", 15017, API_SERVER),
        ("istiod", 15014, PROMETHEUS),
        ("webhook", 10250, API_SERVER),
        ("cert-manager", 9402, PROMETHEUS),
        ("remote-access", 8001, EAST_WEST),
        ("remote-access", 15090, PROMETHEUS),
        ("prometheus", 9090, PROMETHEUS),  # and Kiali and Grafana beside it
    ],
)
def test_what_the_platform_needs_is_let_in(
    everything: Program, pod: str, port: int, caller: TrafficSource
) -> None:
    assert closed_by(policies(everything, "cluster-1"), PODS[pod], port, caller) == ""


@pytest.mark.parametrize("caller", [TENANT, DRESSED_UP], ids=["tenant", "dressed-up"])
@pytest.mark.parametrize(
    ("pod", "port"),
    [
        ("spire-server", 9988),
        ("spire-server", 8080),
        ("spire-server", 8083),
        ("spiffe-csi-driver", 9809),
        ("istiod", 15014),
        ("istiod", 15010),
        ("istiod", 8080),
        ("webhook", 6080),
        ("cert-manager", 9402),
        ("remote-access", 8001),
        ("remote-access", 15020),
        ("prometheus", 9090),
        ("grafana", 3000),
        ("kiali", 20001),
    ],
)
def test_a_tenant_is_kept_from_what_asks_nobody_who_he_is(
    everything: Program, pod: str, port: int, caller: TrafficSource
) -> None:
    assert closed_by(policies(everything, "cluster-1"), PODS[pod], port, caller)


def test_metrics_are_open_only_where_a_peer_reads_them_through_the_api_server(everything: Program) -> None:
    read, reading = policies(everything, "cluster-2"), policies(everything, "cluster-1")
    assert closed_by(read, PODS["prometheus"], 9090, API_SERVER) == ""
    assert closed_by(reading, PODS["prometheus"], 9090, API_SERVER) == "prometheus"


def test_every_pod_of_the_platform_is_chosen_by_a_policy(everything: Program) -> None:
    assert all(closed_by(policies(everything, "cluster-1"), pod, 1, OUTSIDE) for pod in PODS.values())


def policy(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "shop"}, "spec": {"podSelector": {}, **spec}}


@pytest.mark.parametrize(
    ("spec", "caller", "expected"),
    [
        ({"policyTypes": ["Egress"]}, TENANT, ""),
        ({"podSelector": {"matchLabels": {"app": "db"}}}, TENANT, ""),
        ({}, TENANT, "p"),
        ({"ingress": [{}]}, OUTSIDE, ""),
        ({"ingress": [{"from": [{"podSelector": {}}]}]}, TENANT, ""),
        ({"ingress": [{"from": [{"podSelector": {}}]}]}, PROMETHEUS, "p"),
        ({"ingress": [{"from": [{"podSelector": {}}]}]}, OUTSIDE, "p"),
        ({"ingress": [{"from": [{"namespaceSelector": {}}]}]}, PROMETHEUS, ""),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}, OUTSIDE, ""),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}, TENANT, "p"),
        ({"ingress": [{"ports": [{"port": "http"}]}]}, TENANT, ""),
        ({"ingress": [{"ports": [{"port": "grpc"}]}]}, TENANT, "p"),
        ({"ingress": [{"ports": [{"port": 8000, "endPort": 8100}]}]}, TENANT, ""),
        ({"ingress": [{"ports": [{"port": 8080, "protocol": "UDP"}]}]}, TENANT, "p"),
        ({"ingress": [{"ports": [{"protocol": "TCP"}]}]}, TENANT, ""),
        *(
            (
                {"podSelector": {"matchExpressions": [{"key": "app", **expression}]}},
                TENANT,
                chosen,
            )
            for expression, chosen in (
                ({"operator": "In", "values": ["web"]}, "p"),
                ({"operator": "NotIn", "values": ["web"]}, ""),
                ({"operator": "Exists"}, "p"),
                ({"operator": "DoesNotExist"}, ""),
            )
        ),
    ],
)
def test_policies_are_read_as_kubernetes_defines_them(
    spec: dict[str, Any], caller: TrafficSource, expected: str
) -> None:
    pod = own("shop", {"app": "web"}, http=8080)
    assert closed_by([policy(**spec)], pod, 8080, caller) == expected
