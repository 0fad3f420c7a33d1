"""The lab's clusters by themselves: networks, addresses, volumes, and faults with what takes them back."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime

import pytest
import yaml
from conftest import kubectl

from testbed.lab import config, faults, paths, processes
from testbed.lab.faults import Lever
from testbed.lab.paths import State
from testbed.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
PROJECT = paths.project()
STATE = State(PROJECT / ".lab")
LAB = config.load()
LEVER = Lever(LAB, STATE, paths.cache() / "bin")
SPACE = "lab-test"
ONE, OTHER = (cluster.name for cluster in LAB.clusters[:2])
SPIRE_NODE = LAB.cluster(OTHER).nodes[1]

HELLO = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {SPACE}, labels: {{fedmesh.dev/platform: ""}}}} # its pods go to the nodes of SPIRE's server
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: hello, namespace: {SPACE}}}
spec:
  selector: {{matchLabels: {{app: hello}}}}
  template:
    metadata: {{labels: {{app: hello}}}}
    spec:
      tolerations: [{{operator: Exists}}]
      terminationGracePeriodSeconds: 0
      containers:
        - name: hello
          image: docker.io/istio/examples-helloworld-v1:1.0
          imagePullPolicy: IfNotPresent
          readinessProbe: {{httpGet: {{path: /hello, port: 5000}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: hello, namespace: {SPACE}}}
spec: {{type: LoadBalancer, selector: {{app: hello}}, ports: [{{port: 80, targetPort: 5000}}]}}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: {SPACE}}}
provisioner: fedmesh.dev/local
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data, namespace: {SPACE}}}
spec: {{storageClassName: {SPACE}, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: disk, namespace: {SPACE}}}
spec:
  nodeSelector: {{dedicated: spire-server}}
  tolerations: [{{operator: Exists}}]
  terminationGracePeriodSeconds: 0
  containers:
    - name: disk
      image: docker.io/curlimages/curl:8.16.0
      imagePullPolicy: IfNotPresent
      command: [sh, -c, "echo started >> /data/log; sleep 100000"]
      readinessProbe: {{exec: {{command: ["true"]}}, periodSeconds: 1}}
      volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}]
"""


def get(cluster: str, kind: str, path: str) -> list[str]:
    return kubectl(cluster, "-n", SPACE, "get", kind, "-o", f"jsonpath={{{path}}}").split()


def call(cluster: str, target: str, form: str = "") -> str:
    """What a pod of `cluster` gets from `target`."""
    command = ["curl", "-sS", "--max-time", "8", *(["-o", "/dev/null", "-w", form] if form else []), target]
    return kubectl(cluster, "-n", SPACE, "exec", "disk", "--", *command)


def lab(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "testbed.lab", *words], cwd=PROJECT, check=True)


def eventually(condition: Callable[[], bool], within: float = 60.0) -> bool:
    try:
        wait_until(condition, within, str, 0.5)
    except TimeoutError:
        return False
    return True


@pytest.fixture(scope="module", autouse=True)
def pods() -> Iterator[None]:
    try:
        for cluster in (ONE, OTHER):
            kubectl(cluster, "apply", "-f", "-", given=HELLO)
        for cluster in (ONE, OTHER):
            kubectl(cluster, "-n", SPACE, "rollout", "status", "daemonset/hello", "--timeout=90s")
            kubectl(cluster, "-n", SPACE, "wait", "--for=condition=Ready", "pod/disk", "--timeout=90s")
        yield
    finally:
        for cluster in (ONE, OTHER):
            kubectl(cluster, "delete", "--ignore-not-found", "--wait=true", "-f", "-", given=HELLO)


@pytest.fixture
def healed() -> Iterator[None]:
    yield
    faults.heal(LEVER, LAB.cluster(OTHER).nodes)


def load_balancer(cluster: str) -> str:
    return get(cluster, "service/hello", ".status.loadBalancer.ingress[0].ip")[0]


def test_every_node_is_labelled_and_tainted_as_configured() -> None:
    for cluster, node in LAB.nodes():
        seen = yaml.safe_load(kubectl(cluster.name, "get", "node", node.name, "-o", "yaml"))
        assert dict(node.labels).items() <= seen["metadata"]["labels"].items()
        assert [
            {key: taint[key] for key in ("key", "value", "effect")}
            for taint in seen["spec"].get("taints", ())
        ] == [dict(taint) for taint in node.taints]


def test_a_pod_reaches_the_pods_of_every_node_of_its_cluster() -> None:
    addresses = get(ONE, "pods", ".items[?(@.metadata.labels.app=='hello')].status.podIP")
    assert len(addresses) == len(LAB.cluster(ONE).nodes)
    assert all("Hello version" in call(ONE, f"http://{address}:5000/hello") for address in addresses)


def test_a_service_is_found_by_name() -> None:
    assert "Hello version" in call(ONE, f"http://hello.{SPACE}.svc.cluster.local/hello")


def test_a_load_balancers_address_is_reached_from_the_other_cluster_and_from_the_machine() -> None:
    address = load_balancer(OTHER)
    assert "Hello version" in call(ONE, f"http://{address}/hello")
    with urllib.request.urlopen(f"http://{address}/hello", timeout=8) as answer:
        assert b"Hello version" in answer.read()


@pytest.mark.usefixtures("healed")
def test_cut_off_a_cluster_answers_nobody_until_it_is_plugged_in() -> None:
    target = f"http://{load_balancer(OTHER)}/hello"
    faults.cut(LEVER, faults.nodes(LAB, OTHER))
    with pytest.raises(AssertionError, match=r"timed out|Couldn't connect|Failed to connect"):
        call(ONE, target)
    faults.plug_in(LEVER, faults.nodes(LAB, OTHER))
    assert "Hello version" in call(ONE, target)


@pytest.mark.usefixtures("healed")
def test_slow_links_delay_every_answer() -> None:
    target = f"http://{load_balancer(OTHER)}/hello"
    faults.slow(LEVER, faults.nodes(LAB, OTHER), delay=0.3, loss=0.0)
    assert float(call(ONE, target, "%{time_connect}")) >= 0.3
    faults.smooth(LEVER, faults.nodes(LAB, OTHER))
    assert float(call(ONE, target, "%{time_connect}")) < 0.3


@pytest.mark.usefixtures("healed")
def test_a_wrong_clock_is_wrong_for_what_runs_on_the_cluster_and_not_beside_it() -> None:
    def ahead(cluster: str) -> float:
        with urllib.request.urlopen(f"http://{load_balancer(cluster)}/hello", timeout=8) as answer:
            return parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()

    faults.put_clocks(LEVER, faults.nodes(LAB, OTHER), seconds=600)
    assert ahead(OTHER) == pytest.approx(600, abs=5)
    assert ahead(ONE) == pytest.approx(0, abs=5)
    faults.right_clocks(LEVER, faults.nodes(LAB, OTHER))
    assert ahead(OTHER) == pytest.approx(0, abs=5)


@pytest.mark.parametrize("program", ["kubelet", "kube-proxy", "containerd"])
def test_a_killed_program_comes_back(program: str) -> None:
    before = processes.programs(SPIRE_NODE)[program]
    lab("fault", "kill", SPIRE_NODE.name, program)
    assert eventually(lambda: processes.programs(SPIRE_NODE).get(program, before) != before)
    lab("up", "-q")


def test_a_node_that_lost_its_power_comes_back_with_its_volumes() -> None:
    log = ["-n", SPACE, "exec", "disk", "--", "cat", "/data/log"]
    before = kubectl(OTHER, *log)
    faults.stop(LEVER, [SPIRE_NODE])
    assert processes.first(SPIRE_NODE) is None
    lab("up", "-q")

    def restarted() -> bool:
        return get(OTHER, "pod/disk", ".status.containerStatuses[0].restartCount") > ["0"]

    assert eventually(restarted)
    kubectl(OTHER, "-n", SPACE, "wait", "--for=condition=Ready", "pod/disk", "--timeout=60s")
    assert kubectl(OTHER, *log) == before + "started\n"


def test_a_volume_goes_with_its_claim() -> None:
    volume = get(ONE, "pvc/data", ".spec.volumeName")[0]
    folder = next(STATE.cluster(ONE).glob(f"nodes/*/volumes/{volume}"))
    kubectl(ONE, "-n", SPACE, "delete", "pod/disk", "pvc/data")
    assert eventually(lambda: not folder.exists())
