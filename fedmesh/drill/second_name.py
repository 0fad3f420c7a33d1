"""Another host name for the pods of helloworld, with its own rules instead of the mesh-wide ones."""

from __future__ import annotations

from fedmesh.kube import Json
from fedmesh.probe import NETWORKING
from fedmesh.topology import SERVER, SERVER_PORT


def host(name: str) -> str:
    """The fully qualified host name."""
    return f"{name}.{SERVER}.svc.cluster.local"


def objects(name: str, rule: Json, routes: list[Json]) -> list[tuple[str, Json]]:
    """The Service, DestinationRule and VirtualService of the name, each with its API collection.

    Args:
        rule: the spec of the DestinationRule, without the host.
        routes: the HTTP routes of the VirtualService.
    """
    service: Json = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": SERVER}, "ports": [{"name": "http", "port": SERVER_PORT}]},
    }
    return [
        (f"/api/v1/namespaces/{SERVER}/services", service),
        (
            f"{NETWORKING}/{SERVER}/destinationrules",
            _istio(name, "DestinationRule", {"host": host(name), **rule}),
        ),
        (
            f"{NETWORKING}/{SERVER}/virtualservices",
            _istio(name, "VirtualService", {"hosts": [host(name)], "http": routes}),
        ),
    ]


def _istio(name: str, kind: str, spec: Json) -> Json:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }
