"""The lab's mesh as `make lab` leaves it, and a way to break one thing of it for the length of a test."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedmesh.connect import connect
from fedmesh.drill.undo import Undo
from fedmesh.kube import KubeError
from fedmesh.probe import Janitor
from fedmesh.reading import LiveCluster, full_name
from fedmesh.stack import load
from fedmesh.verify.checks import ALL
from fedmesh.verify.model import Mesh
from fedmesh.verify.runner import examine
from testbed.engine import SALT_KEY
from testbed.lab import paths
from testbed.lab.paths import State
from testbed.lab.stack import LabEngine

PROJECT = Path(__file__).parent.parent.parent


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.lab)


def kubectl_line(cluster: str, *arguments: str) -> list[str]:
    """The command line of the lab's kubectl for one of its clusters."""
    tool = paths.cache() / "bin" / "kubectl"
    return [str(tool), f"--kubeconfig={State(PROJECT / '.lab').kubeconfig(cluster)}", *arguments]


def kubectl(cluster: str, *arguments: str, check: bool = True, given: str | None = None) -> str:
    """What the lab's kubectl prints on one of its clusters, with `given` on its standard input."""
    line = kubectl_line(cluster, *arguments)
    done = subprocess.run(line, check=False, capture_output=True, text=True, input=given)
    assert done.returncode == 0 or not check, f"{arguments}: {done.stderr}"
    return done.stdout


def pulumi(*arguments: str) -> str:
    """What the lab's engine prints; it must succeed."""
    line = [sys.executable, "-m", "testbed.lab", "pulumi", *arguments]
    done = subprocess.run(line, cwd=PROJECT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def stack_file(folder: Path, stack: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """The engine's stack file with a change of its config; the salt of its secrets is the same."""
    engine = LabEngine(stack, PROJECT)
    engine.prepare()
    document: dict[str, Any] = yaml.safe_load(engine.config_file.read_text())
    assert document[SALT_KEY]
    change(document["config"])
    file = folder / f"Pulumi.{stack}.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


@pytest.fixture(scope="session")
def topology():
    return load(PROJECT, "lab")


class Patient:
    """The live mesh, examined check by check."""

    def __init__(self, topology):
        self.topology = topology
        self.clusters, unreachable = connect(topology.members)
        assert not unreachable, unreachable
        self.apis = {name: cluster.api for name, cluster in self.clusters.items()}
        self.undo = Undo()

    def api(self, number=1):
        return self.apis[f"cluster-{number}"]

    def ask(self, check_name, number=1):
        """The result of one check on one cluster, from fresh readings."""
        fresh = {name: LiveCluster(cluster.member, cluster.api) for name, cluster in self.clusters.items()}
        janitor = Janitor()
        mesh = Mesh(self.topology, fresh, janitor)
        chosen = next(check for check in ALL if check.name == check_name)
        try:
            return examine(mesh, chosen, fresh[f"cluster-{number}"])
        finally:
            assert janitor.clean() == []

    def says(self, check_name, cause, number=1, within=30.0):
        """Wait until a check fails and names the cause; the last answer when it does not."""
        end = time.monotonic() + within
        while True:
            result = self.ask(check_name, number)
            if (not result.ok and cause in result.detail) or time.monotonic() > end:
                return result
            time.sleep(0.5)

    def heals(self, check_name, number=1, within=90.0):
        """Whether a check passes again in time."""
        end = time.monotonic() + within
        while not (result := self.ask(check_name, number)).ok:
            if time.monotonic() > end:
                pytest.fail(f"not healed: {result.detail}")
            time.sleep(0.5)

    def wait_until_whole(self, within=180.0):
        """Wait until every pod of the mesh and below it is ready."""
        end = time.monotonic() + within
        while bad := [pod for api in self.apis.values() for pod in _unready(api)]:
            assert time.monotonic() < end, f"not ready: {bad}"
            time.sleep(0.5)

    def make(self, collection, body, number=1):
        """Create an object for the length of the test."""
        api = self.api(number)
        path = f"{collection}/{body['metadata']['name']}"
        self.undo.push(f"delete {path}", lambda: api.delete(path, gracePeriodSeconds="0"))
        _create(api, collection, body)

    def change(self, path, patch, back, number=1):
        """Patch an object for the length of the test."""
        api = self.api(number)
        self.undo.push(f"patch {path} back", lambda: api.patch(path, back))
        api.patch(path, patch)

    def remove(self, path, number=1):
        """Delete an object for the length of the test; it is made anew as it was."""
        api = self.api(number)
        body = api.get(path)
        collection = path.rsplit("/", 1)[0]
        body.pop("status", None)
        for field in ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"):
            body["metadata"].pop(field, None)
        self.undo.push(f"create {path}", lambda: _create(api, collection, body))
        api.delete(path)

    def scale(self, path, replicas, number=1):
        """Scale a workload for the length of the test."""
        old = self.api(number).get(path)["spec"].get("replicas", 1)
        self.change(path, {"spec": {"replicas": replicas}}, {"spec": {"replicas": old}}, number)


def _unready(api):
    """Workloads of the mesh that lack ready pods."""
    lacking = []
    for namespace in ("cert-manager", "spire", "istio-system", "istio-gateways", "helloworld", "sleep"):
        for kind in ("deployments", "statefulsets"):
            for item in api.items(f"/apis/apps/v1/namespaces/{namespace}/{kind}"):
                if item.get("status", {}).get("readyReplicas", 0) < item["spec"].get("replicas", 1):
                    lacking.append(full_name(item))
        for item in api.items(f"/apis/apps/v1/namespaces/{namespace}/daemonsets"):
            if item["status"]["numberReady"] < max(1, item["status"]["desiredNumberScheduled"]):
                lacking.append(full_name(item))
    return lacking


def _create(api, collection, body):
    for _ in range(60):
        try:
            return api.create(collection, body)
        except KubeError as error:
            # the old one is still on its way out, or a webhook is not back from the last test
            if error.status not in (409, 500):
                raise
            time.sleep(0.5)
    raise KubeError(f"{collection}/{body['metadata']['name']} does not go away")


@pytest.fixture
def patient(topology):
    """A healthy mesh; whatever the test does to it is undone."""
    patient = Patient(topology)
    patient.wait_until_whole()
    yield patient
    assert patient.undo.run() == []
    patient.wait_until_whole()
