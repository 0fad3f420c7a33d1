"""What goes around the mesh, on recorded objects: strangers' certificates, ports past proxies, leftovers."""

import base64
from types import SimpleNamespace

import pytest
from fedmesh_samples import Authority, FakeApi, pem, pod

from fedmesh import certs
from fedmesh.probe import Janitor
from fedmesh.reading import LiveCluster
from fedmesh.topology import Member
from fedmesh.verify import strangers
from fedmesh.verify.model import Check, Failed, Mesh, Severity, Warned
from fedmesh.verify.reading_only import ReadOnly, read_only
from fedmesh.verify.runner import examine

ROOT, OTHER = Authority("root.example"), Authority("other.example")
ROOTS = {certs.fingerprint(ROOT.certificate)}


def request(namespace, name, username, authority=ROOT, certificate=None):
    encoded = base64.b64encode(pem(authority.certificate)).decode()
    annotations = {strangers.CERTIFICATE_NAME: certificate} if certificate else {}
    return {
        "metadata": {"namespace": namespace, "name": name, "annotations": annotations},
        "spec": {"username": username},
        "status": {"ca": encoded},
    }


CERT_MANAGER = "system:serviceaccount:cert-manager:cert-manager"
OWN = [
    request("spire", "ca-1", strangers.SPIRE_SERVER),
    request("spire", "spire-root-1", CERT_MANAGER, certificate="spire-root"),
    request("istio-system", "cacerts-1", CERT_MANAGER, certificate="cacerts"),
    request("shop", "web-1", CERT_MANAGER, authority=OTHER, certificate="web"),
]


def test_what_spire_and_istiod_asked_for_is_the_meshs_own():
    assert strangers.judge_requests([], OWN, ROOTS) == "3 requests under 1 roots"


@pytest.mark.parametrize(
    "stranger",
    [
        request("shop", "web-1", CERT_MANAGER, certificate="web"),
        request("spire", "web-1", CERT_MANAGER, certificate="web"),
        request("spire", "web-1", "system:serviceaccount:shop:web", certificate="spire-root"),
        request("shop", "web-1", strangers.SPIRE_SERVER),
        request("shop", "web-1", "", certificate="spire-root"),
    ],
)
def test_any_other_certificate_under_a_root_is_named_with_who_asked(stranger):
    with pytest.raises(Failed, match=r"CertificateRequest (shop|spire)/web-1 of .+ was signed"):
        strangers.judge_requests([], [*OWN, stranger], ROOTS)


def test_a_certificate_beside_the_roots_is_named_before_it_is_signed():
    made = [{"metadata": {"namespace": "spire", "name": name}} for name in ("spire-root", "mine")]
    with pytest.raises(Failed, match="Certificate spire/mine is not one"):
        strangers.judge_requests(made, OWN, ROOTS)


@pytest.mark.parametrize(
    ("key", "value", "past"),
    [
        ("traffic.sidecar.istio.io/excludeInboundPorts", "80", True),
        ("traffic.sidecar.istio.io/excludeInboundPorts", "", False),
        ("traffic.sidecar.istio.io/excludeInboundPorts", "15020,15090", False),
        ("traffic.sidecar.istio.io/excludeInboundPorts", "15020,8080", True),
        ("traffic.sidecar.istio.io/includeInboundPorts", "", True),
        ("traffic.sidecar.istio.io/includeInboundPorts", "*", False),
        ("traffic.sidecar.istio.io/kubevirtInterfaces", "net1", True),
        ("traffic.sidecar.istio.io/excludeInterfaces", "eth1", True),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "443", False),
        ("sidecar.istio.io/interceptionMode", "NONE", True),
        ("sidecar.istio.io/interceptionMode", "REDIRECT", False),
        ("istio.io/reroute-virtual-interfaces", "net1", True),
        ("status.sidecar.istio.io/port", "8080", True),
        ("status.sidecar.istio.io/port", "15020", False),
        ("proxy.istio.io/config", "interceptionMode: NONE", True),
        ("proxy.istio.io/config", "{statusPort: 8080}", True),
        ("proxy.istio.io/config", "{concurrency: 2, interceptionMode: REDIRECT}", False),
    ],
)
def test_annotations_that_lead_past_the_proxy(key, value, past):
    assert strangers.takes_past(key, value) is past
    annotated = pod("a")
    annotated["metadata"]["annotations"] = {key: value}
    if past:
        with pytest.raises(Failed, match="of sleep/a is"):
            strangers.judge_pods([annotated])
    else:
        assert strangers.judge_pods([annotated]) == "1 pods"


def test_a_pod_without_a_proxy_is_a_warning():
    bare = pod("bare")
    bare["spec"]["initContainers"] = []
    with pytest.raises(Warned, match=r"without a proxy: sleep/bare$"):
        strangers.judge_pods([pod("a"), bare])


@pytest.mark.parametrize(
    ("labels", "member"),
    [
        ({"istio-injection": "enabled"}, True),
        ({"istio.io/rev": "v1-32"}, True),
        ({"istio.io/rev": "v1-32", "istio-injection": "disabled"}, False),
        ({}, False),
    ],
)
def test_a_namespace_is_in_the_mesh_by_its_labels(labels, member):
    assert strangers.in_mesh(labels) is member


def istiod(revision):
    return {
        "metadata": {
            "name": f"istiod-{revision}",
            "namespace": "istio-system",
            "labels": {"app": "istiod", "istio.io/rev": revision},
        }
    }


def of_revision(revision):
    made = pod("a")
    made["metadata"]["annotations"] = {"istio.io/rev": revision}
    return made


def test_an_istiod_that_no_pod_uses_is_left_over():
    both = [istiod("default"), istiod("v1-32")]
    moving = [of_revision("default"), of_revision("v1-32")]
    assert strangers.judge_leftovers(both, [], moving) == "2 revisions of istiod"
    with pytest.raises(Failed, match="istiod-default makes the proxy of no pod"):
        strangers.judge_leftovers(both, [], [of_revision("v1-32")])
    assert strangers.judge_leftovers([istiod("default")], [], []) == "no leftovers"


def test_the_gateways_and_the_issuer_of_version_0_1_are_left_over():
    gateway = {"metadata": {"name": "istio-ingressgateway", "namespace": "istio-system", "labels": {}}}
    with pytest.raises(Failed, match="gateway istio-system/istio-ingressgateway of version"):
        strangers.judge_leftovers([gateway], [], [])
    with pytest.raises(Failed, match="selfsigned-ca"):
        strangers.judge_leftovers([], [{"metadata": {"name": "selfsigned-ca"}}], [])


def cluster_of(api):
    return LiveCluster(Member("cluster-1", "td", "network-1", None, ""), api)


def test_the_check_reads_the_roots_from_config_maps():
    answers = {
        "/api/v1/namespaces/spire/configmaps/spire-bundle": {
            "data": {"bundle": pem(ROOT.certificate).decode()}
        },
        "/api/v1/namespaces/istio-system/configmaps/istio-ca-root-cert": {
            "data": {"root-cert.pem": pem(OTHER.certificate).decode()}
        },
        "/apis/cert-manager.io/v1/certificates": [],
        "/apis/cert-manager.io/v1/certificaterequests": OWN,
    }
    with pytest.raises(Failed, match="CertificateRequest shop/web-1"):
        strangers.certificates_are_own.examine(SimpleNamespace(), cluster_of(FakeApi(answers)))


@pytest.mark.parametrize(
    "act",
    [
        lambda api: api.exec("spire", "spire-server-0", "spire-server", ["id"]),
        lambda api: api.create("/api/v1/namespaces/default/pods", {}),
        lambda api: api.patch("/api/v1/namespaces/default", {}),
        lambda api: api.delete("/api/v1/namespaces/default"),
        lambda api: api.items("/api/v1/namespaces/istio-system/secrets", labelSelector="a"),
        lambda api: api.get("/api/v1/namespaces/spire/secrets/spire-root"),
    ],
)
def test_a_reader_does_nothing_but_read_and_says_what_it_does_not_see(act):
    never = FakeApi({}, run=lambda *_: pytest.fail("a command was run"))
    with pytest.raises(Warned, match="not seen with --read-only"):
        act(ReadOnly(never))
    assert (never.created, never.deleted) == ([], [])


def test_what_a_reader_does_not_see_is_a_warning_and_never_passes():
    def look(_mesh, cluster):
        cluster.run(pod("a"), "istio-proxy", ["true"])
        return "fine"

    cluster = read_only(cluster_of(FakeApi({}, run=lambda *_: pytest.fail("a command was run"))))
    result = examine(Mesh(None, {}, None), Check("x", look, "hint"), cluster)
    assert (result.ok, result.severity, result.fatal) == (False, Severity.WARNING, False)
    assert "a command is run in sleep/a" in result.detail


def test_a_reader_who_made_nothing_has_nothing_to_remove():
    api = ReadOnly(FakeApi())
    janitor = Janitor()
    with pytest.raises(Warned):
        janitor.create(api, "/api/v1/namespaces/default/pods", {"kind": "Pod", "metadata": {"name": "probe"}})
    assert janitor.clean() == []
