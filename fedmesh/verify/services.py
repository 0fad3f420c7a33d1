"""Checks of services: what istiod has in force, and rules of owners that undo failover or miss on a peer."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from fedmesh.kube import Json
from fedmesh.reading import LiveCluster, full_name
from fedmesh.topology import GATEWAY_NAMESPACE, ISTIO_NAMESPACE
from fedmesh.verify.hosts import (
    HTTP,
    TLS,
    UDP,
    closest,
    covers,
    full,
    host_of,
    host_of_rule,
    in_mesh,
    is_headless,
    protocol,
)
from fedmesh.verify.model import Failed, Mesh, Severity, Warned, category, refuse
from fedmesh.verify.policies import judge_rules, without_budget
from fedmesh.verify.precedence import namespace_of, replaced, subset_names, visible

check = category("Services")

PARTS = ("trustDomain", "trustDomainAliases", "zoneAwareLbSetting", "defaultTrafficPolicy", "serviceSettings")
# Ports of databases are none of these: HTTP is told apart by its host, and Istio serves no UDP.
SAFE = HTTP | {"https", UDP}
# The subset that `cluster` of fedmesh:services makes.
HOME = "home"
OF_THE_MESH = {ISTIO_NAMESPACE, GATEWAY_NAMESPACE}


@check(
    "istiod uses the mesh's configuration",
    "istiod starts with its own defaults when it can't read a value: see `invalid mesh config` in its log.",
)
def configuration_is_in_force(_mesh: Mesh, cluster: LiveCluster) -> str:
    """Every istiod has in force what its ConfigMap says."""
    istiods = cluster.istiods()
    if not istiods:
        raise Failed("no pod of istiod is running")
    for istiod in istiods:
        revision = istiod["metadata"].get("labels", {}).get("istio.io/rev", "default")
        name = "istio" if revision == "default" else f"istio-{revision}"
        path = f"/api/v1/namespaces/{ISTIO_NAMESPACE}/configmaps/{name}"
        wanted = yaml.safe_load(cluster.once(path, lambda path=path: cluster.api.get(path))["data"]["mesh"])
        answer = cluster.run(istiod, "discovery", ["pilot-discovery", "request", "GET", "/debug/mesh"])
        judge_configuration(istiod["metadata"]["name"], wanted, json.loads(answer))
    return f"in force in {len(istiods)} pods of istiod"


@check(
    "rules of owners keep failover",
    "docs/services.md says what a DestinationRule of one's own must keep.",
    severity=Severity.WARNING,
)
def rules_keep_failover(_mesh: Mesh, cluster: LiveCluster) -> str:
    """No rule of an owner switches off failover, or takes the place of what fedmesh:services declares."""
    rules, routes = rules_of(cluster, "destinationrules"), rules_of(cluster, "virtualservices")
    losses = [str(each) for each in replaced(rules) if not each.lost]
    refuse([*judge_rules(rules), *losses, *judge_doubles(rules, routes)])
    unlimited = without_budget(rules)
    told = f"; retries have no budget under {', '.join(unlimited)}" if unlimited else ""
    return f"{len(rules)} DestinationRules, {len(routes)} VirtualServices{told}"


@check(
    "services of one cluster are called there",
    "See docs/services.md: a service with `cluster` in fedmesh:services has a ClusterIP, and no DestinationRule of its "
    "owner, or one with a subset `home`.",
)
def declared_clusters_are_called(_mesh: Mesh, cluster: LiveCluster) -> str:
    """Calls to a service that is one cluster's go to this cluster, and arrive."""
    rules = rules_of(cluster, "destinationrules")
    homes = declared_homes(rules)
    own = [service for service in meshed_services(cluster) if host_of(service) in homes]
    refuse([*judge_headless(own), *[str(each) for each in replaced(rules) if each.lost]])
    if unrouted := judge_tls(own):
        raise Warned("; ".join(unrouted))
    return f"{len(homes)} services of one cluster"


@check(
    "Sidecars import what is declared",
    "Add `istio-system/*` to the hosts of the Sidecar's egress listener.",
    severity=Severity.WARNING,
)
def sidecars_import_declarations(_mesh: Mesh, cluster: LiveCluster) -> str:
    """Callers with a Sidecar object have the routes that fedmesh:services and fedmesh:failover declare."""
    sidecars = rules_of(cluster, "sidecars")
    refuse(judge_sidecars(sidecars, declared_routes(rules_of(cluster, "virtualservices"))))
    return f"{len(sidecars)} Sidecars"


@check(
    "subsets exist on every cluster",
    "Apply the DestinationRule on every cluster: the east-west gateway of a peer has no way to a subset that it lacks.",
    severity=Severity.WARNING,
)
def subsets_are_everywhere(mesh: Mesh, cluster: LiveCluster) -> str:
    """Every subset of this cluster's rules exists on each peer that has the service."""
    own = subsets(rules_of(cluster, "destinationrules"))
    faults: list[str] = []
    for peer in mesh.peers(cluster):
        rules = rules_of(peer, "destinationrules")
        hosts = {host_of(service) for service in meshed_services(peer)}
        theirs = {host: subset_names(visible(host, rules, GATEWAY_NAMESPACE)) for host in hosts}
        faults += judge_subsets({h: s for h, s in own.items() if h in hosts}, theirs, peer.name)
    refuse(faults)
    return f"{sum(len(each) for each in own.values())} subsets"


@check(
    "ports of a service are alike on every cluster",
    "Give the port the same name and number on every cluster: istiod matches endpoints by the port's name.",
    severity=Severity.WARNING,
)
def ports_are_alike(mesh: Mesh, cluster: LiveCluster) -> str:
    """A service that exists on several clusters has the same port names, so that its calls can fail over."""
    own = {host_of(service): service for service in meshed_services(cluster)}
    settings = cluster_settings(cluster)
    faults: list[str] = []
    shared: set[str] = set()
    for peer in mesh.peers(cluster):
        theirs = {host_of(service): service for service in meshed_services(peer)}
        both = sorted(host for host in own.keys() & theirs.keys() if not is_local(host, settings))
        shared.update(both)
        for host in both:
            faults += judge_ports(host, cluster.name, own[host], peer.name, theirs[host])
    refuse(faults)
    return f"{len(shared)} services on several clusters"


@check(
    "databases of one name are declared",
    "Say in fedmesh:services whether it is `localOnly: true`, one `cluster`'s, or `localOnly: false` where its data "
    "are the same everywhere.",
    severity=Severity.WARNING,
)
def databases_are_declared(mesh: Mesh, cluster: LiveCluster) -> str:
    """A TCP service that exists on several clusters is one service to the mesh: its owner says that it may be."""
    settings = cluster_settings(cluster)
    declared = [host for entry in settings for host in entry.get("hosts", [])]
    homes = declared_homes(rules_of(cluster, "destinationrules")) - {
        host_of(service) for service in all_services(cluster) if is_headless(service)
    }
    theirs = {host_of(service) for peer in mesh.peers(cluster) for service in meshed_services(peer)}
    # Calls leave pods without a proxy for those of a peer that have one, and not the other way.
    own = [service for service in all_services(cluster) if host_of(service) in theirs]
    refuse(judge_databases(own, [*declared, *homes]))
    return f"{len(own)} services on several clusters"


@check(
    "headless services exist on every cluster",
    "Create a Service with a ClusterIP on the clusters whose pods call it, or declare it `localOnly: true`.",
    severity=Severity.WARNING,
)
def headless_services_are_everywhere(mesh: Mesh, cluster: LiveCluster) -> str:
    """A headless service has a name on each peer: Istio's DNS proxy answers with pods of the own network only."""
    settings = cluster_settings(cluster)
    own = [
        host_of(service)
        for service in meshed_services(cluster)
        if is_headless(service) and not is_local(host_of(service), settings)
    ]
    peers = [peer for peer in mesh.peers(cluster) if peer.member.network != cluster.member.network]
    known = {peer.name: {host_of(service) for service in all_services(peer)} for peer in peers}
    refuse(
        [
            f"{host} is headless and does not exist on {peer}, whose clients have no name for it"
            for peer, hosts in known.items()
            for host in own
            if host not in hosts
        ]
    )
    return f"{len(own)} headless services"


def judge_configuration(istiod: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raises Failed where istiod has something else in force than its ConfigMap says."""
    other = [part for part in PARTS if part in wanted and not holds(wanted[part], found.get(part))]
    refuse([f"{istiod} has another {part} in force than its ConfigMap" for part in other])


def holds(wanted: Any, found: Any) -> bool:
    """Whether all that is wanted is there: istiod adds its defaults, and leaves out values that are zero."""
    if isinstance(wanted, Mapping):
        given = found if isinstance(found, Mapping) else {}
        return all(holds(value, given.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(wanted) == len(found)
            and all(holds(one, other) for one, other in zip(wanted, found, strict=True))
        )
    return wanted == found or (not wanted and not found)


def judge_doubles(rules: Sequence[Json], routes: Sequence[Json]) -> list[str]:
    """Hosts with a rule of the stack beside another that Istio takes for its equal: one of the two has no effect."""
    faults: list[str] = []
    ours = [rule for rule in rules if rule["metadata"]["namespace"] == ISTIO_NAMESPACE]
    meshed = [route for route in routes if is_for_callers(route)]
    for kind, each in (("DestinationRule", ours), ("VirtualService", meshed)):
        owners: dict[str, set[str]] = defaultdict(set)
        for rule in each:
            for host in rule["spec"].get("hosts") or [rule["spec"].get("host", "")]:
                owners[full(host, rule["metadata"]["namespace"])].add(full_name(rule))
        for host, names in sorted(owners.items()):
            declared = any(name.startswith(f"{ISTIO_NAMESPACE}/") for name in names)
            if declared and len(names) > 1 and "*" not in host:
                faults.append(f"{host} has more than one {kind}, only one holds: {', '.join(sorted(names))}")
    return faults


def judge_headless(services: Iterable[Json]) -> list[str]:
    """Headless services that are declared as one cluster's."""
    return [
        f"{host_of(service)} is headless: its clients choose a pod by its address, whatever `cluster` says"
        for service in services
        if is_headless(service)
    ]


def judge_tls(services: Iterable[Json]) -> list[str]:
    """TLS ports of services that are declared as one cluster's."""
    return [
        f"port {port['port']} of {host_of(service)} ({port.get('name') or protocol(port)}) is TLS of the app's own: "
        "its calls go to all clusters, whatever `cluster` says"
        for service in services
        for port in service["spec"].get("ports", [])
        if protocol(port) in TLS
    ]


def judge_sidecars(sidecars: Iterable[Json], declared: Sequence[str]) -> list[str]:
    """Sidecars with a listener that imports services, but not the routes that are declared for them."""
    faults: list[str] = []
    for sidecar in sidecars:
        own = sidecar["metadata"]["namespace"]
        hidden = {
            host
            for listener in sidecar["spec"].get("egress") or []
            for host in declared
            if imports(listener["hosts"], own, namespace_of(host), host)
            and not imports(listener["hosts"], own, ISTIO_NAMESPACE, host)
        }
        if hidden:
            faults.append(
                f"Sidecar {full_name(sidecar)} hides from its pods what is declared for {', '.join(sorted(hidden))}"
            )
    return faults


def imports(entries: Iterable[str], sidecar: str, namespace: str, host: str) -> bool:
    """Whether a Sidecar of one namespace imports a host, or a rule for it, from another; `~` excludes."""
    found = False
    for entry in entries:
        space, _, pattern = entry.partition("/")
        excluded, space = space.startswith("~"), space.removeprefix("~")
        # In a Sidecar of istio-system, which holds everywhere, the dot is the namespace of the caller.
        here = space == "." and namespace != ISTIO_NAMESPACE and sidecar in (namespace, ISTIO_NAMESPACE)
        if (here or space in (namespace, "*") or (excluded and not space)) and covers(pattern, host):
            if excluded:
                return False
            found = True
    return found


def declared_routes(routes: Iterable[Json]) -> list[str]:
    """Hosts with routes of the stack for callers in the mesh."""
    return sorted(
        host
        for route in routes
        if route["metadata"]["namespace"] == ISTIO_NAMESPACE and is_for_callers(route)
        for host in route["spec"].get("hosts", [])
        if in_mesh(host) and not host.startswith("*")
    )


def is_for_callers(route: Json) -> bool:
    """Whether a VirtualService holds for callers in the mesh, and not for gateways alone."""
    return "mesh" in (route["spec"].get("gateways") or ["mesh"])


def judge_subsets(own: Mapping[str, set[str]], theirs: Mapping[str, set[str]], peer: str) -> list[str]:
    """Subsets that a peer lacks."""
    return [
        f"the east-west gateway of {peer} sees no subset {', '.join(sorted(missing))} of {host}"
        for host, wanted in sorted(own.items())
        if (missing := wanted - theirs.get(host, set()))
    ]


def judge_ports(host: str, here: str, own: Json, there: str, theirs: Json) -> list[str]:
    """Ports of a service with which no call from here gets through to a peer; nothing else says so."""
    names, others = port_names(own), port_names(theirs)
    numbers = {name: number for number, name in others.items()}
    faults: list[str] = []
    for number, name in sorted(names.items()):
        if number in others and name != others[number]:
            faults.append(
                f"port {number} of {host} is {name or 'without a name'} on {here} and "
                f"{others[number] or 'without a name'} on {there}: calls never fail over"
            )
        elif numbers.get(name, number) != number:
            faults.append(
                f"port {name or 'without a name'} of {host} is {number} on {here} and {numbers[name]} on {there}: "
                "calls that go over are reset"
            )
        elif number not in others:
            faults.append(
                f"port {number} of {host} ({name}) does not exist on {there}: calls never fail over"
            )
    return faults


def judge_databases(services: Iterable[Json], declared: Sequence[str]) -> list[str]:
    """TCP ports of services on several clusters whose owner has said nothing."""
    return [
        f"port {port['port']} of {host_of(service)} is one service to all clusters"
        for service in services
        if closest(host_of(service), declared) is None
        for port in service["spec"].get("ports", [])
        if protocol(port) not in SAFE
    ]


def port_names(service: Json) -> dict[int, str]:
    """Names of a Service's ports that Istio serves, by number."""
    return {
        port["port"]: port.get("name", "")
        for port in service["spec"].get("ports", [])
        if protocol(port) != UDP
    }


def subsets(rules: Iterable[Json]) -> dict[str, set[str]]:
    """Names of the subsets of each host."""
    found: dict[str, set[str]] = defaultdict(set)
    for rule in rules:
        if names := subset_names([rule]):
            found[host_of_rule(rule)] |= names
    return found


def declared_homes(rules: Iterable[Json]) -> set[str]:
    """Hosts that fedmesh:services declares as one cluster's."""
    return {
        rule["spec"]["host"]
        for rule in rules
        if rule["metadata"]["namespace"] == ISTIO_NAMESPACE and HOME in subset_names([rule])
    }


def rules_of(cluster: LiveCluster, plural: str) -> list[Json]:
    """Objects of one of Istio's networking kinds in all namespaces."""
    path = f"/apis/networking.istio.io/v1/{plural}"
    return cluster.once(path, lambda: cluster.api.items(path))


def meshed_services(cluster: LiveCluster) -> list[Json]:
    """Services of the namespaces whose pods get proxies."""
    spaces = cluster.namespaces()
    meshed = {each["metadata"]["name"] for each in spaces if is_meshed(each["metadata"].get("labels", {}))}
    return [each for each in all_services(cluster) if each["metadata"]["namespace"] in meshed - OF_THE_MESH]


def all_services(cluster: LiveCluster) -> list[Json]:
    """Services of all namespaces."""
    return cluster.once("services", lambda: cluster.api.items("/api/v1/services"))


def is_meshed(labels: Mapping[str, str]) -> bool:
    """Whether a namespace with these labels is in the mesh."""
    return labels.get("istio-injection") == "enabled" or "istio.io/rev" in labels


def cluster_settings(cluster: LiveCluster) -> list[Json]:
    """Istio's serviceSettings."""
    path = f"/api/v1/namespaces/{ISTIO_NAMESPACE}/configmaps"
    maps = cluster.once(path, lambda: cluster.api.items(path))
    configs = [yaml.safe_load(each["data"]["mesh"]) for each in maps if "mesh" in each.get("data", {})]
    return [entry for config in configs for entry in config.get("serviceSettings") or []]


def is_local(host: str, settings: Iterable[Json]) -> bool:
    """Whether calls to a host stay within the caller's cluster."""
    local = {
        each: bool(entry.get("settings", {}).get("clusterLocal"))
        for entry in settings
        for each in entry.get("hosts", [])
    }
    found = closest(host, local)
    return found is not None and local[found]


CHECKS = (
    configuration_is_in_force,
    rules_keep_failover,
    declared_clusters_are_called,
    sidecars_import_declarations,
    subsets_are_everywhere,
    ports_are_alike,
    databases_are_declared,
    headless_services_are_everywhere,
)
