"""The real Prometheus of both clusters: what it reads, what its rules say of a healthy mesh and of a broken one."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import urllib3
import yaml
from conftest import PROJECT, kubectl

from fedmesh.connect import connect
from fedmesh.dashboard import Forwarder, find
from testbed.lab import drill_app

pytestmark = pytest.mark.timeout(900)
MANIFESTS = PROJECT / "manifests" / "observability"
EXPRESSIONS = [
    target["expr"]
    for file in sorted((MANIFESTS / "dashboards").glob("*.json"))
    for panel in json.loads(file.read_text())["panels"]
    for target in panel.get("targets", [])
]
# Envoy and our relabelling make these with the first event that they count
WITH_THE_FIRST_EVENT = {
    "mesh_mtls_refused_total",
    "envoy_cluster_upstream_cx_none_healthy",
    "envoy_cluster_outlier_detection_ejections_active",
}
# Istio's own proxies count these; the lab's are upstream Envoys
OF_ISTIOS_PROXY = {"istio_requests_total", "fedmesh:remote_requests:ratio"}
INTERVAL = 2.0
TWO_ROUNDS = 35  # s; each scrape and each evaluation comes every 15
QUIET_AFTER = 420  # s; what the tests before this one did is remembered for up to five minutes

DRILL = f"{sys.executable} -m testbed.fedmesh drill app-503 --before 5 --fault 60 --after 5".split()
# comes with the first answer that no retry mended: the proxies' calls to istiod show that the name is right
MENDED = 'response_code_class="5xx"'
OF_CALLS_TO_ISTIOD = 'envoy_cluster_upstream_rq{response_code_class="2xx"}'


class Prometheus:
    """The HTTP API of one."""

    def __init__(self, url):
        self.url = url

    def api(self, path, **query):
        answer = urllib3.request("GET", f"{self.url}/api/v1/{path}", fields=query, timeout=10, retries=False)
        said = answer.json()
        assert said["status"] == "success"
        return said["data"]

    def query(self, expression):
        return self.api("query", query=expression)["result"]

    def alerts(self, *states, **wanted):
        """The labels of the alerts in these states that have these labels."""
        found = [each["labels"] for each in self.api("alerts")["alerts"] if each["state"] in states]
        return [labels for labels in found if wanted.items() <= labels.items()]

    def raised(self, **wanted):
        """Those that fire or are about to."""
        return self.alerts("pending", "firing", **wanted)

    def firing(self, name, **wanted):
        """Those of one name that fire."""
        return self.alerts("firing", alertname=name, **wanted)

    def rules(self):
        return [rule for group in self.api("rules")["groups"] for rule in group["rules"]]

    def targets(self):
        return self.api("targets", state="active")["activeTargets"]

    def metrics(self, expression):
        """The names of all series that an expression reads."""
        return set(_selected(self.api("parse_query", query=expression)))


def _selected(node):
    if isinstance(node, dict):
        if node.get("type") == "vectorSelector":
            yield node["name"]
        for child in node.values():
            yield from _selected(child)
    elif isinstance(node, list):
        for child in node:
            yield from _selected(child)


@pytest.fixture(scope="module", params=["cluster-1", "cluster-2"])
def prometheus(request, topology):
    yield from served(topology, request.param)


@pytest.fixture(scope="module")
def first(topology):
    yield from served(topology, "cluster-1")


def served(topology, name):
    clusters, unreachable = connect([member for member in topology.members if member.name == name])
    assert not unreachable, unreachable
    api = clusters[name].api
    target = find(api, "prometheus")
    with Forwarder(lambda: api.forward(target.namespace, target.pod, target.port)) as forwarder:
        forwarder.start()
        yield Prometheus(f"http://127.0.0.1:{forwarder.port}")
        forwarder.shutdown()


def eventually(seen, within):
    """The first answer that is not empty, or the last one."""
    return asked(seen, within, until=bool)


def settles(wrong, within):
    """What is still wrong at the end of the time; nothing as soon as nothing is."""
    return asked(wrong, within, until=lambda answer: not answer)


def asked(question, within, until):
    end = time.monotonic() + within
    while not until(answer := question()) and time.monotonic() < end:
        time.sleep(INTERVAL)
    return answer


def test_every_job_has_targets_and_all_of_them_answer(prometheus):
    config = yaml.safe_load((MANIFESTS / "prometheus-config.yaml").read_text())
    wanted = {job["job_name"] for job in config["scrape_configs"]}

    def wrong():
        targets = prometheus.targets()
        down = [
            (each["labels"]["job"], each["scrapeUrl"], each["lastError"])
            for each in targets
            if each["health"] != "up"
        ]
        return down or wanted ^ {each["labels"]["job"] for each in targets}

    assert not settles(wrong, 90)
    assert {each["discoveredLabels"].get("__meta_kubernetes_namespace") for each in prometheus.targets()} >= {
        "istio-system",
        "spire",
        "cert-manager",
        "helloworld",
        "sleep",
    }


def test_every_rule_is_evaluated_and_reads_series_that_there_are(prometheus):
    def unwell():
        return [
            (rule["name"], rule.get("lastError")) for rule in prometheus.rules() if rule["health"] != "ok"
        ]

    rules = prometheus.rules()
    written = yaml.safe_load((MANIFESTS / "alerts.yaml").read_text())["groups"]
    assert len(rules) == sum(len(group["rules"]) for group in written)
    assert not settles(unwell, 60)
    names = set().union(*(prometheus.metrics(rule["query"]) for rule in rules))
    assert names > WITH_THE_FIRST_EVENT
    for cluster in ("cluster-1", "cluster-2"):
        # an API server tells of its checks once somebody asked for them, as load balancers do of others
        kubectl(cluster, "get", "--raw", "/readyz")
    known = names - WITH_THE_FIRST_EVENT - OF_ISTIOS_PROXY
    assert len(known) >= 10
    assert not settles(lambda: {name for name in known if not prometheus.query(name)}, 60)


def test_no_alert_goes_off_on_a_healthy_mesh(prometheus):
    assert settles(prometheus.raised, QUIET_AFTER) == []
    time.sleep(TWO_ROUNDS)
    assert prometheus.raised() == []


def test_a_certificate_that_is_never_issued_is_waited_for(first, patient):
    patient.make(
        "/apis/cert-manager.io/v1/namespaces/sleep/certificates",
        {
            "apiVersion": "cert-manager.io/v1",
            "kind": "Certificate",
            "metadata": {"name": "never", "namespace": "sleep"},
            "spec": {"secretName": "never", "dnsNames": ["never.sleep"], "issuerRef": {"name": "nobody"}},
        },
    )
    never = {"namespace": "sleep", "name": "never"}
    assert eventually(lambda: first.raised(**never), 90)
    time.sleep(TWO_ROUNDS)
    assert {labels["alertname"] for labels in first.raised(**never)} == {"CertificateNotReady"}


def test_plaintext_that_a_member_refuses_is_told(first, patient):
    assert patient.ask("plaintext from outside the mesh is refused").ok
    assert eventually(lambda: first.firing("MtlsRefused", reason="plaintext", side="listener"), 90)


def test_a_failover_is_told_while_it_happens_and_every_picture_has_its_series(first):
    with subprocess.Popen(
        DRILL, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        found = eventually(lambda: first.firing("FailoverHappening"), 120)
        wanted = [
            each
            for each in EXPRESSIONS
            if MENDED not in each and not first.metrics(written(each)) & OF_ISTIOS_PROXY
        ]
        empty = settles(lambda: [each for each in wanted if not first.query(written(each))], 60)
        said, _ = running.communicate(timeout=180)
    assert running.returncode == 0, said
    assert found, said
    assert any(drill_app.NAME in labels["service"] for labels in found)
    assert len(wanted) >= 10
    assert not empty
    assert first.query(OF_CALLS_TO_ISTIOD)


def written(expression):
    """An expression of a dashboard with Grafana's variable filled in."""
    return expression.replace("$__rate_interval", "1m")


def test_the_dashboard_is_on_loopback_on_a_free_port_and_ends_when_told():
    # a job in the background ignores SIGINT, and so would its children
    command = [
        "env",
        "--default-signal=INT",
        sys.executable,
        "-m",
        "fedmesh",
        "dashboard",
        "prometheus",
        "--stack",
        "lab",
        "--cluster",
        "cluster-2",
    ]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as running:
        try:
            line = running.stdout.readline()
            url = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert url, line
            (labels,) = [each["metric"] for each in Prometheus(url[0]).query('up{job="kube-apiserver"}')]
            assert labels["job"] == "kube-apiserver"
            assert _listens(int(url[0].rsplit(":", 1)[1])) == {"0100007F"}
            running.send_signal(signal.SIGINT)
            running.wait(timeout=10)
        finally:
            running.kill()
    assert running.returncode in (0, 130)
    with pytest.raises(urllib3.exceptions.NewConnectionError):
        urllib3.request("GET", url[0], timeout=2, retries=False)


def _listens(port):
    """The addresses, as /proc/net/tcp writes them, on which a port is open."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, here, _, state, *_ = line.split()
            address, opened = here.split(":")
            if state == "0A" and int(opened, 16) == port:
                found.add(address)
    return found
