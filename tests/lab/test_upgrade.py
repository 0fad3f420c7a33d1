"""From version 0.1 to this one, by the steps of UPGRADING.md, while the mesh is called: no call is lost.

Ends the lab that is there, and makes one of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import PROJECT, kubectl

from fedmesh import spire
from fedmesh.drill.load import Caller, Load, Rate, attack, load_pod
from fedmesh.drill.samples import Sample, parse
from fedmesh.probe import CONTAINER
from testbed.lab import cgroups, drill_app, former, paths
from testbed.lab import config as labs
from testbed.lab.catalogue import VEGETA
from testbed.lab.stack import LabEngine
from testbed.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3000)]
LAB = labs.load()
STATE = PROJECT / ".lab"
CLUSTERS = tuple(cluster.name for cluster in LAB.clusters)
PEER = dict(zip(CLUSTERS, reversed(CLUSTERS), strict=True))
RATE = Rate(20, 10.0, 0)  # until it is stopped
LOW_RATE = Rate(5, 10.0, 0)
SPIFFE = "/ns/sleep/sa/sleep"
# Seconds after which the kubelets have written istiod's new root into all pods, at the latest.
ROOT_KNOWN = 90.0


def lab(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "testbed.lab", *words], cwd=PROJECT, check=True)


def lone(cluster: str) -> list[dict[str, Any]]:
    """The drills' app under a name of its own, to be run on one cluster and called from the other."""
    documents = list(yaml.safe_load_all(drill_app.OBJECTS.read_text(encoding="utf-8")))
    chosen = [each for each in documents if each["metadata"]["name"] == drill_app.NAME]
    text = yaml.safe_dump_all(each for each in chosen if each["kind"] != "VirtualService")
    return list(yaml.safe_load_all(text.replace(drill_app.NAME + "\n", f"only-{cluster}\n")))


@dataclass(frozen=True)
class Place:
    """Where loads run: a pod, or this machine."""

    run: Callable[[str], str]
    vegeta: str
    folder: str

    def start(self, load: Load, rate: Rate) -> None:
        file = f"{self.folder}/{load.name}"
        line = attack(load, rate, load.name, f"{file}.bin", self.vegeta)
        self.run(f"{line} > {file}.log 2>&1 & echo $! > {file}.pid")

    def end(self, load: Load) -> list[Sample]:
        file = f"{self.folder}/{load.name}"
        waits = f"while kill -0 $(cat {file}.pid) 2>/dev/null; do sleep 0.2; done"
        self.run(f"kill -INT $(cat {file}.pid); {waits}")
        return parse(self.run(f"{self.vegeta} encode -to csv {file}.bin").splitlines(), 0.0)


@dataclass
class Calls:
    """Loads that go on, and what became of those that have ended."""

    places: Mapping[str, Place]
    running: dict[str, tuple[Place, Load]] = field(default_factory=dict)
    ended: dict[str, list[Sample]] = field(default_factory=dict)
    marks: list[tuple[float, str]] = field(default_factory=list)

    def start(self, place: str, name: str, url: str, rate: Rate = RATE, **more: Any) -> None:
        load = Load(name, name, url, **more)
        self.places[place].start(load, rate)
        self.running[name] = self.places[place], load

    def end(self, *names: str) -> None:
        for name in names or tuple(self.running):
            place, load = self.running.pop(name)
            self.ended[name] = place.end(load)

    def mark(self, text: str) -> None:
        self.marks.append((time.time(), text))
        print(f"{time.strftime('%X')} {text}", flush=True)

    def report(self) -> str:
        """Each load in a line, and its losses with the step that they came in."""
        lines = []
        for name, samples in self.ended.items():
            lost = [each for each in samples if each.lost]
            slowest = max(each.latency for each in samples)
            lines.append(f"{name}: {len(lost)} of {len(samples)} lost, slowest {slowest:.2f} s")
            for each in lost:
                step = [f"{each.at - at:.1f} s after: {text}" for at, text in self.marks if at <= each.at]
                lines.append(f"  {each.status} {each.error[:120]} ({step[-1] if step else 'before'})")
        return "\n".join(lines)

    def lost(self) -> int:
        return sum(each.lost for samples in self.ended.values() for each in samples)


def apply(cluster: str, *documents: dict[str, Any]) -> None:
    kubectl(cluster, "apply", "-f", "-", given=yaml.safe_dump_all(documents))


def wait_ready(cluster: str, namespace: str) -> None:
    kubectl(cluster, "wait", "-n", namespace, "--for=condition=Ready", "pod", "--all", "--timeout=180s")


def ingress(cluster: str, namespace: str) -> str:
    path = "jsonpath={.status.loadBalancer.ingress[0].ip}"
    return str(kubectl(cluster, "get", "service", "-n", namespace, "istio-ingressgateway", "-o", path))


def pod(cluster: str) -> str:
    """Starts the pod of a cluster's loads and returns its name."""
    document = load_pod("upgrade", f"docker.io/peterevans/vegeta:{VEGETA}", Caller(), injected=True)
    document["metadata"]["namespace"] = "sleep"
    document["metadata"]["annotations"]["inject.istio.io/templates"] = "sidecar,spire"
    apply(cluster, document)
    return str(document["metadata"]["name"])


def inside(cluster: str, name: str) -> Place:
    words = ("exec", "-n", "sleep", name, "-c", CONTAINER, "--", "sh", "-c")
    return Place(lambda text: kubectl(cluster, *words, text), "vegeta", "/data")


def outside(folder: Path) -> Place:
    def run(text: str) -> str:
        return subprocess.run(["sh", "-c", text], check=True, capture_output=True, text=True).stdout

    return Place(run, str(paths.cache() / "bin" / "vegeta"), str(folder))


def allow(cluster: str, *trust_domains: str) -> None:
    """An owner's policy: who may call what runs on one cluster alone."""
    principals = [f"{each}{SPIFFE}" for each in trust_domains]
    rules = [{"from": [{"source": {"principals": principals}}]}]
    spec = {"selector": {"matchLabels": {"app": f"only-{cluster}"}}, "rules": rules}
    meta = {"name": "callers", "namespace": "helloworld"}
    apply(
        cluster,
        {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": meta, "spec": spec},
    )


def is_refused(cluster: str) -> bool:
    """Whether the cluster's own policy refuses the peer's sample client."""
    url = f"http://only-{cluster}.helloworld:8080/"
    words = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", url)
    client = ("exec", "-n", "sleep", "deploy/sleep", "-c", "sleep", "--", *words)
    return bool(kubectl(PEER[cluster], *client, check=False) == "403")


def up(**istio: Any) -> None:
    """`pulumi up` of this version with settings of fedmesh:istio, and without what version 0.1 did not have."""
    engine = LabEngine(LAB.stack, PROJECT)
    config = engine.committed()
    for cluster in config["fedmesh:clusters"]:
        cluster.pop("istioCni")
    config["fedmesh:istio"] |= istio
    engine.configure(config)
    print(engine.run("up"), flush=True)


def trust_domain(cluster: str) -> str:
    config = LabEngine(LAB.stack, PROJECT).committed()
    return next(each["trustDomain"] for each in config["fedmesh:clusters"] if each["name"] == cluster)


def verify() -> None:
    words = ["verify", "--stack", LAB.stack, "--wait", "180", "-q"]
    subprocess.run([sys.executable, "-m", "fedmesh", *words], cwd=PROJECT, check=True)


def server(cluster: str, *words: str) -> Any:
    """What spire-server prints."""
    line = ("exec", "-n", "spire", "spire-server-0", "-c", spire.CONTAINER, "--", *spire.command(*words))
    return json.loads(kubectl(cluster, *line))


def authorities(cluster: str) -> Any:
    return server(cluster, "localauthority", "x509", "show")


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    """Calls in the mesh of version 0.1, each of its kind from each cluster."""
    lab("down")
    lab("up")
    cgroups.favour_pods()
    program = former.program(STATE)
    made = former.build(program)
    former.put_images(made, LAB)
    print(former.engine(LAB.stack, STATE, program, made).run("up"), flush=True)
    for cluster in CLUSTERS:
        service, *workload = lone(cluster)
        apply(cluster, service, *workload)
        apply(PEER[cluster], service)
        allow(cluster, trust_domain(cluster))
    pods = {cluster: pod(cluster) for cluster in CLUSTERS}
    for cluster in CLUSTERS:
        wait_ready(cluster, "sleep")
        wait_ready(cluster, "helloworld")
    places = {cluster: inside(cluster, name) for cluster, name in pods.items()}
    running = Calls({**places, "outside": outside(tmp_path_factory.mktemp("calls"))})
    time.sleep(5)  # what has just started is known everywhere
    for cluster in CLUSTERS:
        there = f"http://only-{PEER[cluster]}.helloworld:8080/"
        users = f"http://{ingress(cluster, 'istio-system')}/hello"
        running.start(cluster, f"{cluster}-local", "http://helloworld.helloworld:5000/hello")
        running.start(cluster, f"{cluster}-to-peer", there)
        running.start(cluster, f"{cluster}-posts-to-peer", there, LOW_RATE, method="POST")
        running.start("outside", f"{cluster}-ingress", users, LOW_RATE)
    running.mark("the mesh of version 0.1 is called")
    time.sleep(20)
    yield running
    print(running.report(), flush=True)
    lab("down")


def new_root(cluster: str) -> None:
    """As docs/operations.md has it, without its first line: the new root is there."""
    key = server(cluster, "localauthority", "x509", "show")["active"]["upstream_authority_subject_key_id"]
    prepared = server(cluster, "localauthority", "x509", "prepare")["prepared_authority"]
    verify()
    server(cluster, "localauthority", "x509", "activate", "-authorityID", prepared["authority_id"])
    server(cluster, "upstreamauthority", "taint", "-subjectKeyID", key)
    verify()
    server(cluster, "upstreamauthority", "revoke", "-subjectKeyID", key)
    kubectl(cluster, "delete", "secret", "-n", "cert-manager", "selfsigned-ca")


def test_no_call_is_lost_from_version_0_1_to_the_end_of_the_upgrade(calls: Calls) -> None:
    calls.mark("first up, with migrating")
    up(trust="aliases", migrating=True)
    calls.mark("first up has ended")
    time.sleep(ROOT_KNOWN)
    verify()
    calls.mark("the former gateways start anew")
    for cluster in CLUSTERS:
        for gateway in ("istio-ingressgateway", "istio-eastwestgateway"):
            words = ("-n", "istio-system", f"deployment/{gateway}")
            kubectl(cluster, "rollout", "restart", *words)
            kubectl(cluster, "rollout", "status", *words, "--timeout=180s")
    calls.mark("users move to the new gateways")
    for cluster in CLUSTERS:
        users = f"http://{ingress(cluster, 'istio-gateways')}/hello"
        calls.start("outside", f"{cluster}-new-ingress", users, LOW_RATE)
        calls.end(f"{cluster}-ingress")
    calls.mark("second up, without migrating")
    up(trust="aliases")
    calls.mark("second up has ended")
    verify()
    for cluster in CLUSTERS:
        allow(cluster, *map(trust_domain, CLUSTERS))
    calls.mark("third up, without aliases")
    up()
    calls.mark("third up has ended")
    verify()
    for cluster in CLUSTERS:
        calls.mark(f"new root of SPIRE on {cluster}")
        new_root(cluster)
    calls.mark("last up")
    up()
    verify()
    calls.mark("the end")
    calls.end()
    assert calls.lost() == 0, calls.report()
    for cluster in CLUSTERS:
        allow(cluster, trust_domain(cluster))
        wait_until(
            lambda cluster=cluster: is_refused(cluster),
            60.0,
            lambda: "trust is not strict: a peer is admitted",
        )
