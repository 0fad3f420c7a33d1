"""Drills that need the API servers only, and so run on any cluster."""

from __future__ import annotations

from collections.abc import Mapping

from fedmesh.drill.load import ENVOY_FILTERS
from fedmesh.drill.scene import ERRORS, GOODPUT, RECONNECTED, TRIALS, UNNOTICED, Drill, Scene
from fedmesh.kube import Json
from fedmesh.probe import LABEL, wait_for
from fedmesh.reading import LiveCluster, is_ready
from fedmesh.topology import GATEWAY_NAMESPACE, ISTIO_NAMESPACE, SPIRE_NAMESPACE
from fedmesh.verify.istio import NETWORK_LABEL

BREAKAGE = "fedmesh-drill-breakage"
# Times the usual rate.
OVERLOAD = 10


def scale_app_away(scene: Scene) -> None:
    """Scales the target on the calling cluster to 0."""
    for path, workload in _workloads(scene).items():
        scale(scene, scene.client, path, workload, 0)


def kill_app(scene: Scene) -> None:
    """Kills the target's pods on the calling cluster; their Deployment replaces them."""
    _delete(scene.client, scene.target.pods(scene.client))


def break_app(scene: Scene) -> None:
    """Makes the target's proxies on the calling cluster answer 503."""
    _break(scene, {"abort": {"http_status": 503, "percentage": {"numerator": 100}}})


def hang_app(scene: Scene) -> None:
    """Makes the target's proxies on the calling cluster delay every request by a minute."""
    _break(scene, {"delay": {"fixed_delay": "60s", "percentage": {"numerator": 100}}})


def slow_app(scene: Scene) -> None:
    """Makes the target's proxies on the calling cluster delay every request by two seconds."""
    _break(scene, {"delay": {"fixed_delay": "2s", "percentage": {"numerator": 100}}})


def kill_gateway(scene: Scene) -> None:
    """Kills one of the peer's east-west gateways while all calls pass through them."""
    selector = f"{NETWORK_LABEL}={scene.peer.member.network},istio=eastwestgateway"
    pods = scene.peer.api.items(f"/api/v1/namespaces/{GATEWAY_NAMESPACE}/pods", labelSelector=selector)
    _delete(scene.peer, [pod for pod in pods if is_ready(pod)][:1])


def calls_go_to_the_peer(scene: Scene) -> None:
    """Scales the target on the calling cluster to 0 for the whole load, so that other clusters answer every call."""
    for path, workload in _workloads(scene).items():
        scale(scene, scene.client, path, workload, 0, situation=True)

    def gone() -> bool | None:
        return None if scene.target.pods(scene.client) else True

    wait_for(gone, f"pods of {scene.target.host} remain on {scene.client.name}", 45.0)


def take_ingress_gateways(scene: Scene) -> None:
    """Scales the ingress gateways of the users' cluster to 0, ends their pods and waits until the last has gone."""
    pods = f"/api/v1/namespaces/{GATEWAY_NAMESPACE}/pods"

    def left() -> list[Json]:
        return scene.peer.api.items(pods, labelSelector="istio=ingressgateway")

    collection = f"/apis/apps/v1/namespaces/{GATEWAY_NAMESPACE}/deployments"
    for item in scene.peer.api.items(collection):
        if item["spec"]["template"]["metadata"].get("labels", {}).get("istio") == "ingressgateway":
            scale(scene, scene.peer, f"{collection}/{item['metadata']['name']}", item, 0)
    # Only of pods with a grace period the API server knows when the last process has ended.
    _delete(scene.peer, left(), grace=1)
    wait_for(lambda: None if left() else True, f"ingress gateways remain on {scene.peer.name}", 30.0)


def kill_istiod(scene: Scene) -> None:
    """Kills istiod on the calling cluster."""
    _kill(scene.client, ISTIO_NAMESPACE, "app=istiod")


def take_spire_server(scene: Scene) -> None:
    """Scales the SPIRE server of the calling cluster to 0."""
    path = f"/apis/apps/v1/namespaces/{SPIRE_NAMESPACE}/statefulsets"
    servers = [item for item in scene.client.api.items(path) if item["metadata"]["name"] == "spire-server"]
    if not servers:
        raise LookupError(f"no StatefulSet spire-server is on {scene.client.name}")
    for item in servers:
        scale(scene, scene.client, f"{path}/spire-server", item, 0)


def kill_spire_agent(scene: Scene) -> None:
    """Kills the SPIRE agents of the calling cluster."""
    pods = scene.client.api.items(f"/api/v1/namespaces/{SPIRE_NAMESPACE}/pods")
    agents = [pod for pod in pods if pod["metadata"]["name"].startswith("spire-agent-")]
    # Agents use the host network: the ports of a new one are taken until the old one has ended.
    _delete(scene.client, agents, grace=1)


def scale(
    scene: Scene, cluster: LiveCluster, path: str, workload: Json, replicas: int, *, situation: bool = False
) -> None:
    """Scales a Deployment or StatefulSet, and pushes the way back."""
    old = int(workload["spec"].get("replicas", 1))

    def set_to(number: int) -> Json:
        return cluster.api.patch(path, {"spec": {"replicas": number}})

    undo = scene.situation if situation else scene.taken
    undo.push(f"scale {path} on {cluster.name} to {old}", lambda: set_to(old))
    set_to(replicas)


def _workloads(scene: Scene) -> Mapping[str, Json]:
    """The target's workloads on the calling cluster that can be scaled, by API path; LookupError without any."""
    found = scene.target.workloads(scene.client)
    if not found:
        raise LookupError(f"no Deployment or StatefulSet of {scene.target.host} is on {scene.client.name}")
    return found


def _break(scene: Scene, fault: Json) -> None:
    if scene.target.protocol == "tcp":
        raise LookupError("this drill breaks HTTP answers, and the target speaks plain TCP")
    collection = f"{ENVOY_FILTERS}/{scene.target.namespace}/envoyfilters"
    scene.taken.push(
        f"delete {collection}/{BREAKAGE} on {scene.client.name}",
        lambda: scene.client.api.delete(f"{collection}/{BREAKAGE}"),
    )
    scene.client.api.create(collection, breakage(fault, scene.target.selector))


def breakage(fault: Json, labels: Mapping[str, str]) -> Json:
    """An EnvoyFilter that adds Envoy's fault filter to the inbound listeners of the pods with some labels."""
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
        "spec": {"workloadSelector": {"labels": dict(labels)}, "configPatches": [patch]},
    }


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
    Drill(2, "app-killed", "the local app's pods are killed", kill_app, objective=RECONNECTED),
    Drill(
        3,
        "app-503",
        "the local app answers 503",
        break_app,
        objective=ERRORS,
        hopeless="a 503 of the app is an answer that may have come after the call was executed: only calls that their "
        "owner declares safe to repeat are repeated, and others meet it until the app is ejected and at each trial",
    ),
    Drill(
        3,
        "app-hangs",
        "the local app does not answer",
        hang_app,
        objective=TRIALS,
        hopeless="the mesh sets no time-out where the owner declares none: a call to an app that does not answer lasts "
        "until its caller gives up, and nobody can tell the app from a slow one",
    ),
    Drill(
        4,
        "gateway",
        "an east-west gateway of the peer is killed",
        kill_gateway,
        calls_go_to_the_peer,
        destructive=True,
        objective=RECONNECTED,
        in_use=True,
    ),
    Drill(5, "istiod", "istiod is killed", kill_istiod, destructive=True, objective=UNNOTICED),
    Drill(
        7,
        "spire-agent",
        "the SPIRE agents are killed",
        kill_spire_agent,
        destructive=True,
        objective=UNNOTICED,
    ),
    *(
        Drill(
            16,
            f"overload-{name}",
            f"{title}, at {OVERLOAD} times the rate",
            inject,
            after=30.0,
            destructive=True,
            objective=GOODPUT,
            times=OVERLOAD,
            everywhere=everywhere,
        )
        for name, title, inject, everywhere in (
            ("hangs", "the local app does not answer", hang_app, False),
            ("slow", "the local app answers after two seconds", slow_app, False),
            (
                "cluster",
                "the app of one cluster is scaled to 0 and another takes the load of all",
                scale_app_away,
                True,
            ),
        )
    ),
)
