"""The lab's typed config: lab.yaml, or lab<N>.yaml for N clusters, read once and checked as a whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from components.config.faults import Path as KeyPath
from components.config.faults import first_fault, key_of
from components.config.fields import Model, Rule, Text, refusal

FOLDER = Path(__file__).parent
DEFAULT_FILE = FOLDER / "lab.yaml"
FILES = "lab*.yaml"
# the kernel's limit for interface names is 15 characters, and nodes' interfaces are named by number
MAX_NODES = 200
# a Service range holds the Service `kubernetes`, the cluster's DNS and all others
SMALLEST_SERVICE_PREFIX = 24


def _written_as_text(value: object) -> object:
    if not isinstance(value, str):
        raise refusal(f"must be text, not {value!r}")
    return value


def _large_enough(value: IPv4Network) -> IPv4Network:
    if value.prefixlen > SMALLEST_SERVICE_PREFIX:
        raise refusal(f"must be a /{SMALLEST_SERVICE_PREFIX} or larger, not {value}")
    return value


# Python parses an address from a number too, which nobody means
FromText = BeforeValidator(_written_as_text)
Name = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$"),
    Rule("a name: small letters, digits and hyphens, at most 40 characters"),
]
AnyText = Annotated[str, Rule("text")]
Address = Annotated[IPv4Address, FromText, Rule("an IPv4 address such as 10.90.0.11")]
Interface = Annotated[IPv4Interface, FromText, Rule("an IPv4 address with its range, such as 10.90.0.1/24")]
Range = Annotated[IPv4Network, FromText, Rule("an IPv4 range without host bits, such as 10.91.0.0/16")]
ServiceRange = Annotated[Range, AfterValidator(_large_enough)]


class LabConfigError(Exception):
    """lab.yaml can't be used; the message names the key and the file."""


@dataclass(frozen=True)
class Node:
    """One node: its address on the bridge, its pods' /24, and what the kubelet registers it with."""

    name: str
    address: IPv4Address
    pods: IPv4Network
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()
    control_plane: bool = False


@dataclass(frozen=True)
class Cluster:
    """One cluster: the first of its nodes runs the control plane."""

    name: str
    pods: IPv4Network
    services: IPv4Network
    load_balancers: IPv4Network
    nodes: tuple[Node, ...]
    port: int = 6443

    @property
    def control_plane(self) -> Node:
        return self.nodes[0]

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.control_plane.address}:{self.port}"

    @property
    def resolvers(self) -> tuple[Node, ...]:
        """The nodes that answer DNS queries: those for all pods, so that names outlive the loss of one."""
        return tuple(node for node in self.nodes if not node.taints) or self.nodes[:1]

    @property
    def kubernetes_service(self) -> IPv4Address:
        """Cluster address of the Service `kubernetes`: the first of the range."""
        return self.services[1]


@dataclass(frozen=True)
class Lab:
    """All clusters and the bridge that joins their nodes.

    Attributes:
        file: where it was read from. The stack of the mesh on the lab is called like it.
    """

    bridge: str
    bridge_address: IPv4Interface
    clusters: tuple[Cluster, ...]
    file: Path

    @property
    def stack(self) -> str:
        """The name of the stack whose clusters these are."""
        return self.file.stem

    def nodes(self) -> Iterator[tuple[Cluster, Node]]:
        """Every node with its cluster."""
        return ((cluster, node) for cluster in self.clusters for node in cluster.nodes)

    def cluster(self, name: str) -> Cluster:
        """The cluster called `name`; raises LabConfigError when there is none."""
        for cluster in self.clusters:
            if cluster.name == name:
                return cluster
        known = ", ".join(cluster.name for cluster in self.clusters)
        raise LabConfigError(f"no cluster {name!r} in the lab; there are: {known}")


class BridgeEntry(Model):
    """The bridge that joins the nodes."""

    name: Name = Field(description="The name of the network interface.")
    address: Interface = Field(description="Its address, with the range of all nodes.")


class TaintEntry(Model):
    """A taint of a node."""

    key: Text = Field(description="Its key.")
    value: Text | None = Field(None, description="Its value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(description="Its effect.")


class NodeEntry(Model):
    """A node of a cluster."""

    name: Name = Field(description="Its name.")
    address: Address = Field(description="Its address on the bridge.")
    labels: Mapping[Text, AnyText] = Field({}, description="Its labels beside those of region and zone.")
    taints: tuple[TaintEntry, ...] = Field((), description="Its taints.")


class ClusterEntry(Model):
    """A cluster of the lab. The first of its nodes runs the control plane."""

    name: Name = Field(description="Its name.")
    region: Name = Field(description="The region of its nodes.")
    zone: Name = Field(description="The zone of its nodes.")
    pod_range: Range = Field(description="The range of its pods, with a /24 for each node.")
    service_range: ServiceRange = Field(description="The range of its Services.")
    load_balancers: Range = Field(description="The addresses of its Services of type LoadBalancer.")
    nodes: tuple[NodeEntry, ...] = Field(description="Its nodes, at least one.")

    @model_validator(mode="after")
    def _nodes_have_pod_ranges(self) -> Self:
        if not self.nodes:
            raise refusal("must list at least one node", "nodes")
        if len(self.ranges_of_nodes()) < len(self.nodes):
            raise refusal(f"{self.pod_range} has no /24 for each of {len(self.nodes)} nodes", "podRange")
        return self

    def ranges_of_nodes(self) -> list[IPv4Network]:
        """The /24 of each node. The first stays free, so that a node's pods are recognized by its number."""
        if self.pod_range.prefixlen >= 24:
            return []
        return list(itertools.islice(self.pod_range.subnets(new_prefix=24), 1, len(self.nodes) + 1))

    def cluster(self) -> Cluster:
        """The cluster as the lab uses it."""
        place = {"topology.kubernetes.io/region": self.region, "topology.kubernetes.io/zone": self.zone}
        return Cluster(
            name=self.name,
            pods=self.pod_range,
            services=self.service_range,
            load_balancers=self.load_balancers,
            nodes=tuple(
                Node(
                    name=node.name,
                    address=node.address,
                    pods=own,
                    labels={**place, **node.labels},
                    taints=tuple(taint.model_dump(exclude_none=True) for taint in node.taints),
                    control_plane=number == 0,
                )
                for number, (node, own) in enumerate(zip(self.nodes, self.ranges_of_nodes(), strict=True))
            ),
        )


class LabFile(Model):
    """All that lab.yaml says."""

    bridge: BridgeEntry = Field(description="The bridge that joins the nodes of all clusters.")
    clusters: tuple[ClusterEntry, ...] = Field(description="The clusters, at least one.")

    @model_validator(mode="after")
    def _clusters_go_together(self) -> Self:
        if not self.clusters:
            raise refusal("must list at least one cluster", "clusters")
        self._check_names()
        self._check_addresses()
        self._check_ranges()
        return self

    def _check_names(self) -> None:
        seen: set[str] = set()
        for path, name in self._names():
            if name in seen:
                raise refusal(f"must be unique: the name {name} is used twice", *path)
            seen.add(name)
        nodes = sum(len(cluster.nodes) for cluster in self.clusters)
        if nodes > MAX_NODES:
            raise refusal(f"must have {MAX_NODES} nodes at most, not {nodes}", "clusters")

    def _names(self) -> Iterator[tuple[KeyPath, str]]:
        for number, cluster in enumerate(self.clusters):
            yield ("clusters", number, "name"), cluster.name
        for path, node in self._nodes():
            yield (*path, "name"), node.name

    def _nodes(self) -> Iterator[tuple[KeyPath, NodeEntry]]:
        for number, cluster in enumerate(self.clusters):
            for place, node in enumerate(cluster.nodes):
                yield ("clusters", number, "nodes", place), node

    def _check_addresses(self) -> None:
        bridge = self.bridge.address
        used = {bridge.ip}
        for path, node in self._nodes():
            key = (*path, "address")
            if node.address not in bridge.network:
                raise refusal(f"{node.address} is not in bridge.address {bridge.network}", *key)
            if node.address in used:
                raise refusal(f"must be unique: the address {node.address} is used twice", *key)
            if any(node.address in cluster.load_balancers for cluster in self.clusters):
                raise refusal(f"{node.address} lies in a loadBalancers range", *key)
            used.add(node.address)

    def _check_ranges(self) -> None:
        used: list[tuple[KeyPath, IPv4Network]] = [(("bridge", "address"), self.bridge.address.network)]
        balancers: list[tuple[KeyPath, IPv4Network]] = []
        for number, cluster in enumerate(self.clusters):
            at = ("clusters", number)
            if not cluster.load_balancers.subnet_of(self.bridge.address.network):
                reason = f"{cluster.load_balancers} is not in bridge.address {self.bridge.address.network}"
                raise refusal(reason, *at, "loadBalancers")
            used += [((*at, "podRange"), cluster.pod_range), ((*at, "serviceRange"), cluster.service_range)]
            balancers.append(((*at, "loadBalancers"), cluster.load_balancers))
        for group in (used, balancers):
            for (path, one), (other_path, other) in itertools.combinations(group, 2):
                if one.overlaps(other):
                    raise refusal(f"{one} overlaps {other} of {key_of(other_path)}", *path)


def file_for(clusters: int) -> Path:
    """The config of a lab of so many clusters; raises LabConfigError when there is none."""
    sizes = {2: DEFAULT_FILE} | {
        int(digits): file for file in FOLDER.glob(FILES) if (digits := file.stem.removeprefix("lab"))
    }
    if clusters not in sizes:
        known = ", ".join(map(str, sorted(sizes)))
        raise LabConfigError(f"there is no lab of {clusters} clusters; there are labs of {known}")
    return sizes[clusters]


def kept(state: Path) -> Path | None:
    """The config that the lab in the folder `state` was started with, None before it was started."""
    return next(iter(sorted(state.glob(FILES))), None)


def current(state: Path) -> Lab:
    """The lab in the folder `state` as it was started, or the one of two clusters; raises LabConfigError."""
    return load(kept(state) or DEFAULT_FILE)


def wanted(state: Path, clusters: int | None) -> Lab:
    """The lab to start in the folder `state`, as its file says now.

    Args:
        state: the lab's folder.
        clusters: the number of its clusters; None: that of the lab that was started there, or two.

    Raises:
        LabConfigError: no file for the number, a fault in it, or a lab of another number was started there.
    """
    started = kept(state)
    if clusters is None:
        return load(FOLDER / started.name if started else DEFAULT_FILE)
    file = file_for(clusters)
    if started and started.name != file.name:
        raise LabConfigError(
            f"the lab of {started.name} is there, not that of {file.name}: run `make lab-down` first"
        )
    return load(file)


def load(path: Path = DEFAULT_FILE) -> Lab:
    """Reads and checks the lab's config; raises LabConfigError."""
    try:
        raw: object = yaml.safe_load(path.read_text())
    except OSError as error:
        raise LabConfigError(f"{path} can't be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise LabConfigError(f"{path} must be YAML: {' '.join(str(error).split())}") from None
    try:
        read = LabFile.model_validate(raw, by_alias=True, by_name=False)
    except ValidationError as error:
        fault = first_fault(LabFile, error)
        raise LabConfigError(f"{fault.key or 'the file'} in {path}: {fault.allowed}") from None
    return Lab(
        bridge=read.bridge.name,
        bridge_address=read.bridge.address,
        clusters=tuple(cluster.cluster() for cluster in read.clusters),
        file=path,
    )


def ranges(lab: Lab) -> list[IPv4Network]:
    """Every address range that the lab uses, for the check against the machine's routes."""
    return [
        lab.bridge_address.network,
        *(cluster.pods for cluster in lab.clusters),
        *(cluster.services for cluster in lab.clusters),
    ]
