"""The attacker's pods, which run programs of SPIRE and Envoy."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from fedmesh.attack.model import AttackSession
from fedmesh.kube import Json
from fedmesh.probe import CONTAINER, NAMESPACE, RESTRICTED, UNPRIVILEGED, wait_for
from fedmesh.reading import LiveCluster
from fedmesh.topology import CLIENT

CORE = f"/api/v1/namespaces/{NAMESPACE}"
# A namespace in the mesh, as that of a tenant.
TENANT = f"/api/v1/namespaces/{CLIENT}"
# Where attacks create objects beside pods in the namespace of attackers.
COLLECTIONS = (f"{CORE}/secrets", f"{CORE}/serviceaccounts", f"{TENANT}/serviceaccounts", f"{TENANT}/pods")
FILES = "/attack"
LIFE = 170
START = 20.0


def pod(
    name: str,
    image: str,
    command: Sequence[str],
    *,
    account: str = "default",
    labels: Mapping[str, str] | None = None,
    volumes: Sequence[tuple[str, str, Json]] = (),
) -> Json:
    """A pod under the restricted Pod Security Standard; `volumes` are name, mount path and source."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"sidecar.istio.io/inject": "false", **(labels or {})}},
        "spec": {
            "activeDeadlineSeconds": LIFE,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "serviceAccountName": account,
            "automountServiceAccountToken": False,
            "securityContext": {
                **UNPRIVILEGED,
                "runAsGroup": UNPRIVILEGED["runAsUser"],
                "fsGroup": UNPRIVILEGED["runAsUser"],
            },
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
    """An empty volume in memory."""
    return "scratch", path, {"emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}}


def files(
    session: AttackSession, cluster: LiveCluster, name: str, data: Mapping[str, str]
) -> tuple[str, str, Json]:
    """A volume with files, mounted at FILES, from a Secret because keys are among them."""
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    secret: Json = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}
    session.janitor.create(cluster.api, f"{CORE}/secrets", secret)
    return "files", FILES, {"secret": {"secretName": name}}


def start(session: AttackSession, cluster: LiveCluster, body: Json, core: str = CORE) -> Json:
    """Creates a pod and waits until it has started; returns it with its address. `core` is its namespace's path."""
    made = session.janitor.create(cluster.api, f"{core}/pods", body)
    path = f"{core}/pods/{made['metadata']['name']}"

    def started() -> Json | None:
        current = cluster.api.get(path)
        return None if current.get("status", {}).get("phase", "Pending") == "Pending" else current

    return wait_for(started, f"{path} does not start on {cluster.name}", START)


def log(cluster: LiveCluster, name: str) -> str:
    """The log of an attacker's pod."""
    return str(cluster.api.get(f"{CORE}/pods/{name}/log", container=CONTAINER))


def image(pod: Json, container: str) -> str:
    """The image of a container or native sidecar of a pod."""
    spec = pod["spec"]
    return next(
        c["image"] for c in [*spec.get("initContainers", []), *spec["containers"]] if c["name"] == container
    )
