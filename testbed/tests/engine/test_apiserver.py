"""The bare API server answers as one on a node does."""

import json
import subprocess
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from testbed.lab import paths
from testbed.lab.apiserver import ApiServer, running

TOOLS = paths.cache() / "bin"
SECONDS = 6
# how informers of client-go watch since Kubernetes 1.34: the list comes as events, without a resourceVersion
STREAMED_LIST = {
    "sendInitialEvents": "true",
    "resourceVersionMatch": "NotOlderThan",
    "allowWatchBookmarks": "true",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running("watched", TOOLS, tmp_path_factory.mktemp("watched")) as started:
        yield started


def watch(server: ApiServer, path: str, **parameters: str) -> list[dict[str, dict[str, object]]]:
    """The events of a watch that asks for six seconds: the API server waits three for what it does not know yet."""
    query = urlencode({"watch": "true", "timeoutSeconds": SECONDS, **parameters})
    line = [str(TOOLS / "kubectl"), f"--kubeconfig={server.kubeconfig}", "get", "--raw", f"{path}?{query}"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return [json.loads(each) for each in done.stdout.splitlines()]


@pytest.mark.parametrize("parameters", [{}, STREAMED_LIST], ids=["plain", "streamed list"])
def test_a_watch_without_a_resource_version_lasts(server: ApiServer, parameters: dict[str, str]) -> None:
    # objects of another kind move etcd's revision on, beyond what the watched kind has seen
    for number in range(3):
        create = ["create", "configmap", f"later-{len(parameters)}-{number}", "-n", "default"]
        subprocess.run([str(TOOLS / "kubectl"), f"--kubeconfig={server.kubeconfig}", *create], check=True)
    events = watch(server, "/api/v1/namespaces", **parameters)
    assert [event for event in events if event["type"] == "ERROR"] == []
    assert {"default", "kube-system"} <= {
        event["object"]["metadata"].get("name")  # type: ignore[union-attr]
        for event in events
    }
