"""SPIRE's OIDC discovery provider: which keys it serves under which URL, with which certificate and which rights."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.config.errors import ConfigError
from components.kube.manifests import load
from tests.unit.program import LOCAL, Program, members, run

ISSUER = "https://{cluster}.oidc.example.com"
OIDC = {"issuer": {"name": "letsencrypt", "kind": "ClusterIssuer"}}


def two(folder: Path, **spire: Any) -> Program:
    return run({"clusters": members(2, folder), "storage": LOCAL, "spire": spire})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return two(tmp_path_factory.mktemp("served"), jwtIssuer=ISSUER, oidc=OIDC)


def config(mesh: Program, cluster: str = "cluster-1") -> Any:
    data = mesh.one(f"{cluster}-oidc-oidc-discovery-provider-configmap").inputs["data"]
    return json.loads(data["provider.json"])


def server(mesh: Program, cluster: str = "cluster-1") -> Any:
    data = mesh.one(f"{cluster}-spire-spire-server-configmap").inputs["data"]
    return json.loads(data["server.json"])


def publishers(mesh: Program) -> Any:
    (found,) = server(mesh)["plugins"]["BundlePublisher"]["k8s_configmap"]["plugin_data"]["clusters"]
    return found


def test_nothing_of_it_is_there_by_default(mesh: Program) -> None:
    assert not [each.name for each in mesh.objects if "oidc" in each.name]
    assert set(publishers(mesh)) == {"agents", "peers"}


@pytest.mark.parametrize("cluster", ["cluster-1", "cluster-2"])
def test_each_cluster_serves_the_issuer_that_its_tokens_name(served: Program, cluster: str) -> None:
    issuer = f"https://{cluster}.oidc.example.com"
    found = config(served, cluster)
    assert server(served, cluster)["server"]["jwt_issuer"] == found["jwt_issuer"] == issuer
    assert found["domains"] == [f"{cluster}.oidc.example.com"]
    assert (found["jwks_uri"], found["server_path_prefix"]) == (f"{issuer}/keys", "/")
    certificate = served.one(f"{cluster}-oidc-oidc-discovery-provider-certificate").inputs["spec"]
    assert certificate["dnsNames"] == found["domains"]
    assert certificate["issuerRef"] == {
        "group": "cert-manager.io",
        "kind": "ClusterIssuer",
        "name": "letsencrypt",
    }


def test_clusters_may_share_a_host_by_paths(folder: Path) -> None:
    found = config(two(folder, jwtIssuer="https://oidc.example.com:8443/{cluster}/", oidc=OIDC))
    assert found["domains"] == ["oidc.example.com"]
    assert found["server_path_prefix"] == "/cluster-1/"
    assert found["jwks_uri"] == "https://oidc.example.com:8443/cluster-1/keys"


def test_it_reads_the_bundle_that_the_server_publishes_and_has_no_identity_and_no_right(
    served: Program,
) -> None:
    place = {
        "namespace": "spire-oidc",
        "configmap_name": "spire-bundle-spiffe",
        "configmap_key": "bundle",
        "format": "spiffe",
    }
    assert publishers(served)["oidc"] == place
    pod = served.one("cluster-1-oidc-oidc-discovery-provider-deployment").inputs["spec"]["template"]["spec"]
    mounted = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    assert config(served)["file"]["path"] == f"{mounted['bundle']}/{place['configmap_key']}"
    assert {"name": "bundle", "configMap": {"name": place["configmap_name"]}} in pod["volumes"]
    assert not [each for each in pod["volumes"] if "csi" in each or "hostPath" in each]
    assert pod["automountServiceAccountToken"] is False
    bound = [each["subjects"][0]["name"] for each in load("spire/oidc.yaml") if "subjects" in each]
    assert bound == ["spire-server"]
    (role,) = [each for each in load("spire/oidc.yaml") if each["kind"] == "Role"]
    assert [(rule["resources"], rule["resourceNames"]) for rule in role["rules"]] == [
        (["configmaps"], ["spire-bundle-spiffe"])
    ]


def test_the_server_publishes_to_a_map_that_it_alone_fills(served: Program) -> None:
    made = served.one("cluster-1-spire-oidc-spire-bundle-spiffe-configmap")
    assert made.ignores == ("data",)
    waited = served.one("cluster-1-spire-spire-server-statefulset").after
    assert {made.name, "cluster-1-spire-oidc-spire-server-role"} <= waited


def test_its_namespace_takes_restricted_pods_only_which_call_nobody(served: Program) -> None:
    labels = served.one("cluster-1-spire-oidc-spire-oidc-namespace").inputs["metadata"]["labels"]
    assert labels == {"pod-security.kubernetes.io/enforce": "restricted"}
    policy = served.one("cluster-1-oidc-oidc-discovery-provider-networkpolicy").inputs["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy
    assert policy["ingress"] == [{"ports": [{"port": "https"}]}]


def test_a_secret_of_the_users_own_takes_the_place_of_a_certificate(folder: Path) -> None:
    mesh = two(folder, jwtIssuer=ISSUER, oidc={"secret": "own", "service": "LoadBalancer"})
    assert not [each for each in mesh.kind("Certificate") if "oidc" in each.name]
    pod = mesh.one("cluster-1-oidc-oidc-discovery-provider-deployment").inputs["spec"]["template"]["spec"]
    assert [each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each] == ["own"]
    service = mesh.one("cluster-1-oidc-oidc-discovery-provider-service").inputs["spec"]
    assert service["type"] == "LoadBalancer"


@pytest.mark.parametrize(
    ("spire", "key", "reason"),
    [
        ({"oidc": OIDC}, "spire.jwtIssuer", "is missing"),
        ({"oidc": OIDC, "jwtIssuer": "http://{cluster}.example.com"}, "spire.jwtIssuer", "https"),
        ({"oidc": OIDC, "jwtIssuer": "https://oidc.example.com"}, "spire.jwtIssuer", "{cluster}"),
        ({"jwtIssuer": "https://oidc.example.com/?x=1"}, "spire.jwtIssuer", "without query"),
        ({"oidc": {}, "jwtIssuer": ISSUER}, "spire.oidc", "either issuer or secret"),
        (
            {"oidc": {**OIDC, "secret": "own"}, "jwtIssuer": ISSUER},
            "spire.oidc",
            "either issuer or secret",
        ),
        (
            {"oidc": {"issuer": {"name": "a", "kind": "Own"}}, "jwtIssuer": ISSUER},
            "oidc.issuer.kind",
            "ClusterIssuer",
        ),
        ({"oidc": {**OIDC, "service": "NodePort"}, "jwtIssuer": ISSUER}, "oidc.service", "LoadBalancer"),
    ],
)
def test_what_can_not_work_is_refused_by_its_key(
    folder: Path, spire: dict[str, Any], key: str, reason: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        two(folder, **spire)
    assert key in str(caught.value)
    assert reason in str(caught.value)
