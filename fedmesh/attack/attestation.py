"""The attack with a SPIRE agent of another cluster that attests to this cluster's server."""

from __future__ import annotations

import json
import re

from fedmesh.attack import pods
from fedmesh.attack.model import AttackResult, AttackSession, Verdict
from fedmesh.attack.workload import AGENT
from fedmesh.kube import Json
from fedmesh.probe import scratch, wait_for
from fedmesh.reading import LiveCluster
from fedmesh.topology import SPIRE_NAMESPACE

TITLE = "an agent of another cluster attests"
AUDIENCE = "spire-server"
ATTESTED = "Node attestation was successful"
_ERROR = re.compile(r'error="((?:[^"\\]|\\.)*)"')
# Seconds; the shortest lifetime of a token that the API server issues.
TOKEN_SECONDS = 600
DATA = "/run/spire/data"
PATIENCE = 45.0


def run(session: AttackSession, cluster: LiveCluster) -> list[AttackResult]:
    """Attests with a token of a peer's agent, and with one of this cluster's as the control.

    The control replaces the certificate of the node's agent, so that the real agent re-attests as after a restart,
    without effect on workloads.
    """
    findings: list[AttackResult] = []
    said = {peer.name: attest(session, cluster, peer) for peer in session.peers(cluster)}
    own = attest(session, cluster, cluster)
    control = "a token of this cluster is accepted" if own == "" else f"nor is one of its own: {own}"
    for peer, error in said.items():
        verdict, evidence = judge(error, own)
        findings.append(AttackResult(TITLE, cluster.name, f"token of {peer}", verdict, evidence, control))
    return findings


def judge(error: str, own: str) -> tuple[Verdict, str]:
    """The verdict: the foreign token must be refused and the own one accepted ("": accepted)."""
    if not error:
        return Verdict.THROUGH, "attested"
    return (Verdict.REFUSED if own == "" and "k8s_psat" in error else Verdict.UNJUDGED), error


def attest(session: AttackSession, cluster: LiveCluster, origin: LiveCluster) -> str:
    """Runs an agent with a token of `origin`; returns the server's error, "" when the agent is attested."""
    agent = next(
        pod for pod in origin.pods(SPIRE_NAMESPACE) if pod["metadata"]["name"].startswith("spire-agent-")
    )
    name = f"fedmesh-probe-{session.janitor.run}-agent-{origin.name}"[:63].rstrip("-")
    data = {
        "agent.json": json.dumps(agent_config(_config_map(cluster, "spire-agent")["agent.json"])),
        "bundle": _config_map(cluster, "spire-bundle")["bundle"],
        "token": token(origin, agent),
    }
    volumes = [pods.files(session, cluster, name, data), scratch(DATA)]
    command = [AGENT, "run", "-config", f"{pods.FILES}/agent.json"]
    pods.start(session, cluster, pods.pod(name, pods.image(agent, "spire-agent"), command, volumes=volumes))

    def outcome() -> str | None:
        return read_log(pods.log(cluster, name))

    try:
        return wait_for(outcome, f"the server of {cluster.name} has not judged a token", PATIENCE)
    finally:
        cluster.api.delete(f"{pods.CORE}/pods/{name}", gracePeriodSeconds="0")


def read_log(text: str) -> str | None:
    """The error in an agent's log, "" when the agent was attested, None while its log has neither."""
    for line in text.splitlines():
        if ATTESTED in line:
            return ""
        # The agent retries while it cannot reach the server.
        if "attest" in line and "Unavailable" not in line and (found := _ERROR.search(line)):
            return found[1].replace('\\"', '"')
    return None


def agent_config(config: str) -> Json:
    """The configuration of the cluster's agents, changed for a pod that brings its own token."""
    whole = json.loads(config)
    whole["agent"].update(
        data_dir=DATA, socket_path=f"{DATA}/agent.sock", trust_bundle_path=f"{pods.FILES}/bundle"
    )
    plugins = whole["plugins"]
    # agents that AWS vouches for have no token: the control is refused then, and nothing is judged
    psat = plugins["NodeAttestor"].get("k8s_psat", {"plugin_data": {"cluster": "none"}})["plugin_data"]
    token = {"plugin_data": {**psat, "token_path": f"{pods.FILES}/token"}}
    plugins["NodeAttestor"] = {"k8s_psat": token}
    plugins["WorkloadAttestor"] = {"unix": {"plugin_data": {}}}
    return {"agent": whole["agent"], "plugins": plugins}


def token(origin: LiveCluster, agent: Json) -> str:
    """A token like the one that the kubelet mounts into an agent's pod."""
    meta = agent["metadata"]
    bound = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
    spec = {"audiences": [AUDIENCE], "expirationSeconds": TOKEN_SECONDS, "boundObjectRef": bound}
    body: Json = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    account = agent["spec"]["serviceAccountName"]
    path = f"/api/v1/namespaces/{SPIRE_NAMESPACE}/serviceaccounts/{account}/token"
    return str(origin.api.create(path, body)["status"]["token"])


def _config_map(cluster: LiveCluster, name: str) -> Json:
    return cluster.api.get(f"/api/v1/namespaces/{SPIRE_NAMESPACE}/configmaps/{name}")["data"]
