"""Checks of traffic: every version of the sample answers on every cluster, with the right identities.

Locality load balancing keeps plain calls in their own cluster. A peer is called by a host name of its own: a temporary
ServiceEntry, visible to the client's namespace only, whose endpoint is the peer's east-west gateway. The call takes the
same path as after a failover.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from fedmesh import curl, envoy
from fedmesh.kube import Json
from fedmesh.probe import NETWORKING, Janitor, wait_for
from fedmesh.reading import LiveCluster
from fedmesh.topology import CLIENT, GATEWAY_NAMESPACE, SERVER, SERVER_HOST, SERVER_PORT
from fedmesh.verify.identity import workload_id
from fedmesh.verify.istio import CROSS_NETWORK_PORT, gateway_addresses
from fedmesh.verify.model import Failed, Mesh, category, refuse

check = category("Traffic")

SERVER_SAW = "x-fedmesh-server"
CLIENT_WAS = "x-fedmesh-client"
URL = f"http://{SERVER}.{SERVER}:{SERVER_PORT}/hello"
# Several requests, because a single one may be answered by chance.
CALLS = 3


@check(
    "helloworld's endpoints of every cluster are known and healthy",
    "Check that helloworld is ready on the peer, and that istiod is synchronized with the peer.",
    samples=True,
)
def endpoints_are_known(mesh: Mesh, cluster: LiveCluster) -> str:
    """The client's proxy knows the local pods and every peer's gateway as helloworld's endpoints."""
    answer = json.loads(cluster.proxy(client_pod(cluster), "clusters?format=json"))
    endpoints = envoy.parse_endpoints(answer, envoy.outbound(SERVER_PORT, SERVER_HOST))
    local = [pod["status"]["podIP"] for pod in cluster.pods(SERVER, app=SERVER)]
    peers = {
        peer.name: gateway_addresses(peer.services(GATEWAY_NAMESPACE), peer.member.network)
        for peer in mesh.peers_in_rotation(cluster)
        if peer.pods(SERVER, app=SERVER)
    }
    return judge_endpoints(endpoints, local, peers)


@check(
    "sleep reaches every version of helloworld",
    "See the log of the sleep pod's istio-proxy, and of the peer's istio-eastwestgateway.",
    samples=True,
)
def every_version_answers(mesh: Mesh, cluster: LiveCluster) -> str:
    """The own cluster answers plain calls, and each version on a peer answers calls to that peer."""
    client = client_pod(cluster)
    seen = [f"{cluster.name}: {_local_versions(cluster, client)}"] if cluster.pods(SERVER, app=SERVER) else []
    for peer in mesh.peers(cluster):
        servers = peer.pods(SERVER, app=SERVER)
        if servers:
            calls = calls_to_peer(mesh.janitor, cluster, client, peer, servers)
            seen.append(f"{peer.name}: {judge_versions(versions(servers), calls)}")
    return ", ".join(seen)


@check(
    "calls across clusters carry both trust domains' identities",
    "Compare the trustDomain that each istiod is given with the SPIRE server's.",
    samples=True,
)
def identities_cross(mesh: Mesh, cluster: LiveCluster) -> str:
    """The TLS connection to a peer has the SPIFFE IDs of this client and of the peer's server."""
    client = client_pod(cluster)
    crossed: list[str] = []
    for peer in mesh.peers(cluster):
        servers = peer.pods(SERVER, app=SERVER)
        if not servers:
            continue
        call = calls_to_peer(mesh.janitor, cluster, client, peer, servers)[0]
        expected = workload_id(peer.member.trust_domain, servers[0])
        crossed.append(judge_identities(call, workload_id(cluster.member.trust_domain, client), expected))
    return "; ".join(crossed) or "helloworld runs on no peer"


def judge_endpoints(
    endpoints: Sequence[envoy.Endpoint], local: Sequence[str], peers: dict[str, list[str]]
) -> str:
    """Raises Failed unless the local pods and one address of each peer's gateway are healthy endpoints."""
    healthy = {endpoint.address for endpoint in endpoints if endpoint.healthy}
    faults = [
        f"the local pod {address} is not a healthy endpoint" for address in local if address not in healthy
    ]
    for peer, addresses in peers.items():
        if not healthy.intersection(addresses):
            state = "ejected" if {e.address for e in endpoints}.intersection(addresses) else "unknown"
            faults.append(f"the gateway of {peer} ({', '.join(addresses)}) is {state}")
    refuse(faults)
    return f"{len(local)} local, gateways of {', '.join(peers) or 'no peer'}"


def judge_versions(wanted: set[str], calls: Sequence[curl.Answer]) -> str:
    """Raises Failed unless every call was answered, and each wanted version answered one."""
    bad = [call for call in calls if call.status != 200]
    if bad:
        raise Failed(
            f"{len(bad)} of {len(calls)} calls failed: {bad[0].status} {bad[0].error or bad[0].body[:120]}"
        )
    answered = {version_of(call.body) for call in calls}
    if missing := wanted - answered:
        raise Failed(f"{', '.join(sorted(missing))} never answered, only {', '.join(sorted(answered))}")
    return " ".join(sorted(answered))


def judge_identities(call: curl.Answer, client: str, server: str) -> str:
    """Raises Failed unless the connection of a call has the SPIFFE IDs of client and server."""
    if call.status != 200:
        raise Failed(f"the call failed: {call.status} {call.error or call.body[:120]}")
    was, saw = call.headers.get(CLIENT_WAS, "nobody"), call.headers.get(SERVER_SAW, "nobody")
    refuse(
        [
            f"the {side} was {actual}, not {expected}"
            for side, actual, expected in (("client", was, client), ("server", saw, server))
            if actual != expected
        ]
    )
    return f"{was} -> {saw}"


def version_of(body: str) -> str:
    """The version in helloworld's answer, such as 'Hello version: v1, instance: ...'."""
    return body.partition("version: ")[2].partition(",")[0] or body[:40]


def versions(pods: Sequence[Json]) -> set[str]:
    """Values of the version label of some pods."""
    return {pod["metadata"].get("labels", {}).get("version", "") for pod in pods}


def client_pod(cluster: LiveCluster) -> Json:
    """A pod of the sample client. Raises Failed when none is running."""
    pods = cluster.pods(CLIENT, app=CLIENT)
    if not pods:
        raise Failed(
            f"no pod of {CLIENT} is running", "Deploy the samples, or disable them in the stack file."
        )
    return pods[0]


@dataclass(frozen=True)
class PeerRoute:
    """A host name of helloworld on one peer, and its objects."""

    host: str
    objects: tuple[tuple[str, Json], ...]


def peer_route(run: str, peer: str, gateways: Sequence[str], server_id: str) -> PeerRoute:
    """The objects, by the plural of their kind, of a host name that leads to helloworld on one peer."""
    host = f"{SERVER}.{peer}.{run}.fedmesh.internal"
    name = f"fedmesh-probe-{run}-{peer}"
    numeric = all(address.replace(".", "").isdigit() or ":" in address for address in gateways)
    entry: Json = {
        "hosts": [host],
        "exportTo": ["."],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC" if numeric else "DNS",
        "ports": [{"number": SERVER_PORT, "name": "http", "protocol": "HTTP"}],
        "endpoints": [{"address": address, "ports": {"http": CROSS_NETWORK_PORT}} for address in gateways],
    }
    rule: Json = {
        "host": host,
        "exportTo": ["."],
        "trafficPolicy": {
            "tls": {
                "mode": "ISTIO_MUTUAL",
                "sni": envoy.cross_network_sni(SERVER_PORT, SERVER_HOST),
                "subjectAltNames": [server_id],
            }
        },
    }
    # The client's proxy adds the SPIFFE IDs of its TLS connection to the answer.
    seen = {CLIENT_WAS: "%UPSTREAM_LOCAL_URI_SAN%", SERVER_SAW: "%UPSTREAM_PEER_URI_SAN%"}
    service: Json = {
        "hosts": [host],
        "exportTo": ["."],
        "http": [{"headers": {"response": {"set": seen}}, "route": [{"destination": {"host": host}}]}],
    }

    def item(kind: str, spec: Json) -> Json:
        return {
            "apiVersion": "networking.istio.io/v1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        }

    return PeerRoute(
        host,
        (
            ("destinationrules", item("DestinationRule", rule)),
            ("serviceentries", item("ServiceEntry", entry)),
            ("virtualservices", item("VirtualService", service)),
        ),
    )


def _local_versions(cluster: LiveCluster, client: Json) -> str:
    calls = [_call(cluster, client, curl.command(URL)) for _ in range(CALLS)]
    return judge_versions(versions(cluster.pods(SERVER, app=SERVER)), calls)


def calls_to_peer(
    janitor: Janitor, cluster: LiveCluster, client: Json, peer: LiveCluster, servers: Sequence[Json]
) -> list[curl.Answer]:
    """Answers of helloworld on one peer to calls from another cluster through the peer's gateway."""
    return cluster.once(f"calls to {peer.name}", lambda: _make_calls(janitor, cluster, client, peer, servers))


def _make_calls(
    janitor: Janitor, cluster: LiveCluster, client: Json, peer: LiveCluster, servers: Sequence[Json]
) -> list[curl.Answer]:
    gateways = gateway_addresses(peer.services(GATEWAY_NAMESPACE), peer.member.network)
    route = peer_route(janitor.run, peer.name, gateways, workload_id(peer.member.trust_domain, servers[0]))
    for plural, body in route.objects:
        janitor.create(cluster.api, f"{NETWORKING}/{CLIENT}/{plural}", body)
    # The name is not in DNS: curl connects to helloworld's address, and the proxy routes by the Host header.
    command = curl.command(
        f"http://{route.host}:{SERVER_PORT}/hello", "--connect-to", f"::{SERVER}.{SERVER}:{SERVER_PORT}"
    )
    last: list[curl.Answer] = []

    def routed() -> curl.Answer | None:
        last[:] = [_call(cluster, client, command)]
        # The header shows that the proxy has the route.
        return last[0] if SERVER_SAW in last[0].headers and last[0].status == 200 else None

    try:
        first = wait_for(routed, f"no call reached {peer.name}", timeout=8.0)
    except Exception:
        if not last:
            raise
        return last
    return [first, *(_call(cluster, client, command) for _ in range(CALLS - 1))]


def _call(cluster: LiveCluster, client: Json, command: list[str]) -> curl.Answer:
    name = client["metadata"]["name"]
    return curl.parse(cluster.api.exec(CLIENT, name, CLIENT, command))


CHECKS = (
    endpoints_are_known,
    every_version_answers,
    identities_cross,
)
