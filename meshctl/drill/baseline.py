"""The set-up of Istio's own documents, beside ours and in the same run: what would callers notice with it?

helloworld gets a second name. Calls to it go to the same pods, with Istio's default load balancing over both
clusters, its default retries and no outlier detection: the documented multi-primary set-up and nothing more.
"""

from __future__ import annotations

from meshctl import envoy
from meshctl.drill.load import Stream
from meshctl.drill.report import COMPARISON
from meshctl.kube import Json
from meshctl.probe import NETWORKING, Janitor
from meshctl.reading import Cluster
from meshctl.topology import SERVER, SERVER_PORT

NAME = f"{SERVER}-documents"
HOST = f"{NAME}.{SERVER}.svc.cluster.local"
# Istio's own default, which the mesh's setting replaces elsewhere.
RETRIES = {"attempts": 2, "retryOn": "connect-failure,refused-stream,unavailable,cancelled"}


def stream() -> Stream:
    """Calls of a pod in the mesh to the second name."""
    return Stream(
        COMPARISON,
        "From inside the mesh, set up as in Istio's documents",
        f"http://{NAME}.{SERVER}:{SERVER_PORT}/hello",
        envoy.outbound(SERVER_PORT, HOST),
    )


def make(janitor: Janitor, cluster: Cluster) -> None:
    """Make the second name on one cluster."""
    for collection, body in objects():
        janitor.create(cluster.api, collection, body)


def objects() -> list[tuple[str, Json]]:
    """The second name's Service and its rules, each with the collection it belongs to."""
    service: Json = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME},
        "spec": {"selector": {"app": SERVER}, "ports": [{"name": "http", "port": SERVER_PORT}]},
    }
    # A rule of the host's own keeps the mesh-wide one away from it.
    rule: Json = {"host": HOST, "trafficPolicy": {"loadBalancer": {"simple": "LEAST_REQUEST"}}}
    routes: Json = {
        "hosts": [HOST],
        "http": [{"retries": RETRIES, "route": [{"destination": {"host": HOST}}]}],
    }
    return [
        (f"/api/v1/namespaces/{SERVER}/services", service),
        (f"{NETWORKING}/{SERVER}/destinationrules", _istio("DestinationRule", rule)),
        (f"{NETWORKING}/{SERVER}/virtualservices", _istio("VirtualService", routes)),
    ]


def _istio(kind: str, spec: Json) -> Json:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": NAME},
        "spec": spec,
    }
