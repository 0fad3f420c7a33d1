"""The state of the mesh, read from live clusters; it includes the errors of parts that cannot be read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from fedmesh import envoy, spire
from fedmesh.certs import renewal_due
from fedmesh.kube import Json, KubeError
from fedmesh.reading import LiveCluster, condition, full_name
from fedmesh.topology import CLIENT, GATEWAY_NAMESPACE, ISTIO_NAMESPACE, Member
from fedmesh.verify.istio import gateway_addresses
from fedmesh.verify.model import Failed

Line = TypeVar("Line")
# The state of a remote cluster that istiod has read, by its own word, and of one that it knows nothing of.
SYNCED, MISSING = "synced", "missing"


@dataclass(frozen=True)
class ClusterLine:
    """The state of one cluster."""

    name: str
    trust_domain: str
    version: str
    nodes: str
    istiod: str
    remotes: str
    gateway: str
    well: bool


@dataclass(frozen=True)
class CertificateLine:
    """A certificate and its remaining life; `left` is None when it has none yet."""

    cluster: str
    name: str
    left: timedelta | None
    renewed_in: timedelta | None


@dataclass(frozen=True)
class FederationLine:
    """The bundle of one trust domain on another cluster."""

    cluster: str
    trust_domain: str
    state: str
    well: bool
    changed: timedelta | None
    trouble: str


@dataclass(frozen=True)
class TrafficLine:
    """Requests that the sample client's proxy sent to one endpoint since it started."""

    cluster: str
    service: str
    endpoint: str
    priority: int
    healthy: bool
    requests: int
    errors: int


@dataclass(frozen=True)
class Snapshot:
    """The state of the mesh at one moment."""

    at: datetime
    clusters: tuple[ClusterLine, ...]
    certificates: tuple[CertificateLine, ...]
    federation: tuple[FederationLine, ...]
    traffic: tuple[TrafficLine, ...]
    unread: tuple[str, ...]


def take(
    members: Sequence[Member], clusters: dict[str, LiveCluster], unreachable: dict[str, str]
) -> Snapshot:
    """Reads the mesh. A LiveCluster caches its readings, so that each snapshot needs new ones."""
    now = datetime.now(UTC)
    unread: list[str] = [f"{name}: {why}" for name, why in unreachable.items()]
    present = [clusters[member.name] for member in members if member.name in clusters]

    def read(lines: Callable[[LiveCluster], list[Line]]) -> tuple[Line, ...]:
        def one(cluster: LiveCluster) -> list[Line]:
            try:
                return lines(cluster)
            except (KubeError, Failed) as error:
                unread.append(f"{cluster.name}: {error}")
                return []

        return tuple(line for part in pool.map(one, present) for line in part)

    with ThreadPoolExecutor(max_workers=max(4, len(present))) as pool:
        return Snapshot(
            at=now,
            clusters=read(lambda cluster: [cluster_line(cluster, members)]),
            certificates=read(lambda cluster: certificate_lines(cluster, now)),
            federation=read(lambda cluster: federation_lines(cluster, present, now)),
            traffic=read(traffic_lines),
            unread=tuple(dict.fromkeys(unread)),
        )


def cluster_line(cluster: LiveCluster, members: Sequence[Member]) -> ClusterLine:
    """Nodes, control plane and gateway of a cluster of the topology with these members."""
    nodes = cluster.nodes()
    ready = sum(condition(node, "Ready") is True for node in nodes)
    istiods = [d for d in cluster.deployments(ISTIO_NAMESPACE) if d["metadata"]["name"].startswith("istiod")]
    available = sum(d.get("status", {}).get("availableReplicas", 0) for d in istiods)
    wanted = sum(d["spec"].get("replicas", 1) for d in istiods)
    remotes = _remotes(cluster, members)
    try:
        gateway, reached = (
            ", ".join(gateway_addresses(cluster.services(GATEWAY_NAMESPACE), cluster.member.network)),
            True,
        )
    except Failed as failure:
        gateway, reached = failure.detail, False
    synced = all(state == SYNCED for state in remotes.values())
    return ClusterLine(
        name=cluster.name,
        trust_domain=cluster.member.trust_domain,
        version=cluster.version(),
        nodes=f"{ready}/{len(nodes)}",
        istiod=f"{available}/{wanted}",
        remotes=", ".join(f"{name} {state}" for name, state in sorted(remotes.items())) or "none",
        gateway=gateway,
        well=ready == len(nodes) > 0 and available == wanted > 0 and synced and reached,
    )


def _remotes(cluster: LiveCluster, members: Sequence[Member]) -> dict[str, str]:
    """The other clusters that istiod reads or must read, each with its state in the istiod that is worst off."""
    wanted = {member.name for member in members if not member.drained}
    read = [
        {remote["id"]: remote.get("syncStatus", "?") for remote in cluster.remote_clusters(istiod)}
        for istiod in cluster.istiods()
    ]
    found: dict[str, str] = {}
    for name in wanted.union(*read) - {cluster.name}:
        states = {each.get(name, MISSING) for each in read if name in wanted or name in each} or {MISSING}
        found[name] = min(states, key=lambda state: (state == SYNCED, state != MISSING, state))
    return found


def certificate_lines(cluster: LiveCluster, now: datetime) -> list[CertificateLine]:
    """cert-manager's certificates, the trust domain's authorities, and the client's own certificate."""
    lines = [
        CertificateLine(
            cluster.name, full_name(item), _until(item, "notAfter", now), _until(item, "renewalTime", now)
        )
        for item in cluster.cert_manager("certificates")
    ]
    bundle = cluster.bundle()
    for number, authority in enumerate(bundle.authorities, start=1):
        name = f"authority {number} of {bundle.trust_domain}"
        lines.append(CertificateLine(cluster.name, name, authority.not_valid_after_utc - now, None))
    for pod in cluster.pods(CLIENT, app=CLIENT)[:1]:
        chain = cluster.proxy_secrets(pod).chain
        if chain:
            left, due = chain[0].not_valid_after_utc - now, renewal_due(chain[0]) - now
            lines.append(CertificateLine(cluster.name, f"SVID of {full_name(pod)}", left, due))
    return lines


def federation_lines(
    cluster: LiveCluster, present: Sequence[LiveCluster], now: datetime
) -> list[FederationLine]:
    """The bundles of the other trust domains on this cluster."""
    held, events = cluster.foreign_bundles(), spire.parse_federation_log(cluster.spire_log())
    lines: list[FederationLine] = []
    for peer in present:
        name = peer.member.trust_domain
        if peer.name == cluster.name:
            continue
        event = events.get(name, spire.FederationEvents())
        if name not in held:
            state, well = "missing", False
        else:
            missing = len(spire.missing_authorities(peer.bundle(), held[name]))
            state, well = (f"lacks {missing} authorities", False) if missing else ("equal", True)
        changed = now - event.refreshed if event.refreshed else None
        lines.append(FederationLine(cluster.name, name, state, well, changed, event.trouble(now)))
    return lines


def traffic_lines(cluster: LiveCluster) -> list[TrafficLine]:
    """Requests of the sample client's proxy by service and endpoint; none without the samples."""
    lines: list[TrafficLine] = []
    for pod in cluster.pods(CLIENT, app=CLIENT)[:1]:
        answer = json.loads(cluster.proxy(pod, "clusters?format=json"))
        for service, endpoint in envoy.parse_traffic(answer):
            lines.append(
                TrafficLine(
                    cluster=cluster.name,
                    service=service,
                    endpoint=f"{endpoint.address}:{endpoint.port}",
                    priority=endpoint.priority,
                    healthy=endpoint.healthy,
                    requests=endpoint.requests,
                    errors=endpoint.errors,
                )
            )
    return lines


def _until(item: Json, key: str, now: datetime) -> timedelta | None:
    when = item.get("status", {}).get(key)
    return datetime.fromisoformat(when) - now if when else None
