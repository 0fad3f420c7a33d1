"""The lab's network: a bridge on the machine, a network namespace for each node, and routes between a cluster's nodes.

Everything is reached over the bridge as neighbours, so the machine routes nothing and none of its sysctls or
iptables rules change. Rules that a node needs are made in its own namespace and vanish with it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

from lab.config import Cluster, Lab, Node

PREFIX = "fedmesh-"


def namespace(node: Node) -> str:
    """Name of the node's network namespace."""
    return PREFIX + node.name


def up(lab: Lab) -> None:
    """Makes bridge, namespaces, links, addresses and routes; what is there already is left."""
    if not _exists(lab.bridge):
        ip("link", "add", lab.bridge, "type", "bridge")
    ip("address", "replace", str(lab.bridge_address), "dev", lab.bridge)
    ip("link", "set", lab.bridge, "up")
    for number, (cluster, node) in enumerate(lab.nodes()):
        _node_up(lab, cluster, node, f"fm-n{number}")


def _node_up(lab: Lab, cluster: Cluster, node: Node, link: str) -> None:
    name = namespace(node)
    if name not in namespaces():
        ip("netns", "add", name)
    if not _exists("eth0", name):
        if _exists(link):
            ip("link", "delete", link)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
    ip("link", "set", link, "master", lab.bridge, "up")
    ip("-n", name, "link", "set", "lo", "up")
    ip(
        "-n",
        name,
        "address",
        "replace",
        f"{node.address}/{lab.bridge_address.network.prefixlen}",
        "dev",
        "eth0",
    )
    ip("-n", name, "link", "set", "eth0", "up")
    ip("-n", name, "route", "replace", "default", "via", str(lab.bridge_address.ip))
    for other in cluster.nodes:
        if other != node:
            ip("-n", name, "route", "replace", str(other.pods), "via", str(other.address))
    inside(name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    # pods reach other clusters and the machine under their node's address; within the cluster under their own
    masquerade = ["POSTROUTING", "-s", str(cluster.pods), "!", "-d", str(cluster.pods), "-j", "MASQUERADE"]
    if inside(name, "iptables", "-w", "-t", "nat", "-C", *masquerade, check=False) != 0:
        inside(name, "iptables", "-w", "-t", "nat", "-A", *masquerade)


def down(lab: Lab) -> None:
    """Removes every namespace and link of the lab, also those of nodes that lab.yaml no longer names."""
    for name in namespaces():
        ip("netns", "delete", name)
    for link in _links():
        if link == lab.bridge or link.startswith("fm-n"):
            ip("link", "delete", link, check=False)


def namespaces() -> list[str]:
    """The lab's network namespaces that exist."""
    folder = Path("/run/netns")
    return sorted(path.name for path in folder.glob(f"{PREFIX}*")) if folder.is_dir() else []


def leftovers(lab: Lab) -> list[str]:
    """Names of namespaces and links that are still there."""
    return [*namespaces(), *(link for link in _links() if link == lab.bridge or link.startswith("fm-n"))]


def routes() -> Iterator[tuple[IPv4Network, str]]:
    """The machine's own IPv4 routes but the default: (destination, device)."""
    output = subprocess.run(["ip", "-json", "-4", "route"], check=True, capture_output=True, text=True).stdout
    for route in json.loads(output):
        if route["dst"] != "default":
            yield IPv4Network(route["dst"]), route.get("dev", "")


def ip(*arguments: str, check: bool = True) -> None:
    """Runs `ip`; its complaint is in the CalledProcessError that it raises."""
    subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)


def inside(name: str, *command: str, check: bool = True) -> int:
    """Runs a command in a network namespace and gives its exit code."""
    # nsenter, not `ip netns exec`: the latter mounts a new /sys, without the cgroups
    line = ["nsenter", f"--net=/run/netns/{name}", *command]
    return subprocess.run(line, check=check, capture_output=True, text=True).returncode


def _links() -> list[str]:
    return sorted(path.name for path in Path("/sys/class/net").iterdir())


def _exists(link: str, name: str | None = None) -> bool:
    where = ["-n", name] if name else []
    return (
        subprocess.run(["ip", *where, "link", "show", link], check=False, capture_output=True).returncode == 0
    )
