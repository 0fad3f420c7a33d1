"""The app that the lab's drills call from inside the mesh and, by edges, from outside the clusters."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import yaml

from fedmesh.drill.lasting import Connection
from fedmesh.drill.load import Load, Rate, Running, attack
from fedmesh.drill.samples import Sample, parse
from fedmesh.drill.scene import IN_FLIGHT
from fedmesh.drill.target import Target
from fedmesh.kube import Json, KubeError
from fedmesh.probe import NETWORKING, Janitor, wait_for
from fedmesh.reading import LiveCluster, is_ready, load_balancer_addresses
from fedmesh.topology import GATEWAY_NAMESPACE
from testbed.lab import config
from testbed.lab.config import Lab
from testbed.lab.edge import ACCELERATOR, DETECTION, DNS, HOST, ORIGIN_FAILOVER, Edges, Gateway
from testbed.lab.paths import State, cache, project

OBJECTS = Path(__file__).with_name("drill-target.yaml")
NAME, NAMESPACE, PORT = "drill-target", "helloworld", 8080
TARGET = Target(NAMESPACE, NAME, PORT, {"app": NAME}, PORT)
_IN_MESH = f"{NAME}.{NAMESPACE}.svc.cluster.local"
_IDEMPOTENT = f"drill-idempotent.{NAMESPACE}.svc.cluster.local"
COLLECTIONS = {
    "Service": "/api/v1/namespaces/{}/services",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "VirtualService": f"{NETWORKING}/{{}}/virtualservices",
}
START_SECONDS = 60.0
# Seconds; the app sends something ten times a second.
SILENCE = 3.0
# Seconds between two looks for new logs: no pod lives for a shorter time.
LOOK_SECONDS = 0.2


def loads() -> tuple[Load, ...]:
    """The kinds of calls from inside the mesh."""
    defaults = f"http://{_IN_MESH}:{PORT}/"
    streams = f"http://{_IN_MESH}"
    return (
        Load(
            "mesh",
            "GET that its owner declares safe to repeat",
            f"http://{_IDEMPOTENT}:{PORT}/",
            upstream=f"outbound|{PORT}||{_IDEMPOTENT}",
            repeatable=True,
        ),
        Load(
            "get",
            "GET with the mesh's defaults",
            defaults,
            upstream=f"outbound|{PORT}||{_IN_MESH}",
            may_lose_for=IN_FLIGHT,
        ),
        Load("post", "POST with the mesh's defaults", defaults, method="POST", may_lose_for=IN_FLIGHT),
        Load(
            "grpc",
            "gRPC calls with the mesh's defaults",
            f"{streams}:8081/drill.Target/Call",
            protocol="grpc",
            method="POST",
            may_lose_for=IN_FLIGHT,
        ),
        Load("stream", "Streams of HTTP", f"{streams}:{PORT}/stream", lasting=True, silence=SILENCE),
        Load(
            "grpc-stream",
            "Streams of gRPC",
            f"{streams}:8081/drill.Target/Stream",
            "grpc",
            lasting=True,
            silence=SILENCE,
        ),
        Load(
            "websocket",
            "WebSockets",
            f"{streams}:{PORT}/websocket",
            "websocket",
            lasting=True,
            silence=SILENCE,
        ),
        Load(
            "tcp",
            "Plain TCP",
            f"tcp://{_IN_MESH}:8082",
            "tcp",
            upstream=f"outbound|8082||{_IN_MESH}",
            lasting=True,
            silence=SILENCE,
        ),
    )


def user_loads() -> tuple[Load, ...]:
    """The kinds of calls of users, each through one of the edges."""
    failover, accelerator = (f"http://127.0.0.1:{port}/" for port in (ORIGIN_FAILOVER, ACCELERATOR))
    return (
        Load(
            "users-origin-failover", "Users' GET, edge origin-failover", failover, host=HOST, repeatable=True
        ),
        Load(
            "users-origin-failover-post",
            "Users' POST, edge origin-failover (an origin group takes no POST)",
            failover,
            method="POST",
            host=HOST,
            judged=False,
        ),
        Load(
            "users-accelerator",
            "Users' GET, edge accelerator",
            accelerator,
            host=HOST,
            may_lose_for=DETECTION["accelerator"],
            repeatable=True,
        ),
        Load(
            "users-dns",
            "Users' GET, edge dns",
            f"http://{HOST}/",
            may_lose_for=DETECTION["dns"],
            repeatable=True,
            resolver=f"127.0.0.1:{DNS}",
        ),
    )


class Executions:
    """The requests that the app executed, by load, from the logs of its containers on the lab's nodes.

    A log is held open from its first line on: it can be read when its pod is gone.
    """

    def __init__(self, lab: Lab, state: State) -> None:
        self._folders = [state.node(cluster.name, node.name) for cluster, node in lab.nodes()]
        self._logs: dict[tuple[int, int], IO[bytes]] = {}
        self._unfinished: dict[tuple[int, int], bytes] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def take(self, tag: str) -> Counter[str]:
        """How often each request of a load was executed, by number; forgets the load."""
        self._look()
        with self._lock:
            return self._counts.pop(tag, Counter())

    def close(self) -> None:
        """Ends the watch."""
        self._stop.set()
        self._thread.join()
        while self._logs:
            self._logs.popitem()[1].close()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        pattern = f"root/var/log/pods/{NAMESPACE}_{NAME}-*/{NAME}/*.log"
        with self._lock:
            for file in (file for folder in self._folders for file in folder.glob(pattern)):
                try:
                    # no other file has the number while this one is open
                    found = file.stat()
                    if (found.st_dev, found.st_ino) not in self._logs:
                        self._logs[found.st_dev, found.st_ino] = file.open("rb")
                except FileNotFoundError:
                    continue
            for key, log in self._logs.items():
                *lines, self._unfinished[key] = (self._unfinished.get(key, b"") + log.read()).split(b"\n")
                for line in lines:
                    tag, slash, number = line.decode(errors="replace").rpartition(" ")[2].partition("/")
                    if slash:
                        self._counts.setdefault(tag, Counter())[number] += 1


class Machine:
    """Users on this machine, which is outside the clusters."""

    def __init__(self, folder: Path, tools: Path) -> None:
        self._folder = folder
        self._vegeta = tools / "vegeta"
        self._running: list[subprocess.Popen[bytes]] = []

    def clock_ahead(self) -> float:
        """Seconds by which the users' clock is ahead of this machine's: none."""
        return 0.0

    def fire(self, load: Load, rate: Rate, tag: str) -> None:
        """Starts a load in the background."""
        command = attack(load, rate, tag, str(self._output(load)), str(self._vegeta))
        with self._output(load).with_suffix(".log").open("wb") as log:
            self._running.append(
                subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def collect(self, load: Load, origin: float) -> list[Sample]:
        """The requests of a load that has ended. Raises KubeError when it sent nothing."""
        command = [str(self._vegeta), "encode", "-to", "csv", str(self._output(load))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        samples = parse(done.stdout.splitlines(), origin)
        if not samples:
            raise KubeError(f"the load {load.name} sent nothing: {done.stderr.strip()[-200:]}")
        return samples

    def connections(self, load: Load, origin: float) -> list[Connection]:
        """Users hold no lasting connections."""
        raise NotImplementedError

    def retries(self) -> dict[str, int]:
        """Nobody counts the retries of users."""
        return {}

    def close(self) -> None:
        """Ends the loads that still run."""
        while self._running:
            process = self._running.pop()
            if process.poll() is None:
                # the shell and what it runs
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _output(self, load: Load) -> Path:
        return self._folder / f"{load.name}.bin"


class LabStage:
    """The app on every cluster of the lab, and its users."""

    def __init__(self, clusters: Mapping[str, LiveCluster], lab: Lab, state: State, tools: Path) -> None:
        self.target = TARGET
        self.loads = loads()
        self.retries = retries()
        self._clusters = clusters
        self._executions = Executions(lab, state)
        self._edges = Edges(state.root / "edge", tools)
        self._machine = Machine(state.root / "edge", tools)

    def users(self, first: str) -> list[Running]:
        """The loads of users, whose edges prefer the cluster `first`."""
        names = sorted(self._clusters, key=lambda name: name != first)
        try:
            self._edges.start([Gateway(name, _ingress(self._clusters[name])) for name in names])
        except TimeoutError as error:
            raise LookupError(str(error)) from error
        return [Running(load, self._machine) for load in user_loads()]

    def doubled(self, tag: str) -> int:
        """The requests of a load that the app executed more than once."""
        return sum(count > 1 for count in self._executions.take(tag).values())

    def halt(self) -> None:
        """Ends the users' loads that still run."""
        self._machine.close()

    def close(self) -> None:
        """Ends edges, users and the watch of the app's logs."""
        self._machine.close()
        self._edges.close()
        self._executions.close()


def bring(janitor: Janitor, clusters: Mapping[str, LiveCluster]) -> LabStage:
    """Creates the app on every cluster and waits until it is ready. Raises KubeError."""
    stage = LabStage(clusters, config.current(project() / ".lab"), State(project() / ".lab"), cache() / "bin")
    try:
        for cluster in clusters.values():
            for body in objects():
                collection = COLLECTIONS[body["kind"]].format(body["metadata"]["namespace"])
                janitor.create(cluster.api, collection, body)
        for cluster in clusters.values():
            wait_for(
                lambda cluster=cluster: _ready(cluster),
                f"{NAME} is not ready on {cluster.name}",
                START_SECONDS,
            )
    except BaseException:
        stage.close()
        raise
    return stage


def objects() -> list[Json]:
    """The Kubernetes objects of the app."""
    return list(yaml.safe_load_all(OBJECTS.read_text(encoding="utf-8")))


def retries() -> Json:
    """The retries that the owner of drill-idempotent has written for GET."""
    (route,) = [
        body["spec"]["http"][0]
        for body in objects()
        if body["kind"] == "VirtualService" and body["metadata"]["name"] == "drill-idempotent"
    ]
    return route["retries"]


def _ready(cluster: LiveCluster) -> bool | None:
    pods = TARGET.pods(cluster)
    return True if pods and all(is_ready(pod) for pod in pods) else None


def _ingress(cluster: LiveCluster) -> str:
    for service in cluster.api.items(f"/api/v1/namespaces/{GATEWAY_NAMESPACE}/services"):
        if service["metadata"].get("labels", {}).get("istio") == "ingressgateway":
            for address in load_balancer_addresses(service):
                return address
    raise LookupError(f"the ingress gateway of {cluster.name} has no address")
