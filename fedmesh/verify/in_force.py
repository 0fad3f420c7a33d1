"""What is in force for the calls to a service, as the proxies of its callers have it (`fedmesh verify --service`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from fedmesh import envoy
from fedmesh.kube import Json
from fedmesh.reading import LiveCluster, full_name
from fedmesh.topology import GATEWAY_NAMESPACE, ISTIO_NAMESPACE
from fedmesh.verify.hosts import HTTP, host_of, protocol
from fedmesh.verify.services import meshed_services


@dataclass(frozen=True)
class InForce:
    """What a caller's proxy does with calls to one port of a service.

    Attributes:
        caller: the pod that was asked.
        routes: for each route in its order: whom it takes, time-out and retries; empty for TCP.
        balancing, ejection: how an endpoint is chosen, and when it is put aside.
        endpoints: number of endpoints by priority; calls go to 0 while it has healthy ones.
        rules: DestinationRules that the proxy applies.
    """

    cluster: str
    port: int
    caller: str
    routes: tuple[str, ...]
    balancing: str
    ejection: str
    endpoints: tuple[str, ...]
    rules: tuple[str, ...]


def in_force(clusters: Iterable[LiveCluster], namespace: str, name: str) -> list[InForce]:
    """What is in force on each cluster for each port of a service that exists on one of them.

    Raises:
        LookupError: no cluster has the service, or nobody could call it.
    """
    members = list(clusters)
    known = [
        service
        for cluster in members
        for service in meshed_services(cluster)
        if full_name(service) == f"{namespace}/{name}"
    ]
    if not known:
        raise LookupError(f"no namespace {namespace} with a Service {name} is in the mesh on any cluster")
    ports = {port["port"]: port for service in known for port in service["spec"].get("ports", [])}
    host = host_of(known[0])
    found = [
        seen
        for cluster in members
        for port in sorted(ports)
        if (seen := on_cluster(cluster, host, port, tcp=protocol(ports[port]) not in HTTP)) is not None
    ]
    if not found:
        raise LookupError(f"no proxy knows {host}: no pod with a sidecar runs, or a Sidecar object hides it")
    return found


def on_cluster(cluster: LiveCluster, host: str, port: int, *, tcp: bool) -> InForce | None:
    """What the first pod with a sidecar that knows the host has in force; None where there is no such pod."""
    callers = [
        pod
        for pod in cluster.mesh_pods()
        if pod["metadata"]["namespace"] not in (ISTIO_NAMESPACE, GATEWAY_NAMESPACE)
    ]
    for pod in callers[:5]:
        pattern = f"outbound.{port}..{host}$"
        dump = json.loads(
            cluster.proxy(pod, f"config_dump?resource=dynamic_active_clusters&name_regex={pattern}")
        )
        if not dump.get("configs"):
            continue
        config = dump["configs"][0]["cluster"]
        routes: Json = {}
        if not tcp:
            path = f"config_dump?resource=dynamic_route_configs&name_regex=^{port}$"
            routes = json.loads(cluster.proxy(pod, path))
        endpoints = envoy.parse_endpoints(
            json.loads(cluster.proxy(pod, "clusters?format=json")), envoy.outbound(port, host)
        )
        return InForce(
            cluster.name,
            port,
            full_name(pod),
            tuple(routes_of(routes, host)),
            balancing(config),
            ejection(config),
            tuple(priorities(endpoints)),
            tuple(rules_of(config)),
        )
    return None


def routes_of(dump: Mapping[str, Any], host: str) -> list[str]:
    """The routes of a host in a dump of route configs, one sentence each."""
    virtual_hosts = [
        virtual
        for entry in dump.get("configs") or []
        for virtual in entry.get("route_config", {}).get("virtual_hosts", [])
        if host in virtual.get("domains", [])
    ]
    return [route_text(route) for virtual in virtual_hosts for route in virtual.get("routes", [])]


def route_text(route: Mapping[str, Any]) -> str:
    """Whom a route takes, its time-out and its retries."""
    action = route.get("route", {})
    methods = [
        str(header.get("string_match", {}).get("exact", header.get("string_match")))
        for header in route.get("match", {}).get("headers", [])
        if header.get("name") == ":method"
    ]
    timeout = action.get("timeout", "0s")
    parts = [f"{' '.join(methods)}:"] if methods else []
    parts.append("no time-out" if timeout == "0s" else f"time-out {timeout}")
    retries = action.get("retry_policy", {})
    if retries.get("num_retries") == 0 or not retries:
        parts.append("no retries")
    else:
        per_try = (
            f", {retries['per_try_timeout']} each" if retries.get("per_try_timeout", "0s") != "0s" else ""
        )
        parts.append(f"{retries.get('num_retries', 1)} retries on {retries.get('retry_on', '')}{per_try}")
    if action.get("hash_policy"):
        parts.append("sticky")
    return " ".join(parts)


def balancing(config: Mapping[str, Any]) -> str:
    """How an endpoint is chosen among those of one priority."""
    policy = str(config.get("lb_policy", "ROUND_ROBIN")).replace("_", " ").lower()
    return f"{policy}, connect within {config.get('connect_timeout', '5s')}"


def ejection(config: Mapping[str, Any]) -> str:
    """When an endpoint is put aside, and how many can be."""
    outliers = config.get("outlier_detection")
    if outliers is None:
        return "never: no failover from endpoints that fail"
    gateway = outliers.get("consecutive_gateway_failure", 5)
    own = outliers.get("consecutive_5xx", 5)
    local = outliers.get("consecutive_local_origin_failure", 5)
    parts: list[str] = []
    if outliers.get("enforcing_consecutive_gateway_failure", 0):
        parts.append(f"{gateway} x 502, 503, 504")
    if outliers.get("enforcing_consecutive_5xx", 100):
        parts.append(f"{own} x 5xx")
    parts.append(f"{local} failed connections")
    most = outliers.get("max_ejection_percent", 10)
    return f"after {' or '.join(parts)}; up to {most} % of the endpoints"


def priorities(endpoints: Sequence[envoy.Endpoint]) -> list[str]:
    """The number of endpoints of each priority, and how many of them are healthy."""
    total = Counter(each.priority for each in endpoints)
    healthy = Counter(each.priority for each in endpoints if each.healthy)
    return [f"{priority}: {healthy[priority]} of {total[priority]}" for priority in sorted(total)]


def rules_of(config: Mapping[str, Any]) -> list[str]:
    """The DestinationRules that istiod made the cluster of."""
    istio = config.get("metadata", {}).get("filter_metadata", {}).get("istio", {})
    path = str(istio.get("config", ""))
    if not path:
        return []
    *_, namespace, _, name = path.split("/")
    return [f"{namespace}/{name}"]


def print_in_force(console: Console, found: Sequence[InForce]) -> None:
    """A table with a row for each cluster and port."""
    table = Table(
        "cluster", "port", "as seen by", "routes", "balancing", "put aside", "healthy by priority", "rule"
    )
    for each in found:
        table.add_row(
            each.cluster,
            str(each.port),
            each.caller,
            "\n".join(each.routes) or "TCP",
            each.balancing,
            each.ejection,
            "\n".join(each.endpoints) or "none",
            "\n".join(each.rules) or "none",
        )
    console.print(table)


def as_json(found: Sequence[InForce]) -> str:
    """The same as JSON."""
    return json.dumps([asdict(each) for each in found], indent=2)
