"""The attacker's pods, which run programs of SPIRE and Envoy."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import partial

from fedmesh import probe
from fedmesh.attack.model import AttackSession
from fedmesh.kube import Json
from fedmesh.probe import CONTAINER, NAMESPACE, wait_for
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


pod = partial(probe.pod, life=LIFE)


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
