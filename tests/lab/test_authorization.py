"""Default-deny on the live mesh: what the platform needs works, strangers are refused."""

import pytest

from components.kube.manifests import load_one
from fedmesh import curl
from fedmesh.probe import CONTAINER, NAMESPACE, Janitor, start_outsider, wait_for
from fedmesh.reading import LiveCluster, is_ready
from fedmesh.topology import CLIENT, GATEWAY_NAMESPACE, SERVER, SERVER_PORT
from fedmesh.verify.security import certificate_of, image_of
from fedmesh.verify.traffic import client_pod

SECURITY = "/apis/security.istio.io/v1/namespaces"
PROMETHEUS = "/api/v1/namespaces/observability/services/http:prometheus:http/proxy/api/v1/query"
# in the order of components/mesh/authorization.py: what is allowed first
FILES = ("gateways", "samples", "default-deny")
STRANGER = f"ns/{CLIENT}/sa/stranger"
SECONDS = 20.0


@pytest.fixture
def denying(patient):
    """The mesh with default-deny on both clusters, until the test ends."""
    for number in (1, 2):
        for file in FILES:
            policy = load_one(f"authorization/{file}.yaml")
            patient.make(
                f"{SECURITY}/{policy['metadata']['namespace']}/authorizationpolicies", policy, number
            )
    return patient


@pytest.fixture
def janitor():
    made = Janitor()
    yield made
    assert made.clean() == []


def fresh(patient, number=1):
    cluster = patient.clusters[f"cluster-{number}"]
    return LiveCluster(cluster.member, cluster.api)


class Outsider:
    """A pod outside the mesh that calls helloworld with the certificate of any account."""

    def __init__(self, janitor, cluster):
        self.cluster = cluster
        self.pod = start_outsider(janitor, cluster, image_of(client_pod(cluster)))["metadata"]["name"]

    def call(self, account):
        server = fresh_server(self.cluster)
        identity = f"spiffe://{self.cluster.member.trust_domain}/{account}"
        pem = self.cluster.once(account, lambda: certificate_of(self.cluster, identity, 120))
        url = f"https://{server['status']['podIP']}:{SERVER_PORT}/hello"
        words = curl.command_with_identity(url, pem, "-k")
        return curl.parse(self.cluster.api.exec(NAMESPACE, self.pod, CONTAINER, words, stdin=pem)).status

    def until(self, account, status):
        """Waits for a status: a policy reaches a proxy a moment after its creation."""
        complaint = f"{account} is not answered {status}"
        wait_for(lambda: self.call(account) == status or None, complaint, SECONDS)


def fresh_server(cluster):
    """A ready pod of helloworld, read anew."""
    pods = LiveCluster(cluster.member, cluster.api).pods(SERVER, app=SERVER)
    return next(pod for pod in pods if is_ready(pod))


def test_a_stranger_is_refused_until_the_owner_allows_him(denying, janitor):
    outsider = Outsider(janitor, fresh(denying))
    outsider.until(STRANGER, 403)
    assert outsider.call(f"ns/{CLIENT}/sa/{CLIENT}") == 200
    assert outsider.call(f"ns/{GATEWAY_NAMESPACE}/sa/istio-ingressgateway") == 200
    allowed = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "fault-stranger", "namespace": SERVER},
        "spec": {"rules": [{"from": [{"source": {"principals": [f"*/{STRANGER}"]}}]}]},
    }
    denying.make(f"{SECURITY}/{SERVER}/authorizationpolicies", allowed)
    outsider.until(STRANGER, 200)


def test_without_default_deny_a_stranger_of_the_mesh_is_let_in(patient, janitor):
    assert Outsider(janitor, fresh(patient)).call(STRANGER) == 200


@pytest.mark.parametrize(
    "check",
    [
        "sleep reaches every version of helloworld",
        "calls across clusters carry both trust domains' identities",
        "istiod reads every other cluster",
        "plaintext from outside the mesh is refused",
    ],
)
def test_the_meshs_own_calls_go_on(denying, janitor, check):
    Outsider(janitor, fresh(denying)).until(STRANGER, 403)
    assert denying.ask(check).ok, denying.ask(check).detail


def test_users_reach_the_sample_by_the_ingress_gateway(denying, janitor):
    cluster = fresh(denying)
    outsider = Outsider(janitor, cluster)
    outsider.until(STRANGER, 403)
    service = next(
        each
        for each in cluster.services(GATEWAY_NAMESPACE)
        if each["metadata"]["name"] == "istio-ingressgateway"
    )
    words = curl.command(f"http://{service['spec']['clusterIP']}/hello")
    assert curl.parse(cluster.api.exec(NAMESPACE, outsider.pod, CONTAINER, words)).status == 200


def test_a_new_pod_is_ready_and_scraped(denying, janitor):
    """Neither the kubelet's probes nor Prometheus have an identity."""
    Outsider(janitor, fresh(denying)).until(STRANGER, 403)
    old = fresh_server(fresh(denying))["metadata"]["name"]
    denying.api().delete(f"/api/v1/namespaces/{SERVER}/pods/{old}", gracePeriodSeconds="1")

    def replaced():
        pods = fresh(denying).pods(SERVER, app=SERVER)
        return next((pod for pod in pods if is_ready(pod) and pod["metadata"]["name"] != old), None)

    new = wait_for(replaced, "no new pod of helloworld gets ready", 60.0)["metadata"]["name"]
    expression = f'up{{job="proxies", pod="{new}"}} == 1'

    def scraped():
        return denying.api().get(PROMETHEUS, query=expression)["data"]["result"] or None

    wait_for(scraped, f"Prometheus does not read the proxy of {new}", 60.0, 1.0)
