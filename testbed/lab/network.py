"""The lab's network: a bridge on the machine, a network namespace for each node, and routes between a cluster's nodes.

All nodes are neighbours on the bridge, so the machine routes nothing and its sysctls stay as they are. A node's
iptables rules are in its own namespace and vanish with it. The machine gets one rule, tagged with the lab's name, and
only if its own rules would drop traffic on the bridge.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from testbed.lab.config import Cluster, Lab, Node
from testbed.waiting import wait_until

PREFIX = "fedmesh-"
LINKS = "fm-"
CABLE = f"{LINKS}n"
RELAY_SECONDS = 10.0
NAMESPACES = Path("/run/netns")
BRIDGE_CALLS_IPTABLES = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
RULE_TAG = "fedmesh-lab"


def namespace(node: Node) -> str:
    """Name of the node's network namespace."""
    return PREFIX + node.name


def cable(lab: Lab, node: Node) -> str:
    """Name of the machine's end of the node's link to the bridge."""
    return f"{CABLE}{[other for _, other in lab.nodes()].index(node)}"


def up(lab: Lab) -> None:
    """Creates bridge, namespaces, links, addresses and routes where they are missing, and removes faults."""
    if not _exists(lab.bridge):
        # without a MAC address of its own, the bridge's would change as ports come and go
        hardware = "02:fe:" + lab.bridge_address.ip.packed.hex(":")
        ip("link", "add", lab.bridge, "address", hardware, "type", "bridge")
    ip("address", "replace", str(lab.bridge_address), "dev", lab.bridge)
    ip("link", "set", lab.bridge, "up")
    if _drops_forwarded():
        _forward_rule("-I", lab.bridge)
    for cluster, node in lab.nodes():
        _node_up(lab, cluster, node, cable(lab, node))


def _node_up(lab: Lab, cluster: Cluster, node: Node, link: str) -> None:
    name = namespace(node)
    if not _is_namespace(NAMESPACES / name):
        # an `ip netns add` that is killed leaves a plain file
        (NAMESPACES / name).unlink(missing_ok=True)
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
    smooth(lab, node)
    ip("-n", name, "route", "replace", "default", "via", str(lab.bridge_address.ip))
    for other in cluster.nodes:
        if other != node:
            ip("-n", name, "route", "replace", str(other.pods), "via", str(other.address))
    inside(name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    # traffic of pods is masqueraded unless it stays in the cluster
    masquerade = ["POSTROUTING", "-s", str(cluster.pods), "!", "-d", str(cluster.pods), "-j", "MASQUERADE"]
    if inside(name, "iptables", "-w", "-t", "nat", "-C", *masquerade, check=False) != 0:
        inside(name, "iptables", "-w", "-t", "nat", "-A", *masquerade)


def down(lab: Lab) -> None:
    """Removes every namespace, link and rule of the lab, also those of nodes that are no longer in lab.yaml."""
    for name in namespaces():
        if _is_namespace(NAMESPACES / name):
            ip("netns", "delete", name)
        else:
            (NAMESPACES / name).unlink(missing_ok=True)
    for link in _own_links(lab):
        ip("link", "delete", link, check=False)
    while _rules():
        _forward_rule("-D", lab.bridge)
    if NAMESPACES.is_dir() and not any(NAMESPACES.iterdir()):
        # `ip netns add` creates this folder, and bind-mounts it on itself
        subprocess.run(["umount", str(NAMESPACES)], check=False, capture_output=True)
        NAMESPACES.rmdir()


def plug(lab: Lab, node: Node, connected: bool) -> None:
    """Connects or disconnects the node at the machine's end of its link; the node keeps its addresses and routes."""
    ip("link", "set", cable(lab, node), "up" if connected else "down")


def slow(lab: Lab, node: Node, delay: float, loss: float, environment: Mapping[str, str]) -> None:
    """Delays the node's outgoing packets by `delay` seconds and drops the fraction `loss` of them, until `smooth`.

    `environment` is the relay's. Raises TimeoutError when the relay does not start.
    """
    smooth(lab, node)
    outer, inner, link = _detour(lab, node, "s"), _detour(lab, node, "r"), cable(lab, node)
    ip("link", "add", outer, "type", "veth", "peer", "name", inner)
    ip("link", "set", outer, "master", lab.bridge, "up")
    ip("link", "set", inner, "up")
    line = [sys.executable, "-m", "testbed.lab.relay", link, inner, f"--delay={delay}", f"--loss={loss}"]
    quiet = subprocess.DEVNULL
    subprocess.Popen(
        line, env=dict(environment), stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )
    try:
        wait_until(
            lambda: "master" not in _link(link),
            RELAY_SECONDS,
            lambda: f"the relay of {node.name}'s link did not start",
            0.02,
        )
    except TimeoutError:
        smooth(lab, node)
        raise


def smooth(lab: Lab, node: Node) -> None:
    """Reverts `slow`; does nothing where the link is not slowed."""
    # the relay ends with its interface
    ip("link", "delete", _detour(lab, node, "s"), check=False)
    ip("link", "set", cable(lab, node), "master", lab.bridge)


def _detour(lab: Lab, node: Node, end: str) -> str:
    return cable(lab, node).replace(CABLE, f"{LINKS}{end}")


def namespaces() -> list[str]:
    """The names of the lab's network namespaces."""
    return sorted(path.name for path in NAMESPACES.glob(f"{PREFIX}*")) if NAMESPACES.is_dir() else []


def leftovers(lab: Lab) -> list[str]:
    """The lab's namespaces, links and rules that still exist."""
    return [*namespaces(), *_own_links(lab), *_rules()]


def routes() -> Iterator[tuple[IPv4Network, str]]:
    """The machine's IPv4 routes other than the default route: (destination, device)."""
    output = subprocess.run(["ip", "-json", "-4", "route"], check=True, capture_output=True, text=True).stdout
    for route in json.loads(output):
        if route["dst"] != "default":
            yield IPv4Network(route["dst"]), route.get("dev", "")


def ip(*arguments: str, check: bool = True) -> None:
    """Runs `ip`; raises CalledProcessError with its error output."""
    subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)


def inside(name: str, *command: str, check: bool = True) -> int:
    """Runs a command in a network namespace and returns its exit code."""
    # `ip netns exec` would mount another /sys, without the cgroups
    line = ["nsenter", f"--net=/run/netns/{name}", *command]
    return subprocess.run(line, check=check, capture_output=True, text=True).returncode


def _forward_rule(verb: str, bridge: str) -> None:
    """Adds (-I) or removes (-D) the machine's rule that accepts traffic between nodes on the bridge."""
    rule = ["FORWARD", "-i", bridge, "-o", bridge, "-m", "comment", "--comment", RULE_TAG, "-j", "ACCEPT"]
    subprocess.run(["iptables", "-w", verb, *rule], check=True, capture_output=True, text=True)


def _drops_forwarded() -> bool:
    if not BRIDGE_CALLS_IPTABLES.exists() or BRIDGE_CALLS_IPTABLES.read_text().strip() == "0":
        return False
    lines = _saved_rules()
    filters = any(line.startswith(("-A FORWARD", ":FORWARD DROP")) for line in lines)
    return filters and not any(RULE_TAG in line for line in lines)


def _rules() -> list[str]:
    return [line for line in _saved_rules() if RULE_TAG in line]


def _saved_rules() -> list[str]:
    command = ["iptables-save", "-t", "filter"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.splitlines()


def _is_namespace(path: Path) -> bool:
    # a namespace's file lies on the kernel's own file system, as this process's does
    return path.exists() and path.stat().st_dev == Path("/proc/self/ns/net").stat().st_dev


def _own_links(lab: Lab) -> list[str]:
    output = subprocess.run(["ip", "-json", "link"], check=True, capture_output=True, text=True).stdout
    links = (link["ifname"] for link in json.loads(output))
    return [link for link in links if link == lab.bridge or link.startswith(LINKS)]


def _link(name: str) -> dict[str, Any]:
    command = ["ip", "-json", "link", "show", name]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)[0]


def _exists(link: str, name: str | None = None) -> bool:
    where = ["-n", name] if name else []
    return (
        subprocess.run(["ip", *where, "link", "show", link], check=False, capture_output=True).returncode == 0
    )
