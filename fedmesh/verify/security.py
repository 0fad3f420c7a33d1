"""Checks of refusals: the mesh refuses callers that are not members.

A temporary pod without a proxy sends requests to the port of a helloworld pod. Each refusal has a control: the same
handshake with a certificate of the cluster's SPIRE server must be accepted, so that a closed port does not pass.
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
    "Check that the PeerAuthentication in istio-system is STRICT, and that none in helloworld overrides it.",
    samples=True,
)
def plaintext_is_refused(mesh: Mesh, cluster: LiveCluster) -> str:
    """A pod without a proxy reaches the port and gets no answer over plain HTTP."""
    request = _outsider(mesh, cluster)
    return judge_plaintext(request("http", None), request("https", _own_identity(mesh, cluster)))


@check(
    "certificates of unfederated trust domains are refused",
    "Check that the proxy validates SPIFFE IDs (ROOTCA with a validator per trust domain).",
    samples=True,
)
def foreign_certificates_are_refused(mesh: Mesh, cluster: LiveCluster) -> str:
    """Certificates of an unknown trust domain and forged ones of this trust domain fail the handshake."""
    request = _outsider(mesh, cluster)
    control = request("https", _own_identity(mesh, cluster))
    forged = f"spiffe://{cluster.member.trust_domain}/ns/{CLIENT}/sa/{CLIENT}"
    attempts = {
        "an unfederated trust domain": request("https", certs.forge(FOREIGN).pem),
        "a forged certificate of this trust domain": request("https", certs.forge(forged).pem),
        "no certificate": request("https", None),
    }
    return "; ".join(judge_handshake(caller, answer, control) for caller, answer in attempts.items())


def judge_plaintext(answer: curl.Answer, control: curl.Answer) -> str:
    """Raises Failed unless plain HTTP was cut off and the same port accepted a member."""
    # Before the control: a port that accepts plaintext may refuse TLS.
    if answer.status:
        raise Failed(f"plaintext was answered with {answer.status}")
    _judge_control(control)
    # 52: closed without an answer, 56: reset. Other codes (7: connection refused, 28: time-out) prove no refusal.
    if answer.code not in (52, 56):
        raise Failed(f"plaintext did not reach the proxy: {answer.error}")
    return f"refused ({answer.error}), a member accepted with {control.status}"


def judge_handshake(caller: str, answer: curl.Answer, control: curl.Answer) -> str:
    """Raises Failed unless the server ended a handshake with a TLS alert and accepted a member."""
    _judge_control(control)
    if answer.status:
        raise Failed(f"{caller} was accepted with {answer.status}")
    alert = alert_of(answer.error)
    if alert is None:
        raise Failed(f"{caller} was not refused by the server: {answer.error}")
    return f"{caller}: {alert}"


def alert_of(error: str) -> str | None:
    """The TLS alert about certificates in an error of curl, or None."""
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
            f"a certificate of the cluster's SPIRE was not accepted either: {control.error}",
            "The refusals prove nothing. Check that helloworld can be reached from the namespace default.",
        )


def _own_identity(_mesh: Mesh, cluster: LiveCluster) -> str:
    """A certificate of this cluster's SPIRE, valid for a minute, with its key, in PEM."""

    identity = f"spiffe://{cluster.member.trust_domain}/fedmesh/probe"
    return cluster.once("own identity", lambda: certificate_of(cluster, identity, MINT_SECONDS))


def certificate_of(cluster: LiveCluster, identity: str, seconds: int) -> str:
    """A certificate of the cluster's SPIRE for a SPIFFE ID of its trust domain, with its key, in PEM."""
    minted = cluster.mint(identity, seconds)
    chain = [ssl.DER_cert_to_PEM_cert(base64.b64decode(der)) for der in minted["x509_svid"]]
    return "".join(chain) + _pem("PRIVATE KEY", minted["private_key"])


def _pem(kind: str, encoded: str) -> str:
    lines = [encoded[start : start + 64] for start in range(0, len(encoded), 64)]
    return "\n".join([f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----", ""])


Request = Callable[[str, str | None], curl.Answer]
# Up to TLS 1.2 a server verifies the client's certificate before the client sends data. In 1.3 the alert comes later,
# and the client may see a closed connection first: so 1.2 is used where the server accepts it.
JUDGED_FIRST = ("--tls-max", "1.2")


def _outsider(mesh: Mesh, cluster: LiveCluster) -> Request:
    servers = cluster.pods(SERVER, app=SERVER)
    if not servers:
        raise Failed(f"no pod of {SERVER} is running")
    pod = cluster.once(
        "outsider", lambda: start_outsider(mesh.janitor, cluster, image_of(client_pod(cluster)))
    )
    address = servers[0]["status"]["podIP"]

    def ask(scheme: str, pem: str | None, *options: str) -> curl.Answer:
        # -k because the server's certificate has no DNS name; another check verifies its SPIFFE ID.
        url = f"{scheme}://{address}:{SERVER_PORT}/hello"
        words = (
            curl.command(url, "-k", *options)
            if pem is None
            else curl.command_with_identity(url, pem, "-k", *options)
        )
        return curl.parse(cluster.api.exec(NAMESPACE, pod["metadata"]["name"], CONTAINER, words, stdin=pem))

    def tls() -> tuple[str, ...]:
        return JUDGED_FIRST if ask("https", _own_identity(mesh, cluster), *JUDGED_FIRST).status else ()

    def request(scheme: str, pem: str | None) -> curl.Answer:
        options = cluster.once("tls", tls) if scheme == "https" else ()
        answer = ask(scheme, pem, *options)
        for _ in range(0 if options or scheme == "http" else TRIES):
            if answer.status or alert_of(answer.error):
                break
            answer = ask(scheme, pem)
        return answer

    return request


def image_of(pod: Json) -> str:
    """The image of the sample client, which has curl and is on the cluster already."""
    return next(c["image"] for c in pod["spec"]["containers"] if c["name"] == CLIENT)


CHECKS = (
    plaintext_is_refused,
    foreign_certificates_are_refused,
)
