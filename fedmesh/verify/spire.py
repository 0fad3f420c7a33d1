"""Checks of SPIRE: agents on every node, and the bundles of all trust domains."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from urllib.parse import urlsplit

from fedmesh.certs import human
from fedmesh.kube import Json
from fedmesh.reading import LiveCluster, full_name, is_ready
from fedmesh.spire import Agent, Bundle, Relationship, missing_authorities, parse_federation_log
from fedmesh.topology import SPIRE_NAMESPACE
from fedmesh.verify.model import Failed, Mesh, category, refuse

check = category("SPIRE")

AGENT = "spire-agent"
OIDC, OIDC_NAMESPACE = "oidc-discovery-provider", "spire-oidc"
OIDC_PATH = f"/api/v1/namespaces/{OIDC_NAMESPACE}"


@check(
    "SPIRE agents are attested on every node",
    "Compare the logs of the node's spire-agent pod and of spire-server: they name the refused attestation.",
)
def agents_are_attested(mesh: Mesh, cluster: LiveCluster) -> str:
    """Every node that the agents' DaemonSet covers has an attested agent."""
    daemonset = cluster.daemonset(SPIRE_NAMESPACE, AGENT)
    pods = [pod for pod in cluster.pods(SPIRE_NAMESPACE) if pod["metadata"]["name"].startswith(f"{AGENT}-")]
    ready = {pod["spec"].get("nodeName") for pod in pods if is_ready(pod)}
    nodes = cluster.nodes()
    found = judge_agents(nodes, daemonset, cluster.agents(), mesh.now())
    refuse(
        [
            f"the agent on {full_name(n)} is not ready"
            for n in nodes
            if tolerates(daemonset, n) and full_name(n) not in ready
        ]
    )
    return found


@check(
    "trust bundles of all peers are held and equal their origin's",
    "See `kubectl get clusterfederatedtrustdomains` and the peer's Service spire-bundle: is it reachable?",
)
def bundles_are_federated(mesh: Mesh, cluster: LiveCluster) -> str:
    """The bundle of each peer is complete, and a federation relationship refreshes it."""
    origins = [peer.bundle() for peer in mesh.peers(cluster)]
    try:
        return judge_bundles(origins, cluster.foreign_bundles(), cluster.relationships())
    except Failed as failure:
        now = mesh.now()
        for event in parse_federation_log(cluster.spire_log(minutes=5)).values():
            if trouble := event.trouble(now):
                raise Failed(f"{failure.detail} ({trouble})", failure.hint) from failure
        raise


@check(
    "the OIDC discovery provider serves SPIRE's keys",
    "See the logs of Deployment oidc-discovery-provider in namespace spire-oidc, and those of spire-server.",
)
def oidc_keys_are_served(_mesh: Mesh, cluster: LiveCluster) -> str:
    """Where there is a provider, JWT-SVIDs of now are verified by what it serves, and tokens of strangers are not."""
    if all(each["metadata"]["name"] != OIDC for each in cluster.deployments(OIDC_NAMESPACE)):
        return "not installed"
    signing, bundle = cluster.signing_key(), cluster.bundle().jwt_keys
    config = cluster.api.get(f"{OIDC_PATH}/configmaps/{OIDC}")["data"]["provider.json"]
    keys = urlsplit(json.loads(config)["jwks_uri"]).path
    document = cluster.api.get(f"{OIDC_PATH}/services/https:{OIDC}:https/proxy{keys}")
    return judge_keys(signing, bundle, [str(key["kid"]) for key in document["keys"]])


def judge_keys(signing: str, bundle: Collection[str], served: Sequence[str]) -> str:
    """Raises Failed unless the key that signs now is served, and none that is not in the bundle."""
    faults = [] if signing in served else [f"key {signing}, which signs now, is not served"]
    faults += [f"key {key} is served and not in the bundle" for key in served if key not in bundle]
    refuse(faults)
    return f"{len(served)} keys"


def judge_agents(nodes: Sequence[Json], daemonset: Json, agents: Sequence[Agent], now: datetime) -> str:
    """Raises Failed unless each node that the DaemonSet covers has an agent that is neither expired nor banned."""
    covered = [node for node in nodes if tolerates(daemonset, node)]
    if not covered:
        raise Failed("no node is covered by the agents' DaemonSet", "Its tolerations match no node's taints.")
    by_node = {agent.node: agent for agent in agents}
    faults: list[str] = []
    for node in covered:
        instance = node["spec"].get("providerID", "").rsplit("/", 1)[-1]
        agent = by_node.get(node["metadata"]["uid"]) or by_node.get(instance)
        if agent is None:
            faults.append(f"no attested agent on {full_name(node)}")
        elif agent.banned:
            faults.append(f"the agent of {full_name(node)} is banned")
        elif agent.expires <= now:
            faults.append(f"the agent of {full_name(node)} expired {human(now - agent.expires)} ago")
    refuse(faults)
    return f"{len(covered)} of {len(covered)} nodes"


def judge_bundles(
    origins: Iterable[Bundle], held: Mapping[str, Bundle], relationships: Sequence[Relationship]
) -> str:
    """Raises Failed unless every origin's bundle is held, complete, and refreshed by a relationship."""
    refreshed = {relationship.trust_domain for relationship in relationships}
    faults: list[str] = []
    names: list[str] = []
    for origin in origins:
        name = origin.trust_domain
        names.append(name)
        if not origin.authorities:
            faults.append(f"{name} has no authorities at its own server")
        elif name not in held:
            faults.append(f"the bundle of {name} is missing")
        elif missing := missing_authorities(origin, held[name]):
            faults.append(
                f"the bundle of {name} lacks {len(missing)} of {len(origin.authorities)} authorities"
            )
        elif name not in refreshed:
            faults.append(f"no federation relationship refreshes the bundle of {name}")
    refuse(faults)
    return ", ".join(names) or "no peers"


def tolerates(daemonset: Json, node: Json) -> bool:
    """True when a DaemonSet's pods can be scheduled to a node, by taints and nodeSelector."""
    spec = daemonset["spec"]["template"]["spec"]
    labels = node["metadata"].get("labels", {})
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    taints = [t for t in node["spec"].get("taints") or [] if t["effect"] in ("NoSchedule", "NoExecute")]
    # The DaemonSet controller adds tolerations for the conditions of a node.
    taints = [taint for taint in taints if not taint["key"].startswith("node.kubernetes.io/")]
    return all(any(_matches(t, taint) for t in spec.get("tolerations") or []) for taint in taints)


def _matches(toleration: Json, taint: Json) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", "")


CHECKS = (
    agents_are_attested,
    bundles_are_federated,
    oidc_keys_are_served,
)
