"""The attack of a workload that requests the identity of another."""

from __future__ import annotations

import json

from fedmesh.attack import pods
from fedmesh.attack.model import AttackResult, AttackSession, Verdict
from fedmesh.kube import Json, Output
from fedmesh.probe import CONTAINER, NAMESPACE, poll, wait_for
from fedmesh.reading import LiveCluster
from fedmesh.topology import CLIENT, SPIRE_NAMESPACE

TITLE = "a workload asks for another's identity"
AGENT = "/opt/spire/bin/spire-agent"
SOCKETS = "/run/spire/agent-sockets"
SOCKET = f"{SOCKETS}/spire-agent.sock"
CSI: Json = {"csi": {"driver": "csi.spiffe.io", "readOnly": True}}
# Seconds until the controller-manager has made an entry and the agent has synchronized it.
PATIENCE = 45.0
TRIES = 4
DENIED = "PermissionDenied"


def run(session: AttackSession, cluster: LiveCluster) -> list[AttackResult]:
    """Calls the Workload API from a tenant's pod dressed up as the sample client, and from pods outside the mesh."""
    domain = cluster.member.trust_domain
    coveted = f"spiffe://{domain}/ns/{CLIENT}/sa/{CLIENT}"
    account = f"fedmesh-probe-{session.janitor.run}"
    own = f"spiffe://{domain}/ns/{CLIENT}/sa/{account}"
    disguised = {"service.istio.io/canonical-name": CLIENT}
    body: Json = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}}
    session.janitor.create(cluster.api, f"{pods.TENANT}/serviceaccounts", body)
    dressed = _start(session, cluster, f"{account}-dressed", disguised, namespace=CLIENT, account=account)
    stranger = _start(session, cluster, f"{account}-stranger", {}, namespace=CLIENT, account=account)
    labelled = _start(session, cluster, f"{account}-labelled", disguised, namespace=NAMESPACE)
    given = wait_for(lambda: _ids(_fetch(cluster, dressed)), "SPIRE gives no identity at all", PATIENCE)
    control = _allowed(cluster, dressed, "jwt", "-audience", "drill", "-spiffeID", own)
    named = _ask(cluster, dressed, "jwt", "-audience", "drill", "-spiffeID", coveted)
    outside = _fetch(cluster, stranger)
    unmeshed = _fetch(cluster, labelled, NAMESPACE)
    let_in = f"asked for {own}: " + ("given" if control.code == 0 else f"refused: {_error(control)}")
    return [
        AttackResult(TITLE, cluster.name, f"dressed up as {coveted}", *judge_given(given, own), let_in),
        AttackResult(
            TITLE, cluster.name, f"names {coveted}", *judge_refusal(named, control.code == 0), let_in
        ),
        AttackResult(
            TITLE, cluster.name, "a pod outside the mesh asks", *judge_refusal(outside, bool(given)), let_in
        ),
        AttackResult(
            TITLE,
            cluster.name,
            f"a pod of namespace {NAMESPACE} labels itself into the mesh",
            *judge_refusal(unmeshed, bool(given)),
            let_in,
        ),
    ]


def judge_given(given: list[str], own: str) -> tuple[Verdict, str]:
    """The verdict: the workload must get its own identity and no other."""
    return (Verdict.REFUSED if given == [own] else Verdict.THROUGH), f"given {', '.join(given)} only"


def judge_refusal(answer: Output, control: bool) -> tuple[Verdict, str]:
    """The verdict: the agent must deny the identity, and the control request must be accepted."""
    if answer.code == 0:
        return Verdict.THROUGH, "the identity was given"
    denied = DENIED in answer.stderr + answer.stdout and control
    return (Verdict.REFUSED if denied else Verdict.UNJUDGED), _error(answer)


def _start(
    session: AttackSession,
    cluster: LiveCluster,
    name: str,
    labels: dict[str, str],
    *,
    namespace: str,
    account: str = "default",
) -> str:
    server = next(
        p for p in cluster.pods(SPIRE_NAMESPACE) if p["metadata"]["name"].startswith("spire-agent-")
    )
    body = pods.pod(
        name,
        pods.image(server, "spire-agent"),
        # `watch` does not end, so that the pod stays running.
        [AGENT, "api", "watch", "-socketPath", SOCKET],
        account=account,
        labels=labels,
        volumes=[("sockets", SOCKETS, CSI)],
    )
    pods.start(session, cluster, body, f"/api/v1/namespaces/{namespace}")
    return name


def _fetch(cluster: LiveCluster, pod: str, namespace: str = CLIENT) -> Output:
    return _ask(cluster, pod, "x509", "-output", "json", namespace=namespace)


def _ask(cluster: LiveCluster, pod: str, *words: str, namespace: str = CLIENT) -> Output:
    kind, *rest = words
    command = [AGENT, "api", "fetch", kind, "-socketPath", SOCKET, "-timeout", "3s", *rest]
    answer = cluster.api.exec(namespace, pod, CONTAINER, command)
    for _ in range(TRIES):
        # The agent answered too late to judge.
        if answer.code == 0 or DENIED in answer.stderr + answer.stdout:
            break
        answer = cluster.api.exec(namespace, pod, CONTAINER, command)
    return answer


def _allowed(cluster: LiveCluster, pod: str, *words: str) -> Output:
    """Requests the workload's own identity until it is given: an agent that re-attests denies every request."""
    last: list[Output] = []

    def given() -> Output | None:
        last[:] = [_ask(cluster, pod, *words)]
        return last[0] if last[0].code == 0 else None

    return poll(given, PATIENCE, 1.0) or last[0]


def _ids(answer: Output) -> list[str] | None:
    """SPIFFE IDs of the certificates in an answer; None when the request failed."""
    return [each["spiffe_id"] for each in json.loads(answer.stdout)["svids"]] if answer.code == 0 else None


def _error(answer: Output) -> str:
    return (answer.stderr or answer.stdout).strip().splitlines()[-1][-160:] if answer.code else ""
