"""Istio's rules on one cluster for the services that owners declare in `fedmesh:services`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from components.config.mesh import FailoverSettings
from components.config.services import Namespaces, ServiceSpec, Stickiness, localities
from components.kube.manifests import Document, load_one
from components.kube.objects import child_of, register
from components.mesh.istio import object_names, retry_budget
from components.mesh.outliers import outlier_figures

HOME = "home"
CLUSTER_LABEL = "topology.istio.io/cluster"
READS = ("GET", "HEAD", "OPTIONS")
ANY_FAILURE = "5xx,reset,connect-failure,refused-stream,unavailable,cancelled,internal"


@dataclass(frozen=True)
class ServicesArgs:
    """Args of Services.

    Attributes:
        services: the declarations, by host.
        failover: the mesh's own failover settings.
        after: Istio's component, which installs the CRDs of the rules.
    """

    services: Mapping[str, ServiceSpec]
    failover: FailoverSettings
    after: pulumi.Resource


class Services(pulumi.ComponentResource):
    """A DestinationRule and a VirtualService for each service whose declaration needs them."""

    def __init__(self, name: str, args: ServicesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:services:Services", name, None, opts)
        hosts = [host for host, spec in args.services.items() if spec.beyond_scope]
        for host, part in object_names(hosts).items():
            for rule in service_rules(f"service-{part}", host, args.services[host], args.failover):
                register(name, rule, child_of(self, args.after))
        self.register_outputs({})


def local_settings(services: Mapping[str, ServiceSpec], namespaces: Namespaces) -> list[dict[str, Any]]:
    """Istio's serviceSettings: the hosts that are called within a cluster only, and the exceptions."""
    hosts = localities(services, namespaces)
    return [
        {"settings": {"clusterLocal": wanted}, "hosts": chosen}
        for wanted in (True, False)
        if (chosen := sorted(host for host, value in hosts.items() if value is wanted))
    ]


def service_rules(name: str, host: str, spec: ServiceSpec, failover: FailoverSettings) -> list[Document]:
    """The rules for one host, all of one name; none if the mesh's own rules are enough."""
    rules: list[Document] = []
    if spec.cluster or spec.warmup or spec.stickiness or limits(spec):
        rules.append(destination_rule(name, host, spec, failover))
    if spec.cluster or spec.idempotent or spec.timeout:
        rules.append(virtual_service(name, host, spec))
    return rules


def destination_rule(name: str, host: str, spec: ServiceSpec, failover: FailoverSettings) -> Document:
    """The DestinationRule of a service: load balancing, connection limits and outlier detection."""
    policy: Document = {
        "connectionPool": {"tcp": {"connectTimeout": failover.connect_timeout}},
        "outlierDetection": outlier_figures(failover.outlier_detection),
        "retryBudget": retry_budget(failover.retry_budget),
    }
    for layer, wanted in limits(spec).items():
        policy["connectionPool"][layer] = {**policy["connectionPool"].get(layer, {}), **wanted}
    if spec.stickiness:
        policy["loadBalancer"] = {"consistentHash": consistent_hash(spec.stickiness)}
    elif spec.warmup:
        policy["loadBalancer"] = {"simple": "LEAST_REQUEST", "warmup": {"duration": spec.warmup}}
    home = [{"name": HOME, "labels": {CLUSTER_LABEL: spec.cluster}}] if spec.cluster else []
    return load_one(
        "services/rule.yaml",
        {
            "metadata": {"name": name},
            "spec": {"host": host, "trafficPolicy": policy, **({"subsets": home} if home else {})},
        },
    )


def virtual_service(name: str, host: str, spec: ServiceSpec) -> Document:
    """The VirtualService of a service: time-outs and retries."""
    destination: Document = {"host": host, **({"subset": HOME} if spec.cluster else {})}
    route = {
        "route": [{"destination": destination}],
        **({"timeout": spec.timeout} if spec.timeout else {}),
    }
    again = {**route, "retries": retries(spec)}
    if spec.idempotent == "reads":
        reads = {"match": [{"method": {"exact": method}} for method in READS], **again}
        http = [reads, route]
    else:
        http = [again if spec.idempotent else route]
    tcp = {"tcp": [{"route": [{"destination": destination}]}]} if spec.cluster else {}
    return load_one(
        "services/route.yaml",
        {"metadata": {"name": name}, "spec": {"hosts": [host], "http": http, **tcp}},
    )


def retries(spec: ServiceSpec) -> Document:
    """Istio's HTTPRetry for idempotent requests."""
    return {
        "attempts": spec.attempts,
        **({"perTryTimeout": spec.per_try_timeout} if spec.per_try_timeout else {}),
        "retryOn": ANY_FAILURE,
        "retryRemoteLocalities": True,
        "retryIgnorePreviousHosts": True,
    }


def limits(spec: ServiceSpec) -> dict[str, dict[str, int]]:
    """The declared limits of Istio's connectionPool, by layer."""
    wanted = {
        "tcp": {"maxConnections": spec.max_connections},
        "http": {
            "http1MaxPendingRequests": spec.max_pending_requests,
            "http2MaxRequests": spec.max_requests,
            "maxRequestsPerConnection": spec.max_requests_per_connection,
        },
    }
    given = {
        layer: {key: value for key, value in fields.items() if value is not None}
        for layer, fields in wanted.items()
    }
    return {layer: fields for layer, fields in given.items() if fields}


def consistent_hash(stickiness: Stickiness) -> Document:
    """Istio's consistentHash. Envoy keeps one ring for each priority, so it holds after a failover, too."""
    if stickiness.cookie:
        return {"httpCookie": {"name": stickiness.cookie.name, "ttl": stickiness.cookie.ttl}}
    if stickiness.header:
        return {"httpHeaderName": stickiness.header}
    return {"useSourceIp": True}
