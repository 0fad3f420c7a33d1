"""A Kubernetes API server without nodes, on free loopback ports: enough to preview and apply stacks."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from testbed.lab import pki
from testbed.lab.config import Cluster, Node
from testbed.lab.programs import api_server, controller_manager
from testbed.waiting import listens, wait_until

START_SECONDS = 60.0
LOOPBACK = IPv4Address("127.0.0.1")
# garbage collection, deletion of namespaces, and tokens of service accounts
CONTROLLERS = (
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
)


@dataclass(frozen=True)
class ApiServer:
    """A running API server, and the administrator's kubeconfig with one context named after the server."""

    name: str
    kubeconfig: Path
    url: str


@contextmanager
def running(name: str, tools: Path, folder: Path) -> Iterator[ApiServer]:
    """Runs etcd, kube-apiserver and a few controllers from `tools` until the block ends; their data is in `folder`.

    No pods run, and nothing happens that needs them or another controller, such as load balancers.
    Raises TimeoutError, with the end of its log, when the server is not ready within a minute.
    """
    ports = free_ports(3)
    cluster = Cluster(
        name=name,
        pods=IPv4Network("10.244.0.0/16"),
        services=IPv4Network("10.96.0.0/16"),
        load_balancers=IPv4Network("127.0.0.2/32"),
        nodes=(Node(name, LOOPBACK, IPv4Network("10.244.1.0/24"), control_plane=True),),
        port=ports[0],
    )
    certificates = folder / "pki"
    pki.make(cluster, certificates)
    etcd = f"http://127.0.0.1:{ports[1]}"
    store = [str(tools / "etcd"), f"--data-dir={folder}/etcd", "--unsafe-no-fsync", "--log-level=error"]
    store += [f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}"]
    store += [f"--listen-peer-urls=http://127.0.0.1:{ports[2]}"]
    server = [*api_server(tools, certificates, cluster, etcd), "--bind-address=127.0.0.1"]
    # no pod could serve the webhooks, and the addresses of their Services would be dialled outside this machine
    server += ["--disable-admission-plugins=MutatingAdmissionWebhook,ValidatingAdmissionWebhook"]
    with ExitStack() as stack:
        stack.enter_context(_process(store, folder / "etcd.log"))
        _wait_for(ports[1], folder / "etcd.log")
        stack.enter_context(_process(server, folder / "apiserver.log"))
        kubeconfig = certificates / "admin.kubeconfig"
        _wait_ready(tools / "kubectl", kubeconfig, folder / "apiserver.log")
        manager = [*controller_manager(tools, certificates), "--secure-port=0"]
        manager += [f"--controllers={','.join(CONTROLLERS)}"]
        stack.enter_context(_process(manager, folder / "controllers.log"))
        yield ApiServer(name, kubeconfig, cluster.server)


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[None]:
    # the kernel kills the server when this process ends
    line = ["setpriv", "--pdeathsig", "KILL", *command]
    with log.open("ab") as output:
        process = subprocess.Popen(
            line, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=dict(os.environ)
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Free ports of the loopback interface."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((str(LOOPBACK), 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_for(port: int, log: Path) -> None:
    complaint = f"nothing listens on port {port}: "
    wait_until(lambda: listens((str(LOOPBACK), port)), START_SECONDS, lambda: complaint + _end(log))


def _wait_ready(kubectl: Path, kubeconfig: Path, log: Path) -> None:
    command = [str(kubectl), f"--kubeconfig={kubeconfig}", "get", "--raw=/readyz"]
    # the server creates its own namespaces a little after /readyz succeeds
    also = [str(kubectl), f"--kubeconfig={kubeconfig}", "get", "namespace", "default"]

    def ready() -> bool:
        lines = (command, also)
        return all(subprocess.run(line, check=False, capture_output=True).returncode == 0 for line in lines)

    wait_until(ready, START_SECONDS, lambda: f"the API server is not ready: {_end(log)}", 0.3)


def _end(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-5:])
