"""Another host name for the pods of a service, with its own rules instead of the mesh-wide ones."""

from __future__ import annotations

from fedmesh.drill.target import Target
from fedmesh.kube import Json
from fedmesh.probe import NETWORKING


def objects(target: Target, rule: Json | None, routes: list[Json]) -> list[tuple[str, Json]]:
    """The Service, DestinationRule and VirtualService of the name, each with its API collection.

    Args:
        target: the service under its new name.
        rule: the spec of the DestinationRule, without the host; None: the mesh's own rules.
        routes: the HTTP routes of the VirtualService; empty: the mesh's own.
    """
    name, namespace = target.service, target.namespace
    service: Json = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "selector": dict(target.selector),
            "ports": [
                {
                    "name": target.protocol,
                    "port": target.port,
                    "targetPort": target.target_port or target.port,
                }
            ],
        },
    }
    made = [(f"/api/v1/namespaces/{namespace}/services", service)]
    if rule is not None:
        spec = {"host": target.host, **rule}
        made.append((f"{NETWORKING}/{namespace}/destinationrules", _istio(name, "DestinationRule", spec)))
    if routes:
        spec = {"hosts": [target.host], "http": routes}
        made.append((f"{NETWORKING}/{namespace}/virtualservices", _istio(name, "VirtualService", spec)))
    return made


def _istio(name: str, kind: str, spec: Json) -> Json:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }
