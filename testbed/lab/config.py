"""The lab's typed config: lab.yaml, read once and checked as a whole."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any, TypeVar

import yaml

DEFAULT_FILE = Path(__file__).with_name("lab.yaml")
# the kernel's limit for interface names is 15 characters, and nodes' interfaces are named by number
MAX_NODES = 200
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
T = TypeVar("T")


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
        top = _Section("", yaml.safe_load(path.read_text()), {"bridge", "clusters"})
        bridge = _Section("bridge", top.raw("bridge"), {"name", "address"})
        lab = Lab(
            bridge=bridge.take("name", _name),
            bridge_address=bridge.take("address", IPv4Interface),
            clusters=tuple(
                _cluster(f"clusters[{number}]", item)
                for number, item in enumerate(top.take("clusters", _list))
            ),
        )
    except (OSError, TypeError, ValueError, yaml.YAMLError) as wrong:
        raise LabConfigError(f"{path}: {wrong}") from wrong
    problem = next(_problems(lab), None)
    if problem:
        raise LabConfigError(f"{path}: {problem}")
    return lab


class _Section:
    """A mapping of the file; what it refuses, it refuses with the key's path."""

    def __init__(self, path: str, content: object, known: set[str]) -> None:
        self._path = path
        if not isinstance(content, dict):
            raise TypeError(f"{path or 'the file'} must be a mapping with {', '.join(sorted(known))}")
        self._content: dict[str, Any] = content
        for key in content:
            if key not in known:
                raise ValueError(f"{self._at(key)} is unknown; allowed are {', '.join(sorted(known))}")

    def raw(self, key: str) -> Any:
        if key not in self._content:
            raise ValueError(f"{self._at(key)} is missing")
        return self._content[key]

    def take(self, key: str, kind: Callable[[Any], T], default: T | None = None) -> T:
        if default is not None and key not in self._content:
            return default
        try:
            return kind(self.raw(key))
        except (TypeError, ValueError) as wrong:
            if key not in self._content:
                raise
            raise ValueError(f"{self._at(key)}: {wrong}") from wrong

    def _at(self, key: object) -> str:
        return f"{self._path}.{key}" if self._path else str(key)


def _name(raw: object) -> str:
    if not isinstance(raw, str) or not NAME.fullmatch(raw):
        raise ValueError(f"{raw!r} is no name: small letters, digits and hyphens, at most 40 characters")
    return raw


def _list(raw: object) -> list[Any]:
    if not isinstance(raw, list):
        raise TypeError("must be a list")
    return raw


def _texts(raw: object) -> dict[str, str]:
    if not isinstance(raw, dict) or not all(isinstance(text, str) for pair in raw.items() for text in pair):
        raise ValueError("must be a mapping of texts")
    return raw


def _taints(raw: object) -> tuple[Mapping[str, str], ...]:
    taints = tuple(_texts(item) for item in _list(raw))
    if any({"key", "effect"} - set(taint) or taint["effect"] not in EFFECTS for taint in taints):
        raise ValueError(f"a taint has a key and an effect, one of {', '.join(EFFECTS)}")
    return taints


def _cluster(path: str, raw: object) -> Cluster:
    known = {"name", "region", "zone", "podRange", "serviceRange", "loadBalancers", "nodes"}
    section = _Section(path, raw, known)
    pods = section.take("podRange", IPv4Network)
    place = {
        "topology.kubernetes.io/region": section.take("region", _name),
        "topology.kubernetes.io/zone": section.take("zone", _name),
    }
    items = section.take("nodes", _list)
    # the first /24 stays free, so that a node's pods are recognised by its number
    ranges = (
        list(itertools.islice(pods.subnets(new_prefix=24), 1, len(items) + 1)) if pods.prefixlen < 24 else []
    )
    if len(ranges) < len(items):
        raise ValueError(f"{path}.podRange {pods} has no /24 for each of {len(items)} nodes")
    return Cluster(
        name=section.take("name", _name),
        pods=pods,
        services=section.take("serviceRange", IPv4Network),
        load_balancers=section.take("loadBalancers", IPv4Network),
        nodes=tuple(
            _node(f"{path}.nodes[{number}]", item, own, place, number == 0)
            for number, (item, own) in enumerate(zip(items, ranges, strict=True))
        ),
    )


def _node(path: str, raw: object, pods: IPv4Network, place: Mapping[str, str], first: bool) -> Node:
    section = _Section(path, raw, {"name", "address", "labels", "taints"})
    return Node(
        name=section.take("name", _name),
        address=section.take("address", IPv4Address),
        pods=pods,
        labels={**place, **section.take("labels", _texts, {})},
        taints=section.take("taints", _taints, ()),
        control_plane=first,
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
