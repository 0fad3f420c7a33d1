"""helloworld under another name: the same pods, with rules of the name's own that keep the mesh-wide ones away."""

from __future__ import annotations

from fedmesh.kube import Json
from fedmesh.probe import NETWORKING
from fedmesh.topology import SERVER, SERVER_PORT


def host(name: str) -> str:
    """The name in full, as rules call it."""
    return f"{name}.{SERVER}.svc.cluster.local"


def objects(name: str, rule: Json, routes: list[Json]) -> list[tuple[str, Json]]:
    """The name's Service, its DestinationRule and its VirtualService, each with the collection it belongs to.

    Args:
        rule: what the DestinationRule says besides the host.
        routes: the VirtualService's HTTP routes.
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
