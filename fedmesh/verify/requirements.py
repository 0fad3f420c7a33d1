"""Requirements: what each cluster must provide before the first `pulumi up` (`fedmesh verify --pre`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from components.config.versions import NEWEST_MINOR, OLDEST_MINOR
from fedmesh.kube import Json, KubeError
from fedmesh.probe import NAMESPACE, poll
from fedmesh.reading import LiveCluster, condition, full_name, load_balancer_addresses
from fedmesh.verify.host_access import of_its_node
from fedmesh.verify.model import Failed, Mesh, Severity, Warned, category, refuse
from fedmesh.verify.room import RESERVED, RESERVED_FOR, is_reserved, judge_room
from fedmesh.verify.services import is_meshed

check = category("Requirements")

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
STATIC_PROVISIONER = "kubernetes.io/no-provisioner"
SERVICES = f"/api/v1/namespaces/{NAMESPACE}/services"
# Seconds until a Service has an address; clouds need up to a minute.
ADDRESS = 60.0
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
VERBS = ("create", "patch", "delete")
# Kinds that the program creates, and those that `fedmesh verify` creates for its checks.
RESOURCES = {
    "": ("namespaces", "configmaps", "secrets", "services", "serviceaccounts", "pods", "pods/exec"),
    "admissionregistration.k8s.io": (
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "validatingwebhookconfigurations",
    ),
    "apiextensions.k8s.io": ("customresourcedefinitions",),
    "apps": ("daemonsets", "deployments", "statefulsets"),
    "cert-manager.io": ("certificates", "issuers"),
    "networking.istio.io": (
        "destinationrules",
        "envoyfilters",
        "gateways",
        "serviceentries",
        "sidecars",
        "virtualservices",
    ),
    "gateway.networking.k8s.io": ("gateways", "httproutes"),
    "networking.k8s.io": ("networkpolicies",),
    "policy": ("poddisruptionbudgets",),
    "rbac.authorization.k8s.io": ("clusterrolebindings", "clusterroles", "rolebindings", "roles"),
    "security.istio.io": ("authorizationpolicies", "peerauthentications"),
    "spire.spiffe.io": ("clusterfederatedtrustdomains", "clusterspiffeids"),
    "storage.k8s.io": ("csidrivers", "storageclasses"),
}
# Namespaces that the admission policies exempt by name, by label, and by their Pod Security level.
EXEMPT = frozenset(
    (
        "kube-system",
        "cert-manager",
        "spire",
        "istio-system",
        "istio-gateways",
        "istio-remote-access",
        "observability",
    )
)
EXEMPTING, LEVEL = "fedmesh.dev/platform", "pod-security.kubernetes.io/enforce"
Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Addresses:
    """Address ranges of a cluster's pods and Services, and the addresses of its nodes, API server and Services."""

    ranges: tuple[Network, ...]
    endpoints: frozenset[str]


@check(
    "Kubernetes is of a supported version",
    "Upgrade the cluster: the versions of Istio and SPIRE that the mesh consists of do not support older ones.",
)
def version_is_supported(_mesh: Mesh, cluster: LiveCluster) -> str:
    """The API server and every kubelet have a supported minor version."""
    kubelets = {node["status"].get("nodeInfo", {}).get("kubeletVersion", "") for node in cluster.nodes()}
    return judge_versions(cluster.version(), kubelets - {""})


@check(
    "the kubeconfig's user may create what the mesh consists of",
    "Bind the user to the ClusterRole cluster-admin, or to one with the rights named above.",
)
def user_has_the_rights(_mesh: Mesh, cluster: LiveCluster) -> str:
    """The user is an administrator or may create, patch and delete every kind of the mesh."""
    if _allowed(cluster, "*", "*", "*"):
        return "all rights"
    asked = [
        (group, resource, verb) for group, names in RESOURCES.items() for resource in names for verb in VERBS
    ]
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = list(pool.map(lambda right: _allowed(cluster, *right), asked))
    return judge_rights([right for right, allowed in zip(asked, answers, strict=True) if not allowed])


@check(
    "a node is reserved for the SPIRE server",
    f"`kubectl label node <node> {RESERVED}={RESERVED_FOR}` and "
    f"`kubectl taint node <node> {RESERVED}={RESERVED_FOR}:NoExecute`.",
)
def node_is_reserved(_mesh: Mesh, cluster: LiveCluster) -> str:
    """A ready node has the label and the taint that the SPIRE server is scheduled by."""
    return judge_reserved(cluster.nodes())


@check(
    "volumes can be provisioned",
    "Mark a StorageClass as default (annotation storageclass.kubernetes.io/is-default-class), or name one in "
    "fedmesh:storage of the stack file; with a provisioner, `pulumi up` creates it.",
)
def volumes_can_be_provisioned(mesh: Mesh, cluster: LiveCluster) -> str:
    """The StorageClass of the stack file, or a default one, exists or is created by the program."""
    classes = cluster.api.items("/apis/storage.k8s.io/v1/storageclasses")
    return judge_storage(classes, mesh.topology.storage_class, mesh.topology.creates_storage_class)


@check(
    "Services of type LoadBalancer get an address",
    "Install a load balancer controller (the cloud's, MetalLB, kube-vip) with three free addresses or more, which "
    "the other clusters can reach.",
)
def services_get_addresses(mesh: Mesh, cluster: LiveCluster) -> str:
    """A temporary Service of type LoadBalancer gets an address that is not local to the cluster's machines."""
    body: Json = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"fedmesh-probe-{mesh.janitor.run}"},
        "spec": {"type": "LoadBalancer", "ports": [{"name": "tcp", "port": 80}]},
    }
    made = mesh.janitor.create(cluster.api, SERVICES, body)
    path = f"{SERVICES}/{made['metadata']['name']}"
    return judge_addresses(poll(lambda: load_balancer_addresses(cluster.api.get(path)) or None, ADDRESS, 1.0))


@check(
    "the peers can use the API server's URL",
    "Set apiServer of the cluster in the stack file to a URL that the other clusters reach.",
)
def api_server_is_addressable(mesh: Mesh, cluster: LiveCluster) -> str:
    """The URL of the API server that Kiali on the first cluster gets is not a loopback address."""
    return judge_api_server(cluster.member.api_server or cluster.api.server, mesh.topology.kiali)


@check(
    "address ranges of the clusters do not overlap",
    "Give the clusters different pod and Service ranges, outside the networks of the other clusters' nodes.",
)
def ranges_do_not_overlap(mesh: Mesh, cluster: LiveCluster) -> str:
    """No peer's address lies in the pod or Service ranges of this cluster."""
    return judge_ranges(
        addresses_of(cluster), {peer.name: addresses_of(peer) for peer in mesh.peers(cluster)}
    )


@check(
    "the nodes have room for the mesh",
    "Add nodes or remove workloads: the requests of the mesh's pods must fit into what the nodes have left.",
)
def nodes_have_room(mesh: Mesh, cluster: LiveCluster) -> str:
    """The nodes' allocatable resources minus the requests of their pods are enough for the mesh."""
    return judge_room(cluster.nodes(), cluster.pods(running=False), mesh.topology.replicas)


@check(
    "pods of other software can be recreated",
    "`kubectl label namespace <namespace> fedmesh.dev/platform=true`, or give those pods tolerations with keys.",
    severity=Severity.WARNING,
)
def other_pods_are_admitted(_mesh: Mesh, cluster: LiveCluster) -> str:
    """No pod of today would be refused by the mesh's admission policies when it is recreated."""
    return judge_others(cluster.pods(running=False), cluster.namespaces())


def judge_versions(server: str, kubelets: Iterable[str]) -> str:
    """Whether versions such as v1.34.4 are supported; newer ones than tested are a warning."""
    minors = {name: _minor(name) for name in (server, *sorted(kubelets))}
    refuse(
        [f"{name} is older than 1.{OLDEST_MINOR}" for name, minor in minors.items() if minor < OLDEST_MINOR]
    )
    if newer := [name for name, minor in minors.items() if minor > NEWEST_MINOR]:
        raise Warned(
            f"{', '.join(newer)} is newer than 1.{NEWEST_MINOR}, the newest version that Istio 1.31 is tested with",
            "Read the release notes of Istio before you install the mesh.",
        )
    return server


def judge_others(pods: Iterable[Json], namespaces: Iterable[Json]) -> str:
    """Whether the mesh's admission policies let pods like these in; see manifests/admission."""
    tenants = {
        full_name(each)
        for each in namespaces
        if full_name(each) not in EXEMPT
        and EXEMPTING not in (labels := each["metadata"].get("labels", {}))
        and (labels.get(LEVEL) != "privileged" or is_meshed(labels))
    }
    faults: dict[str, str] = {}
    for pod in (each for each in pods if each["metadata"]["namespace"] in tenants):
        if any(_admits_to_spire(each) for each in pod["spec"].get("tolerations", ())):
            faults.setdefault(
                pod["metadata"]["namespace"], f"{full_name(pod)} tolerates the taint of SPIRE's nodes"
            )
        if pod["spec"].get("priorityClassName", "").startswith("system-"):
            faults.setdefault(pod["metadata"]["namespace"], f"{full_name(pod)} has a system priority")
        for what in of_its_node(pod):
            faults.setdefault(pod["metadata"]["namespace"], f"{full_name(pod)} {what}")
    refuse(list(faults.values()))
    return "no pod would be refused"


def _admits_to_spire(toleration: Json) -> bool:
    key = toleration.get("key", "")
    return key == RESERVED or (not key and toleration.get("operator") == "Exists")


def judge_rights(missing: Sequence[tuple[str, str, str]]) -> str:
    """Whether no right (group, resource, verb) is missing."""
    if not missing:
        return "all that the mesh needs"
    verbs: dict[str, list[str]] = {}
    for group, resource, verb in missing:
        verbs.setdefault(f"{resource}.{group}" if group else resource, []).append(verb)
    raise Failed("not allowed: " + "; ".join(f"{', '.join(some)} {name}" for name, some in verbs.items()))


def judge_reserved(nodes: Sequence[Json]) -> str:
    """Whether a ready node has the label and the taint; the label alone is a warning."""
    labelled = [n for n in nodes if n["metadata"].get("labels", {}).get(RESERVED) == RESERVED_FOR]
    tainted = [full_name(n) for n in nodes if is_reserved(n)]
    if not labelled:
        hint = f"; {', '.join(tainted)} has the taint only" if tainted else ""
        raise Failed(f"no node has the label {RESERVED}={RESERVED_FOR}{hint}")
    ready = [node for node in labelled if condition(node, "Ready") is True]
    if not ready:
        raise Failed(f"{full_name(labelled[0])} is not ready")
    reserved = [full_name(node) for node in ready if is_reserved(node)]
    if not reserved:
        raise Warned(
            f"{full_name(ready[0])} has the label but not the taint: other pods can run beside the SPIRE server"
        )
    return ", ".join(reserved)


def judge_storage(classes: Sequence[Json], wanted: str, created: bool) -> str:
    """Whether the wanted class, or a default one where none is named, exists or is created."""
    if created:
        return f"`pulumi up` creates {wanted}"
    chosen = [
        each for each in classes if (each["metadata"]["name"] == wanted if wanted else _is_default(each))
    ]
    if not chosen:
        names = ", ".join(each["metadata"]["name"] for each in classes) or "none"
        missing = f"no StorageClass is named {wanted}" if wanted else "no StorageClass is the default"
        raise Failed(f"{missing}; there are: {names}")
    if chosen[0].get("provisioner") == STATIC_PROVISIONER:
        raise Failed(
            f"{full_name(chosen[0])} does not provision volumes: its provisioner is {STATIC_PROVISIONER}"
        )
    return full_name(chosen[0])


def judge_addresses(addresses: Sequence[str] | None) -> str:
    """Whether a Service has addresses, none of which is local to a machine."""
    if not addresses:
        raise Failed(f"a Service of type LoadBalancer has no address after {ADDRESS:.0f} s")
    refuse(
        [
            f"the address {address} cannot be reached from other machines"
            for address in addresses
            if _local(address)
        ]
    )
    return ", ".join(addresses)


def judge_api_server(url: str, kiali: bool = True) -> str:
    """Whether a URL has a host that other machines can reach; only Kiali needs it."""
    if not kiali:
        return "not needed without Kiali"
    host = urlsplit(url).hostname or ""
    if host == "localhost" or _local(host):
        raise Failed(f"{url} can be reached from this machine only")
    return url


def judge_ranges(own: Addresses, peers: Mapping[str, Addresses]) -> str:
    """Whether peers' addresses are outside the own ranges; ranges that overlap are a warning."""
    faults = [
        f"{address} of {name} lies in {network}, a range of this cluster's pods or Services"
        for name, peer in peers.items()
        for address in sorted(peer.endpoints)
        for network in own.ranges
        if _is_ip(address) and ip_address(address) in network
    ]
    refuse(faults)
    overlaps = [
        f"{network} overlaps {other} of {name}"
        for name, peer in peers.items()
        for network in own.ranges
        for other in peer.ranges
        if network.version == other.version and network.overlaps(other)  # type: ignore[arg-type]
    ]
    if overlaps:
        raise Warned(
            "; ".join(overlaps[:3]),
            "The mesh connects the clusters by gateways and works; their pods cannot be routed to each other directly.",
        )
    return ", ".join(map(str, own.ranges)) or "no ranges visible"


def addresses_of(cluster: LiveCluster) -> Addresses:
    """The ranges and addresses of a cluster, as far as its API server shows them."""
    nodes, services = (
        cluster.nodes(),
        cluster.once("all services", lambda: cluster.api.items("/api/v1/services")),
    )
    ranges = {cidr for node in nodes for cidr in node["spec"].get("podCIDRs") or []}
    ranges |= {cidr for each in _service_ranges(cluster) for cidr in each["spec"]["cidrs"]}
    endpoints = {entry["address"] for node in nodes for entry in node["status"].get("addresses") or []}
    endpoints |= {address for service in services for address in load_balancer_addresses(service)}
    endpoints.add(urlsplit(cluster.member.api_server or cluster.api.server).hostname or "")
    return Addresses(tuple(ip_network(cidr) for cidr in sorted(ranges)), frozenset(endpoints))


def _service_ranges(cluster: LiveCluster) -> list[Json]:
    try:
        return cluster.once(
            "service ranges", lambda: cluster.api.items("/apis/networking.k8s.io/v1/servicecidrs")
        )
    except KubeError as error:
        if error.status != 404:  # 404: Kubernetes before 1.33
            raise
        return []


def _allowed(cluster: LiveCluster, group: str, resource: str, verb: str) -> bool:
    name, _, subresource = resource.partition("/")
    attributes = {"group": group, "resource": name, "subresource": subresource, "verb": verb}
    body: Json = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool(cluster.api.create(REVIEWS, body).get("status", {}).get("allowed"))


def _minor(version: str) -> int:
    found = re.match(r"v?1\.(\d+)", version)
    if found is None:
        raise Failed(f"{version} is not a version of Kubernetes 1")
    return int(found[1])


def _is_default(storage_class: Json) -> bool:
    return (storage_class["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"


def _is_ip(address: str) -> bool:
    try:
        ip_address(address)
    except ValueError:
        return False
    return True


def _local(address: str) -> bool:
    if not _is_ip(address):
        return False
    parsed = ip_address(address)
    return parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified


CHECKS = (
    version_is_supported,
    user_has_the_rights,
    node_is_reserved,
    volumes_can_be_provisioned,
    services_get_addresses,
    api_server_is_addressable,
    ranges_do_not_overlap,
    nodes_have_room,
    other_pods_are_admitted,
)
