"""Temporary objects: made for a check or a drill, and removed afterwards."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from fedmesh.interrupts import shielded
from fedmesh.kube import CONFLICT, Json, KubeError
from fedmesh.reading import Api, LiveCluster
from fedmesh.topology import CLIENT

T = TypeVar("T")
LABEL = "fedmesh.io/probe"
NAMESPACE = "default"
CONTAINER = "probe"
# Seconds after which the kubelet ends a probe's pod, even when its command was killed.
POD_LIFE = 120
# No run of `fedmesh verify` or `fedmesh attack` takes this long.
STALE = timedelta(minutes=10)
NETWORKING = "/apis/networking.istio.io/v1/namespaces"
# Where checks make objects.
COLLECTIONS = (
    f"/api/v1/namespaces/{NAMESPACE}/pods",
    *(
        f"{NETWORKING}/{CLIENT}/{plural}"
        for plural in ("virtualservices", "destinationrules", "serviceentries")
    ),
)


@dataclass(frozen=True)
class _Made:
    api: Api
    path: str


class Janitor:
    """Creates temporary objects, labelled with the id of the run, and deletes all of them at its end."""

    def __init__(self) -> None:
        self.run = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._made: list[_Made] = []
        self._closed = False

    def create(self, api: Api, collection: str, body: Json) -> Json:
        """Creates a labelled object. Raises KubeError, also when `clean` has been called.

        An object of that name that exists already is somebody else's: `clean` leaves it alone.
        """
        body["metadata"].setdefault("labels", {})[LABEL] = self.run
        made = _Made(api, f"{collection}/{body['metadata']['name']}")
        with self._lock:
            if self._closed:
                raise KubeError("the run has ended")
            # Recorded first: the API server may create the object although its answer is lost.
            self._made.append(made)
        try:
            return api.create(collection, body)
        except KubeError as error:
            if error.status == CONFLICT:
                self._forget(made)
            raise

    def _forget(self, made: _Made) -> None:
        with self._lock:
            # Another thread may have called `clean`, which took the list.
            if made in self._made:
                self._made.remove(made)

    def clean(self) -> list[str]:
        """Deletes every object, the newest first; returns the paths that could not be deleted, with their errors.

        Ctrl-C does not stop it.
        """
        with self._lock:
            self._closed = True
            made, self._made = self._made[::-1], []
        left: list[str] = []
        with shielded():
            for item in made:
                try:
                    item.api.delete(item.path, gracePeriodSeconds="0")
                except KubeError as error:
                    left.append(f"{item.path}: {error}")
        return left


def remove_stale(
    cluster: LiveCluster, collections: Sequence[str], age: timedelta = STALE, now: datetime | None = None
) -> list[str]:
    """Removes objects that a killed run left in some collections.

    Args:
        age: objects younger than this may belong to a run that has not ended, and stay.

    Returns:
        The API paths that could not be read or deleted, each with its error.
    """
    now = now or datetime.now(UTC)
    failed: list[str] = []
    for collection in collections:
        path = collection
        try:
            for item in cluster.api.items(collection, labelSelector=LABEL):
                if now - datetime.fromisoformat(item["metadata"]["creationTimestamp"]) >= age:
                    path = f"{collection}/{item['metadata']['name']}"
                    cluster.api.delete(path, gracePeriodSeconds="0")
        except KubeError as error:
            if error.status != 404:  # 404: a cluster without Istio's CRDs
                failed.append(f"{path}: {error}")
            if error.status == 0:  # the API server does not answer
                break
    return failed


# Security contexts of a pod and of its containers under the restricted Pod Security Standard.
UNPRIVILEGED: Json = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
RESTRICTED: Json = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def pod(
    name: str,
    image: str,
    command: Sequence[str],
    *,
    life: int = POD_LIFE,
    account: str = "default",
    labels: Mapping[str, str] | None = None,
    volumes: Sequence[tuple[str, str, Json]] = (),
) -> Json:
    """A pod without a proxy under the restricted Pod Security Standard.

    Args:
        life: seconds after which the kubelet ends it.
        volumes: name, mount path and source of each.
    """
    user = UNPRIVILEGED["runAsUser"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"sidecar.istio.io/inject": "false", **(labels or {})}},
        "spec": {
            "activeDeadlineSeconds": life,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "serviceAccountName": account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {**UNPRIVILEGED, "runAsGroup": user, "fsGroup": user},
            "containers": [
                {
                    "name": CONTAINER,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": list(command),
                    "resources": {
                        "requests": {"cpu": "5m", "memory": "16Mi"},
                        "limits": {"memory": "128Mi"},
                    },
                    "securityContext": dict(RESTRICTED),
                    "volumeMounts": [{"name": volume, "mountPath": path} for volume, path, _ in volumes],
                }
            ],
            "volumes": [{"name": volume, **source} for volume, _, source in volumes],
        },
    }


def scratch(path: str) -> tuple[str, str, Json]:
    """An empty volume in memory, for `pod`."""
    return "scratch", path, {"emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}}


def outsider(run: str, image: str, life: int = POD_LIFE) -> Json:
    """A pod outside the mesh that waits for commands, for `life` seconds."""
    # curl reads keys from files, which are in memory
    volumes = [scratch("/tmp")]  # noqa: S108 (in the pod)
    return pod(f"fedmesh-probe-{run}", image, ["sleep", str(life)], life=life, volumes=volumes)


def start_outsider(
    janitor: Janitor, cluster: LiveCluster, image: str, timeout: float = 12.0, life: int = POD_LIFE
) -> Json:
    """Starts a pod outside the mesh and waits until it is running. Raises KubeError after `timeout` seconds."""
    collection = f"/api/v1/namespaces/{NAMESPACE}/pods"
    made = janitor.create(cluster.api, collection, outsider(janitor.run, image, life))
    path = f"{collection}/{made['metadata']['name']}"

    def running() -> Json | None:
        current = cluster.api.get(path)
        return current if current.get("status", {}).get("phase") == "Running" else None

    return wait_for(running, f"the probe pod did not start on {cluster.name} within {timeout:.0f} s", timeout)


def poll(ready: Callable[[], T | None], timeout: float, pause: float = 0.25) -> T | None:
    """Calls `ready` until it returns a value, at least once; None when it returns none within `timeout` seconds."""
    end = time.monotonic() + timeout
    while (found := ready()) is None and time.monotonic() <= end:
        time.sleep(pause)
    return found


def wait_for(ready: Callable[[], T | None], complaint: str, timeout: float, pause: float = 0.25) -> T:
    """Calls `ready` until it returns a value. Raises KubeError with the complaint after `timeout` seconds."""
    found = poll(ready, timeout, pause)
    if found is None:
        raise KubeError(complaint)
    return found
