"""The service that drills call: any in the mesh, also one that another team runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fedmesh import envoy
from fedmesh.kube import Json
from fedmesh.reading import LiveCluster

Protocol = Literal["http", "grpc", "tcp", "websocket"]
PROTOCOLS: tuple[Protocol, ...] = ("http", "grpc", "tcp", "websocket")


@dataclass(frozen=True)
class Target:
    """A service and the way to call it.

    Attributes:
        namespace: the namespace of the Service, the same on every cluster.
        service: the name of the Service.
        port: the port of the Service that is called.
        selector: the labels of the pods behind the Service.
        target_port: the port of the pods, by number or name.
        method: HTTP method; gRPC has none.
        path: HTTP path, or /package.Service/Method of gRPC.
    """

    namespace: str
    service: str
    port: int
    selector: dict[str, str] = field(default_factory=dict[str, str])
    target_port: int | str = 0
    protocol: Protocol = "http"
    method: str = "GET"
    path: str = "/"

    @property
    def host(self) -> str:
        """The fully qualified host name."""
        return f"{self.service}.{self.namespace}.svc.cluster.local"

    @property
    def url(self) -> str:
        """The URL for callers in the mesh."""
        path = "" if self.protocol == "tcp" else self.path
        return f"{'tcp' if self.protocol == 'tcp' else 'http'}://{self.host}:{self.port}{path}"

    @property
    def calls(self) -> str:
        """What callers send, in a word or two."""
        words = {"http": self.method, "grpc": "gRPC calls", "tcp": "TCP", "websocket": "WebSockets"}
        return words[self.protocol]

    @property
    def lasting(self) -> bool:
        """Whether callers hold connections, as the protocol has no calls."""
        return self.protocol in ("tcp", "websocket")

    @property
    def upstream(self) -> str:
        """The name of the service's cluster in the callers' Envoy."""
        return envoy.outbound(self.port, self.host)

    def pods(self, cluster: LiveCluster) -> list[Json]:
        """The pods behind the service on one cluster."""
        labels = ",".join(f"{key}={value}" for key, value in sorted(self.selector.items()))
        return cluster.api.items(f"/api/v1/namespaces/{self.namespace}/pods", labelSelector=labels)

    def workloads(self, cluster: LiveCluster) -> dict[str, Json]:
        """The Deployments and StatefulSets behind the service on one cluster, by API path."""
        found: dict[str, Json] = {}
        for plural in ("deployments", "statefulsets"):
            collection = f"/apis/apps/v1/namespaces/{self.namespace}/{plural}"
            for item in cluster.api.items(collection):
                labels = item["spec"]["template"]["metadata"].get("labels", {})
                if self.selector.items() <= labels.items():
                    found[f"{collection}/{item['metadata']['name']}"] = item
        return found


def find(cluster: LiveCluster, text: str, protocol: Protocol, method: str, path: str) -> Target:
    """The target `namespace/service[:port]`, by default with the first port of the Service.

    Raises LookupError when the text or the Service cannot be used.
    """
    place, _, number = text.partition(":")
    namespace, slash, service = place.partition("/")
    if not (namespace and slash and service) or (number and not number.isdigit()):
        raise LookupError(f"{text!r} is not of the form NAMESPACE/SERVICE or NAMESPACE/SERVICE:PORT")
    spec = cluster.api.get(f"/api/v1/namespaces/{namespace}/services/{service}")["spec"]
    ports = [port for port in spec["ports"] if not number or port["port"] == int(number)]
    if not ports or not spec.get("selector"):
        lacks = f"no port {number}" if not ports else "no selector"
        raise LookupError(f"the Service {place} on {cluster.name} has {lacks}")
    return Target(
        namespace=namespace,
        service=service,
        port=int(ports[0]["port"]),
        selector=dict(spec["selector"]),
        target_port=ports[0].get("targetPort", ports[0]["port"]),
        protocol=protocol,
        method="POST" if protocol == "grpc" else method,
        path=path,
    )
