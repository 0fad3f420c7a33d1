"""Security: is everybody refused who is not of the mesh.

A pod without a proxy, gone afterwards, knocks at helloworld's own port. Each refusal has its counterpart: the
same handshake with a certificate of the cluster's SPIRE server is let in, so a dead port never looks safe.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable

from fedmesh import certs, curl
from fedmesh.kube import Json
from fedmesh.probe import CONTAINER, NAMESPACE, start_outsider
from fedmesh.reading import LiveCluster
from fedmesh.topology import CLIENT, SERVER, SERVER_PORT
from fedmesh.verify.model import Failed, Mesh, category
from fedmesh.verify.traffic import client_pod

check = category("Refusals")

FOREIGN = f"spiffe://unfederated.example/ns/{CLIENT}/sa/{CLIENT}"
MINT_SECONDS = 60
TRIES = 8


@check(
    "plaintext from outside the mesh is refused",
    "Is the mesh-wide PeerAuthentication STRICT in istio-system, and not overridden in helloworld?",
    samples=True,
)
def plaintext_is_refused(mesh: Mesh, cluster: LiveCluster) -> str:
    """A pod without a proxy gets no answer over plain HTTP, though it reaches the port."""
    knock = _outsider(mesh, cluster)
    return judge_plaintext(knock("http", None), knock("https", _own_identity(mesh, cluster)))


@check(
    "certificates of unfederated trust domains are refused",
    "Does the proxy validate SPIFFE ids (ROOTCA with a validator per trust domain)?",
    samples=True,
)
def foreign_certificates_are_refused(mesh: Mesh, cluster: LiveCluster) -> str:
    """Neither an unknown trust domain nor a forged member of this one gets through the handshake."""
    knock = _outsider(mesh, cluster)
    control = knock("https", _own_identity(mesh, cluster))
    forged = f"spiffe://{cluster.member.trust_domain}/ns/{CLIENT}/sa/{CLIENT}"
    attempts = {
        "an unfederated trust domain": knock("https", certs.forge(FOREIGN).pem),
        "a forged certificate of this trust domain": knock("https", certs.forge(forged).pem),
        "no certificate": knock("https", None),
    }
    return "; ".join(judge_handshake(who, answer, control) for who, answer in attempts.items())


def judge_plaintext(answer: curl.Answer, control: curl.Answer) -> str:
    """Whether plain HTTP was cut off while the same port let a member in."""
    # First: a port that takes plaintext may take no other TLS than the mesh's own.
    if answer.status:
        raise Failed(f"plaintext was answered with {answer.status}")
    _judge_control(control)
    # 52: closed without an answer, 56: reset. Anything else (7: refused, 28: silence) proves no refusal.
    if answer.code not in (52, 56):
        raise Failed(f"plaintext did not reach the proxy: {answer.error}")
    return f"refused ({answer.error}), a member let in with {control.status}"


def judge_handshake(who: str, answer: curl.Answer, control: curl.Answer) -> str:
    """Whether the server ended a handshake with a TLS alert while it let a member in."""
    _judge_control(control)
    if answer.status:
        raise Failed(f"{who} was let in with {answer.status}")
    alert = alert_of(answer.error)
    if alert is None:
        raise Failed(f"{who} was not refused by the server: {answer.error}")
    return f"{who}: {alert}"


def alert_of(error: str) -> str | None:
    """Name of the TLS alert about certificates in curl's error, or None when there is none."""
    text = error.lower().replace("_", " ")
    names = (
        "unknown ca",
        "certificate unknown",
        "certificate expired",
        "certificate required",
        "bad certificate",
        "handshake failure",
    )
    if "alert" not in text:
        return None
    return next((name for name in names if name in text), None)


def _judge_control(control: curl.Answer) -> None:
    if not control.status:
        raise Failed(
            f"a certificate of the cluster's own SPIRE was not let in either: {control.error}",
            "So the refusals prove nothing. Is helloworld reachable from namespace default?",
        )


def _own_identity(_mesh: Mesh, cluster: LiveCluster) -> str:
    """A minute-long certificate of this cluster's SPIRE, with its key, as PEM."""

    identity = f"spiffe://{cluster.member.trust_domain}/fedmesh/probe"
    return cluster.once("own identity", lambda: certificate_of(cluster, identity, MINT_SECONDS))


def certificate_of(cluster: LiveCluster, identity: str, seconds: int) -> str:
    """A certificate of the cluster's SPIRE for any SPIFFE id of its trust domain, with its key, as PEM."""
    minted = cluster.mint(identity, seconds)
    chain = [ssl.DER_cert_to_PEM_cert(base64.b64decode(der)) for der in minted["x509_svid"]]
    return "".join(chain) + _pem("PRIVATE KEY", minted["private_key"])


def _pem(kind: str, encoded: str) -> str:
    lines = [encoded[start : start + 64] for start in range(0, len(encoded), 64)]
    return "\n".join([f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----", ""])


Knock = Callable[[str, str | None], curl.Answer]
# Up to TLS 1.2 a server judges the client's certificate before the client may speak. In 1.3 the client learns of its
# refusal afterwards, if its own words do not meet a closed door first: so 1.2 where the server lets a member use it.
JUDGED_FIRST = ("--tls-max", "1.2")


def _outsider(mesh: Mesh, cluster: LiveCluster) -> Knock:
    servers = cluster.pods(SERVER, app=SERVER)
    if not servers:
        raise Failed(f"no pod of {SERVER} runs to knock at")
    pod = cluster.once(
        "outsider", lambda: start_outsider(mesh.janitor, cluster, image_of(client_pod(cluster)))
    )
    address = servers[0]["status"]["podIP"]

    def ask(scheme: str, pem: str | None, *options: str) -> curl.Answer:
        # The server's certificate has no DNS name, hence -k; who it is was checked elsewhere.
        url = f"{scheme}://{address}:{SERVER_PORT}/hello"
        words = (
            curl.command(url, "-k", *options)
            if pem is None
            else curl.command_with_identity(url, pem, "-k", *options)
        )
        return curl.parse(cluster.api.exec(NAMESPACE, pod["metadata"]["name"], CONTAINER, words, stdin=pem))

    def tls() -> tuple[str, ...]:
        return JUDGED_FIRST if ask("https", _own_identity(mesh, cluster), *JUDGED_FIRST).status else ()

    def knock(scheme: str, pem: str | None) -> curl.Answer:
        options = cluster.once("tls", tls) if scheme == "https" else ()
        answer = ask(scheme, pem, *options)
        for _ in range(0 if options or scheme == "http" else TRIES):
            if answer.status or alert_of(answer.error):
                break
            answer = ask(scheme, pem)
        return answer

    return knock


def image_of(pod: Json) -> str:
    """The image of the sample client: it has curl, and every node may pull it."""
    return next(c["image"] for c in pod["spec"]["containers"] if c["name"] == CLIENT)


CHECKS = (
    plaintext_is_refused,
    foreign_certificates_are_refused,
)
