"""The lab's typed config: lab.yaml, read once and checked as a whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import yaml

DEFAULT_FILE = Path(__file__).with_name("lab.yaml")
# the kernel's limit for interface names is 15 characters, and nodes' interfaces are named by number
MAX_NODES = 200


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
    def kubernetes_service(self) -> IPv4Address:
        """Cluster address of the Service `kubernetes`: the first of the range."""
        return self.services[1]


@dataclass(frozen=True)
class Lab:
    """All clusters and the bridge that joins their nodes."""

    bridge: str
    bridge_address: IPv4Interface
    clusters: tuple[Cluster, ...]

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


def load(path: Path = DEFAULT_FILE) -> Lab:
    """Reads and checks the lab's config; raises LabConfigError."""
    try:
        raw = yaml.safe_load(path.read_text())
        lab = Lab(
            bridge=raw["bridge"]["name"],
            bridge_address=IPv4Interface(raw["bridge"]["address"]),
            clusters=tuple(_cluster(item) for item in raw["clusters"]),
        )
    except KeyError as missing:
        raise LabConfigError(f"{path}: key {missing} is missing") from missing
    except (OSError, TypeError, ValueError, yaml.YAMLError) as wrong:
        raise LabConfigError(f"{path}: {wrong}") from wrong
    problem = next(_problems(lab), None)
    if problem:
        raise LabConfigError(f"{path}: {problem}")
    return lab


def _cluster(raw: Mapping[str, Any]) -> Cluster:
    pods = IPv4Network(raw["podRange"])
    place = {"topology.kubernetes.io/region": raw["region"], "topology.kubernetes.io/zone": raw["zone"]}
    # the first /24 stays free, so that a node's pods are recognised by its number
    ranges = itertools.islice(pods.subnets(new_prefix=24), 1, None)
    nodes = tuple(
        Node(
            name=item["name"],
            address=IPv4Address(item["address"]),
            pods=own,
            labels={**place, **item.get("labels", {})},
            taints=tuple(item.get("taints", ())),
            control_plane=number == 0,
        )
        for number, (item, own) in enumerate(zip(raw["nodes"], ranges, strict=False))
    )
    if len(nodes) < len(raw["nodes"]):
        raise ValueError(
            f"clusters.{raw['name']}.podRange {pods} has no /24 for each of {len(raw['nodes'])} nodes"
        )
    return Cluster(
        name=raw["name"],
        pods=pods,
        services=IPv4Network(raw["serviceRange"]),
        load_balancers=IPv4Network(raw["loadBalancers"]),
        nodes=nodes,
    )


def _problems(lab: Lab) -> Iterator[str]:
    yield from _name_problems(lab)
    yield from _address_problems(lab)
    yield from _range_problems(lab)


def _name_problems(lab: Lab) -> Iterator[str]:
    names = [cluster.name for cluster in lab.clusters] + [node.name for _, node in lab.nodes()]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"the name {name} is used twice"
    if not lab.clusters or any(not cluster.nodes for cluster in lab.clusters):
        yield "clusters: at least one cluster, and one node in each, is needed"
    if len(names) > MAX_NODES:
        yield f"clusters: at most {MAX_NODES} nodes"


def _address_problems(lab: Lab) -> Iterator[str]:
    addresses = [node.address for _, node in lab.nodes()]
    for address in addresses:
        if address not in lab.bridge_address.network:
            yield f"nodes' address {address} is not in bridge.address {lab.bridge_address.network}"
        if addresses.count(address) > 1 or address == lab.bridge_address.ip:
            yield f"the address {address} is used twice"
        if any(address in cluster.load_balancers for cluster in lab.clusters):
            yield f"nodes' address {address} lies in a loadBalancers range"


def _range_problems(lab: Lab) -> Iterator[str]:
    used = [("bridge.address", lab.bridge_address.network)]
    for cluster in lab.clusters:
        if not cluster.load_balancers.subnet_of(lab.bridge_address.network):
            yield f"{cluster.name}.loadBalancers {cluster.load_balancers} is not in {lab.bridge_address.network}"
        used += [
            (f"{cluster.name}.podRange", cluster.pods),
            (f"{cluster.name}.serviceRange", cluster.services),
        ]
    balancers = [(f"{cluster.name}.loadBalancers", cluster.load_balancers) for cluster in lab.clusters]
    for group in (used, balancers):
        for (name, one), (other_name, other) in itertools.combinations(group, 2):
            if one.overlaps(other):
                yield f"{name} {one} overlaps {other_name} {other}"


def ranges(lab: Lab) -> list[IPv4Network]:
    """Every address range that the lab uses, for the check against the machine's routes."""
    return [
        lab.bridge_address.network,
        *(cluster.pods for cluster in lab.clusters),
        *(cluster.services for cluster in lab.clusters),
    ]
