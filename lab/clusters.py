"""Starts, stops and describes the lab's clusters.

Every step leaves what is right as it is, so `up` heals half-made labs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from kubernetes import client
from kubernetes import config as kube_config

from lab import cgroups, image_store, network, pki
from lab.config import Cluster, Lab, Node
from lab.controller import items
from lab.paths import State, project

READY_SECONDS = 120.0
MARKER = "FEDMESH_LAB_NODE"

Say = Callable[[str], None]


class LabError(Exception):
    """The lab could not be brought into the state asked for."""


@dataclass(frozen=True)
class NodeStatus:
    """How a node is: whether its first process runs, and what the API server says of it."""

    cluster: str
    node: str
    running: bool
    ready: str


# --- up ---------------------------------------------------------------------


def up(lab: Lab, state: State, tools: Path, images: Path, say: Say) -> None:
    """Brings every node up and waits until the API servers call all of them ready.

    `tools` is the folder of programs, `images` the containerd root that new nodes start with. Raises LabError.
    """
    for cluster in lab.clusters:
        folder = state.pki(cluster.name)
        folder.parent.mkdir(parents=True, exist_ok=True)
        pki.make(cluster, folder)
        link = state.kubeconfig(cluster.name)
        if not link.is_symlink():
            link.symlink_to(folder.relative_to(link.parent) / "admin.kubeconfig")
    network.up(lab)
    say("network, certificates and kubeconfigs are there")
    for cluster, node in lab.nodes():
        if not init_process(node):
            image_store.seed(images, state.containerd(cluster.name, node.name))
            start_node(state, cluster, node, tools)
            say(f"{node.name} starts")
    for cluster in lab.clusters:
        wait_ready(cluster, state)
        say(f"{cluster.name} is ready")


def start_node(state: State, cluster: Cluster, node: Node, tools: Path) -> None:
    """Starts the node's first process in namespaces of its own."""
    log = state.logs(cluster.name, node.name) / "node.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = ["nsenter", f"--net=/run/netns/{network.namespace(node)}"]
    command += ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += [sys.executable, "-m", "lab.node", "--cluster", cluster.name, "--node", node.name]
    command += ["--state", str(state.root), "--tools", str(tools)]
    environment = {
        **os.environ,
        MARKER: node.name,
        "PYTHONPATH": str(project()),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with log.open("ab") as output:
        subprocess.Popen(
            command,
            cwd=project(),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def init_process(node: Node) -> int | None:
    """The node's first process as the machine numbers it, or None when the node is down."""
    return next((process for process, name, first in _marked() if first and name == node.name), None)


def enter(node: Node, mount: bool = False) -> list[str]:
    """The start of a command line that runs in the node's namespaces; raises LabError when the node is down."""
    process = _wait_value(lambda: init_process(node), f"the first process of {node.name}")
    spaces = ["--net", "--pid", "--uts", *(["--mount"] if mount else [])]
    return ["nsenter", f"--target={process}", *spaces]


def wait_ready(cluster: Cluster, state: State) -> None:
    """Waits until every node of the cluster is Ready; raises LabError after two minutes."""

    def ready() -> bool:
        return all(status.ready == "True" for status in _node_conditions(cluster, state))

    _wait(ready, f"all nodes of {cluster.name}", state)


def _node_conditions(cluster: Cluster, state: State) -> list[NodeStatus]:
    reported: dict[str, str] = {}
    if _answers(cluster, state):
        api = client.CoreV1Api(kube_config.new_client_from_config(str(state.kubeconfig(cluster.name))))
        for item in items(api.list_node()):
            reported[item.metadata.name] = next(
                (condition.status for condition in item.status.conditions if condition.type == "Ready"),
                "Unknown",
            )
    running = {name for _, name, first in _marked() if first}
    return [
        NodeStatus(cluster.name, node.name, node.name in running, reported.get(node.name, "Unknown"))
        for node in cluster.nodes
    ]


def _answers(cluster: Cluster, state: State) -> bool:
    authority = state.pki(cluster.name) / "ca.crt"
    if not authority.exists():
        return False
    trust = ssl.create_default_context(cafile=str(authority))
    try:
        with urllib.request.urlopen(f"{cluster.server}/readyz", timeout=2, context=trust) as answer:  # noqa: S310 (https)
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


# --- down -------------------------------------------------------------------


def stop_node(node: Node) -> None:
    """Kills the node as a power cut would; its disk stays."""
    for process, name, _ in _marked():
        if name == node.name:
            _kill(process)


def down(lab: Lab, state: State, say: Say) -> None:
    """Removes every process, cgroup, namespace, link and file of the lab; raises LabError when something stays."""
    for _ in range(50):
        found = [process for process, _, _ in _marked()]
        if not found:
            break
        for process in found:
            _kill(process)
        time.sleep(0.1)
    cgroups.remove()
    say("processes and cgroups are gone")
    network.down(lab)
    if left := leftovers(lab):
        raise LabError(f"still there: {', '.join(left)}")
    shutil.rmtree(state.root, ignore_errors=True)
    say("namespaces, links and files are gone")


def leftovers(lab: Lab) -> list[str]:
    """What of the lab is still on the machine: processes, cgroups, mounts, namespaces and links."""
    processes = [f"process {process} of {name}" for process, name, _ in _marked()]
    groups = [
        str(folder / cgroups.PARENT) for folder in cgroups.hierarchies() if (folder / cgroups.PARENT).exists()
    ]
    mounts = [
        line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if "/.lab/clusters/" in line
    ]
    return [*processes, *groups, *mounts, *network.leftovers(lab)]


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


# --- status and logs ----------------------------------------------------------


def status(lab: Lab, state: State) -> list[NodeStatus]:
    """How every node is."""
    return [node for cluster in lab.clusters for node in _node_conditions(cluster, state)]


def log_files(lab: Lab, state: State, cluster: str | None, program: str | None) -> list[Path]:
    """The log files of all programs, or of one cluster or program."""
    return sorted(
        file
        for owner, node in lab.nodes()
        if cluster in (None, owner.name)
        for file in state.logs(owner.name, node.name).glob(f"{program or '*'}.log")
    )


# --- processes ----------------------------------------------------------------


def all_processes() -> set[int]:
    """Every process of the lab on this machine: the nodes' programs, and what runs in pods."""
    return {process for process, _, _ in _marked()} | set(cgroups.processes())


def _marked() -> Iterable[tuple[int, str, bool]]:
    """The lab's processes on this machine: (process, node, whether it is the node's first)."""
    marker = MARKER.encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = dict(
                item.split(b"=", 1) for item in (entry / "environ").read_bytes().split(b"\0") if b"=" in item
            )
            if marker not in environment:
                continue
            numbers = next(
                line.split()[1:]
                for line in (entry / "status").read_text().splitlines()
                if line.startswith("NSpid")
            )
        except (OSError, StopIteration):
            continue
        yield int(entry.name), environment[marker].decode(), len(numbers) == 2 and numbers[1] == "1"


def _wait(condition: Callable[[], bool], what: str, state: State) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(
                f"{what} did not come up in {READY_SECONDS:.0f} s; see `make lab-logs` ({state.root})"
            )
        time.sleep(0.3)


def _wait_value(value: Callable[[], int | None], what: str) -> int:
    deadline = time.monotonic() + 10
    while (found := value()) is None:
        if time.monotonic() > deadline:
            raise LabError(f"{what} is not there")
        time.sleep(0.1)
    return found
