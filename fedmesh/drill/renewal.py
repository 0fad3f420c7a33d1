"""The drill that stops the SPIRE server while certificates are due for renewal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from cryptography.x509 import Certificate

from fedmesh.certs import life, renewal_due
from fedmesh.drill.faults import take_spire_server
from fedmesh.drill.scene import UNNOTICED, Drill, Scene
from fedmesh.drill.trust_faults import SPIRE_PODS
from fedmesh.kube import KubeError
from fedmesh.probe import wait_for
from fedmesh.reading import LiveCluster, full_name

# As in manifests/federation/workloads.yaml.
WORKLOADS = "/apis/spire.spiffe.io/v1alpha1/clusterspiffeids/mesh-workloads"
# Half of it is longer than the absence of the server and the longest back-off of the agents after it.
LIFE = timedelta(minutes=6)
# For faults that outlast it.
SHORTEST_LIFE = timedelta(minutes=2)
# SPIRE backdates certificates by some seconds.
BACKDATED = timedelta(minutes=1)
AWAY = 90.0
# Seconds between the start of the load and the first renewal; the server stops some seconds into the load.
LEAD = 40.0
# Seconds; agents back off while the server does not answer, by half of the time since they began.
RENEWED_WITHIN = 90.0


def shorten_lives(scene: Scene) -> None:
    """Shortens the lifetime of the calling cluster's certificates, and waits until their renewal is near."""
    held = _shorten(scene, LIFE)
    time.sleep(max(0.0, until_due(scene.client, held)[0] - LEAD))


def shorten_lives_below_the_fault(scene: Scene) -> None:
    """Shortens the lifetime of the calling cluster's certificates so that a fault can outlast each of them."""
    held = _shorten(scene, SHORTEST_LIFE)
    scene.remarks.append(
        f"each of {len(held)} proxies' certificates is valid for {SHORTEST_LIFE.total_seconds():.0f} s"
    )


def _shorten(scene: Scene, lifetime: timedelta) -> dict[str, Certificate]:
    client = scene.client
    old = client.api.get(WORKLOADS)["spec"].get("ttl")
    scene.situation.push(
        f"restore the ttl of {WORKLOADS} on {client.name}",
        lambda: client.api.patch(WORKLOADS, {"spec": {"ttl": old}}),
    )
    client.api.patch(WORKLOADS, {"spec": {"ttl": f"{lifetime.total_seconds():.0f}s"}})
    return wait_for(
        lambda: _all_short(client, lifetime), f"certificates of {client.name} keep their lifetime", 60.0
    )


def miss_renewals(scene: Scene) -> None:
    """Stops the SPIRE server of the calling cluster past every renewal, and waits until all are made up for.

    Raises LookupError when a certificate was renewed just before the server stopped.
    """
    client = scene.client
    take_spire_server(scene)
    gone = time.monotonic()
    wait_for(lambda: _server_is_gone(client), f"the SPIRE server of {client.name} does not stop", 30.0)
    held = certificates(client)
    first, last = until_due(client, held)
    if last > AWAY:
        raise LookupError(f"a proxy of {client.name} renewed its certificate just before the server stopped")
    time.sleep(max(0.0, gone + AWAY - time.monotonic()))
    if complaints := scene.taken.run():
        raise KubeError("; ".join(complaints))
    back = time.monotonic()
    wait_for(
        lambda: _all_renewed(client, held),
        f"a proxy of {client.name} gets no new certificate",
        RENEWED_WITHIN,
    )
    renewed = time.monotonic()
    spare = min(_seconds_to(client, leaf.not_valid_after_utc) for leaf in held.values())
    scene.remarks.append(
        f"the server was stopped for {back - gone:.0f} s; the renewals of {len(held)} proxies were due {first:.0f} to "
        f"{last:.0f} s after it had stopped"
    )
    scene.remarks.append(
        f"every proxy had a new certificate {renewed - back:.0f} s after the server was started, {spare:.0f} s "
        f"before the first old one expired"
    )


def certificates(cluster: LiveCluster) -> dict[str, Certificate]:
    """The current certificate of every pod in the mesh, by the pod's full name."""
    chains = {full_name(pod): cluster.proxy_secrets(pod).chain for pod in cluster.fresh().mesh_pods()}
    return {name: chain[0] for name, chain in chains.items() if chain}


def until_due(cluster: LiveCluster, held: Mapping[str, Certificate]) -> tuple[float, float]:
    """Seconds until the first and the last renewal are due."""
    due = sorted(_seconds_to(cluster, renewal_due(leaf)) for leaf in held.values())
    return due[0], due[-1]


def _seconds_to(cluster: LiveCluster, moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds() - cluster.clock_ahead()


def _all_short(cluster: LiveCluster, lifetime: timedelta) -> dict[str, Certificate] | None:
    held = certificates(cluster)
    short = all(life(leaf) < lifetime + BACKDATED for leaf in held.values())
    return held if held and short else None


def _all_renewed(cluster: LiveCluster, held: Mapping[str, Certificate]) -> bool | None:
    shown = certificates(cluster)
    old = [name for name, leaf in held.items() if name in shown and shown[name] == leaf]
    return None if old else True


def _server_is_gone(cluster: LiveCluster) -> bool | None:
    pods = cluster.api.items(SPIRE_PODS)
    return None if any(pod["metadata"]["name"].startswith("spire-server-") for pod in pods) else True


DRILLS = (
    Drill(
        6,
        "spire-server",
        "the SPIRE server is stopped past a renewal",
        miss_renewals,
        shorten_lives,
        seconds=160.0,
        destructive=True,
        objective=UNNOTICED,
    ),
)
