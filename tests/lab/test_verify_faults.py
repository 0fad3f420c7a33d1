"""Faults made on purpose on the live mesh: verify names the cause of each, with a hint."""

import base64
import time

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding

from fedmesh import certs
from fedmesh.attack.rights import refusal
from fedmesh.probe import wait_for
from fedmesh.topology import Member, Topology
from fedmesh.verify.command import examine
from fedmesh.verify.configuration import PLACES
from fedmesh.verify.istio import NETWORK_LABEL

ISTIO = "/api/v1/namespaces/istio-system"
GATEWAYS = "/api/v1/namespaces/istio-gateways"
NETWORKING = "/apis/networking.istio.io/v1/namespaces"
SECURITY = "/apis/security.istio.io/v1/namespaces"
CERTS = "/apis/cert-manager.io/v1/namespaces"
TRUSTS = "/apis/spire.spiffe.io/v1alpha1/clusterfederatedtrustdomains"
SERVER = "/apis/apps/v1/namespaces/spire/statefulsets/spire-server"
SPIRE_SERVER = "/opt/spire/bin/spire-server"


def named(result, cause):
    """A failed result that tells a cause and what to do about it."""
    assert not result.ok
    assert cause in result.detail
    assert result.hint


def meta(name, namespace=None, **more):
    return {"name": name, **({"namespace": namespace} if namespace else {}), **more}


def test_an_api_server_that_does_not_answer(topology, tmp_path):
    text = topology.members[1].kubeconfig.read_text()
    config = yaml.safe_load(text)
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    dead = tmp_path / "kubeconfig"
    dead.write_text(yaml.safe_dump(config))
    second = topology.members[1]
    members = (
        topology.members[0],
        Member(second.name, second.trust_domain, second.network, dead, second.context),
    )
    results = {(r.name, r.cluster): r for r in examine(Topology("lab", members))}
    named(results["API server answers", "cluster-2"], "https://127.0.0.1:1 does not answer")
    assert results["nodes are ready", "cluster-1"].ok


def test_an_issuer_without_its_secret(patient):
    issuer = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Issuer",
        "metadata": meta("fault"),
        "spec": {"ca": {"secretName": "fault-is-not-there"}},
    }
    patient.make(f"{CERTS}/sleep/issuers", issuer)
    named(patient.says("issuers are ready", "fault-is-not-there"), "fault-is-not-there")


def certificate(name):
    return {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": meta(name),
        "spec": {
            "secretName": name,
            "commonName": name,
            "issuerRef": {"name": "nobody", "kind": "Issuer", "group": "cert-manager.io"},
        },
    }


def test_a_certificate_that_is_not_issued(patient):
    patient.make(f"{CERTS}/sleep/certificates", certificate("fault"))
    named(patient.says("certificates are ready", "sleep/fault"), "sleep/fault")


def test_an_expired_certificate(patient):
    patient.scale("/apis/apps/v1/namespaces/cert-manager/deployments/cert-manager", 0)
    until_gone(patient, "/api/v1/namespaces/cert-manager/pods", "app.kubernetes.io/name=cert-manager")
    patient.make(f"{CERTS}/sleep/certificates", certificate("expired"))
    now = time.time()
    status = {
        "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": stamp(now), "reason": "Ready"}
        ],
        "notAfter": stamp(now - 3600),
    }
    patient.api().patch(f"{CERTS}/sleep/certificates/expired/status", {"status": status})
    named(patient.ask("certificates are ready"), "sleep/expired expired 1h")


def stamp(moment):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def until_gone(patient, path, selector, number=1):
    for _ in range(100):
        if not patient.api(number).items(path, labelSelector=selector):
            return
        time.sleep(0.3)
    pytest.fail(f"{selector} does not go away")


def bundles(patient, *words, stdin=None):
    return patient.api().exec(
        "spire", "spire-server-0", "spire-server", [SPIRE_SERVER, "bundle", *words], stdin=stdin
    )


@pytest.fixture
def bundle_put_back(patient):
    """Puts the peer's bundle back by hand, as no refresh can: it is what the refresh trusts."""
    domain = "spiffe://wsc-cluster2.com"
    held = bundles(patient, "list", "-id", domain, "-format", "spiffe").stdout
    assert "keys" in held
    patient.undo.push(
        "set the bundle", lambda: bundles(patient, "set", "-id", domain, "-format", "spiffe", stdin=held)
    )
    return domain


BUNDLES = "trust bundles of all peers are held and equal their origin's"


@pytest.mark.usefixtures("bundle_put_back")
def test_a_bundle_that_is_old(patient):
    foreign = certs.parse_chain(certs.forge("spiffe://wsc-cluster2.com/x").pem.encode())[1]
    pem = "-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(foreign.public_bytes(Encoding.DER)).decode()
    done = bundles(
        patient, "set", "-id", "spiffe://wsc-cluster2.com", stdin=pem + "-----END CERTIFICATE-----\n"
    )
    assert done.code == 0, done.stderr
    named(patient.ask(BUNDLES), "lacks 1 of 1 authorities")


def test_a_bundle_that_is_missing(patient, bundle_put_back):
    done = bundles(patient, "delete", "-id", bundle_put_back, "-mode", "dissociate")
    assert done.code == 0, done.stderr
    named(patient.ask(BUNDLES), "the bundle of wsc-cluster2.com is missing")


def test_a_relationship_that_is_missing(patient):
    patient.remove(f"{TRUSTS}/cluster-2")
    named(
        patient.says("federation names the peers' bundle endpoints", "no relationship"),
        "there is no relationship with wsc-cluster2.com",
    )


def test_a_relationship_with_an_old_address(patient):
    path = f"{TRUSTS}/cluster-2"
    url = patient.api().get(path)["spec"]["bundleEndpointURL"]
    patient.change(
        path,
        {"spec": {"bundleEndpointURL": "https://10.90.0.250:8443"}},
        {"spec": {"bundleEndpointURL": url}},
    )
    named(
        patient.ask("federation names the peers' bundle endpoints"),
        "is asked at https://10.90.0.250:8443, but is at",
    )


def test_a_trust_domain_that_istiod_does_not_accept(patient):
    path = f"{ISTIO}/configmaps/istio"
    text = patient.api().get(path)["data"]["mesh"]
    wrong = yaml.safe_load(text)
    wrong["caCertificates"] = [{"trustDomains": ["wsc-cluster9.com"]}]
    patient.change(path, {"data": {"mesh": yaml.safe_dump(wrong)}}, {"data": {"mesh": text}})
    named(
        patient.ask("istiod accepts the trust domains of all peers"),
        "wsc-cluster2.com is not accepted",
    )


SECRET = f"{ISTIO}/secrets/istio-remote-secret-cluster-2"
BARE = "remote secrets hold no credentials of peers"


def test_a_remote_secret_with_a_token(patient):
    encoded = patient.api().get(SECRET)["data"]["cluster-2"]
    kubeconfig = yaml.safe_load(base64.b64decode(encoded))
    kubeconfig["users"][0]["user"]["token"] = "of-a-peer"
    with_token = base64.b64encode(yaml.safe_dump(kubeconfig).encode()).decode()
    patient.change(SECRET, {"data": {"cluster-2": with_token}}, {"data": {"cluster-2": encoded}})
    named(patient.ask(BARE), "the remote secret for cluster-2 holds token")


def test_a_remote_secret_that_is_missing(patient):
    patient.remove(SECRET)
    named(patient.ask(BARE), "there is no remote secret for cluster-2")
    named(patient.says("istiod reads every other cluster", "no remote secret"), "istiod has no remote secret")


def test_a_namespace_with_the_wrong_network(patient):
    patient.change(
        "/api/v1/namespaces/istio-system",
        {"metadata": {"labels": {NETWORK_LABEL: "network-9"}}},
        {"metadata": {"labels": {NETWORK_LABEL: "network-1"}}},
    )
    named(
        patient.ask("istio-system is labelled with its network"),
        f"{NETWORK_LABEL} is network-9, not network-1",
    )


def test_an_east_west_gateway_of_the_wrong_network(patient):
    patient.change(
        f"{GATEWAYS}/services/istio-eastwestgateway",
        {"metadata": {"labels": {NETWORK_LABEL: "network-9"}}},
        {"metadata": {"labels": {NETWORK_LABEL: "network-1"}}},
    )
    named(
        patient.ask("the east-west gateway has an address"),
        f"no Service with label {NETWORK_LABEL}=network-1",
    )


def test_an_east_west_gateway_without_an_address(patient):
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta("fault", labels={NETWORK_LABEL: "network-1"}),
        "spec": {"ports": [{"name": "tls", "port": 15443}], "selector": {"app": "nobody"}},
    }
    patient.make(f"{GATEWAYS}/services", service)
    patient.change(
        f"{GATEWAYS}/services/istio-eastwestgateway",
        {"metadata": {"labels": {NETWORK_LABEL: None}}},
        {"metadata": {"labels": {NETWORK_LABEL: "network-1"}}},
    )
    named(patient.ask("the east-west gateway has an address"), "fault has no address yet")


def test_a_node_without_locality(patient):
    path = "/api/v1/nodes/cluster-1-general"
    region = patient.api().get(path)["metadata"]["labels"][PLACES[0]]
    patient.change(
        path, {"metadata": {"labels": {PLACES[0]: None}}}, {"metadata": {"labels": {PLACES[0]: region}}}
    )
    named(patient.ask("nodes name their region and zone"), f"cluster-1-general has no label {PLACES[0]}")


def test_a_pod_without_the_spire_template(patient):
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        # by hand: every injection template of the platform has SPIRE's socket
        "metadata": meta("fault", labels={"sidecar.istio.io/inject": "false"}),
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "istio-proxy",
                    "image": "docker.io/curlimages/curl:8.16.0",
                    "command": ["sleep", "300"],
                }
            ],
            "volumes": [{"name": "workload-socket", "emptyDir": {}}],
        },
    }
    patient.make("/api/v1/namespaces/sleep/pods", pod)
    named(
        patient.says("mesh pods are injected with the spire template", "sleep/fault"),
        "sleep/fault has no socket of SPIRE",
    )


def test_agents_that_are_down(patient):
    path = "/apis/apps/v1/namespaces/spire/daemonsets/spire-agent"
    nobody = {"spec": {"template": {"spec": {"nodeSelector": {"no-such": "node"}}}}}
    back = {"spec": {"template": {"spec": {"nodeSelector": None}}}}
    patient.change(path, nobody, back)
    named(patient.says("SPIRE agents are attested on every node", "no node is covered"), "no node is covered")


def test_an_agent_that_was_evicted(patient):
    spire = "/api/v1/namespaces/spire/pods"
    agent = next(
        pod
        for pod in patient.api().items(spire, labelSelector="app=spire-agent")
        if pod["spec"]["nodeName"] == "cluster-1-general"
    )
    entry = next(
        found
        for found in patient.clusters["cluster-1"].agents()
        if found.node == patient.api().get("/api/v1/nodes/cluster-1-general")["metadata"]["uid"]
    )
    words = [SPIRE_SERVER, "agent", "evict", "-spiffeID", entry.spiffe_id]
    assert patient.api().exec("spire", "spire-server-0", "spire-server", words).code == 0
    named(
        patient.ask("SPIRE agents are attested on every node"),
        "no attested agent on cluster-1-general",
    )
    patient.api().delete(f"{spire}/{agent['metadata']['name']}", gracePeriodSeconds="1")
    patient.heals("SPIRE agents are attested on every node")


def test_a_spire_server_that_is_away(patient):
    patient.scale(SERVER, 0)
    until_gone(patient, "/api/v1/namespaces/spire/pods", "app=spire-server")
    named(patient.ask(BUNDLES), "no running pod in namespace spire has a container spire-server")


def test_an_istiod_that_is_away(patient):
    patient.scale("/apis/apps/v1/namespaces/istio-system/deployments/istiod", 0)
    until_gone(patient, f"{ISTIO}/pods", "app=istiod")
    named(patient.ask("istiod reads every other cluster"), "no pod of istiod is running")


def test_a_kind_that_is_missing(patient):
    patient.remove(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/authorizationpolicies.security.istio.io"
    )
    named(
        patient.says("the mesh's kinds are installed", "authorizationpolicies"),
        "security.istio.io/v1 has no authorizationpolicies",
    )


def test_a_port_that_does_not_say_its_protocol(patient):
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta("fault"),
        "spec": {"ports": [{"name": "web", "port": 80}], "selector": {"app": "sleep"}},
    }
    patient.make("/api/v1/namespaces/sleep/services", service)
    named(patient.ask("ports in the mesh name their protocol"), "port 80 (web) of sleep/fault")


def permissive():
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": meta("fault"),
        "spec": {"mtls": {"mode": "PERMISSIVE"}},
    }


def test_a_namespace_that_takes_plaintext(patient):
    patient.make(f"{SECURITY}/helloworld/peerauthentications", permissive())
    named(patient.ask("mutual TLS is strict in the whole mesh"), "helloworld/fault is PERMISSIVE")
    named(
        patient.says("plaintext from outside the mesh is refused", "answered with 200"),
        "plaintext was answered with 200",
    )


def test_a_service_that_is_away(patient):
    patient.scale("/apis/apps/v1/namespaces/helloworld/deployments/helloworld-v1", 0)
    until_gone(patient, "/api/v1/namespaces/helloworld/pods", "app=helloworld")
    named(
        patient.ask("plaintext from outside the mesh is refused"),
        "no pod of helloworld is running",
    )


OWN = "certificates of the mesh's roots are the mesh's own"


@pytest.mark.parametrize("namespace", ["spire", "istio-system"])
def test_a_certificate_of_a_stranger_under_a_root(patient, namespace):
    issuer = "spire-root" if namespace == "spire" else "istiod-root"
    body = certificate("fault-stranger")
    body["spec"]["issuerRef"]["name"] = issuer
    secret = f"/api/v1/namespaces/{namespace}/secrets/fault-stranger"
    patient.undo.push(f"delete {secret}", lambda: patient.api().delete(secret))
    patient.make(f"{CERTS}/{namespace}/certificates", body)
    named(
        patient.says(OWN, "was signed"),
        f"Certificate {namespace}/fault-stranger is not one of the mesh's; CertificateRequest {namespace}/fault",
    )


def test_a_request_of_a_stranger_without_a_certificate(patient):
    request, _ = certs.signing_request()
    body = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "CertificateRequest",
        "metadata": meta("fault-request"),
        "spec": {
            "request": base64.b64encode(request.encode()).decode(),
            "issuerRef": {"name": "spire-root", "kind": "Issuer", "group": "cert-manager.io"},
        },
    }
    patient.make(f"{CERTS}/spire/certificaterequests", body)
    named(patient.says(OWN, "was signed"), "CertificateRequest spire/fault-request of ")


def idle(name, **metadata):
    container = {
        "name": "it",
        "image": "docker.io/curlimages/curl:8.16.0",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "300"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta(name, **metadata),
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }


BEHIND = "every pod of the mesh is behind its proxy"


def test_a_pod_without_a_proxy(patient):
    bare = idle("fault-bare", labels={"sidecar.istio.io/inject": "false"})
    patient.make("/api/v1/namespaces/sleep/pods", bare)
    result = patient.says(BEHIND, "sleep/fault-bare")
    named(result, "without a proxy: sleep/fault-bare")
    assert not result.fatal


def test_a_port_that_is_kept_from_the_proxy(patient):
    # admission refuses it, except where the namespace was exempt when the pod was made
    exempt = {"metadata": {"labels": {"fedmesh.dev/platform": "true"}}}
    patient.change(
        "/api/v1/namespaces/sleep", exempt, {"metadata": {"labels": {"fedmesh.dev/platform": None}}}
    )
    annotations = {"traffic.sidecar.istio.io/excludeInboundPorts": "8080"}
    body = idle("fault-port", annotations=annotations)
    wait_for(lambda: refusal(patient.api(), "pods", body) is None or None, "the label has no effect", 20.0)
    patient.make("/api/v1/namespaces/sleep/pods", body)
    result = patient.says(BEHIND, "excludeInboundPorts of sleep/fault-port")
    named(result, "excludeInboundPorts of sleep/fault-port is '8080'")
    assert result.fatal


def test_a_gateway_of_version_0_1(patient):
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta("istio-ingressgateway"),
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "fault"}},
            "template": {
                "metadata": {"labels": {"app": "fault"}},
                "spec": {"containers": [{"name": "it", "image": "docker.io/curlimages/curl:8.16.0"}]},
            },
        },
    }
    patient.make("/apis/apps/v1/namespaces/istio-system/deployments", deployment)
    named(patient.ask("nothing of an upgrade is left"), "gateway istio-system/istio-ingressgateway")
