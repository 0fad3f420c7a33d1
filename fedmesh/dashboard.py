"""`fedmesh dashboard`: one of the mesh's dashboards on a free port of this machine's loopback, until interrupted.

Nothing is opened to the network, neither here nor on the cluster: the bytes go through the API server.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import socketserver
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass

from fedmesh.connect import connect
from fedmesh.kube import Json, Kube, KubeError
from fedmesh.reading import Api, is_ready
from fedmesh.topology import Topology

LOOPBACK = "127.0.0.1"
CHUNK = 64 * 1024

Dial = Callable[[], socket.socket]


@dataclass(frozen=True)
class Target:
    """A pod's port behind a Service."""

    namespace: str
    pod: str
    port: int


def dashboard(topology: Topology, name: str, cluster_name: str | None, port: int, browse: bool) -> int:
    """Serve a dashboard until interrupted; raises KubeError when it cannot be found or reached."""
    wanted = cluster_name or topology.members[0].name
    clusters, unreachable = connect([member for member in topology.members if member.name == wanted])
    if wanted not in clusters:
        raise KubeError(unreachable.get(wanted, f"there is no cluster {wanted} in stack {topology.stack}"))
    api = clusters[wanted].api
    target = find(api, name)
    if not isinstance(api, Kube):
        raise TypeError("a dashboard needs a live cluster")
    with Forwarder(lambda: api.forward(target.namespace, target.pod, target.port), port) as forwarder:
        url = f"http://{LOOPBACK}:{forwarder.port}/"
        print(f"{name} of {wanted}: {url} (Ctrl-C ends it)", flush=True)
        if browse:
            webbrowser.open(url)
        forwarder.serve_forever()
    return 0


def find(api: Api, name: str) -> Target:
    """The first ready pod behind the Service of that name in whatever namespace. Raises KubeError."""
    services = [s for s in api.items("/api/v1/services") if s["metadata"]["name"] == name]
    if not services:
        raise KubeError(f"there is no Service {name}: turn on observability in the stack file")
    service = services[0]
    namespace = service["metadata"]["namespace"]
    selector = ",".join(f"{key}={value}" for key, value in sorted(service["spec"]["selector"].items()))
    pods = api.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)
    ready = [pod for pod in pods if is_ready(pod)]
    if not ready:
        raise KubeError(f"no pod behind {namespace}/{name} is ready")
    return Target(namespace, ready[0]["metadata"]["name"], _port(service, ready[0]))


def _port(service: Json, pod: Json) -> int:
    first = service["spec"]["ports"][0]
    target = first.get("targetPort", first["port"])
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or []:
            if port.get("name") == target:
                return int(port["containerPort"])
    raise KubeError(f"no container of {pod['metadata']['name']} has a port named {target}")


class Forwarder(socketserver.ThreadingTCPServer):
    """Gives every connection to a loopback port a connection of its own to the pod. Port 0: a free one."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, dial: Dial, port: int = 0) -> None:
        self._dial = dial
        super().__init__((LOOPBACK, port), socketserver.BaseRequestHandler)

    @property
    def port(self) -> int:
        """The port that is served."""
        return int(self.server_address[1])

    def finish_request(self, request: socket.socket, client_address: object) -> None:  # noqa: ARG002
        """Carry one connection until either side ends it."""
        # A browser drops connections as it pleases; that is no news.
        with contextlib.suppress(OSError, KubeError), contextlib.closing(self._dial()) as there:
            carry(request, there)

    def start(self) -> threading.Thread:
        """Serve in a thread of its own."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        return thread


def carry(here: socket.socket, there: socket.socket) -> None:
    """Copy bytes both ways until one side has nothing more to say."""
    with selectors.DefaultSelector() as selector:
        selector.register(here, selectors.EVENT_READ, there)
        selector.register(there, selectors.EVENT_READ, here)
        while True:
            for key, _ in selector.select():
                source: socket.socket = key.fileobj  # type: ignore[assignment]
                if not (data := source.recv(CHUNK)):
                    return
                key.data.sendall(data)
