"""Load at a fixed rate, and connections that last, from pods inside the mesh and outside it.

The load is open-loop: vegeta sends each request on schedule however slow the answers are, so that a stall is measured
in full. It runs in pods of its own, so that it goes on while this command has no connection to a cluster.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol as Interface

from fedmesh.defaults import CURL_IMAGE
from fedmesh.drill.lasting import LOG_LINE, Connection, named, parse_connections, script
from fedmesh.drill.samples import ANSWERED_BY, Sample, parse
from fedmesh.drill.target import Protocol
from fedmesh.kube import Json, KubeError
from fedmesh.probe import CONTAINER, LABEL, RESTRICTED, UNPRIVILEGED, Janitor, wait_for
from fedmesh.reading import PROXY, LiveCluster, containers, is_ready
from fedmesh.topology import CLIENT

FOLDER = "/data"
CONNECTIONS = "connections"
APP = "fedmesh-drill"
# EnvoyFilter has no version v1.
ENVOY_FILTERS = "/apis/networking.istio.io/v1alpha3/namespaces"
# Seconds after which the kubelet ends a load pod, even when its command was killed; all drills together take less than
# an hour.
LIFE = 7200
# By default, Istio's proxies leave these counters of Envoy out.
KEEP_STATS = {
    "sidecar.istio.io/statsInclusionRegexps": r"cluster\.outbound.*upstream_rq_(retry|total|timeout).*"
}


@dataclass(frozen=True)
class Load:
    """One load.

    Attributes:
        upstream: the Envoy cluster whose retries it causes; "": not counted.
        lasting: whether it holds connections for the whole drill, instead of sending requests at a rate.
        may_lose_for: seconds after the start of the fault in which it may lose requests.
        repeatable: whether the owner declares the calls safe to repeat, so that executing one twice is no fault.
        silence: seconds without a byte after which a lasting connection counts as hung; 0: it may be silent.
        judged: whether the drill fails by it.
        resolver: the DNS server that the load asks for each connection; "": the machine's.
        host: the header Host; "": the URL's.
        keepalive: whether requests share connections.
    """

    name: str
    title: str
    url: str
    protocol: Protocol = "http"
    method: str = "GET"
    upstream: str = ""
    lasting: bool = False
    may_lose_for: float = 0.0
    repeatable: bool = False
    silence: float = 0.0
    judged: bool = True
    resolver: str = ""
    host: str = ""
    keepalive: bool = True


@dataclass(frozen=True)
class Rate:
    """Requests per second, and the time-out of each and the duration of the load in seconds."""

    per_second: int
    timeout: float
    seconds: float


@dataclass(frozen=True)
class Caller:
    """The namespace and the service account of the pods that send a load."""

    namespace: str = CLIENT
    account: str = CLIENT


class Source(Interface):
    """Where a load comes from: a pod, or in a test environment a machine outside the clusters."""

    def clock_ahead(self) -> float: ...
    def fire(self, load: Load, rate: Rate, tag: str) -> None: ...
    def collect(self, load: Load, origin: float) -> list[Sample]: ...
    def connections(self, load: Load, origin: float) -> list[Connection]: ...
    def retries(self) -> dict[str, int]: ...


@dataclass(frozen=True)
class Running:
    """A load and where it comes from."""

    load: Load
    source: Source


def attack(load: Load, rate: Rate, tag: str, output: str, vegeta: str = "vegeta") -> str:
    """The shell command of a load. Each request has the headers X-Vegeta-Attack (the tag) and X-Vegeta-Seq."""
    # An empty message of gRPC: no compression, length 0.
    message = [
        "-h2c",
        "-body=/dev/stdin",
        "-header='content-type: application/grpc'",
        "-header='te: trailers'",
    ]
    words = [
        f"{vegeta} attack -name={tag} -rate={rate.per_second}/1s -duration={rate.seconds:g}s",
        f"-timeout={rate.timeout:g}s -max-body=200 -keepalive={str(load.keepalive).lower()} -output={output}",
        *([f"-resolvers={load.resolver} -dns-ttl=-1"] if load.resolver else []),
        *([f"-header='Host: {load.host}'"] if load.host else []),
    ]
    if load.protocol == "grpc":
        call = f"printf 'POST {load.url}\\n' > {output}.call; printf '\\0\\0\\0\\0\\0' | "
        return call + " ".join([*words, *message, f"-targets={output}.call"])
    return f"echo '{load.method} {load.url}' | " + " ".join(words)


def load_pod(run: str, image: str, caller: Caller, *, injected: bool, nodes: Sequence[str] = ()) -> Json:
    """A pod in which loads are started; with a sidecar when `injected`, and on one of `nodes` if it can."""
    name = f"fedmesh-drill-{run}-{'mesh' if injected else 'outside'}"
    metadata: Json = {"name": name, "labels": {"app": APP}, "annotations": dict(KEEP_STATS)}
    if not injected:
        metadata["labels"]["sidecar.istio.io/inject"] = "false"
    images = {CONTAINER: image, **({CONNECTIONS: CURL_IMAGE} if injected else {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "activeDeadlineSeconds": LIFE,
            "serviceAccountName": caller.account,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "enableServiceLinks": False,
            **({"affinity": {"nodeAffinity": _preferred(nodes)}} if nodes else {}),
            "containers": [
                {
                    "name": container,
                    "image": reference,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", str(LIFE)],
                    "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}},
                    "securityContext": {**UNPRIVILEGED, **RESTRICTED},
                    "volumeMounts": [{"name": "data", "mountPath": FOLDER}],
                }
                for container, reference in images.items()
            ],
            "volumes": [{"name": "data", "emptyDir": {"sizeLimit": "256Mi"}}],
        },
    }


def _preferred(nodes: Sequence[str]) -> Json:
    # The API takes one name in a term.
    fields = [[{"key": "metadata.name", "operator": "In", "values": [name]}] for name in nodes]
    terms = [{"weight": 100, "preference": {"matchFields": field}} for field in fields]
    return {"preferredDuringSchedulingIgnoredDuringExecution": terms}


def witness() -> Json:
    """An EnvoyFilter by which the load pods' proxies name the endpoint that answered.

    They add it to the headers of answers, and write a line to their log at the end of each connection of plain TCP.
    """
    kind = "type.googleapis.com/envoy.extensions"
    log = {
        "name": APP,
        "typed_config": {
            "@type": f"{kind}.access_loggers.file.v3.FileAccessLog",
            "path": "/dev/stdout",
            "log_format": {"text_format_source": {"inline_string": LOG_LINE}},
        },
    }
    tcp = {"typed_config": {"@type": f"{kind}.filters.network.tcp_proxy.v3.TcpProxy", "access_log": [log]}}
    filters = {"filterChain": {"filter": {"name": "envoy.filters.network.tcp_proxy"}}}
    value = {
        "response_headers_to_add": [
            {
                "header": {"key": ANSWERED_BY, "value": "%UPSTREAM_METADATA(istio:workload)%"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ]
    }
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": f"{APP}-answered-by", "labels": {LABEL: "witness"}},
        "spec": {
            "workloadSelector": {"labels": {"app": APP}},
            "configPatches": [
                {
                    "applyTo": "ROUTE_CONFIGURATION",
                    "match": {"context": "SIDECAR_OUTBOUND"},
                    "patch": {"operation": "MERGE", "value": value},
                },
                {
                    "applyTo": "NETWORK_FILTER",
                    "match": {"context": "SIDECAR_OUTBOUND", "listener": filters},
                    "patch": {"operation": "MERGE", "value": tcp},
                },
            ],
        },
    }


class LoadPod:
    """A running load pod on one cluster."""

    def __init__(self, cluster: LiveCluster, pod: Json, *, injected: bool) -> None:
        self._cluster = cluster
        self._pod = pod
        self._injected = injected

    @classmethod
    def start(
        cls,
        janitor: Janitor,
        cluster: LiveCluster,
        image: str,
        caller: Caller,
        *,
        injected: bool,
        nodes: Sequence[str] = (),
    ) -> LoadPod:
        """Creates the pod and waits until it is ready. Raises KubeError after 40 s, and leaves nothing then."""
        body = load_pod(janitor.run, image, caller, injected=injected, nodes=nodes)
        body["metadata"]["namespace"] = caller.namespace
        made = cls(cluster, body, injected=injected)
        if injected:
            janitor.create(cluster.api, made._filters, witness())
        try:
            janitor.create(cluster.api, f"/api/v1/namespaces/{caller.namespace}/pods", body)
            made._wait(image)
        except KubeError:
            with suppress(KubeError):
                made.remove()
            raise
        return made

    @property
    def node(self) -> str:
        """The node that the pod runs on."""
        return str(self._pod["spec"].get("nodeName", ""))

    def runs(self) -> bool:
        """Whether the pod is still ready."""
        return self._ready() is not None

    def remove(self) -> None:
        """Deletes the pod, with what names its answers, and waits until it is gone. Raises KubeError after 30 s."""
        self._cluster.api.delete(self._path, gracePeriodSeconds="0")
        if self._injected:
            self._cluster.api.delete(f"{self._filters}/{witness()['metadata']['name']}")
        wait_for(
            lambda: None if self._read() else True, f"the load pod on {self._cluster.name} is not gone", 30.0
        )

    def _wait(self, image: str) -> None:
        self._pod = wait_for(
            self._ready, f"the load pod on {self._cluster.name} is not ready (image {image})", 40.0
        )
        if self._injected and PROXY not in containers(self._pod):
            raise KubeError(
                f"the load pod on {self._cluster.name} has no sidecar: is the namespace "
                f"{self._pod['metadata']['namespace']} labelled for injection?"
            )

    def _ready(self) -> Json | None:
        pod = self._read()
        return pod if pod and is_ready(pod) else None

    def _read(self) -> Json | None:
        try:
            return self._cluster.api.get(self._path)
        except KubeError as error:
            if error.status != 404:
                raise
            return None

    @property
    def _path(self) -> str:
        meta = self._pod["metadata"]
        return f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"

    @property
    def _filters(self) -> str:
        return f"{ENVOY_FILTERS}/{self._pod['metadata']['namespace']}/envoyfilters"

    def clock_ahead(self) -> float:
        """Seconds by which the pod's clock is ahead of this machine's, to within half a round trip."""
        asked = time.time()
        there = float(self._run("date +%s.%N"))
        return there - (asked + time.time()) / 2

    def fire(self, load: Load, rate: Rate, tag: str) -> None:
        """Starts a load in the background."""
        if load.lasting:
            command, container = script(load, rate.seconds, self._file(load, "csv")), CONNECTIONS
        else:
            command, container = attack(load, rate, tag, self._file(load)), CONTAINER
        file, log = self._file(load, "sh"), self._file(load, "log")
        start = f"head -c {len(command.encode())} > {file}; nohup sh {file} > {log} 2>&1 < /dev/null &"
        self._run(start, container=container, stdin=command)

    def collect(self, load: Load, origin: float) -> list[Sample]:
        """The requests of a load that has ended; `origin` is its start in Unix seconds by the pod's clock."""
        text = self._run(f"vegeta encode -to csv {self._file(load)}", timeout=30.0)
        samples = parse(text.splitlines(), origin, grpc=load.protocol == "grpc")
        if not samples:
            log = self._run(f"cat {self._file(load, 'log')}")
            raise KubeError(f"the load {load.name} sent nothing: {log}")
        return samples

    def connections(self, load: Load, origin: float) -> list[Connection]:
        """The connections of a lasting load that has ended."""
        text = self._run(f"cat {self._file(load, 'csv')}", container=CONNECTIONS)
        found = parse_connections(text.splitlines(), origin)
        if load.protocol != "tcp":
            return found
        log = self._cluster.api.get(f"{self._path}/log", container=PROXY)
        return named(found, str(log).splitlines(), load.upstream, origin)

    def retries(self) -> dict[str, int]:
        """Retries of the pod's proxy since it started, by Envoy cluster; empty outside the mesh."""
        if PROXY not in containers(self._pod):
            return {}
        return parse_retries(self._cluster.proxy(self._pod, "stats?filter=upstream_rq_retry$"))

    def _file(self, load: Load, kind: str = "bin") -> str:
        return f"{FOLDER}/{load.name}.{kind}"

    def _run(
        self, command: str, timeout: float = 8.0, container: str = CONTAINER, stdin: str | None = None
    ) -> str:
        meta = self._pod["metadata"]
        output = self._cluster.api.exec(
            meta["namespace"], meta["name"], container, ["sh", "-c", command], stdin=stdin, timeout=timeout
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
