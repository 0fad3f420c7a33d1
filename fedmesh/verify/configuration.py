"""Checks of the configuration, whose mistakes cause failures elsewhere."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from fedmesh.kube import Json, KubeError
from fedmesh.reading import LiveCluster, full_name, load_balancer_addresses
from fedmesh.topology import GATEWAY_NAMESPACE, ISTIO_NAMESPACE, ROTATION, SPIRE_NAMESPACE
from fedmesh.verify.istio import NETWORK_LABEL
from fedmesh.verify.model import Failed, Mesh, Severity, category, refuse

check = category("Configuration")

KINDS = {
    "cert-manager.io/v1": ("certificates", "issuers", "clusterissuers"),
    "networking.istio.io/v1": ("gateways", "virtualservices", "destinationrules", "serviceentries"),
    "security.istio.io/v1": ("peerauthentications", "authorizationpolicies"),
    "spire.spiffe.io/v1alpha1": ("clusterspiffeids", "clusterfederatedtrustdomains"),
}
PLACES = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone")
PROTOCOLS = ("http", "http2", "https", "grpc", "grpc-web", "tcp", "tls", "udp", "mongo", "mysql", "redis")
# Namespaces of the platform, whose ports users do not control.
SYSTEM = frozenset(
    {"kube-system", "kube-public", "kube-node-lease", SPIRE_NAMESPACE, ISTIO_NAMESPACE, GATEWAY_NAMESPACE}
)
WORKLOAD_SOCKET = "workload-socket"
CSI_DRIVER = "csi.spiffe.io"


@check(
    "the mesh's kinds are installed",
    "Run `pulumi up`: CustomResourceDefinitions are missing or were deleted.",
)
def kinds_are_installed(_mesh: Mesh, cluster: LiveCluster) -> str:
    """The API server serves every kind of cert-manager, Istio and SPIRE that the mesh consists of."""
    served: dict[str, set[str]] = {}
    for group in KINDS:
        try:
            served[group] = {kind["name"] for kind in cluster.api.get(f"/apis/{group}")["resources"]}
        except KubeError as error:
            if error.status != 404:
                raise
            served[group] = set()
    return judge_kinds(served)


@check(
    "nodes name their region and zone",
    "Label the nodes: Istio chooses the endpoints of a failover by locality.",
)
def nodes_name_their_place(_mesh: Mesh, cluster: LiveCluster) -> str:
    """Every node has the labels that Istio derives the locality from."""
    return judge_places(cluster.nodes())


@check(
    "istio-system is labelled with its network",
    "Run `pulumi up`: without the label, istiod sends calls to the peers' pods without a gateway.",
)
def network_is_labelled(_mesh: Mesh, cluster: LiveCluster) -> str:
    """The label of istiod's namespace is the network of the cluster in the stack file."""
    labels = cluster.api.get(f"/api/v1/namespaces/{ISTIO_NAMESPACE}")["metadata"].get("labels", {})
    if labels.get(NETWORK_LABEL) != cluster.member.network:
        raise Failed(
            f"{NETWORK_LABEL} is {labels.get(NETWORK_LABEL, 'missing')}, not {cluster.member.network}"
        )
    return cluster.member.network


@check(
    "istiod accepts the trust domains of all peers",
    "Run `pulumi up`: trustDomain, caCertificates and trustDomainAliases of meshConfig come from the stack file.",
)
def trust_domains_are_accepted(mesh: Mesh, cluster: LiveCluster) -> str:
    """istiod's mesh config has this cluster's trust domain and accepts every other."""
    data = cluster.api.get(f"/api/v1/namespaces/{ISTIO_NAMESPACE}/configmaps/istio")["data"]
    config: Mapping[str, Any] = yaml.safe_load(data["mesh"]) or {}
    others = [member.trust_domain for member in mesh.topology.others(cluster.member)]
    return judge_trust_domains(config, cluster.member.trust_domain, others)


@check(
    "remote secrets hold no credentials of peers",
    "Run `pulumi up --refresh`: istiod reaches its peers with its own identity, and needs no token of theirs.",
)
def remote_secrets_hold_no_credentials(mesh: Mesh, cluster: LiveCluster) -> str:
    """For every peer there is a remote secret, in force unless it is drained, and none holds a credential."""
    path = f"/api/v1/namespaces/{ISTIO_NAMESPACE}/secrets"
    secrets = cluster.api.items(path, labelSelector=ROTATION)
    return judge_remote_secrets(secrets, {peer.name: peer.member.drained for peer in mesh.peers(cluster)})


@check(
    "federation names the peers' bundle endpoints",
    "Run `pulumi up`: the address of a bundle endpoint changed, or a relationship was removed.",
)
def federation_is_addressed(mesh: Mesh, cluster: LiveCluster) -> str:
    """Every peer's trust domain has a relationship whose URL is the peer's bundle endpoint."""
    trusts = cluster.api.items("/apis/spire.spiffe.io/v1alpha1/clusterfederatedtrustdomains")
    endpoints = {peer.member.trust_domain: peer.services(SPIRE_NAMESPACE) for peer in mesh.peers(cluster)}
    return judge_federation(trusts, {domain: bundle_addresses(items) for domain, items in endpoints.items()})


@check(
    "mesh pods are injected with the spire template",
    "Restart the pod: it was created before istiod had the template, or names templates of its own.",
)
def pods_have_the_socket(_mesh: Mesh, cluster: LiveCluster) -> str:
    """Every pod with a proxy mounts SPIRE's socket through the CSI driver."""
    return judge_sockets(cluster.mesh_pods(starting=True))


@check(
    "ports in the mesh name their protocol",
    "Name the port http-..., grpc-..., tcp-... or set appProtocol: otherwise calls to it are plain TCP, "
    "without retries and failover of requests.",
    severity=Severity.WARNING,
)
def ports_are_named(_mesh: Mesh, cluster: LiveCluster) -> str:
    """Every Service port of namespaces in the mesh declares its protocol."""
    namespaces = {pod["metadata"]["namespace"] for pod in cluster.mesh_pods()} - SYSTEM
    return judge_ports([service for name in sorted(namespaces) for service in cluster.services(name)])


@check(
    "mutual TLS is strict in the whole mesh",
    "Run `pulumi up` for the mesh-wide policy; remove policies that weaken it.",
)
def mutual_tls_is_strict(_mesh: Mesh, cluster: LiveCluster) -> str:
    """The mesh-wide PeerAuthentication is STRICT and none weakens it."""
    return judge_strictness(cluster.api.items("/apis/security.istio.io/v1/peerauthentications"))


def judge_kinds(served: Mapping[str, set[str]]) -> str:
    """Raises Failed unless every kind of KINDS is served; the keys are group and version."""
    refuse(
        [
            f"{group} has no {', '.join(missing)}" if served[group] else f"nothing of {group} is installed"
            for group, kinds in KINDS.items()
            if (missing := [kind for kind in kinds if kind not in served[group]])
        ]
    )
    return f"{len(KINDS)} groups"


def judge_places(nodes: Sequence[Json]) -> str:
    """Raises Failed unless every node has a region and a zone."""
    faults = [
        f"{full_name(node)} has no label {label}"
        for node in nodes
        for label in PLACES
        if not node["metadata"].get("labels", {}).get(label)
    ]
    refuse(faults)
    return ", ".join(sorted({node["metadata"]["labels"][PLACES[0]] for node in nodes}))


def judge_trust_domains(config: Mapping[str, Any], own: str, others: Sequence[str]) -> str:
    """Raises Failed unless a mesh config has the own trust domain and accepts the others."""
    accepted = set(config.get("trustDomainAliases") or [])
    for authority in config.get("caCertificates") or []:
        accepted.update(authority.get("trustDomains") or [])
    faults = [f"{domain} is not accepted" for domain in others if domain not in accepted]
    if config.get("trustDomain") != own:
        faults.insert(0, f"trustDomain is {config.get('trustDomain', 'missing')}, not {own}")
    refuse(faults)
    return ", ".join([own, *others])


def judge_remote_secrets(secrets: Sequence[Json], peers: Mapping[str, bool]) -> str:
    """Whether there is a remote secret for every peer, in force unless it is drained, and none with credentials.

    `peers` says of each whether it is drained.
    """
    found: dict[str, list[Json]] = {}
    in_force: set[str] = set()
    for secret in secrets:
        if secret["metadata"]["labels"][ROTATION] == "true":
            in_force |= set(secret.get("data") or {})
        for name, encoded in (secret.get("data") or {}).items():
            kubeconfig = yaml.safe_load(base64.b64decode(encoded)) or {}
            found[name] = [user.get("user") or {} for user in kubeconfig.get("users") or []]
    faults = [f"there is no remote secret for {peer}" for peer in peers if peer not in found]
    faults += [
        f"{peer} is {'in rotation, and drained in the stack file' if drained else 'drained, and not in the stack file'}"
        for peer, drained in peers.items()
        if peer in found and (peer in in_force) == drained
    ]
    faults += [
        f"the remote secret for {name} holds {', '.join(sorted(user))}"
        for name, users in found.items()
        for user in users
        if user
    ]
    refuse(faults)
    return ", ".join(peers) or "no peers"


def bundle_addresses(services: Sequence[Json]) -> list[str]:
    """Addresses of the bundle endpoint among SPIRE's Services."""
    return [
        address
        for service in services
        if service["metadata"]["name"] == "spire-bundle"
        for address in load_balancer_addresses(service)
    ]


def judge_federation(trusts: Sequence[Json], endpoints: Mapping[str, Sequence[str]]) -> str:
    """Raises Failed unless every trust domain has a relationship with one of its endpoint's addresses."""
    urls = {trust["spec"]["trustDomain"]: trust["spec"]["bundleEndpointURL"] for trust in trusts}
    faults: list[str] = []
    for domain, addresses in endpoints.items():
        if not addresses:
            faults.append(f"the bundle endpoint of {domain} has no address")
        elif domain not in urls:
            faults.append(f"there is no relationship with {domain}")
        elif re.sub(r"^https://|:\d+(/.*)?$", "", urls[domain]) not in addresses:
            faults.append(f"{domain} is asked at {urls[domain]}, but is at {', '.join(addresses)}")
    refuse(faults)
    return ", ".join(endpoints) or "no peers"


def judge_sockets(pods: Sequence[Json]) -> str:
    """Raises Failed unless the workload socket of every pod is a volume of SPIRE's CSI driver."""
    bare = [
        f"{full_name(pod)} has no socket of SPIRE"
        for pod in pods
        if not any(
            volume["name"] == WORKLOAD_SOCKET and volume.get("csi", {}).get("driver") == CSI_DRIVER
            for volume in pod["spec"].get("volumes") or []
        )
    ]
    refuse(bare)
    return f"{len(pods)} pods"


def judge_ports(services: Sequence[Json]) -> str:
    """Raises Failed unless every port declares a protocol, by the prefix of its name or by appProtocol."""
    faults: list[str] = []
    count = 0
    for service in services:
        for port in service["spec"].get("ports") or []:
            count += 1
            name = str(port.get("name", ""))
            known = any(name == protocol or name.startswith(f"{protocol}-") for protocol in PROTOCOLS)
            if not known and not port.get("appProtocol"):
                faults.append(f"port {port['port']} ({name or 'unnamed'}) of {full_name(service)}")
    refuse(faults)
    return f"{count} ports"


def judge_strictness(policies: Sequence[Json]) -> str:
    """Raises Failed unless the mesh-wide policy is STRICT and no policy is weaker."""
    modes = {full_name(policy): policy["spec"].get("mtls", {}).get("mode", "UNSET") for policy in policies}
    root = [
        mode
        for policy, mode in zip(policies, modes.values(), strict=True)
        if policy["metadata"]["namespace"] == ISTIO_NAMESPACE and "selector" not in policy["spec"]
    ]
    if "STRICT" not in root:
        raise Failed(f"the mesh-wide policy is {root[0] if root else 'missing'}, not STRICT")
    weak = [f"{name} is {mode}" for name, mode in modes.items() if mode in ("PERMISSIVE", "DISABLE")]
    weak += [
        f"{full_name(policy)} has port {port} at {rule['mode']}"
        for policy in policies
        for port, rule in (policy["spec"].get("portLevelMtls") or {}).items()
        if rule.get("mode") in ("PERMISSIVE", "DISABLE")
    ]
    refuse(weak)
    return "STRICT"


CHECKS = (
    kinds_are_installed,
    nodes_name_their_place,
    network_is_labelled,
    trust_domains_are_accepted,
    remote_secrets_hold_no_credentials,
    federation_is_addressed,
    pods_have_the_socket,
    ports_are_named,
    mutual_tls_is_strict,
)
