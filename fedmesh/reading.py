"""Readings of one live cluster, each cached for the length of a run."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from fedmesh import envoy, spire
from fedmesh.kube import UNENDED, Json, KubeError, Output
from fedmesh.topology import ISTIO_NAMESPACE, SPIRE_NAMESPACE, Member

T = TypeVar("T")
PROXY = "istio-proxy"


class Api(Protocol):
    """The methods of Kube that readings, checks and drills use."""

    @property
    def server(self) -> str: ...
    def get(self, path: str, **query: str) -> Any: ...
    def items(self, path: str, **query: str) -> list[Json]: ...
    def create(self, path: str, body: Json) -> Json: ...
    def clock_ahead(self) -> float: ...
    def patch(self, path: str, body: Json) -> Json: ...
    def delete(self, path: str, **query: str) -> None: ...
    def exec(
        self,
        namespace: str,
        pod: str,
        container: str,
        command: list[str],
        *,
        stdin: str | None = None,
        timeout: float = 8.0,
    ) -> Output: ...


class LiveCluster:
    """Cached readings of one cluster. Every method raises KubeError when the cluster cannot be read."""

    def __init__(self, member: Member, api: Api) -> None:
        self.member = member
        self.api = api
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._known: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """Name of the cluster in the stack's config."""
        return self.member.name

    def fresh(self) -> LiveCluster:
        """The same cluster without its readings."""
        return LiveCluster(self.member, self.api)

    def clock_ahead(self) -> float:
        """Seconds by which the API server's clock is ahead of this machine's, to within a second."""
        return self.once("clock", self.api.clock_ahead)

    def version(self) -> str:
        """Git version of the API server."""
        return str(self.api.get("/version")["gitVersion"])

    def nodes(self) -> list[Json]:
        """All nodes."""
        return self.once("nodes", lambda: self.api.items("/api/v1/nodes"))

    def pods(self, namespace: str | None = None, app: str | None = None, running: bool = True) -> list[Json]:
        """Pods of a namespace with an `app` label (None: any); by default those that run and are not being deleted."""
        pods = self.once("pods", lambda: self.api.items("/api/v1/pods"))
        return [
            pod
            for pod in pods
            if (namespace is None or pod["metadata"]["namespace"] == namespace)
            and (app is None or pod["metadata"].get("labels", {}).get("app") == app)
            and (not running or is_running(pod))
        ]

    def namespaces(self) -> list[Json]:
        """All namespaces."""
        path = "/api/v1/namespaces"
        return self.once(path, lambda: self.api.items(path))

    def services(self, namespace: str) -> list[Json]:
        """Services of a namespace."""
        path = f"/api/v1/namespaces/{namespace}/services"
        return self.once(path, lambda: self.api.items(path))

    def deployments(self, namespace: str) -> list[Json]:
        """Deployments of a namespace."""
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        return self.once(path, lambda: self.api.items(path))

    def daemonset(self, namespace: str, name: str) -> Json:
        """One DaemonSet."""
        path = f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}"
        return self.once(path, lambda: self.api.get(path))

    def daemonsets(self, namespace: str) -> list[Json]:
        """DaemonSets of a namespace."""
        path = f"/apis/apps/v1/namespaces/{namespace}/daemonsets"
        return self.once(path, lambda: self.api.items(path))

    def cert_manager(self, plural: str) -> list[Json]:
        """Objects of one of cert-manager's kinds in all namespaces."""
        path = f"/apis/cert-manager.io/v1/{plural}"
        return self.once(path, lambda: self.api.items(path))

    def agents(self) -> list[spire.Agent]:
        """Agents that this cluster's SPIRE server has attested."""
        return self.once("agents", lambda: spire.parse_agents(self.spire_server("agent", "list")))

    def bundle(self) -> spire.Bundle:
        """The bundle of this cluster's own trust domain."""
        return self.once("bundle", lambda: spire.parse_bundle(self.spire_server("bundle", "show")))

    def signing_key(self) -> str:
        """Id of the key that this cluster's SPIRE server signs JWT-SVIDs with now."""
        return str(self.spire_server("localauthority", "jwt", "show")["active"]["authority_id"])

    def foreign_bundles(self) -> dict[str, spire.Bundle]:
        """Bundles of other trust domains in this cluster's SPIRE server."""
        return self.once("bundles", lambda: spire.parse_bundles(self.spire_server("bundle", "list")))

    def relationships(self) -> list[spire.Relationship]:
        """Federation relationships of this cluster's SPIRE server."""
        return self.once(
            "federation", lambda: spire.parse_relationships(self.spire_server("federation", "list"))
        )

    def spire_log(self, minutes: int = 60) -> str:
        """The log of the SPIRE server for the last minutes."""
        server = self._spire_server()["metadata"]
        path = f"/api/v1/namespaces/{server['namespace']}/pods/{server['name']}/log"
        log = self.api.get(path, container=spire.CONTAINER, sinceSeconds=str(minutes * 60))
        return log if isinstance(log, str) else json.dumps(log)

    def mint(self, spiffe_id: str, seconds: int) -> Json:
        """A short-lived certificate of this trust domain with its key, from the SPIRE server."""
        minted: Any = self.spire_server("x509", "mint", "-spiffeID", spiffe_id, "-ttl", f"{seconds}s")
        # SPIRE 1.13 gave a list of one
        return minted[0] if isinstance(minted, list) else minted

    def remote_clusters(self, istiod: Json) -> list[Json]:
        """The remote clusters of an istiod pod, with the state of their synchronization."""
        answer = self.run(istiod, "discovery", ["pilot-discovery", "request", "GET", "/debug/clusterz"])
        return json.loads(answer)

    def proxy_secrets(self, pod: Json) -> envoy.ProxySecrets:
        """The current certificate and trust bundles of a pod's proxy."""
        return envoy.parse_secrets(json.loads(self.proxy(pod, "config_dump?resource=dynamic_active_secrets")))

    def proxy(self, pod: Json, path: str) -> str:
        """The answer of a proxy's admin interface to a GET."""
        return self.run(pod, PROXY, ["pilot-agent", "request", "GET", path])

    def istiods(self) -> list[Json]:
        """Running istiod pods."""
        return self.pods(ISTIO_NAMESPACE, app="istiod")

    def mesh_pods(self, starting: bool = False) -> list[Json]:
        """Running pods with a proxy, including gateways; with `starting` also pending ones."""
        return [
            pod
            for pod in self.pods(running=not starting)
            if PROXY in containers(pod) and (is_running(pod) or is_pending(pod))
        ]

    def run(self, pod: Json, container: str, command: list[str], stdin: str | None = None) -> str:
        """The standard output of a command in a pod. Raises KubeError when the command fails."""
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        output = self.api.exec(namespace, name, container, command, stdin=stdin)
        if output.code != 0:
            said = (output.stderr or output.stdout).strip()[-300:]
            how = "did not end in time" if output.code == UNENDED else f"failed with {output.code}"
            raise KubeError(f"{command[0].rsplit('/', 1)[-1]} in {namespace}/{name} {how}: {said}")
        return output.stdout

    def _spire_server(self) -> Json:
        servers = [pod for pod in self.pods(SPIRE_NAMESPACE) if spire.CONTAINER in containers(pod)]
        if not servers:
            raise KubeError(
                f"no running pod in namespace {SPIRE_NAMESPACE} has a container {spire.CONTAINER}"
            )
        return servers[0]

    def spire_server(self, *words: str) -> Json:
        """The JSON output of spire-server in the SPIRE server's pod."""
        return json.loads(self.run(self._spire_server(), spire.CONTAINER, spire.command(*words)))

    def once(self, key: str, read: Callable[[], T]) -> T:
        """The result of `read`, which is called at most once per key."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._known:
                self._known[key] = read()
            return self._known[key]


def containers(pod: Json) -> set[str]:
    """Names of a pod's containers and native sidecars."""
    spec = pod["spec"]
    return {container["name"] for container in [*spec.get("initContainers", []), *spec["containers"]]}


def is_running(pod: Json) -> bool:
    """True when a pod is running and is not being deleted."""
    return pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def is_pending(pod: Json) -> bool:
    """True when a pod is pending and is not being deleted."""
    return pod.get("status", {}).get("phase") == "Pending" and "deletionTimestamp" not in pod["metadata"]


def is_ready(pod: Json) -> bool:
    """True when the condition Ready of a pod is true."""
    return condition(pod, "Ready") is True


def condition(item: Json, kind: str) -> bool | None:
    """A status condition of an object; None when it has no such condition."""
    for entry in item.get("status", {}).get("conditions") or []:
        if entry.get("type") == kind:
            return entry.get("status") == "True"
    return None


def full_name(item: Json) -> str:
    """namespace/name of an object, or its name alone when it has no namespace."""
    meta = item["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])


def load_balancer_addresses(service: Json) -> list[str]:
    """The addresses of a Service of type LoadBalancer, IPs or host names."""
    entries = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    return [entry.get("ip") or entry["hostname"] for entry in entries]
