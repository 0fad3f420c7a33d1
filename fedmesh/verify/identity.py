"""The check of identities: certificates of proxies come from SPIRE, and proxies trust every peer."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from fedmesh.certs import chain_fault, human, life_left, spiffe_id
from fedmesh.envoy import ProxySecrets
from fedmesh.kube import Json, KubeError
from fedmesh.reading import PROXY, LiveCluster, full_name, is_pending
from fedmesh.spire import Bundle
from fedmesh.verify.model import Failed, Mesh, category, refuse

check = category("Identity")

# SPIRE renews a certificate at half of its validity period.
LEAST_LIFE = 0.2
# A pod that is pending for longer does not merely start slowly.
PATIENCE = timedelta(minutes=1)


@check(
    "every mesh pod's certificate is from its cluster's SPIRE",
    "Does exactly one ClusterSPIFFEID match the pod, and does it use the templates 'sidecar,spire'? "
    "See the log of the node's spire-agent.",
)
def certificates_are_from_spire(mesh: Mesh, cluster: LiveCluster) -> str:
    """Each proxy's certificate names its pod, chains to this cluster's bundle and is being renewed."""
    pods = cluster.mesh_pods()
    if not pods:
        raise Failed("no pod of this cluster has a proxy", "Is istio-injection=enabled on the namespaces?")
    bundle, now = cluster.bundle(), mesh.now()
    trusted = [member.trust_domain for member in mesh.topology.members]

    def judge(pod: Json) -> tuple[str | None, datetime | None]:
        try:
            secrets = cluster.proxy_secrets(pod)
        except KubeError as error:
            return str(error), None
        if not secrets.chain:
            return f"the proxy of {full_name(pod)} has no certificate", None
        return judge_secrets(pod, secrets, bundle, trusted, now), secrets.chain[0].not_valid_after_utc

    with ThreadPoolExecutor(max_workers=8) as pool:
        verdicts = list(pool.map(judge, pods))
    stuck = waiting_for_identity(cluster.mesh_pods(starting=True), now)
    refuse([*(fault for fault, _ in verdicts if fault), *stuck])
    soonest = min(expiry for _, expiry in verdicts if expiry)
    return f"{len(pods)} proxies, the first certificate to renew has {human(soonest - now)} left"


def waiting_for_identity(pods: Sequence[Json], now: datetime) -> list[str]:
    """Pods whose proxy has been starting for too long, as without an identity from SPIRE."""
    return [
        f"the proxy of {full_name(pod)} has been waiting for an identity for {human(now - made)}"
        for pod in pods
        if is_pending(pod)
        and (made := datetime.fromisoformat(pod["metadata"]["creationTimestamp"])) < now - PATIENCE
        and any(status["name"] == PROXY and not status.get("ready") for status in proxy_statuses(pod))
    ]


def proxy_statuses(pod: Json) -> list[Json]:
    """Statuses of a pod's containers and native sidecars."""
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def judge_secrets(
    pod: Json, secrets: ProxySecrets, bundle: Bundle, trusted: Sequence[str], now: datetime
) -> str | None:
    """The fault of a proxy's certificate or trust bundles, or None."""
    name, leaf = full_name(pod), secrets.chain[0]
    expected = workload_id(bundle.trust_domain, pod)
    if spiffe_id(leaf) != expected:
        return f"{name} is {spiffe_id(leaf) or 'nameless'}, not {expected}"
    if fault := chain_fault(secrets.chain, bundle.authorities, now):
        return f"{name}: {fault}"
    valid = [each for each in bundle.authorities if each not in bundle.tainted]
    if chain_fault(secrets.chain, valid, now):
        return f"{name} has a certificate of a tainted root; it is about to be renewed"
    if life_left(leaf, now) < LEAST_LIFE:
        return f"{name}: the certificate is not being renewed, {human(leaf.not_valid_after_utc - now)} left"
    if missing := [domain for domain in trusted if domain not in secrets.trusted]:
        return f"{name} does not trust {', '.join(missing)}"
    return None


def workload_id(trust_domain: str, pod: Json) -> str:
    """The SPIFFE ID of a pod in a trust domain."""
    account = pod["spec"].get("serviceAccountName", "default")
    return f"spiffe://{trust_domain}/ns/{pod['metadata']['namespace']}/sa/{account}"


CHECKS = (certificates_are_from_spire,)
