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
from fedmesh.reading import PROXY, LiveCluster, full_name
from fedmesh.topology import GATEWAY_NAMESPACE, ISTIO_NAMESPACE
from fedmesh.verify.hosts import HTTP, SNIFFED, UDP, host_of, protocol
from fedmesh.verify.services import meshed_services


@dataclass(frozen=True)
class InForce:
    """What a caller's proxy does with calls to one port of a service.

    Attributes:
        caller: the pod that was asked.
        subset: the one that the calls are sent to; "": all endpoints.
        routes: for each route there in its order: whom it takes, time-out and retries, or TCP.
        balancing, ejection: how an endpoint is chosen, and when it is put aside.
        endpoints: number of endpoints by priority; calls go to 0 while it has healthy ones.
        rules: DestinationRules that the proxy applies.
    """

    cluster: str
    port: int
    caller: str
    subset: str
    routes: tuple[str, ...]
    balancing: str
    ejection: str
    endpoints: tuple[str, ...]
    rules: tuple[str, ...]


def in_force(clusters: Iterable[LiveCluster], namespace: str, name: str) -> list[InForce]:
    """What is in force on each cluster for each port and subset of a service that exists on one of them.

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
        for number, port in sorted(ports.items())
        if protocol(port) != UDP
        for seen in on_cluster(cluster, host, number, protocol(port))
    ]
    if not found:
        raise LookupError(f"no proxy knows {host}: no pod with a sidecar runs, or a Sidecar object hides it")
    return found


def on_cluster(cluster: LiveCluster, host: str, port: int, spoken: str) -> list[InForce]:
    """What the first pod with a sidecar that knows the host has in force, for each subset that its routes name.

    Args:
        spoken: the port's protocol.
    """
    callers = [
        pod
        for pod in cluster.mesh_pods()
        if pod["metadata"]["namespace"] not in (ISTIO_NAMESPACE, GATEWAY_NAMESPACE) and not is_gateway(pod)
    ]
    for pod in callers[:5]:
        known = envoy_clusters(cluster, pod, port, host)
        if not known:
            continue
        ways = ways_of(cluster, pod, port, host, spoken)
        if not ways:
            ways = [
                (envoy.outbound(port, host), "TCP" if spoken not in HTTP | {SNIFFED} else "no route found")
            ]
        state = json.loads(cluster.proxy(pod, "clusters?format=json"))
        return [
            InForce(
                cluster.name,
                port,
                full_name(pod),
                subset_of(name, host, port),
                tuple(dict.fromkeys(text for each, text in ways if each == name)),
                balancing(known[name]) if name in known else "does not exist: calls fail",
                ejection(known[name]) if name in known else "",
                tuple(priorities(envoy.parse_endpoints(state, name))),
                tuple(rules_of(known.get(name, {}))),
            )
            for name in dict.fromkeys(name for name, _ in ways)
        ]
    return []


def envoy_clusters(cluster: LiveCluster, pod: Json, port: int, host: str) -> dict[str, Json]:
    """The Envoy clusters that a proxy has for a port of a host, by name: one for all endpoints, one per subset."""
    configs = dump(cluster, pod, "dynamic_active_clusters", f"outbound.{port}..*{host}$")
    found = {each["cluster"]["name"]: each["cluster"] for each in configs}
    return {name: each for name, each in found.items() if is_of(name, port, host)}


def ways_of(cluster: LiveCluster, pod: Json, port: int, host: str, spoken: str) -> list[tuple[str, str]]:
    """The Envoy clusters that calls to a port are sent to, each with what the route does with them."""
    ways: list[tuple[str, str]] = []
    if spoken in HTTP | {SNIFFED}:
        # Ports that say no protocol have a route config of their own.
        configs = [
            each
            for name in (f"^{port}$", f"^{host}:{port}$")
            for each in dump(cluster, pod, "dynamic_route_configs", name)
        ]
        ways += [
            (name, route_text(route))
            for route in routes_of(configs, host)
            for name in targets(route.get("route", {})) or [envoy.outbound(port, host)]
        ]
    if spoken not in HTTP:
        listeners = dump(cluster, pod, "dynamic_listeners", f".*_{port}$")
        ways += [(name, "TCP") for name in targets(listeners) if is_of(name, port, host)]
    return ways


def dump(cluster: LiveCluster, pod: Json, resource: str, pattern: str) -> list[Json]:
    """The configs of a kind whose names match, as a proxy has them."""
    answer = json.loads(cluster.proxy(pod, f"config_dump?resource={resource}&name_regex={pattern}"))
    return answer.get("configs") or []


def routes_of(configs: Iterable[Json], host: str) -> list[Json]:
    """The routes of a host in route configs. Where a config has this host only, the virtual host takes all domains."""
    virtual_hosts = [
        virtual
        for entry in configs
        for virtual in entry.get("route_config", {}).get("virtual_hosts", [])
        if host in virtual.get("domains", []) or virtual.get("name", "").partition(":")[0] == host
    ]
    return [route for virtual in virtual_hosts for route in virtual.get("routes", [])]


def targets(config: Any) -> list[str]:
    """The Envoy clusters that a route or a listener sends calls to, without those that get copies."""
    if isinstance(config, list):
        return [name for each in config for name in targets(each)]
    if not isinstance(config, Mapping):
        return []
    found: list[str] = []
    for key, value in config.items():
        if key == "cluster" and isinstance(value, str):
            found.append(value)
        elif key == "weighted_clusters":
            found += [each["name"] for each in value.get("clusters", [])]
        elif key != "request_mirror_policies":
            found += targets(value)
    return found


def is_of(name: str, port: int, host: str) -> bool:
    """Whether an Envoy cluster is one for a port of a host, or for a subset of it."""
    return name.startswith(f"outbound|{port}|") and name.endswith(f"|{host}")


def subset_of(name: str, host: str, port: int) -> str:
    """The subset that an Envoy cluster is for; of another host or port, its whole name."""
    return name.split("|")[2] if is_of(name, port, host) else name


def is_gateway(pod: Json) -> bool:
    """Whether a pod's proxy is a gateway, which has other routes than a sidecar."""
    proxies = [each for each in pod["spec"]["containers"] if each["name"] == PROXY]
    return any("router" in each.get("args", []) for each in proxies)


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
    """A table with a row for each cluster, port and subset."""
    table = Table(
        "cluster",
        "port",
        "as seen by",
        "subset",
        "routes",
        "balancing",
        "put aside",
        "healthy by priority",
        "rule",
    )
    for each in found:
        table.add_row(
            each.cluster,
            str(each.port),
            each.caller,
            each.subset,
            "\n".join(each.routes),
            each.balancing,
            each.ejection,
            "\n".join(each.endpoints) or "none",
            "\n".join(each.rules) or "none",
        )
    console.print(table)


def as_json(found: Sequence[InForce]) -> str:
    """The same as JSON."""
    return json.dumps([asdict(each) for each in found], indent=2)
