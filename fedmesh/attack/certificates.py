"""Attacks with certificates: expired, of an unknown authority, or of the same account on another cluster."""

from __future__ import annotations

import base64
import time

from cryptography.x509 import Certificate

from fedmesh import certs, curl
from fedmesh.attack.attacker import attacker_on, member, server, server_address
from fedmesh.attack.model import AttackResult, AttackSession, Verdict
from fedmesh.kube import Json, KubeError
from fedmesh.probe import wait_for
from fedmesh.reading import LiveCluster
from fedmesh.topology import CLIENT, GATEWAY_NAMESPACE, ISTIO_NAMESPACE, SERVER, SPIRE_NAMESPACE
from fedmesh.verify.security import FOREIGN, alert_of, certificate_of

EXPIRED = "a removed workload's certificate after its end"
STRANGER = "an unfederated trust domain"
NAMESAKE = "the same service account of another cluster"
FOREIGN_ROOT = "a peer's root signs a name of this trust domain"
ROOT_SECRET = f"/api/v1/namespaces/{SPIRE_NAMESPACE}/secrets/spire-root"
LIFE = 15
# Seconds; the clocks of nodes differ slightly.
GRACE = 2.0
HEADER = "x-fedmesh-drill"
POLICIES = f"/apis/security.istio.io/v1/namespaces/{SERVER}/authorizationpolicies"


def run_expired(session: AttackSession, cluster: LiveCluster) -> list[AttackResult]:
    """Uses a certificate while it is valid and again after it has expired."""
    attacker, (address, port) = attacker_on(session, cluster), server_address(cluster)
    identity = f"spiffe://{cluster.member.trust_domain}/ns/{CLIENT}/sa/removed-{session.janitor.run}"
    stolen = certificate_of(cluster, identity, LIFE)
    end = certs.parse_chain(stolen.split("-----BEGIN PRIVATE KEY")[0].encode())[0].not_valid_after_utc
    control = attacker.ask_tls(address, port, stolen)
    left = end.timestamp() - time.time() - cluster.clock_ahead()
    time.sleep(max(0.0, left) + GRACE)
    answer = attacker.ask_tls(address, port, stolen)
    verdict, evidence = judge(answer, control)
    let_in = _control(control, "accepted while it was valid")
    return [AttackResult(EXPIRED, cluster.name, f"{SERVER}: after its end", verdict, evidence, let_in)]


def run_stranger(session: AttackSession, cluster: LiveCluster) -> list[AttackResult]:
    """Uses certificates of an unknown authority, with a foreign SPIFFE ID and with one of this trust domain."""
    attacker, (address, port) = attacker_on(session, cluster), server_address(cluster)
    control = attacker.ask_tls(address, port, member(cluster))
    forged = f"spiffe://{cluster.member.trust_domain}/ns/{CLIENT}/sa/{CLIENT}"
    shown = {
        FOREIGN: certs.forge(FOREIGN).pem,
        f"{forged}, forged": certs.forge(forged).pem,
        "no certificate": None,
    }
    answers = {who: attacker.ask_tls(address, port, pem) for who, pem in shown.items()}
    let_in = _control(control, "a member is accepted")
    return [
        AttackResult(STRANGER, cluster.name, f"{SERVER}: {who}", *judge(answer, control), let_in)
        for who, answer in answers.items()
    ]


def run_namesake(session: AttackSession, cluster: LiveCluster) -> list[AttackResult]:
    """Calls as the account that a policy names, and as the account of the same name on each peer."""
    mode = trust_mode(cluster)
    findings: list[AttackResult] = []
    for peer in session.peers(cluster):
        known, namesake = _call_under_policy(session, cluster, peer)
        target = f"{SERVER} for {CLIENT} of {cluster.name}, called by {CLIENT} of {peer.name}"
        verdict, evidence = judge_namesake(mode, known, namesake)
        findings.append(
            AttackResult(
                NAMESAKE,
                cluster.name,
                f"{target} (trust: {mode})",
                verdict,
                evidence,
                _control(known, "its own"),
            )
        )
    return findings


def run_foreign_root(session: AttackSession, cluster: LiveCluster) -> list[AttackResult]:
    """Signs a name of this trust domain with the genuine root of each peer; the control is a name of the peer's."""
    attacker, (address, port) = attacker_on(session, cluster), server_address(cluster)
    findings: list[AttackResult] = []
    for peer in session.peers(cluster):
        target = f"{SERVER}: {CLIENT} of {cluster.name}, signed by the root of {peer.name}"
        try:
            data = peer.api.get(ROOT_SECRET)["data"]
        except KubeError as error:
            if error.status != 404:
                raise
            kept = "the root's key is not in the cluster (fedmesh:spire: {upstream: ...})"
            findings.append(AttackResult(FOREIGN_ROOT, cluster.name, target, Verdict.BY_DESIGN, kept))
            continue
        (root,) = certs.parse_chain(base64.b64decode(data["tls.crt"]))
        key = certs.parse_key(base64.b64decode(data["tls.key"]))

        def ask(trust_domain: str, root: Certificate = root, key: certs.Key = key) -> curl.Answer:
            identity = f"spiffe://{trust_domain}/ns/{CLIENT}/sa/{CLIENT}"
            return attacker.ask_tls(address, port, certs.signed_by(root, key, identity))

        control = ask(peer.member.trust_domain)
        verdict, evidence = judge(ask(cluster.member.trust_domain), control)
        told = _control(control, f"{CLIENT} of {peer.name}, signed by the same root")
        findings.append(AttackResult(FOREIGN_ROOT, cluster.name, target, verdict, evidence, told))
    return findings


def trust_mode(cluster: LiveCluster) -> str:
    """The value of `trust` in `fedmesh:istio` that the cluster's istiod was configured with: aliases or strict."""
    path = f"/api/v1/namespaces/{ISTIO_NAMESPACE}/configmaps/istio"
    return "aliases" if "trustDomainAliases:" in cluster.api.get(path)["data"]["mesh"] else "strict"


def judge_namesake(mode: str, known: curl.Answer, namesake: curl.Answer) -> tuple[Verdict, str]:
    """The verdict: strict trust must refuse the account of the peer, aliases accept it by design (docs/decisions)."""
    if known.status != 200:
        return (
            Verdict.UNJUDGED,
            f"the account that the policy names was answered {known.status} {known.error}",
        )
    if namesake.status == 403:
        return Verdict.REFUSED, f"403 {namesake.body.strip()}"
    if namesake.status == 200 and mode == "aliases":
        return (
            Verdict.BY_DESIGN,
            "accepted: with aliases both are one principal; fedmesh:istio: {trust: strict} tells them apart",
        )
    if namesake.status:
        return Verdict.THROUGH, f"answered with {namesake.status}"
    return Verdict.UNJUDGED, f"no answer: {namesake.error}"


def policy(run: str, principal: str) -> Json:
    """A policy that denies every principal but one, for requests with the header of this run only."""
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": f"fedmesh-probe-{run}"},
        "spec": {
            "selector": {"matchLabels": {"app": SERVER}},
            "action": "DENY",
            "rules": [
                {
                    "from": [{"source": {"notPrincipals": [principal]}}],
                    "when": [{"key": f"request.headers[{HEADER}]", "values": [run]}],
                }
            ],
        },
    }


def _call_under_policy(
    session: AttackSession, cluster: LiveCluster, peer: LiveCluster
) -> tuple[curl.Answer, curl.Answer]:
    """Answers to the account that the policy names and to that of the peer, once the policy is in effect."""
    attacker, run = attacker_on(session, cluster), f"{session.janitor.run}-{int(time.monotonic() * 10)}"
    account = f"ns/{CLIENT}/sa/{CLIENT}"
    named = certificate_of(cluster, f"spiffe://{cluster.member.trust_domain}/{account}", 120)
    other = certificate_of(peer, f"spiffe://{peer.member.trust_domain}/{account}", 120)
    ingress = f"ns/{GATEWAY_NAMESPACE}/sa/istio-ingressgateway"
    third = certificate_of(cluster, f"spiffe://{cluster.member.trust_domain}/{ingress}", 120)
    session.janitor.create(cluster.api, POLICIES, policy(run, f"{cluster.member.trust_domain}/{account}"))
    address, port = server_address(cluster)

    def call(pem: str) -> curl.Answer:
        return attacker.ask_tls(address, port, pem, "-H", f"{HEADER}: {run}")

    def holds() -> bool | None:
        # The proxy refuses a third account, which has been let in before, as soon as it has the policy.
        return True if call(third).status == 403 else None

    wait_for(holds, f"the policy does not reach {server(cluster)['metadata']['name']}", 15.0)
    return call(named), call(other)


def judge(answer: curl.Answer, control: curl.Answer) -> tuple[Verdict, str]:
    """The verdict: a TLS alert must end the handshake, and the control request must be accepted."""
    if answer.status:
        return Verdict.THROUGH, f"accepted with {answer.status}"
    alert = alert_of(answer.error)
    if not control.status or alert is None:
        return Verdict.UNJUDGED, answer.error
    return Verdict.REFUSED, f"TLS alert: {alert}"


def _control(control: curl.Answer, words: str) -> str:
    return f"{words}: {control.status}" if control.status else f"not accepted either: {control.error}"
