"""Load at a fixed rate from inside the mesh and through an ingress gateway.

The load is open-loop: vegeta sends each request on schedule however slow the answers are, so that a stall is measured
in full. It runs in pods of its own, so that it goes on while this command has no connection to a cluster.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from fedmesh.drill.samples import Sample, parse
from fedmesh.kube import Json, KubeError
from fedmesh.probe import CONTAINER, RESTRICTED, UNPRIVILEGED, Janitor, wait_for
from fedmesh.reading import PROXY, LiveCluster, containers, is_ready
from fedmesh.topology import CLIENT

FOLDER = "/data"
# Seconds after which the kubelet ends a load pod, even when its command was killed; all drills together take half
# an hour.
LIFE = 7200
# By default, Istio's proxies leave these counters of Envoy out.
KEEP_STATS = {
    "sidecar.istio.io/statsInclusionRegexps": r"cluster\.outbound.*upstream_rq_(retry|total|timeout).*"
}


@dataclass(frozen=True)
class Stream:
    """One load: its URL, and the Envoy cluster whose retries it causes ("": not counted)."""

    name: str
    title: str
    url: str
    upstream: str = ""


@dataclass(frozen=True)
class Rate:
    """Requests per second, and the time-out of each and the duration of the load in seconds."""

    per_second: int
    timeout: float
    seconds: float


def load_pod(run: str, image: str, *, injected: bool) -> Json:
    """A pod in which loads are started; with a sidecar when `injected`."""
    name = f"fedmesh-drill-{run}-{'mesh' if injected else 'outside'}"
    metadata: Json = {"name": name, "labels": {"app": "fedmesh-drill"}, "annotations": dict(KEEP_STATS)}
    if not injected:
        metadata["labels"]["sidecar.istio.io/inject"] = "false"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "activeDeadlineSeconds": LIFE,
            "serviceAccountName": CLIENT,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "enableServiceLinks": False,
            "containers": [
                {
                    "name": CONTAINER,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", str(LIFE)],
                    "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}},
                    "securityContext": {**UNPRIVILEGED, **RESTRICTED},
                    "volumeMounts": [{"name": "data", "mountPath": FOLDER}],
                }
            ],
            "volumes": [{"name": "data", "emptyDir": {"sizeLimit": "256Mi"}}],
        },
    }


class LoadPod:
    """A running load pod on one cluster."""

    def __init__(self, cluster: LiveCluster, pod: Json) -> None:
        self._cluster = cluster
        self._pod = pod

    @classmethod
    def start(cls, janitor: Janitor, cluster: LiveCluster, image: str, *, injected: bool) -> LoadPod:
        """Creates the pod and waits until it is ready. Raises KubeError after 40 s."""
        collection = f"/api/v1/namespaces/{CLIENT}/pods"
        made = janitor.create(cluster.api, collection, load_pod(janitor.run, image, injected=injected))
        path = f"{collection}/{made['metadata']['name']}"

        def ready() -> Json | None:
            pod = cluster.api.get(path)
            return pod if is_ready(pod) else None

        pod = wait_for(ready, f"the load pod on {cluster.name} is not ready (image {image})", 40.0)
        if injected and PROXY not in containers(pod):
            raise KubeError(
                f"the load pod on {cluster.name} has no sidecar: is the namespace {CLIENT} labelled for injection?"
            )
        return cls(cluster, pod)

    def clock_ahead(self) -> float:
        """Seconds by which the pod's clock is ahead of this machine's, to within half a round trip."""
        asked = time.time()
        there = float(self._run("date +%s.%N"))
        return there - (asked + time.time()) / 2

    def fire(self, stream: Stream, rate: Rate, *, keepalive: bool = True) -> None:
        """Starts a load in the background; without keepalive each request opens a new connection."""
        attack = (
            f"echo 'GET {stream.url}' | vegeta attack -name={stream.name} -rate={rate.per_second}/1s "
            f"-duration={rate.seconds:g}s -timeout={rate.timeout:g}s -max-body=200 "
            f"-keepalive={str(keepalive).lower()} -output={self._file(stream)}"
        )
        self._run(f'nohup sh -c "{attack}" > {FOLDER}/{stream.name}.log 2>&1 < /dev/null &')

    def collect(self, stream: Stream, origin: float, answerers: Mapping[str, str]) -> list[Sample]:
        """The requests of a load that has ended; `origin` is its start in Unix seconds by the pod's clock."""
        text = self._run(f"vegeta encode -to csv {self._file(stream)}", timeout=30.0)
        samples = parse(text.splitlines(), origin, answerers)
        if not samples:
            raise KubeError(
                f"the load {stream.name} sent nothing: {self._run(f'cat {FOLDER}/{stream.name}.log')}"
            )
        return samples

    def retries(self) -> dict[str, int]:
        """Retries of the pod's proxy since it started, by Envoy cluster; empty outside the mesh."""
        if PROXY not in containers(self._pod):
            return {}
        return parse_retries(self._cluster.proxy(self._pod, "stats?filter=upstream_rq_retry$"))

    def _file(self, stream: Stream) -> str:
        return f"{FOLDER}/{stream.name}.bin"

    def _run(self, script: str, timeout: float = 8.0) -> str:
        meta = self._pod["metadata"]
        output = self._cluster.api.exec(
            meta["namespace"], meta["name"], CONTAINER, ["sh", "-c", script], timeout=timeout
        )
        if output.code != 0:
            raise KubeError(f"in the load pod on {self._cluster.name}: {output.stderr.strip()[-200:]}")
        return output.stdout


def parse_retries(stats: str) -> dict[str, int]:
    """Retries by Envoy cluster in an answer of Envoy's `stats`."""
    found: dict[str, int] = {}
    for line in stats.splitlines():
        name, _, value = line.rpartition(": ")
        # Istio ends the name with a semicolon, which tells its dots from separators.
        name = name.replace(";", "")
        if name.startswith("cluster.") and name.endswith(".upstream_rq_retry"):
            found[name.removeprefix("cluster.").removesuffix(".upstream_rq_retry")] = int(value)
    return found
