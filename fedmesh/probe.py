"""Objects that a check makes for a moment, and the promise that they are gone afterwards."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from fedmesh.kube import Json, KubeError
from fedmesh.reading import Api, Cluster

T = TypeVar("T")
LABEL = "fedmesh.io/probe"
NAMESPACE = "default"
CONTAINER = "probe"
# A probe's pod ends by itself after this long, whatever happens to the command that made it.
POD_LIFE = 120
# A probe older than this was left by a command that was killed.
STALE = timedelta(minutes=10)
NETWORKING = "/apis/networking.istio.io/v1/namespaces"


@dataclass(frozen=True)
class _Made:
    api: Api
    path: str


class Janitor:
    """Makes temporary objects, all labelled with one run's id, and removes every one of them again."""

    def __init__(self) -> None:
        self.run = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._made: list[_Made] = []
        self._closed = False

    def create(self, api: Api, collection: str, body: Json) -> Json:
        """Create a labelled object; raises KubeError, also when the cleaning has already begun."""
        body["metadata"].setdefault("labels", {})[LABEL] = self.run
        with self._lock:
            if self._closed:
                raise KubeError("the run is over")
            # Noted first: a request whose answer is lost may have made the object all the same.
            self._made.append(_Made(api, f"{collection}/{body['metadata']['name']}"))
        return api.create(collection, body)

    def clean(self) -> list[str]:
        """Remove everything made, newest first; returns the paths that could not be removed and why."""
        with self._lock:
            self._closed = True
            made, self._made = self._made[::-1], []
        left: list[str] = []
        for item in made:
            try:
                item.api.delete(item.path, gracePeriodSeconds="0")
            except KubeError as error:
                left.append(f"{item.path}: {error}")
        return left


def remove_stale(
    cluster: Cluster, client_namespace: str, now: datetime | None = None, more: Sequence[str] = ()
) -> list[str]:
    """Remove what a killed run left behind, in `more` collections too; returns the paths removed."""
    now = now or datetime.now(UTC)
    collections = [f"/api/v1/namespaces/{NAMESPACE}/pods", *more]
    collections += [
        f"{NETWORKING}/{client_namespace}/{plural}"
        for plural in ("virtualservices", "destinationrules", "serviceentries")
    ]
    removed: list[str] = []
    for collection in collections:
        try:
            found = cluster.api.items(collection, labelSelector=LABEL)
        except KubeError as error:
            if error.status == 404:  # a cluster without Istio's kinds
                continue
            raise
        for item in found:
            if now - datetime.fromisoformat(item["metadata"]["creationTimestamp"]) > STALE:
                removed.append(f"{collection}/{item['metadata']['name']}")
                cluster.api.delete(removed[-1], gracePeriodSeconds="0")
    return removed


# What the strictest pod security standard asks of a pod's user and of its containers.
NOBODY: Json = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINED: Json = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def outsider(run: str, image: str, life: int = POD_LIFE) -> Json:
    """A pod without a proxy that waits `life` seconds for commands, within the strictest pod security standard."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"fedmesh-probe-{run}",
            "labels": {"sidecar.istio.io/inject": "false"},
        },
        "spec": {
            "activeDeadlineSeconds": life,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {**NOBODY, "runAsGroup": NOBODY["runAsUser"]},
            "containers": [
                {
                    "name": CONTAINER,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", str(life)],
                    "resources": {
                        "requests": {"cpu": "5m", "memory": "16Mi"},
                        "limits": {"memory": "64Mi"},
                    },
                    "securityContext": dict(CONTAINED),
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 (in the pod)
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
        },
    }


def start_outsider(
    janitor: Janitor, cluster: Cluster, image: str, timeout: float = 12.0, life: int = POD_LIFE
) -> Json:
    """Start a pod outside the mesh and wait until it runs; raises KubeError when it does not."""
    collection = f"/api/v1/namespaces/{NAMESPACE}/pods"
    pod = janitor.create(cluster.api, collection, outsider(janitor.run, image, life))
    path = f"{collection}/{pod['metadata']['name']}"

    def running() -> Json | None:
        current = cluster.api.get(path)
        return current if current.get("status", {}).get("phase") == "Running" else None

    return wait_for(
        running, f"the probe's pod did not start on {cluster.name} within {timeout:.0f} s", timeout
    )


def wait_for(ready: Callable[[], T | None], complaint: str, timeout: float, pause: float = 0.25) -> T:
    """Poll until something is there; raises KubeError with the complaint when it does not come in time."""
    end = time.monotonic() + timeout
    while True:
        if (found := ready()) is not None:
            return found
        if time.monotonic() > end:
            raise KubeError(complaint)
        time.sleep(pause)
