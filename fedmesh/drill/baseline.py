"""The set-up of Istio's own documents, beside ours and in the same run: what would callers notice with it?

helloworld gets a second name. Calls to it go to the same pods, with Istio's default load balancing over both
clusters, its default retries and no outlier detection: the documented multi-primary set-up and nothing more.
"""

from __future__ import annotations

from fedmesh import envoy
from fedmesh.drill import second_name
from fedmesh.drill.load import Stream
from fedmesh.drill.report import COMPARISON
from fedmesh.kube import Json
from fedmesh.probe import Janitor
from fedmesh.reading import LiveCluster
from fedmesh.topology import SERVER, SERVER_PORT

NAME = f"{SERVER}-documents"
HOST = second_name.host(NAME)
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


def make(janitor: Janitor, cluster: LiveCluster) -> None:
    """Make the second name on one cluster."""
    for collection, body in objects():
        janitor.create(cluster.api, collection, body)


def objects() -> list[tuple[str, Json]]:
    """The second name's Service and its rules, each with the collection it belongs to."""
    return second_name.objects(
        NAME,
        {"trafficPolicy": {"loadBalancer": {"simple": "LEAST_REQUEST"}}},
        [{"retries": RETRIES, "route": [{"destination": {"host": HOST}}]}],
    )
