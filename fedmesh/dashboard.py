"""`fedmesh dashboard`: serves a dashboard of the mesh on a port of this machine's loopback until Ctrl-C.

The connection goes through the API server: no port is opened to a network, on this machine or on the cluster.
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
from fedmesh.topology import OBSERVABILITY_NAMESPACE, Topology

LOOPBACK = "127.0.0.1"
CHUNK = 64 * 1024

Dial = Callable[[], socket.socket]


@dataclass(frozen=True)
class DashboardPod:
    """A pod's port behind a Service."""

    namespace: str
    pod: str
    port: int


def dashboard(topology: Topology, name: str, cluster_name: str | None, port: int, browse: bool) -> int:
    """Serves a dashboard until Ctrl-C. Raises KubeError when it cannot be found or reached."""
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
        print(f"{name} of {wanted}: {url} (stop with Ctrl-C)", flush=True)
        if browse:
            webbrowser.open(url)
        forwarder.serve_forever()
    return 0


def find(api: Api, name: str) -> DashboardPod:
    """The first ready pod behind the program's own Service of that name. Raises KubeError."""
    path = f"/api/v1/namespaces/{OBSERVABILITY_NAMESPACE}"
    try:
        service = api.get(f"{path}/services/{name}")
    except KubeError as error:
        if error.status != 404:
            raise
        raise KubeError(
            f"there is no Service {OBSERVABILITY_NAMESPACE}/{name}: enable it in fedmesh:observability of the stack "
            "file and run `pulumi up`",
            404,
        ) from error
    selector = ",".join(f"{key}={value}" for key, value in sorted(service["spec"]["selector"].items()))
    ready = [pod for pod in api.items(f"{path}/pods", labelSelector=selector) if is_ready(pod)]
    if not ready:
        raise KubeError(f"no pod behind {OBSERVABILITY_NAMESPACE}/{name} is ready")
    return DashboardPod(OBSERVABILITY_NAMESPACE, ready[0]["metadata"]["name"], _port(service, ready[0]))


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
    """Forwards every connection to a loopback port to a new connection to the pod. Port 0: a free one."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, dial: Dial, port: int = 0) -> None:
        self._dial = dial
        super().__init__((LOOPBACK, port), socketserver.BaseRequestHandler)

    @property
    def port(self) -> int:
        """The loopback port."""
        return int(self.server_address[1])

    def finish_request(self, request: socket.socket, client_address: object) -> None:  # noqa: ARG002
        """Forwards one connection until either side closes it."""
        # Browsers close connections at any time.
        with contextlib.suppress(OSError, KubeError), contextlib.closing(self._dial()) as there:
            carry(request, there)

    def start(self) -> threading.Thread:
        """Serves in a background thread."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        return thread


def carry(here: socket.socket, there: socket.socket) -> None:
    """Copies bytes in both directions until one side closes its connection."""
    with selectors.DefaultSelector() as selector:
        selector.register(here, selectors.EVENT_READ, there)
        selector.register(there, selectors.EVENT_READ, here)
        while True:
            for key, _ in selector.select():
                source: socket.socket = key.fileobj  # type: ignore[assignment]
                if not (data := source.recv(CHUNK)):
                    return
                key.data.sendall(data)
