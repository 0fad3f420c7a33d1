"""Drills that need the API servers only, and so run on any cluster."""

from __future__ import annotations

from fedmesh.drill.scene import TAKEOVER, Drill, Scene
from fedmesh.kube import Json
from fedmesh.probe import LABEL, wait_for
from fedmesh.reading import LiveCluster, is_ready
from fedmesh.topology import GATEWAY_NAMESPACE, ISTIO_NAMESPACE, SERVER, SPIRE_NAMESPACE
from fedmesh.verify.istio import NETWORK_LABEL

BREAKAGE = "fedmesh-drill-breakage"
# EnvoyFilter has no version v1.
ENVOY_FILTERS = "/apis/networking.istio.io/v1alpha3/namespaces"


def scale_app_away(scene: Scene) -> None:
    """Scales helloworld on the calling cluster to 0."""
    for deployment in _deployments(scene.client, SERVER, SERVER):
        scale(scene, scene.client, deployment, 0)


def kill_app(scene: Scene) -> None:
    """Kills the pods of helloworld on the calling cluster; their Deployment replaces them."""
    _kill(scene.client, SERVER, f"app={SERVER}")


def break_app(scene: Scene) -> None:
    """Makes the proxy of helloworld on the calling cluster answer 503."""
    _break(scene, {"abort": {"http_status": 503, "percentage": {"numerator": 100}}})


def hang_app(scene: Scene) -> None:
    """Makes the proxy of helloworld on the calling cluster delay every request by a minute."""
    _break(scene, {"delay": {"fixed_delay": "60s", "percentage": {"numerator": 100}}})


def kill_gateway(scene: Scene) -> None:
    """Kills one of the peer's east-west gateways while all calls pass through them."""
    selector = f"{NETWORK_LABEL}={scene.peer.member.network},istio=eastwestgateway"
    pods = scene.peer.api.items(f"/api/v1/namespaces/{GATEWAY_NAMESPACE}/pods", labelSelector=selector)
    _delete(scene.peer, [pod for pod in pods if is_ready(pod)][:1])


def calls_go_to_the_peer(scene: Scene) -> None:
    """Scales helloworld on the calling cluster to 0 for the whole load, so that the peer answers every call."""
    for deployment in _deployments(scene.client, SERVER, SERVER):
        scale(scene, scene.client, deployment, 0, situation=True)

    def gone() -> bool | None:
        left = scene.client.api.items(f"/api/v1/namespaces/{SERVER}/pods", labelSelector=f"app={SERVER}")
        return None if left else True

    wait_for(gone, f"pods of helloworld remain on {scene.client.name}", 30.0)


def kill_istiod(scene: Scene) -> None:
    """Kills istiod on the calling cluster."""
    _kill(scene.client, ISTIO_NAMESPACE, "app=istiod")


def take_spire_server(scene: Scene) -> None:
    """Scales the SPIRE server of the calling cluster to 0."""
    path = f"/apis/apps/v1/namespaces/{SPIRE_NAMESPACE}/statefulsets"
    for item in scene.client.api.items(path):
        if item["metadata"]["name"] == "spire-server":
            _scale(scene, scene.client, f"{path}/spire-server", int(item["spec"].get("replicas", 1)), 0)


def kill_spire_agent(scene: Scene) -> None:
    """Kills the SPIRE agents of the calling cluster."""
    pods = scene.client.api.items(f"/api/v1/namespaces/{SPIRE_NAMESPACE}/pods")
    agents = [pod for pod in pods if pod["metadata"]["name"].startswith("spire-agent-")]
    # Agents use the host network: the ports of a new one are taken until the old one has ended.
    _delete(scene.client, agents, grace=1)


def scale(
    scene: Scene, cluster: LiveCluster, deployment: Json, replicas: int, *, situation: bool = False
) -> None:
    """Scales a Deployment, and pushes the way back."""
    meta = deployment["metadata"]
    path = f"/apis/apps/v1/namespaces/{meta['namespace']}/deployments/{meta['name']}"
    _scale(scene, cluster, path, int(deployment["spec"].get("replicas", 1)), replicas, situation=situation)


def _scale(
    scene: Scene, cluster: LiveCluster, path: str, old: int, new: int, *, situation: bool = False
) -> None:
    def set_to(replicas: int) -> Json:
        return cluster.api.patch(path, {"spec": {"replicas": replicas}})

    undo = scene.situation if situation else scene.taken
    undo.push(f"scale {path} on {cluster.name} to {old}", lambda: set_to(old))
    set_to(new)


def _break(scene: Scene, fault: Json) -> None:
    collection = f"{ENVOY_FILTERS}/{SERVER}/envoyfilters"
    scene.taken.push(
        f"delete {collection}/{BREAKAGE} on {scene.client.name}",
        lambda: scene.client.api.delete(f"{collection}/{BREAKAGE}"),
    )
    scene.client.api.create(collection, breakage(fault))


def breakage(fault: Json) -> Json:
    """An EnvoyFilter that adds Envoy's fault filter to the inbound listener of helloworld."""
    kind = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"
    patch: Json = {
        "applyTo": "HTTP_FILTER",
        "match": {
            "context": "SIDECAR_INBOUND",
            "listener": {
                "filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager"}}
            },
        },
        "patch": {
            "operation": "INSERT_FIRST",
            "value": {"name": "envoy.filters.http.fault.drill", "typed_config": {"@type": kind, **fault}},
        },
    }
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": BREAKAGE, "labels": {LABEL: "breakage"}},
        "spec": {"workloadSelector": {"labels": {"app": SERVER}}, "configPatches": [patch]},
    }


def _deployments(cluster: LiveCluster, namespace: str, app: str) -> list[Json]:
    return [
        item
        for item in cluster.api.items(f"/apis/apps/v1/namespaces/{namespace}/deployments")
        if item["spec"]["template"]["metadata"].get("labels", {}).get("app") == app
    ]


def _kill(cluster: LiveCluster, namespace: str, selector: str) -> None:
    _delete(cluster, cluster.api.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector))


def _delete(cluster: LiveCluster, pods: list[Json], grace: int = 0) -> None:
    if not [pod for pod in pods if is_ready(pod)]:
        raise LookupError(f"there is no ready pod to kill on {cluster.name}")
    for pod in pods:
        meta = pod["metadata"]
        # Without a grace period, as in a crash.
        cluster.api.delete(
            f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}", gracePeriodSeconds=str(grace)
        )


DRILLS = (
    Drill(1, "app-scaled", "the local app is scaled to 0", scale_app_away),
    Drill(2, "app-killed", "the local app's pods are killed", kill_app),
    Drill(3, "app-503", "the local app answers 503", break_app, objective=TAKEOVER),
    Drill(3, "app-hangs", "the local app does not answer", hang_app, objective=TAKEOVER),
    Drill(4, "gateway", "an east-west gateway of the peer is killed", kill_gateway, calls_go_to_the_peer),
    Drill(5, "istiod", "istiod is killed", kill_istiod, destructive=True),
    Drill(7, "spire-agent", "the SPIRE agents are killed", kill_spire_agent, destructive=True),
)
