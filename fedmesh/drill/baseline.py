"""The set-up of Istio's documentation, for comparison under the same load.

The target gets a second host name for the same pods, with Istio's default load balancing over all clusters, its
default retries and no outlier detection: the documented multi-primary set-up and nothing more.
"""

from __future__ import annotations

from dataclasses import replace

from fedmesh.drill import second_name
from fedmesh.drill.load import Load
from fedmesh.drill.report import COMPARISON
from fedmesh.drill.target import Target
from fedmesh.kube import Json
from fedmesh.probe import Janitor
from fedmesh.reading import LiveCluster

# Istio's default, which the program replaces for all other hosts.
RETRIES = {"attempts": 2, "retryOn": "connect-failure,refused-stream,unavailable,cancelled"}


def load(target: Target) -> Load:
    """Calls of a pod in the mesh to the second host name."""
    second = name(target)
    title = f"{target.method} from inside the mesh, set up as in Istio's documents"
    return Load(COMPARISON, title, second.url, second.protocol, second.method, second.upstream, judged=False)


def make(janitor: Janitor, cluster: LiveCluster, target: Target) -> None:
    """Creates the second host name on one cluster."""
    for collection, body in objects(target):
        janitor.create(cluster.api, collection, body)


def name(target: Target) -> Target:
    """The target under its second host name."""
    return replace(target, service=f"{target.service}-documents")


def objects(target: Target) -> list[tuple[str, Json]]:
    """The Service and the rules of the second host name, each with its API collection."""
    second = name(target)
    return second_name.objects(
        second,
        {"trafficPolicy": {"loadBalancer": {"simple": "LEAST_REQUEST"}}},
        [{"retries": RETRIES, "route": [{"destination": {"host": second.host}}]}],
    )
