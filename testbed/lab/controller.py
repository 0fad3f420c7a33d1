"""Provides one cluster with addresses for Services of type LoadBalancer, and with volumes for claims.

Runs on the cluster's first node, in its network namespace. Every round compares the desired with the actual
state, so nothing is lost when it is stopped. A Service keeps its address as long as it exists.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

from kubernetes import client
from kubernetes import config as kube_config
from kubernetes.client.exceptions import ApiException

from testbed.lab import config
from testbed.lab.config import Cluster
from testbed.lab.paths import State

PROVISIONER = "fedmesh.dev/local"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
NODE_FOLDER = "/var/lib/fedmesh-volumes"
ROUND = 1.0


def items(answer: object) -> list[Any]:
    """The objects of a list, whose type the client declares as optional."""
    return cast(list[Any], cast(Any, answer).items)


def assigned(services: list[Any]) -> dict[str, IPv4Address]:
    """The address that each Service of type LoadBalancer has now, by namespace/name."""
    return {
        f"{service.metadata.namespace}/{service.metadata.name}": IPv4Address(ingress.ip)
        for service in services
        if service.spec.type == "LoadBalancer"
        for ingress in (service.status.load_balancer.ingress or [])
        if ingress.ip
    }


def next_address(cluster: Cluster, used: set[IPv4Address]) -> IPv4Address:
    """The lowest free address of the cluster's range; raises LookupError when all are used."""
    for address in cluster.load_balancers:
        if address not in used:
            return address
    raise LookupError(
        f"all addresses of loadBalancers {cluster.load_balancers} are used; widen it in lab.yaml"
    )


class LoadBalancers:
    """Assigns addresses to Services, and configures them on the node."""

    def __init__(self, api: client.CoreV1Api, cluster: Cluster) -> None:
        self.api = api
        self.cluster = cluster
        self.held = {address for address in _own_addresses() if address in cluster.load_balancers}

    def round(self) -> None:
        """Assigns missing addresses, and configures exactly the assigned ones on the node."""
        services = items(self.api.list_service_for_all_namespaces(resource_version="0"))
        have = assigned(services)
        for service in services:
            name = f"{service.metadata.namespace}/{service.metadata.name}"
            if service.spec.type == "LoadBalancer" and name not in have:
                have[name] = next_address(self.cluster, set(have.values()))
                self._publish(service, have[name])
        for address in set(have.values()) - self.held:
            self._hold(address, "replace")
        for address in self.held - set(have.values()):
            self._hold(address, "delete")
        self.held = set(have.values())

    def _publish(self, service: Any, address: IPv4Address) -> None:
        ports = [{"port": port.port, "protocol": port.protocol} for port in service.spec.ports]
        status = {"loadBalancer": {"ingress": [{"ip": str(address), "ipMode": "VIP", "ports": ports}]}}
        self.api.patch_namespaced_service_status(
            service.metadata.name, service.metadata.namespace, {"status": status}
        )
        print(f"{service.metadata.namespace}/{service.metadata.name} has {address}", flush=True)

    @staticmethod
    def _hold(address: IPv4Address, verb: str) -> None:
        subprocess.run(["ip", "address", verb, f"{address}/32", "dev", "eth0"], check=verb == "replace")


def _own_addresses() -> set[IPv4Address]:
    """The node's addresses, including those of load balancers that an earlier run configured."""
    command = ["ip", "-json", "-4", "address", "show", "dev", "eth0"]
    links = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {IPv4Address(address["local"]) for link in links for address in link["addr_info"]}


class Volumes:
    """Creates a folder on the selected node for each claim of the lab's storage class; deletes it with the claim."""

    def __init__(
        self, core: client.CoreV1Api, storage: client.StorageV1Api, cluster: Cluster, state: State
    ) -> None:
        self.core = core
        self.storage = storage
        self.cluster = cluster
        self.state = state

    def round(self) -> None:
        """Provisions pending claims and deletes released volumes."""
        classes = {
            item.metadata.name: item.reclaim_policy or "Delete"
            for item in items(self.storage.list_storage_class(resource_version="0"))
            if item.provisioner == PROVISIONER
        }
        for claim in items(self.core.list_persistent_volume_claim_for_all_namespaces(resource_version="0")):
            node = (claim.metadata.annotations or {}).get(SELECTED_NODE)
            if claim.spec.storage_class_name in classes and not claim.spec.volume_name and node:
                self._provision(claim, node, classes[claim.spec.storage_class_name])
        for volume in items(self.core.list_persistent_volume(resource_version="0")):
            ours = (volume.metadata.annotations or {}).get("pv.kubernetes.io/provisioned-by") == PROVISIONER
            if (
                ours
                and volume.status.phase == "Released"
                and volume.spec.persistent_volume_reclaim_policy == "Delete"
            ):
                self._delete(volume)

    def _folder(self, node: str, volume: str) -> Path:
        return self.state.volumes(self.cluster.name, node) / volume

    def _provision(self, claim: Any, node: str, reclaim: str) -> None:
        name = f"pvc-{claim.metadata.uid}"
        folder = self._folder(node, name)
        folder.mkdir(parents=True, exist_ok=True)
        # fsGroup does not apply to hostPath volumes, and containers may run as any user
        folder.chmod(0o777)
        volume: Any = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
            "spec": {
                "capacity": {"storage": claim.spec.resources.requests["storage"]},
                "accessModes": claim.spec.access_modes,
                "persistentVolumeReclaimPolicy": reclaim,
                "storageClassName": claim.spec.storage_class_name,
                "claimRef": {
                    "namespace": claim.metadata.namespace,
                    "name": claim.metadata.name,
                    "uid": claim.metadata.uid,
                },
                "hostPath": {"path": f"{NODE_FOLDER}/{name}", "type": "Directory"},
                "nodeAffinity": {
                    "required": {
                        "nodeSelectorTerms": [
                            {
                                "matchExpressions": [
                                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
                                ]
                            }
                        ]
                    }
                },
            },
        }
        try:
            self.core.create_persistent_volume(volume)
            print(f"{claim.metadata.namespace}/{claim.metadata.name} has {name} on {node}", flush=True)
        except ApiException as refused:
            if refused.status != 409:
                raise

    def _delete(self, volume: Any) -> None:
        expressions = volume.spec.node_affinity.required.node_selector_terms[0].match_expressions
        shutil.rmtree(self._folder(expressions[0].values[0], volume.metadata.name), ignore_errors=True)
        self.core.delete_persistent_volume(volume.metadata.name)


def main() -> int:
    """Runs until it is stopped; a failed round is repeated."""
    parser = argparse.ArgumentParser(prog="python -m testbed.lab.controller")
    parser.add_argument("--cluster", required=True)
    parser.add_argument("--state", type=Path, required=True)
    options = parser.parse_args()
    cluster = config.current(options.state).cluster(options.cluster)
    state = State(options.state)
    kube_config.load_kube_config(str(state.pki(cluster.name) / "lab.kubeconfig"))
    core, storage = client.CoreV1Api(), client.StorageV1Api()
    parts = [LoadBalancers(core, cluster), Volumes(core, storage, cluster, state)]
    while True:
        for part in parts:
            try:
                part.round()
            except (ApiException, LookupError, OSError, subprocess.CalledProcessError) as problem:
                print(f"{type(part).__name__}: {problem}", file=sys.stderr, flush=True)
            except Exception as problem:  # urllib3's connection errors have no common public base
                print(
                    f"{type(part).__name__}: the API server did not answer: {problem}",
                    file=sys.stderr,
                    flush=True,
                )
        time.sleep(ROUND)


if __name__ == "__main__":
    sys.exit(main())
