"""The set-up of Istio's documentation, for comparison under the same load.

helloworld gets a second host name for the same pods, with Istio's default load balancing over both clusters, its
default retries and no outlier detection: the documented multi-primary set-up and nothing more.
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
# Istio's default, which the program replaces for all other hosts.
RETRIES = {"attempts": 2, "retryOn": "connect-failure,refused-stream,unavailable,cancelled"}


def stream() -> Stream:
    """Calls of a pod in the mesh to the second host name."""
    return Stream(
        COMPARISON,
        "From inside the mesh, set up as in Istio's documents",
        f"http://{NAME}.{SERVER}:{SERVER_PORT}/hello",
        envoy.outbound(SERVER_PORT, HOST),
    )


def make(janitor: Janitor, cluster: LiveCluster) -> None:
    """Creates the second host name on one cluster."""
    for collection, body in objects():
        janitor.create(cluster.api, collection, body)


def objects() -> list[tuple[str, Json]]:
    """The Service and the rules of the second host name, each with its API collection."""
    return second_name.objects(
        NAME,
        {"trafficPolicy": {"loadBalancer": {"simple": "LEAST_REQUEST"}}},
        [{"retries": RETRIES, "route": [{"destination": {"host": HOST}}]}],
    )
