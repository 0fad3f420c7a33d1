"""The attack on the reader of a cluster's objects, which only the istiods of its peers may use, to read."""

from __future__ import annotations

from collections.abc import Sequence

from fedmesh import curl
from fedmesh.attack import ports
from fedmesh.attack.attacker import attacker_on
from fedmesh.attack.model import AttackResult, AttackSession, Verdict
from fedmesh.reading import LiveCluster, full_name
from fedmesh.topology import CLIENT, GATEWAY_NAMESPACE, ISTIO_NAMESPACE
from fedmesh.verify.security import certificate_of

TITLE = "others than a peer's istiod use the reader, or use it for more"
NAMESPACE = "istio-remote-access"
PORT = 8001
LIFE = 120
OPEN = "/api/v1/namespaces?limit=1"
ALLOWED = 200
# Of the gateway's and the reader's answers: not allowed, or no such method.
DENIED = (403, 405)


def run(session: AttackSession, cluster: LiveCluster) -> list[AttackResult]:
    """Calls the reader's proxy as members of the mesh, and as the istiod of a peer for what it may not."""
    attacker = attacker_on(session, cluster)
    readers = cluster.pods(NAMESPACE, app="remote-access")
    if not readers:
        raise ValueError(f"no pod of {NAMESPACE} is running on {cluster.name}")
    base = f"https://{readers[0]['status']['podIP']}:{PORT}"
    peer = session.peers(cluster)[0]

    def certificate(owner: LiveCluster, namespace: str, account: str) -> str:
        identity = f"spiffe://{owner.member.trust_domain}/ns/{namespace}/sa/{account}"
        return certificate_of(owner, identity, LIFE)

    istiod = certificate(peer, ISTIO_NAMESPACE, _istiod_account(peer))
    strangers = {
        f"istiod of {cluster.name} itself": (cluster, ISTIO_NAMESPACE, _istiod_account(cluster)),
        f"{CLIENT} of {cluster.name}": (cluster, CLIENT, CLIENT),
        f"{CLIENT} of {peer.name}": (peer, CLIENT, CLIENT),
        f"the east-west gateway of {peer.name}": (peer, GATEWAY_NAMESPACE, "istio-eastwestgateway"),
    }
    tried: dict[str, tuple[str, str, Sequence[str]]] = {
        who: (certificate(*account), OPEN, ()) for who, account in strangers.items()
    }
    more = f"istiod of {peer.name}"
    pod = f"/api/v1/namespaces/{NAMESPACE}/pods/{readers[0]['metadata']['name']}"
    tried |= {
        f"{more} reads Secrets": (istiod, "/api/v1/secrets?limit=1", ()),
        f"{more} reads ConfigMaps": (istiod, "/api/v1/configmaps?limit=1", ()),
        f"{more} writes": (istiod, "/api/v1/namespaces?dryRun=All", ("-X", "POST")),
        f"{more} brings a token along": (istiod, OPEN, ("-H", "authorization: Bearer x")),
        f"{more} runs a command": (istiod, f"{pod}/exec?command=id", ()),
    }
    control = attacker.ask(base + OPEN, pem=istiod)
    policy = ports.closing_policy(cluster, readers[0], PORT)
    if silent := ports.judge_silent(readers[0], policy, [control]):
        return [AttackResult(TITLE, cluster.name, f"{full_name(readers[0])}:{PORT}", *silent)]
    told = f"{more} lists namespaces: {control.status or control.error}"
    findings: list[AttackResult] = []
    for who, (pem, path, options) in tried.items():
        verdict, evidence = judge(attacker.ask(base + path, *options, pem=pem), control)
        findings.append(AttackResult(TITLE, cluster.name, who, verdict, evidence, told))
    return findings


def judge(answer: curl.Answer, control: curl.Answer) -> tuple[Verdict, str]:
    """Verdict and evidence: the caller must be denied, and the right one be served."""
    evidence = f"{answer.status} {answer.body.strip()[:100]}".strip() if answer.status else answer.error
    if answer.status in DENIED and control.status == ALLOWED:
        return Verdict.REFUSED, evidence
    through = 0 < answer.status < 400
    return (Verdict.THROUGH if through else Verdict.UNJUDGED), evidence


def _istiod_account(cluster: LiveCluster) -> str:
    istiods = cluster.istiods()
    if not istiods:
        raise ValueError(f"no pod of istiod is running on {cluster.name}")
    return str(istiods[0]["spec"].get("serviceAccountName", "istiod"))
