"""An agent of another cluster that wants to be one of this."""

from __future__ import annotations

import json
import re

from fedmesh.attack import pods
from fedmesh.attack.model import AttackSession, Finding, Verdict
from fedmesh.attack.workload import AGENT
from fedmesh.kube import Json
from fedmesh.probe import wait_for
from fedmesh.reading import LiveCluster
from fedmesh.topology import SPIRE_NAMESPACE

TITLE = "an agent of another cluster attests"
AUDIENCE = "spire-server"
ATTESTED = "Node attestation was successful"
_ERROR = re.compile(r'error="((?:[^"\\]|\\.)*)"')
# Below this life the API server gives no token.
TOKEN_SECONDS = 600
DATA = "/run/spire/data"
PATIENCE = 45.0


def run(session: AttackSession, cluster: LiveCluster) -> list[Finding]:
    """Show a peer's agent's token to this cluster's SPIRE server; then one of its own, as the control.

    With the control the server knows the node's agent by the newer certificate, so the real one attests anew, as after
    a restart; its workloads notice nothing.
    """
    findings: list[Finding] = []
    said = {peer.name: attest(session, cluster, peer) for peer in session.peers(cluster)}
    own = attest(session, cluster, cluster)
    control = "a token of this cluster is accepted" if own == "" else f"nor is one of its own: {own}"
    for peer, error in said.items():
        verdict, evidence = judge(error, own)
        findings.append(Finding(TITLE, cluster.name, f"token of {peer}", verdict, evidence, control))
    return findings


def judge(error: str, own: str) -> tuple[Verdict, str]:
    """Whether a foreign token was refused where an own one was accepted ("": accepted)."""
    if not error:
        return Verdict.THROUGH, "attested"
    return (Verdict.REFUSED if own == "" and "k8s_psat" in error else Verdict.UNJUDGED), error


def attest(session: AttackSession, cluster: LiveCluster, origin: LiveCluster) -> str:
    """Run an agent with the token of an agent of `origin`; why the server refused it, "" when it did not."""
    agent = next(
        pod for pod in origin.pods(SPIRE_NAMESPACE) if pod["metadata"]["name"].startswith("spire-agent-")
    )
    name = f"fedmesh-probe-{session.janitor.run}-agent-{origin.name}"[:63].rstrip("-")
    data = {
        "agent.json": json.dumps(agent_config(_config_map(cluster, "spire-agent")["agent.json"])),
        "bundle": _config_map(cluster, "spire-bundle")["bundle"],
        "token": token(origin, agent),
    }
    volumes = [pods.files(session, cluster, name, data), pods.scratch(DATA)]
    command = [AGENT, "run", "-config", f"{pods.FILES}/agent.json"]
    pods.start(session, cluster, pods.pod(name, pods.image(agent, "spire-agent"), command, volumes=volumes))

    def outcome() -> str | None:
        return read_log(pods.log(cluster, name))

    try:
        return wait_for(outcome, f"the server of {cluster.name} has not judged a token", PATIENCE)
    finally:
        cluster.api.delete(f"{pods.CORE}/pods/{name}", gracePeriodSeconds="0")


def read_log(text: str) -> str | None:
    """Why an agent was refused, "" when it was attested, None while neither is in its log."""
    for line in text.splitlines():
        if ATTESTED in line:
            return ""
        # while the server cannot be reached, the agent tries again
        if "attest" in line and "Unavailable" not in line and (found := _ERROR.search(line)):
            return found[1].replace('\\"', '"')
    return None


def agent_config(config: str) -> Json:
    """The config of the cluster's own agents for one that runs elsewhere, with a token of one's choice."""
    whole = json.loads(config)
    whole["agent"].update(
        data_dir=DATA, socket_path=f"{DATA}/agent.sock", trust_bundle_path=f"{pods.FILES}/bundle"
    )
    plugins = whole["plugins"]
    plugins["NodeAttestor"]["k8s_psat"]["plugin_data"]["token_path"] = f"{pods.FILES}/token"
    plugins["WorkloadAttestor"] = {"unix": {"plugin_data": {}}}
    return {"agent": whole["agent"], "plugins": plugins}


def token(origin: LiveCluster, agent: Json) -> str:
    """A token as the kubelet gives one to an agent's pod."""
    meta = agent["metadata"]
    bound = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
    spec = {"audiences": [AUDIENCE], "expirationSeconds": TOKEN_SECONDS, "boundObjectRef": bound}
    body: Json = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    account = agent["spec"]["serviceAccountName"]
    path = f"/api/v1/namespaces/{SPIRE_NAMESPACE}/serviceaccounts/{account}/token"
    return str(origin.api.create(path, body)["status"]["token"])


def _config_map(cluster: LiveCluster, name: str) -> Json:
    return cluster.api.get(f"/api/v1/namespaces/{SPIRE_NAMESPACE}/configmaps/{name}")["data"]
