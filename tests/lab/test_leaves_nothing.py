"""What goes away with `pulumi destroy`, and what with `make lab-down`. Run last: it ends the lab."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import kubectl

from testbed.lab import clusters, config, paths

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]
PROJECT = paths.project()
# what a cluster has before anybody installs anything, or makes for itself
OWN_NAMESPACES = {"default", "kube-node-lease", "kube-public", "kube-system"}
OWN = ("system:", "kubeadm:", "cluster-admin", "admin", "edit", "view")
CLUSTER_WIDE = (
    "customresourcedefinitions",
    "clusterroles",
    "clusterrolebindings",
    "validatingwebhookconfigurations",
    "mutatingwebhookconfigurations",
    "storageclasses",
    "persistentvolumes",
    "csidrivers",
)


def names(cluster: str, kind: str) -> set[str]:
    items = json.loads(kubectl(cluster, "get", kind, "--all-namespaces", "-o", "json"))["items"]
    return {
        f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}".lstrip("/") for item in items
    }


def lab(*arguments: str) -> int:
    return subprocess.run(
        [sys.executable, "-m", "testbed.lab", *arguments], cwd=PROJECT, check=False
    ).returncode


@pytest.fixture(scope="module")
def destroyed() -> None:
    assert lab("pulumi", "-q", "destroy") == 0


@pytest.mark.usefixtures("destroyed")
@pytest.mark.parametrize("cluster", [cluster.name for cluster in config.load().clusters])
class TestDestroyed:
    """Every cluster after `pulumi destroy`."""

    def test_only_the_clusters_own_namespaces_are_left(self, cluster: str) -> None:
        assert names(cluster, "namespaces") == OWN_NAMESPACES

    @pytest.mark.parametrize("kind", CLUSTER_WIDE)
    def test_nothing_cluster_wide_is_left(self, cluster: str, kind: str) -> None:
        assert {name for name in names(cluster, kind) if not name.startswith(OWN)} == set()

    def test_nothing_is_left_in_the_clusters_own_namespaces(self, cluster: str) -> None:
        assert names(cluster, "pods") == set()
        assert names(cluster, "services") == {"default/kubernetes"}
        assert names(cluster, "secrets") == set()


@pytest.mark.usefixtures("destroyed")
def test_lab_down_leaves_nothing_on_the_machine() -> None:
    assert lab("down", "-q") == 0
    assert clusters.leftovers(config.load()) == []
    assert not (PROJECT / ".lab").exists()


def test_lab_down_of_a_lab_that_is_down_is_no_error() -> None:
    assert lab("down", "-q") == 0
