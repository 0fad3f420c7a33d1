"""What names everywhere and keepalive add to a local call: callers with and without them take turns in one run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from statistics import median, quantiles

import pytest
import yaml
from conftest import PROJECT, kubectl

from testbed.lab import config

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]
CLUSTER = config.current(PROJECT / ".lab").clusters[0].name
SPACE = "lab-latency"
ROUNDS, CALLS = 12, 200
# Seconds; the loopback of a busy machine is not steadier than this.
NOISE = 0.0005
# The mesh's own metadata is replaced as a whole by that of the annotation.
WITHOUT = {"proxy.istio.io/config": "{proxyMetadata: {ISTIO_META_DNS_CAPTURE: 'false'}}"}
RULE = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "DestinationRule",
    "metadata": {"name": "without"},
    "spec": {
        "host": "helloworld.helloworld.svc.cluster.local",
        "workloadSelector": {"matchLabels": {"app": "without"}},
        "trafficPolicy": {"connectionPool": {"tcp": {"tcpKeepalive": {"time": "7200s", "interval": "75s"}}}},
    },
}
URL = "http://helloworld.helloworld:5000/hello"


def caller(name: str, annotations: dict[str, str]) -> dict[str, object]:
    container = {
        "name": "caller",
        "image": "docker.io/curlimages/curl:8.16.0",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "100000"],
    }
    template = {
        "metadata": {"labels": {"app": name}, "annotations": annotations},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
    }


@pytest.fixture(scope="module")
def callers() -> Iterator[tuple[str, str]]:
    """Two callers of one namespace: with the mesh's defaults, and without the names and the keepalive."""
    names = ("default", "without")
    space = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": SPACE, "labels": {"istio-injection": "enabled"}},
    }
    objects = [caller("default", {}), caller("without", WITHOUT), RULE]
    try:
        kubectl(CLUSTER, "apply", "-f", "-", given=yaml.safe_dump(space))
        kubectl(CLUSTER, "apply", "-n", SPACE, "-f", "-", given=yaml.safe_dump_all(objects))
        for name in names:
            kubectl(CLUSTER, "rollout", "status", "-n", SPACE, f"deploy/{name}", "--timeout=90s")
        yield names
    finally:
        kubectl(CLUSTER, "delete", "namespace", SPACE, "--ignore-not-found")


def seconds(name: str) -> list[float]:
    """The durations of one round: each call resolves the name and opens a connection to the proxy."""
    form = "%{http_code} %{time_total}\\n"
    one = f"for i in $(seq {CALLS}); do curl -s -o /dev/null -w '{form}' {URL}; done"
    lines = kubectl(CLUSTER, "exec", "-n", SPACE, f"deploy/{name}", "-c", "caller", "--", "sh", "-c", one)
    answers = [line.split() for line in lines.splitlines()]
    assert {status for status, _ in answers} == {"200"}
    return [float(taken) for _, taken in answers]


def test_neither_names_everywhere_nor_keepalive_can_be_measured(callers: tuple[str, str]) -> None:
    for name in callers:
        seconds(name)  # warms up
    rounds = {name: [] for name in callers}
    for _ in range(ROUNDS):
        for name in callers:
            rounds[name].append(seconds(name))
    figures = {
        name: {
            "p50": [median(each) for each in found],
            "p99": [quantiles(each, n=100)[98] for each in found],
        }
        for name, found in rounds.items()
    }
    told = {name: {part: median(each) for part, each in found.items()} for name, found in figures.items()}
    print(json.dumps(told, indent=2))
    for part in ("p50", "p99"):
        without = figures["without"][part]
        spread = max(NOISE, max(without) - min(without))
        assert told["default"][part] - told["without"][part] <= spread, told
