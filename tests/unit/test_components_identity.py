"""Who gets an identity, what SPIRE's programs may do, and which authority stands above them."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.config.errors import ConfigError
from components.config.upstream import FILES
from components.kube.manifests import load
from tests.unit.program import LOCAL, Program, members, run

VAULT = {"vault_addr": "https://vault.example:8200/", "k8s_auth": {"k8s_auth_role_name": "spire"}}
PCA = {
    "region": "us-east-1",
    "certificate_authority_arn": "arn:aws:acm-pca:us-east-1:123456789012:certificate-authority/1",
    "ca_signing_template_arn": "arn:aws:acm-pca:::template/SubordinateCACertificate_PathLen0/V1",
}


def two(folder: Path, **sections: Any) -> Program:
    return run({"clusters": members(2, folder), "storage": LOCAL, **sections})


def server(mesh: Program) -> Any:
    return json.loads(mesh.one("cluster-1-spire-spire-server-configmap").inputs["data"]["server.json"])


def server_pod(mesh: Program) -> Any:
    return mesh.one("cluster-1-spire-spire-server-statefulset").inputs["spec"]["template"]["spec"]


def test_an_agent_may_ask_kubelets_for_pods_and_nothing_else() -> None:
    (role,) = [
        each
        for each in load("spire/access.yaml")
        if (each["kind"], each["metadata"]["name"]) == ("ClusterRole", "spire-agent")
    ]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes/pods"], "verbs": ["get"]}]


def test_identities_are_for_namespaces_that_an_administrator_put_into_the_mesh(mesh: Program) -> None:
    """Tenants can label their pods, but not their namespaces."""
    selected = [each.inputs["spec"].get("namespaceSelector") for each in mesh.kind("ClusterSPIFFEID")]
    assert all(selected)
    for name in ("sleep", "helloworld"):
        labels = mesh.one(f"cluster-1-samples-{name}-namespace").inputs["metadata"]["labels"]
        assert matching(mesh, labels) == 1
    gateways = mesh.one("cluster-1-gateways-istio-gateways-namespace").inputs["metadata"]["labels"]
    assert matching(mesh, gateways) == 1
    assert matching(mesh, {}) == 0
    assert matching(mesh, {"istio.io/rev": "v1-32"}) == 1
    assert matching(mesh, {"istio.io/rev": "v1-32", "istio-injection": "enabled"}) == 1, (
        "one identity for a pod"
    )


def test_gateways_of_version_0_1_keep_their_identities_while_they_stay(folder: Path, mesh: Program) -> None:
    """Their namespace is not in the mesh, and proxies start without an identity, or keep an expired one."""
    name = "federation-cluster-1-former-gateways-clusterspiffeid"
    spec = two(folder, istio={"migrating": True}).one(name).inputs["spec"]
    assert spec["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "istio-system"}}
    assert spec["federatesWith"]
    assert name not in {each.name for each in mesh.objects}


def matching(mesh: Program, labels: dict[str, str]) -> int:
    """How many ClusterSPIFFEIDs of cluster-1 for pods with proxies select a namespace with these labels."""

    def selects(selector: dict[str, Any]) -> bool:
        present = {"Exists": True, "DoesNotExist": False}
        return all(
            labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()
        ) and all(
            (each["key"] in labels) is present[each["operator"]]
            for each in selector.get("matchExpressions", [])
        )

    return sum(
        selects(each.inputs["spec"]["namespaceSelector"])
        for each in mesh.kind("ClusterSPIFFEID")
        if each.name.startswith("federation-cluster-1-mesh-")
    )


@pytest.mark.parametrize(
    ("upstream", "plugin", "data"),
    [
        (
            {"vault": VAULT},
            "vault",
            {
                "vault_addr": "https://vault.example:8200/",
                "k8s_auth": {
                    "k8s_auth_role_name": "spire",
                    "token_path": "/var/run/secrets/kubernetes.io/serviceaccount/token",
                },
            },
        ),
        ({"aws_pca": PCA}, "aws_pca", PCA),
        (
            {"disk": {}, "secret": "ca"},
            "disk",
            {"cert_file_path": f"{FILES}/tls.crt", "key_file_path": f"{FILES}/tls.key"},
        ),
    ],
)
def test_an_authority_of_the_users_own_takes_the_place_of_cert_managers(
    folder: Path, upstream: dict[str, Any], plugin: str, data: dict[str, Any]
) -> None:
    mesh = two(folder, spire={"upstream": upstream})
    assert server(mesh)["plugins"]["UpstreamAuthority"] == {plugin: {"plugin_data": data}}
    assert not [each for each in mesh.kind("Certificate") if each.inputs["metadata"]["namespace"] == "spire"]
    mounted = {each["mountPath"] for each in server_pod(mesh)["containers"][0]["volumeMounts"]}
    assert (FILES in mounted) is ("secret" in upstream)


@pytest.mark.parametrize(
    ("upstream", "key", "reason"),
    [
        ({"vault": VAULT, "aws_pca": PCA}, "upstream", "one of vault, aws_pca and disk"),
        ({"disk": {}}, "upstream.secret", "is missing"),
        ({"secret": "ca"}, "upstream.secret", "only"),
        (
            {"vault": {"vault_addr": "https://vault.example/"}},
            "upstream.vault",
            "either cert_auth or k8s_auth",
        ),
        ({"vault": {**VAULT, "vault_addr": "http://vault.example/"}}, "vault.vault_addr", "https"),
        ({"vault": {**VAULT, "insecure_skip_verify": True}}, "vault.insecure_skip_verify", ""),
        ({"vault": {**VAULT, "token_auth": {"token": "s"}}}, "vault.token_auth", ""),
        (
            {
                "aws_pca": {
                    **PCA,
                    "ca_signing_template_arn": "arn:aws:acm-pca:::template/EndEntityCertificate/V1",
                }
            },
            "aws_pca.ca_signing_template_arn",
            "SubordinateCACertificate",
        ),
    ],
)
def test_an_authority_that_can_not_work_is_refused_by_its_key(
    folder: Path, upstream: dict[str, Any], key: str, reason: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        two(folder, spire={"upstream": upstream})
    assert key in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("namespace", "level"),
    [
        ("cert-manager-namespace", "restricted"),
        ("spire-namespace", "privileged"),
        ("istio-istio-system-namespace", "baseline"),
        ("gateways-istio-gateways-namespace", "restricted"),
    ],
)
def test_every_namespace_of_the_platform_says_what_its_pods_may_be(
    mesh: Program, namespace: str, level: str
) -> None:
    labels = mesh.one(f"cluster-1-{namespace}").inputs["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == level


def test_jwt_svids_have_the_issuer_of_the_stack(folder: Path, mesh: Program) -> None:
    assert "jwt_issuer" not in server(mesh)["server"]
    issuer = "https://oidc.example.com"
    assert server(two(folder, spire={"jwtIssuer": issuer}))["server"]["jwt_issuer"] == issuer


def test_the_server_runs_where_no_kubelet_can_place_itself(folder: Path) -> None:
    label = "node-restriction.kubernetes.io/dedicated"
    pod = server_pod(two(folder, spire={"nodeLabel": label}))
    assert pod["nodeSelector"] == {label: "spire-server"}
    assert [each["key"] for each in pod["tolerations"]] == [label]


SHARED = {"replicas": 2, "datastore": {"secret": "spire-datastore"}}


def test_several_servers_share_a_database_whose_password_is_in_no_config(folder: Path, mesh: Program) -> None:
    shared = two(folder, spire=SHARED)
    spec = shared.one("cluster-1-spire-spire-server-statefulset").inputs["spec"]
    container = spec["template"]["spec"]["containers"][0]
    assert spec["replicas"] == 2
    assert server(shared)["plugins"]["DataStore"] == {
        "sql": {"plugin_data": {"database_type": "postgres", "connection_string": "${SPIRE_DATASTORE}"}}
    }
    assert "-expandEnv" in container["args"]
    assert container["env"] == [
        {
            "name": "SPIRE_DATASTORE",
            "valueFrom": {"secretKeyRef": {"name": "spire-datastore", "key": "connectionString"}},
        }
    ]
    assert {"name": "datastore", "mountPath": "/run/spire/datastore", "readOnly": True} in container[
        "volumeMounts"
    ]
    alone = server_pod(mesh)["containers"][0]
    assert "-expandEnv" not in alone["args"]
    assert "env" not in alone


def test_of_the_controller_managers_beside_several_servers_one_works(folder: Path, mesh: Program) -> None:
    def leads(program: Program) -> bool:
        data = program.one("cluster-1-spire-spire-server-configmap").inputs["data"]
        return bool(json.loads(data["controller-manager.json"])["leaderElection"]["leaderElect"])

    def budgets(program: Program) -> list[str]:
        made = [each.inputs["metadata"]["name"] for each in program.kind("PodDisruptionBudget")]
        return [name for name in made if name == "spire-server"]

    shared = two(folder, spire=SHARED)
    assert (leads(mesh), leads(shared)) == (False, True)
    assert (budgets(mesh), budgets(shared)) == ([], ["spire-server", "spire-server"])
