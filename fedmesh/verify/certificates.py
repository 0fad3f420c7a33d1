"""Checks of cert-manager: issuers and certificates are ready and renewed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509

from fedmesh.certs import human
from fedmesh.kube import Json
from fedmesh.reading import LiveCluster, condition, full_name
from fedmesh.topology import GATEWAY_NAMESPACE
from fedmesh.verify.model import Failed, Mesh, category, refuse

check = category("Certificates")

# cert-manager renews within seconds of the renewal time.
RENEWAL_GRACE = timedelta(minutes=10)
# istiod hands a new Secret to the gateways within seconds.
PUSHED = timedelta(minutes=1)
# Of the program: users' hosts, and their certificate's name in the proxies.
USERS_HOSTS = "users-hosts"
SDS_NAME = f"kubernetes-gateway://{GATEWAY_NAMESPACE}/{USERS_HOSTS}"
INGRESS = "istio-ingressgateway"


@check("issuers are ready", "Read the message in `kubectl describe` of the issuer.")
def issuers_are_ready(_mesh: Mesh, cluster: LiveCluster) -> str:
    """Every Issuer and ClusterIssuer is ready."""
    return judge_issuers([*cluster.cert_manager("clusterissuers"), *cluster.cert_manager("issuers")])


@check(
    "certificates are ready", "See `kubectl describe` of the certificate and its newest CertificateRequest."
)
def certificates_are_ready(mesh: Mesh, cluster: LiveCluster) -> str:
    """Every Certificate is ready, unexpired and renewed in time."""
    return judge_certificates(cluster.cert_manager("certificates"), mesh.now())


@check(
    "gateways serve the certificate of users' hosts",
    "See `kubectl -n istio-gateways describe certificate users-hosts`, and what istiod's log says of it.",
)
def gateways_serve_users_hosts(mesh: Mesh, cluster: LiveCluster) -> str:
    """Each pod of the ingress gateway holds the newest certificate of the hosts in `fedmesh:ingress`."""
    named = f"{GATEWAY_NAMESPACE}/{USERS_HOSTS}"
    wanted = [each for each in cluster.cert_manager("certificates") if full_name(each) == named]
    if not wanted:
        return "the cluster has no certificate of users' hosts"
    pods = cluster.pods(GATEWAY_NAMESPACE, app=INGRESS)
    held = {full_name(pod): cluster.proxy_secrets(pod).served.get(SDS_NAME, ()) for pod in pods}
    refuse(
        [fault for pod, chain in held.items() if (fault := judge_served(pod, chain, wanted[0], mesh.now()))]
    )
    return f"{len(pods)} pods serve {', '.join(wanted[0]['spec']['dnsNames'])}"


def judge_served(pod: str, chain: Sequence[x509.Certificate], wanted: Json, now: datetime) -> str | None:
    """The fault of what a gateway's pod serves, or None."""
    if not chain:
        return f"{pod} has no certificate of users' hosts"
    status = wanted.get("status", {})
    newest, issued = (
        datetime.fromisoformat(status.get(key, now.isoformat())) for key in ("notAfter", "notBefore")
    )
    if chain[0].not_valid_after_utc < newest and now - issued > PUSHED:
        return f"{pod} still serves the certificate before the newest, which is {human(now - issued)} old"
    return None


def judge_issuers(issuers: Sequence[Json]) -> str:
    """Raises Failed unless there are issuers and all of them are ready."""
    if not issuers:
        raise Failed("there are no issuers", "Run `pulumi up`: it creates the issuers of SPIRE's CA.")
    refuse(
        [
            f"{full_name(issuer)}: {_message(issuer)}"
            for issuer in issuers
            if condition(issuer, "Ready") is not True
        ]
    )
    return f"{len(issuers)} ready"


def judge_certificates(certificates: Sequence[Json], now: datetime) -> str:
    """Raises Failed unless there are certificates, all ready, not expired and not overdue for renewal."""
    if not certificates:
        raise Failed("there are no certificates", "Run `pulumi up`: it creates the root CA and istiod's CA.")
    faults: list[str] = []
    expiries: list[tuple[timedelta, str]] = []
    for certificate in certificates:
        name, status = full_name(certificate), certificate.get("status", {})
        if condition(certificate, "Ready") is not True:
            faults.append(f"{name}: {_message(certificate)}")
            continue
        left = datetime.fromisoformat(status["notAfter"]) - now
        expiries.append((left, name))
        if left < timedelta(0):
            faults.append(f"{name} expired {human(-left)} ago")
        elif "renewalTime" in status and now - datetime.fromisoformat(status["renewalTime"]) > RENEWAL_GRACE:
            faults.append(f"{name} should have been renewed at {status['renewalTime']}")
    refuse(faults)
    left, name = min(expiries)
    return f"{len(certificates)} ready, {name} is the first to expire, in {human(left)}"


def _message(item: Json) -> str:
    for entry in item.get("status", {}).get("conditions") or []:
        if entry.get("type") == "Ready":
            return str(entry.get("message") or entry.get("reason") or "not ready")
    return "cert-manager has not processed it yet"


CHECKS = (
    issuers_are_ready,
    certificates_are_ready,
    gateways_serve_users_hosts,
)
