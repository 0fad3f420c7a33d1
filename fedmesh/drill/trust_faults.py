"""Drills on trust and upgrades: a new root CA, another Istio revision, a SPIRE server that loses its data."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from fedmesh.certs import chain_fault, fingerprint, key_id
from fedmesh.drill.faults import calls_go_to_the_peer
from fedmesh.drill.scene import HEALING, Drill, Scene
from fedmesh.kube import Json, KubeError
from fedmesh.probe import wait_for
from fedmesh.reading import LiveCluster, is_ready
from fedmesh.topology import SPIRE_NAMESPACE

# As in manifests/spire/root.yaml and manifests/spire/server.yaml.
ROOT = "/api/v1/namespaces/spire/secrets/spire-root"
SPIRE_PODS = f"/api/v1/namespaces/{SPIRE_NAMESPACE}/pods"
SPIRE_CLAIM = f"/api/v1/namespaces/{SPIRE_NAMESPACE}/persistentvolumeclaims/data-spire-server-0"
PUBLISHED = f"/api/v1/namespaces/{SPIRE_NAMESPACE}/configmaps/spire-bundle-spiffe"
SUBJECT = "upstream_authority_subject_key_id"


def rotate_ca(scene: Scene) -> None:
    """Rotates the peer's root CA with SPIRE's commands, and removes the old root when no proxy uses it."""
    peer, began = scene.peer, time.monotonic()

    def say(text: str) -> None:
        scene.remarks.append(f"{time.monotonic() - began:.0f} s: {text}")

    old_id = peer.spire_server("localauthority", "x509", "show")["active"][SUBJECT]
    old = _root(peer, old_id)
    make_new_root(peer)
    prepared = wait_for(lambda: _prepared(peer, old_id), "SPIRE gets no CA of the new root", 30.0)
    new = _root(peer, prepared[SUBJECT])
    wait_for(lambda: _trusted(scene, new), "a proxy does not trust the new root", 90.0)
    say("every proxy of every cluster trusts both roots")
    peer.spire_server("localauthority", "x509", "activate", "-authorityID", prepared["authority_id"])
    peer.spire_server("upstreamauthority", "taint", "-subjectKeyID", old_id)
    wait_for(lambda: _signed(peer, new), "a proxy keeps its certificate of the old root", 90.0)
    say(f"every proxy of {peer.name} has a certificate of the new root")
    peer.spire_server("upstreamauthority", "revoke", "-subjectKeyID", old_id)
    wait_for(lambda: _forgotten(scene, old), "a proxy still trusts the old root", 90.0)
    say("no proxy of any cluster trusts the old root")
    say(f"`pulumi up` took {scene.means.up():.0f} s")


def upgrade(scene: Scene) -> None:
    """Runs `pulumi up` with another revision of Istio, and again with the stack's own when the fault ends."""

    def back() -> None:
        scene.remarks.append(f"`pulumi up` with the stack's own revision took {scene.means.up():.0f} s")

    scene.taken.push("run `pulumi up` with the stack's own revision", back)
    scene.remarks.append(f"`pulumi up` with another revision took {scene.means.up(revision='drill'):.0f} s")


def lose_volume(scene: Scene) -> None:
    """Deletes the volume of the SPIRE server, with its keys, entries and bundles."""
    _lose_volume(scene, scene.client)


def lose_root(scene: Scene) -> None:
    """Deletes the volume and the Secret of the root CA, waits for the new root, and runs `pulumi up`."""
    client = scene.client
    published = client.api.get(PUBLISHED)["data"]["bundle"]
    make_new_root(client)
    _lose_volume(scene, client)

    def is_new() -> bool | None:
        return True if client.api.get(PUBLISHED)["data"]["bundle"] != published else None

    wait_for(is_new, f"the server of {client.name} publishes no new bundle", 30.0)
    scene.remarks.append(f"`pulumi up` took {scene.means.up():.0f} s")


def make_new_root(cluster: LiveCluster) -> None:
    """Deletes the Secret of the root CA, and waits until cert-manager has created one with a new key."""
    old = cluster.api.get(ROOT)["data"]["tls.crt"]
    cluster.api.delete(ROOT)

    def another() -> bool | None:
        try:
            return True if cluster.api.get(ROOT)["data"].get("tls.crt", old) != old else None
        except KubeError as error:
            if error.status != 404:
                raise
            return None

    wait_for(another, f"cert-manager creates no new root CA on {cluster.name}", 30.0)


def _lose_volume(scene: Scene, cluster: LiveCluster) -> None:
    claim = cluster.api.get(SPIRE_CLAIM)["metadata"]["uid"]
    began = time.monotonic()
    cluster.api.delete(SPIRE_CLAIM)
    cluster.api.delete(f"{SPIRE_PODS}/spire-server-0", gracePeriodSeconds="0")

    def back() -> bool | None:
        try:
            fresh = cluster.api.get(SPIRE_CLAIM)["metadata"]["uid"] != claim
            return True if fresh and is_ready(cluster.api.get(f"{SPIRE_PODS}/spire-server-0")) else None
        except KubeError as error:
            if error.status != 404:
                raise
            return None

    wait_for(back, f"the SPIRE server of {cluster.name} is not ready on a new volume", 90.0)
    scene.remarks.append(f"the server was ready on an empty volume after {time.monotonic() - began:.0f} s")


def _root(cluster: LiveCluster, subject: str) -> str:
    """The fingerprint of the root with a key identifier. Raises LookupError when the bundle has no such root."""
    for authority in cluster.fresh().bundle().authorities:
        if key_id(authority) == subject:
            return fingerprint(authority)
    raise LookupError(f"the bundle of {cluster.name} has no root with key id {subject}")


def _prepared(cluster: LiveCluster, old: str) -> Json | None:
    """A prepared authority of the new root; None while cert-manager still signs with the old one."""
    made = cluster.spire_server("localauthority", "x509", "prepare")["prepared_authority"]
    return None if made[SUBJECT] == old else made


def _trusted(scene: Scene, root: str) -> bool | None:
    return _all(scene, lambda trusted: root in trusted)


def _forgotten(scene: Scene, root: str) -> bool | None:
    return _all(scene, lambda trusted: root not in trusted)


def _all(scene: Scene, judge: Callable[[frozenset[str]], bool]) -> bool | None:
    """True when `judge` accepts the peer's roots in all proxies of all clusters, else None."""
    domain = scene.peer.member.trust_domain
    for cluster in scene.clusters.values():
        for pod in cluster.fresh().mesh_pods():
            trusted = cluster.proxy_secrets(pod).trusted.get(domain, ())
            if not judge(frozenset(fingerprint(root) for root in trusted)):
                return None
    return True


def _signed(cluster: LiveCluster, root: str) -> bool | None:
    """True when the certificates of all proxies of a cluster are valid under a root, else None."""
    fresh = cluster.fresh()
    authorities = [authority for authority in fresh.bundle().authorities if fingerprint(authority) == root]
    chains = [fresh.proxy_secrets(pod).chain for pod in fresh.mesh_pods()]
    return None if any(chain_fault(chain, authorities, datetime.now(UTC)) for chain in chains) else True


DRILLS = (
    Drill(
        13,
        "ca-rotation",
        "the peer's root CA is rotated",
        rotate_ca,
        calls_go_to_the_peer,
        seconds=90.0,
        destructive=True,
        heals=HEALING,
        in_use=True,
    ),
    Drill(
        14,
        "istio-revision",
        "Istio is replaced by another revision, then back",
        upgrade,
        calls_go_to_the_peer,
        seconds=150.0,
        contained=True,
        heals=HEALING,
        in_use=True,
    ),
    Drill(
        15,
        "spire-volume",
        "the SPIRE server loses its volume and keys",
        lose_volume,
        seconds=60.0,
        destructive=True,
        contained=True,
        heals=HEALING,
    ),
    Drill(
        15,
        "spire-root",
        "the SPIRE server loses its volume, its keys and the root CA",
        lose_root,
        seconds=120.0,
        destructive=True,
        contained=True,
        heals=HEALING,
    ),
)
