"""Mistakes in configuration, each named by its cause."""

import base64
from datetime import timedelta

import pytest
import yaml
from fedmesh_samples import NOW, node, pod

from fedmesh.verify import configuration as conf
from fedmesh.verify.cluster import judge_clocks, node_clocks
from fedmesh.verify.model import Failed


def test_a_missing_kind_is_named_with_its_group():
    served = {group: set(kinds) for group, kinds in conf.KINDS.items()}
    assert conf.judge_kinds(served) == "4 groups"
    with pytest.raises(Failed, match=r"nothing of spire.spiffe.io/v1alpha1 is installed"):
        conf.judge_kinds({**served, "spire.spiffe.io/v1alpha1": set()})
    with pytest.raises(Failed, match=r"networking.istio.io/v1 has no serviceentries"):
        kinds = served["networking.istio.io/v1"] - {"serviceentries"}
        conf.judge_kinds({**served, "networking.istio.io/v1": kinds})


def test_a_node_without_a_region_is_named():
    placed = node("a")
    placed["metadata"]["labels"] = dict.fromkeys(conf.PLACES, "region-1")
    assert conf.judge_places([placed]) == "region-1"
    with pytest.raises(Failed, match=r"b has no label topology.kubernetes.io/region"):
        conf.judge_places([placed, node("b")])


@pytest.mark.parametrize(
    "config",
    [
        {"trustDomain": "a", "trustDomainAliases": ["b"]},
        {"trustDomain": "a", "caCertificates": [{"spiffeBundleUrl": "https://x", "trustDomains": ["b"]}]},
    ],
)
def test_a_peer_is_accepted_as_an_alias_or_by_its_bundle(config):
    assert conf.judge_trust_domains(config, "a", ["b"]) == "a, b"


def test_a_wrong_trust_domain_and_a_missing_alias_are_named():
    with pytest.raises(Failed, match=r"trustDomain is cluster.local, not a; b is not accepted"):
        conf.judge_trust_domains({"trustDomain": "cluster.local"}, "a", ["b"])


def remote_secret(peer, token, rotation="true"):
    kubeconfig = {"users": [{"name": peer, "user": {"token": token} if token else {}}]}
    labels = {"istio/multiCluster": rotation}
    return {
        "metadata": {"labels": labels},
        "data": {peer: base64.b64encode(yaml.safe_dump(kubeconfig).encode()).decode()},
    }


def test_remote_secrets_are_there_for_every_peer_and_hold_no_credentials():
    bare = [remote_secret("cluster-2", None), remote_secret("cluster-3", None)]
    assert conf.judge_remote_secrets(bare, {"cluster-2": False, "cluster-3": False}) == "cluster-2, cluster-3"
    with pytest.raises(Failed, match="no remote secret for cluster-4"):
        conf.judge_remote_secrets(bare, {"cluster-4": False})
    with pytest.raises(Failed, match="for cluster-2 holds token"):
        conf.judge_remote_secrets([remote_secret("cluster-2", "t2")], {"cluster-2": False})


def test_the_remote_secret_of_a_drained_peer_is_there_and_not_in_force():
    secrets = [remote_secret("cluster-2", None, "drained"), remote_secret("cluster-3", None)]
    assert conf.judge_remote_secrets(secrets, {"cluster-2": True, "cluster-3": False})
    with pytest.raises(Failed, match="cluster-2 is drained, and not in the stack file"):
        conf.judge_remote_secrets(secrets, {"cluster-2": False, "cluster-3": False})
    with pytest.raises(Failed, match="cluster-3 is in rotation, and drained in the stack file"):
        conf.judge_remote_secrets(secrets, {"cluster-2": True, "cluster-3": True})


def trust(domain, url):
    return {"spec": {"trustDomain": domain, "bundleEndpointURL": url}}


@pytest.mark.parametrize(
    ("trusts", "endpoints", "complaint"),
    [
        ([], {"b": ["10.0.0.1"]}, "there is no relationship with b"),
        (
            [trust("b", "https://10.0.0.9:8443")],
            {"b": ["10.0.0.1"]},
            "asked at https://10.0.0.9:8443, but is at 10",
        ),
        ([trust("b", "https://10.0.0.1:8443")], {"b": []}, "the bundle endpoint of b has no address"),
    ],
)
def test_federation_with_nobody_or_elsewhere_is_named(trusts, endpoints, complaint):
    assert conf.judge_federation([trust("b", "https://10.0.0.1:8443")], {"b": ["10.0.0.1"]}) == "b"
    with pytest.raises(Failed, match=complaint):
        conf.judge_federation(trusts, endpoints)


def test_a_pod_without_spires_socket_is_named():
    injected = pod("good")
    injected["spec"]["volumes"] = [{"name": "workload-socket", "csi": {"driver": "csi.spiffe.io"}}]
    plain = pod("bad")
    plain["spec"]["volumes"] = [{"name": "workload-socket", "emptyDir": {}}]
    assert conf.judge_sockets([injected]) == "1 pods"
    with pytest.raises(Failed, match="sleep/bad has no socket of SPIRE"):
        conf.judge_sockets([injected, plain])


def service(*ports):
    return {"metadata": {"name": "s", "namespace": "n"}, "spec": {"ports": list(ports)}}


def test_ports_say_their_protocol_by_name_or_field():
    good = service(
        {"port": 1, "name": "http"}, {"port": 2, "name": "grpc-x"}, {"port": 3, "appProtocol": "http"}
    )
    assert conf.judge_ports([good]) == "3 ports"
    with pytest.raises(Failed, match=r"port 5000 \(web\) of n/s; port 6000 \(unnamed\) of n/s"):
        conf.judge_ports([service({"port": 5000, "name": "web"}, {"port": 6000})])


def policy(mode, namespace="istio-system", **spec):
    return {"metadata": {"name": "p", "namespace": namespace}, "spec": {"mtls": {"mode": mode}, **spec}}


@pytest.mark.parametrize(
    ("policies", "complaint"),
    [
        ([], "mesh-wide policy is missing"),
        ([policy("PERMISSIVE")], "mesh-wide policy is PERMISSIVE"),
        ([policy("STRICT", selector={"matchLabels": {"a": "b"}})], "mesh-wide policy is missing"),
        ([policy("STRICT"), policy("PERMISSIVE", namespace="helloworld")], "helloworld/p is PERMISSIVE"),
        (
            [policy("STRICT"), policy("STRICT", namespace="x", portLevelMtls={"80": {"mode": "DISABLE"}})],
            "x/p has port 80 at DISABLE",
        ),
    ],
)
def test_mutual_tls_that_is_not_strict_everywhere_is_named(policies, complaint):
    assert conf.judge_strictness([policy("STRICT")]) == "STRICT"
    with pytest.raises(Failed, match=complaint):
        conf.judge_strictness(policies)


def test_clocks_of_clusters_and_nodes_must_agree():
    assert judge_clocks(0.2, {"cluster-2": -0.9}, {"n1": -9.0}) == "within 1 s"
    with pytest.raises(Failed, match="differs by 600 s from that of cluster-2"):
        judge_clocks(0.0, {"cluster-2": 600.0}, {})
    with pytest.raises(Failed, match="n1 is 600 s ahead"):
        judge_clocks(0.0, {}, {"n1": 600.0})
    with pytest.raises(Failed, match="n1 is 600 s behind"):
        judge_clocks(0.0, {}, {"n1": -600.0})


def test_a_nodes_clock_is_read_from_its_lease():
    renewed = (NOW - timedelta(seconds=4)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    lease = {"metadata": {"name": "n1"}, "spec": {"renewTime": renewed}}
    assert node_clocks([lease, {"metadata": {"name": "n2"}, "spec": {}}], NOW) == {"n1": -4.0}
