"""Certificates of two minutes, renewed every minute, for half an hour: no call is lost and discovery goes on.

What one cluster holds for another are the SVIDs of its istiod and its proxies. MINUTES=5 for a shorter run.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict

import pytest

from fedmesh.defaults import LOAD_IMAGE
from fedmesh.drill.load import Caller, Load, LoadPod, Rate
from fedmesh.drill.renewal import certificates
from fedmesh.probe import Janitor, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3600)]
MINUTES = float(os.environ.get("MINUTES", "30"))
LIFE = 120.0
SPIFFE_IDS = "/apis/spire.spiffe.io/v1alpha1/clusterspiffeids"
NAMES = ("mesh-workloads", "istiod")
SERVICES = "/api/v1/namespaces/helloworld/services"
APP, FAR = "helloworld", "renewals-far"
READERS = "istio-remote-access/"
# Seconds until a cluster's proxies know a Service that appeared in another one.
DISCOVERED = 5.0
LOOK = 10.0


@pytest.fixture
def janitor():
    made = Janitor()
    yield made
    assert made.clean() == []


@pytest.fixture
def short_lived(patient):
    """Every certificate of the mesh lives two minutes, and is renewed after one."""
    for number in (1, 2):
        for name in NAMES:
            path = f"{SPIFFE_IDS}/{name}"
            old = patient.api(number).get(path)["spec"].get("ttl")
            patient.change(path, {"spec": {"ttl": f"{LIFE:.0f}s"}}, {"spec": {"ttl": old}}, number)
    for cluster in patient.clusters.values():
        wait_for(lambda cluster=cluster: renewed(cluster), f"{cluster.name} keeps its lifetimes", 120.0)
    return patient


def renewed(cluster):
    """The certificates of the mesh's pods, once all are short-lived. SPIRE backdates them by some seconds."""
    held = certificates(cluster)
    lives = [leaf.not_valid_after_utc - leaf.not_valid_before_utc for leaf in held.values()]
    return held if held and max(lives).total_seconds() < LIFE + 30 else None


def service(name):
    """A Service of helloworld's pods, in the cluster in which it is created."""
    ports = [{"name": "http", "port": 5000}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": APP}, "ports": ports},
    }


def load(name):
    return Load(name, name, f"http://{name}.helloworld:5000/hello")


def test_renewals_lose_no_call_and_discovery_goes_on(short_lived, janitor):
    here, there = (short_lived.clusters[f"cluster-{number}"] for number in (1, 2))
    janitor.create(there.api, SERVICES, service(FAR))
    pod = LoadPod.start(janitor, here, LOAD_IMAGE, Caller(), injected=True)
    proxy = next(
        each for each in here.fresh().mesh_pods() if each["metadata"]["name"].startswith("fedmesh-drill")
    )

    def known(name):
        return f"outbound|5000||{name}.helloworld.svc" in here.proxy(proxy, "clusters") or None

    wait_for(lambda: known(FAR), "the other cluster's service has no name here", 30.0)
    loads = (load(APP), load(FAR))
    began = time.time()
    for each in loads:
        pod.fire(each, Rate(10, 5.0, MINUTES * 60), each.name)
    seen = defaultdict(set)
    delays = []
    while time.time() < began + MINUTES * 60:
        look = time.time()
        for cluster in (here, there):
            for name, leaf in certificates(cluster).items():
                seen[f"{cluster.name}/{name}"].add(leaf.serial_number)
        name = f"renewals-{look:.0f}"
        created = time.monotonic()
        path = f"{SERVICES}/{janitor.create(there.api, SERVICES, service(name))['metadata']['name']}"
        wait_for(lambda name=name: known(name), f"{name} is not discovered", 60.0, 0.2)
        delays.append(time.monotonic() - created)
        there.api.delete(path)
        time.sleep(max(0.0, look + LOOK - time.time()))
    time.sleep(6.0)
    answers = {each.name: pod.collect(each, began) for each in loads}
    lost = {name: [each for each in samples if each.lost] for name, samples in answers.items()}
    counts = sorted(len(serials) for name, serials in seen.items() if READERS in name)
    print(
        f"\n{MINUTES:g} minutes: calls { ({name: len(each) for name, each in answers.items()}) }, "
        f"lost { ({name: len(each) for name, each in lost.items()}) }; certificates of each pod "
        f"{min(map(len, seen.values()))} to {max(map(len, seen.values()))}, of the readers {counts}; "
        f"{len(delays)} services discovered, the slowest after {max(delays):.1f} s"
    )
    assert not any(lost.values()), lost
    assert {each.by for each in answers[FAR]} == {"cluster-2"}, "calls of the second load cross the clusters"
    assert max(delays) < DISCOVERED
    assert min(counts) >= MINUTES * 60 / (LIFE / 2) * 0.8, (
        "the readers' certificates were renewed every minute"
    )
