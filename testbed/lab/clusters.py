"""Starts, stops and describes the lab's clusters.

Every step is idempotent, so `up` also completes a lab whose start was interrupted.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kubernetes import client
from kubernetes import config as kube_config

from testbed.lab import cgroups, clock, image_store, network, pki, processes
from testbed.lab.config import Cluster, Lab, Node
from testbed.lab.controller import items
from testbed.lab.paths import State, project
from testbed.lab.programs import program_names
from testbed.waiting import wait_until

READY_SECONDS = 120.0

Say = Callable[[str], None]


class LabError(Exception):
    """The lab could not be brought into the requested state."""


@dataclass(frozen=True)
class NodeStatus:
    """A node's status: whether its first process runs, its Ready condition, and the programs that do not run."""

    cluster: str
    node: str
    running: bool
    ready: str
    missing: tuple[str, ...]

    @property
    def well(self) -> bool:
        """Whether the node and all its programs run and it is Ready."""
        return self.running and self.ready == "True" and not self.missing


# --- up ---------------------------------------------------------------------


def up(lab: Lab, state: State, tools: Path, images: Path, say: Say) -> None:
    """Starts every node and waits until all of them are Ready.

    `tools` is the folder of programs, `images` the containerd root that new nodes start with. Raises LabError.
    """
    _refuse_others(state)
    _refuse_other_images(lab, state, images)
    for cluster in lab.clusters:
        folder = state.pki(cluster.name)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if pki.make(cluster, folder):
            # nodes can't keep running with the certificates that these replace
            names = {node.name for node in cluster.nodes}
            processes.kill_all(lambda process, names=names: process.node in names)
        link = state.kubeconfig(cluster.name)
        if not link.is_symlink():
            link.symlink_to(folder.relative_to(link.parent) / "admin.kubeconfig")
    # nodes and commands read this copy, whatever becomes of the checkout's file
    (state.root / lab.file.name).write_bytes(lab.file.read_bytes())
    network.up(lab)
    clock.right(node for _, node in lab.nodes())
    say("network, certificates and kubeconfigs are there")
    for cluster, node in lab.nodes():
        if processes.first(node) is None:
            image_store.seed(images, state.containerd(cluster.name, node.name))
            start_node(state, cluster, node, tools)
            say(f"{node.name} starts")
    for cluster in lab.clusters:
        wait_ready(cluster, state)
        say(f"{cluster.name} is ready")


def _refuse_others(state: State) -> None:
    others = {process.state for process in processes.find() if process.first} - {str(state.root)}
    if others:
        raise LabError(
            f"a lab of {' and '.join(sorted(others))} is already running on this machine: run `make lab-down` first"
        )


def _refuse_other_images(lab: Lab, state: State, images: Path) -> None:
    old = [
        node.name
        for cluster, node in lab.nodes()
        if not image_store.is_made_from(images, state.containerd(cluster.name, node.name))
    ]
    if old:
        raise LabError(
            f"the images have changed since {', '.join(old)} started: run `make lab-down` and try again"
        )


def start_node(state: State, cluster: Cluster, node: Node, tools: Path) -> None:
    """Starts the node's first process in namespaces of its own."""
    log = state.logs(cluster.name, node.name) / "node.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = ["nsenter", f"--net=/run/netns/{network.namespace(node)}"]
    command += ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += [sys.executable, "-m", "testbed.lab.node", "--cluster", cluster.name, "--node", node.name]
    command += ["--state", str(state.root), "--tools", str(tools)]
    with log.open("ab") as output:
        subprocess.Popen(
            command,
            cwd=project(),
            env=environment(state, node),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def environment(state: State, node: Node) -> dict[str, str]:
    """The environment of a node's processes, by which they are found again."""
    return {
        **os.environ,
        processes.NODE_MARKER: node.name,
        processes.STATE_MARKER: str(state.root),
        "PYTHONPATH": str(project()),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def wait_ready(cluster: Cluster, state: State) -> None:
    """Waits until every node of the cluster is Ready and pods can be created; raises LabError after two minutes."""

    def ready() -> bool:
        return all(status.well for status in _node_conditions(cluster, state)) and _takes_pods(cluster, state)

    _wait(ready, f"all nodes of {cluster.name}", state)


def _takes_pods(cluster: Cluster, state: State) -> bool:
    """Whether the default service account exists, without which no pod is admitted."""
    api = client.CoreV1Api(kube_config.new_client_from_config(str(state.kubeconfig(cluster.name))))
    return any(
        item.metadata.name == "default" for item in items(api.list_namespaced_service_account("default"))
    )


def _node_conditions(cluster: Cluster, state: State) -> list[NodeStatus]:
    reported = _reported(cluster, state) if _answers(cluster, state) else {}
    return [
        NodeStatus(
            cluster.name,
            node.name,
            processes.first(node) is not None,
            reported.get(node.name, "Unknown"),
            tuple(sorted(program_names(cluster, node) - set(processes.programs(node)))),
        )
        for node in cluster.nodes
    ]


def _reported(cluster: Cluster, state: State) -> dict[str, str]:
    """Each node's Ready condition, where the kubelet has updated it since the node was started."""
    api = client.CoreV1Api(kube_config.new_client_from_config(str(state.kubeconfig(cluster.name))))
    reported: dict[str, str] = {}
    for item in items(api.list_node()):
        lock = state.lock(cluster.name, item.metadata.name)
        for condition in item.status.conditions or ():
            heard = condition.last_heartbeat_time.timestamp()
            if condition.type == "Ready" and lock.exists() and heard >= int(lock.stat().st_mtime):
                reported[item.metadata.name] = condition.status
    return reported


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
    """Kills all processes of the node, as a power failure would; its disk stays."""
    processes.kill_all(lambda process: process.node == node.name)


def down(lab: Lab, state: State, say: Say) -> None:
    """Removes every process, cgroup, namespace, link and file of the lab; raises LabError when something remains."""
    processes.kill_all(lambda _: True)
    cgroups.remove()
    say("processes and cgroups are gone")
    network.down(lab)
    if left := leftovers(lab):
        raise LabError(f"still there: {', '.join(left)}")
    shutil.rmtree(state.root, ignore_errors=True)
    say("namespaces, links and files are gone")


def leftovers(lab: Lab) -> list[str]:
    """The processes, cgroups, mounts, namespaces and links of the lab that are still on the machine."""
    running = [f"process {process.number} of {process.node}" for process in processes.find()]
    groups = [
        str(folder / cgroups.PARENT) for folder in cgroups.hierarchies() if (folder / cgroups.PARENT).exists()
    ]
    mounts = [
        line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if "/.lab/clusters/" in line
    ]
    return [*running, *groups, *mounts, *network.leftovers(lab)]


# --- status and logs ----------------------------------------------------------


def status(lab: Lab, state: State) -> list[NodeStatus]:
    """The status of every node."""
    return [node for cluster in lab.clusters for node in _node_conditions(cluster, state)]


def log_files(lab: Lab, state: State, cluster: str | None, program: str | None) -> list[Path]:
    """The log files of all programs, or of one cluster or program."""
    return sorted(
        file
        for owner, node in lab.nodes()
        if cluster in (None, owner.name)
        for file in state.logs(owner.name, node.name).glob(f"{program or '*'}.log")
    )


# --- waiting and processes ------------------------------------------------------


def all_processes() -> set[int]:
    """The lab's processes on this machine: the nodes' programs and those in pods."""
    return {process.number for process in processes.find()} | set(cgroups.processes())


def _wait(condition: Callable[[], bool], what: str, state: State) -> None:
    try:
        wait_until(condition, READY_SECONDS, lambda: f"{what} did not come up in {READY_SECONDS:.0f} s", 0.3)
    except TimeoutError as error:
        raise LabError(f"{error}; see `make lab-logs` ({state.root})") from None
