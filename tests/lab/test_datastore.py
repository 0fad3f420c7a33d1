"""Two SPIRE servers on a PostgreSQL: any server, or the database, may go while the mesh is called and pods start."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml
from calls import Calls
from conftest import PROJECT, kubectl, pulumi, stack_file

from fedmesh import spire
from fedmesh.verify.command import examine as verify
from fedmesh.verify.runner import failures
from testbed.lab import config, database, paths
from testbed.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]
LAB = config.current(PROJECT / ".lab")
STACK = LAB.stack
CLUSTERS = tuple(cluster.name for cluster in LAB.clusters)
ONE = CLUSTERS[0]
# Seconds until a new pod of the mesh is ready while one of two servers is away.
READY = 60.0


def up(*arguments: str) -> None:
    pulumi("-q", "--stack", STACK, "up", *arguments)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    """Calls of the sample client, from before the first change until after the last."""
    running = Calls(ONE, tmp_path_factory.mktemp("calls") / "answers")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, calls: Calls) -> Iterator[Calls]:
    """Two servers on each cluster that share its database."""
    for cluster in LAB.clusters:
        for node in cluster.nodes:
            database.put_image(paths.cache(), node)
        kubectl(cluster.name, "apply", "-f", "-", given=yaml.safe_dump_all(database.objects()))
    try:
        for cluster in CLUSTERS:
            kubectl(
                cluster, "rollout", "status", "-n", "datastore", "statefulset/postgresql", "--timeout=120s"
            )
        several = {"replicas": 2, "datastore": {"secret": database.SECRET}}
        file = stack_file(
            tmp_path_factory.mktemp("stack"),
            STACK,
            lambda config: config.setdefault("fedmesh:spire", {}).update(several),
        )
        up("--config-file", str(file))
        yield calls
    finally:
        up()
        for cluster in CLUSTERS:
            kubectl(cluster, "delete", "namespace", database.NAMESPACE, "--ignore-not-found")
            kubectl(cluster, "delete", "secret", "-n", "spire", database.SECRET, "--ignore-not-found")
            # the volume of the second server, which Kubernetes keeps
            kubectl(cluster, "delete", "pvc", "-n", "spire", "data-spire-server-1", "--ignore-not-found")


@contextmanager
def kept_away(namespace: str, pod: str) -> Iterator[None]:
    """Kills a pod, and each pod of that name that comes after it."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.5):
            kubectl(ONE, "delete", "pod", "-n", namespace, pod, "--grace-period=0", "--force", check=False)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join()


@contextmanager
def late_pod(within: float) -> Iterator[None]:
    """A pod of the mesh that starts now, and is ready in time."""
    image = "--image=docker.io/curlimages/curl:8.16.0"
    kubectl(ONE, "create", "deployment", "late", "-n", "sleep", image, "--", "sleep", "1000")
    try:
        kubectl(ONE, "rollout", "status", "-n", "sleep", "deployment/late", f"--timeout={within:.0f}s")
        yield
    finally:
        kubectl(ONE, "delete", "deployment", "late", "-n", "sleep")


def test_the_mesh_is_whole_on_a_shared_database(shared: Calls, topology: Any) -> None:
    for cluster in CLUSTERS:
        found = json.loads(
            kubectl(cluster, "get", "statefulset", "spire-server", "-n", "spire", "-o", "json")
        )
        assert found["status"]["readyReplicas"] == 2
        count = spire.command("entry", "count")
        words = ("exec", "-n", "spire", "spire-server-1", "-c", spire.CONTAINER, "--", *count)
        assert json.loads(kubectl(cluster, *words))["count"] > 0, (
            "the second server has the entries of the first"
        )
    wait_until(lambda: not failures(verify(topology)), 120.0, lambda: str(failures(verify(topology))))
    assert shared.lost() == []


@pytest.mark.parametrize("number", [0, 1])
def test_new_pods_get_identities_while_either_server_is_away(shared: Calls, number: int) -> None:
    with kept_away("spire", f"spire-server-{number}"), late_pod(READY):
        pass
    kubectl(ONE, "rollout", "status", "-n", "spire", "statefulset/spire-server", "--timeout=120s")
    assert shared.lost() == []


def test_without_the_database_calls_go_on_and_with_it_new_pods_start(shared: Calls) -> None:
    with kept_away("datastore", "postgresql-0"):
        before = len(shared.answers())
        wait_until(lambda: len(shared.answers()) > before + 500, 120.0, lambda: "no calls")
    kubectl(ONE, "rollout", "status", "-n", "datastore", "statefulset/postgresql", "--timeout=60s")
    with late_pod(120.0):
        pass
    assert shared.lost() == []
