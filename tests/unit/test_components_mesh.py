"""What the program makes of a stack: which objects, on which cluster, in which order."""

import json
from ipaddress import ip_address, ip_network
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from components.mesh.federation import roots, seed
from tests.unit.program import LOCAL, Object, Program, members, run

CLUSTERS = ("cluster-1", "cluster-2", "cluster-3")
ADDRESS = "10.90.0.100"


def two(folder: Path, **sections: Any) -> Program:
    return run({"clusters": members(2, folder), "storage": LOCAL, **sections})


def of(mesh: Program, kind: str) -> list[Object]:
    return [each for each in mesh.objects if each.type.endswith(f":{kind}") and not each.read]


def spec_of(mesh: Program, name: str) -> Any:
    return mesh.one(name).inputs["spec"]


def pod_of(mesh: Program, name: str) -> Any:
    return spec_of(mesh, name)["template"]["spec"]


def test_every_name_is_used_once(mesh: Program) -> None:
    names = [(resource.type, resource.name) for resource in mesh.objects]
    assert len(names) == len(set(names))


def test_every_cluster_gets_the_same_kinds_of_objects(mesh: Program) -> None:
    def kinds(cluster: str) -> list[str]:
        return sorted(r.type for r in mesh.objects if r.name.startswith(f"{cluster}-"))

    assert kinds("cluster-1") == kinds("cluster-2") == kinds("cluster-3")


def test_every_object_uses_the_provider_of_its_cluster(mesh: Program) -> None:
    for resource in mesh.objects:
        if resource.type.startswith("kubernetes:"):
            owner = resource.name.removeprefix("federation-").removeprefix("remote-secrets-")[
                : len("cluster-1")
            ]
            assert resource.provider == owner, resource.name


def test_every_ordered_pair_trusts_and_reads_each_other(mesh: Program) -> None:
    for here, there in permutations(CLUSTERS, 2):
        trust = spec_of(mesh, f"federation-{here}-{there}-clusterfederatedtrustdomain")
        number = there[-1]
        assert trust["trustDomain"] == f"td{number}.example"
        assert trust["bundleEndpointURL"].startswith(f"https://{ADDRESS}:8443/#")
        assert trust["bundleEndpointProfile"] == {
            "type": "https_spiffe",
            "endpointSPIFFEID": f"spiffe://td{number}.example/spire/server",
        }
        assert json.loads(trust["trustDomainBundle"]) == {"keys": []}
        secret = mesh.one(f"remote-secrets-{here}-istio-remote-secret-{there}-secret").inputs
        assert secret["metadata"]["labels"] == {"istio/multiCluster": "true"}
        assert secret["metadata"]["annotations"]["networking.istio.io/cluster"] == there


def bundle(*roots: str, number: int = 1, jwt: str = "jwt-1") -> str:
    """A bundle as SPIRE publishes it."""
    signing = {"use": "jwt-svid", "kty": "EC", "kid": jwt}
    x509 = [{"use": "x509-svid", "kty": "EC", "x5c": [root]} for root in roots]
    return json.dumps({"keys": [*x509, signing], "spiffe_sequence": number, "spiffe_refresh_hint": 60})


def test_a_relationship_starts_from_the_peers_roots_and_its_wish_for_refreshes() -> None:
    assert json.loads(seed(bundle("root"))) == {
        "keys": [{"use": "x509-svid", "kty": "EC", "x5c": ["root"]}],
        "spiffe_refresh_hint": 60,
    }


def test_an_ordinary_refresh_changes_nothing_of_a_relationship() -> None:
    before, after = bundle("a", "b"), bundle("b", "a", number=7, jwt="jwt-2")
    assert (seed(before), roots(before)) == (seed(after), roots(after))


def test_a_lost_root_makes_another_relationship_of_it() -> None:
    """Another URL, as SPIRE's controller looks at nothing else before it hands the server a new bundle."""
    assert seed(bundle("old")) != seed(bundle("new"))
    assert len({roots(bundle("old")), roots(bundle("new")), roots(bundle("old", "new"))}) == 3


def test_nothing_of_a_relationship_is_ignored(mesh: Program) -> None:
    trusts = mesh.kind("ClusterFederatedTrustDomain")
    assert len(trusts) == 6
    assert not any(trust.ignores for trust in trusts)


def test_kubeconfigs_reach_providers_as_secrets(mesh: Program) -> None:
    providers = of(mesh, "kubernetes")
    assert len(providers) == 3
    assert all(provider.secret for provider in providers)


@pytest.mark.parametrize(
    ("later", "earlier"),
    [
        ("cluster-1-spire-spire-self-signed-issuer", "cluster-1-cert-manager-release"),
        ("cluster-1-istio-istiod", "cluster-1-istio-cacerts-certificate"),
        (
            "cluster-1-istio-istiod",
            "cluster-1-istio-base-gateways.networking.istio.io-customresourcedefinition",
        ),
        ("cluster-1-spire-spire-server-statefulset", "cluster-1-spire-spire-root-issuer"),
        ("cluster-1-spire-spire-server-statefulset", "cluster-1-storage-local-storageclass"),
        ("cluster-1-spire-spire-server-statefulset", "cluster-1-spire-spire-bundle-configmap"),
        ("cluster-1-spire-spire-server-statefulset", "cluster-1-spire-crds"),
        ("cluster-1-spire-spire-agent-daemonset", "cluster-1-spire-spire-bundle-configmappatch"),
        (
            "federation-cluster-2-cluster-1-clusterfederatedtrustdomain",
            "cluster-1-spire-spire-bundle-spiffe-configmappatch",
        ),
        (
            "federation-cluster-1-mesh-workloads-clusterspiffeid",
            "federation-cluster-1-cluster-2-clusterfederatedtrustdomain",
        ),
        ("cluster-1-gateways-eastwest-gateway", "federation-cluster-1-mesh-workloads-clusterspiffeid"),
        ("cluster-1-gateways-eastwest-gateway", "cluster-1-spire-spire-agent-daemonset"),
        ("cluster-1-samples-sleep-namespace", "cluster-1-istio-istiod"),
        ("cluster-1-samples-helloworld-v1-deployment", "federation-cluster-1-mesh-workloads-clusterspiffeid"),
        ("cluster-1-istio-default-peerauthentication", "cluster-1-istio-istiod"),
    ],
)
def test_the_later_waits_for_the_earlier(mesh: Program, later: str, earlier: str) -> None:
    assert mesh.comes_after(later, earlier)


def test_the_layers_of_a_cluster_do_not_wait_for_other_clusters(mesh: Program) -> None:
    for layer in ("cert-manager-release", "spire-spire-server-statefulset", "istio-istiod"):
        foreign = [each.name for each in mesh.objects if each.name.startswith(("cluster-2", "cluster-3"))]
        assert not [name for name in foreign if mesh.comes_after(f"cluster-1-{layer}", name)]


def test_only_the_spire_server_tolerates_its_taint_by_name(mesh: Program) -> None:
    server = pod_of(mesh, "cluster-1-spire-spire-server-statefulset")
    assert server["nodeSelector"] == {"dedicated": "spire-server"}
    assert server["tolerations"] == [
        {"key": "dedicated", "operator": "Equal", "value": "spire-server", "effect": "NoExecute"}
    ]
    for deployment in of(mesh, "Deployment"):
        assert "tolerations" not in deployment.inputs["spec"]["template"]["spec"]


def test_agents_and_drivers_run_on_every_node(mesh: Program) -> None:
    for name in ("spire-agent", "spiffe-csi-driver"):
        assert pod_of(mesh, f"cluster-1-spire-{name}-daemonset")["tolerations"] == [{"operator": "Exists"}]


def test_no_image_is_pulled_anew_when_it_is_there(mesh: Program) -> None:
    for kind in ("Deployment", "DaemonSet", "StatefulSet"):
        for workload in of(mesh, kind):
            for container in workload.inputs["spec"]["template"]["spec"]["containers"]:
                assert container["imagePullPolicy"] == "IfNotPresent", workload.name


def test_spire_keeps_its_data_on_a_claim_of_the_stacks_class(mesh: Program) -> None:
    (claim,) = spec_of(mesh, "cluster-1-spire-spire-server-statefulset")["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "local"
    assert claim["spec"]["resources"]["requests"]["storage"] == "1Gi"


def server_config(mesh: Program, cluster: str) -> Any:
    return json.loads(mesh.one(f"{cluster}-spire-spire-server-configmap").inputs["data"]["server.json"])


def test_each_spire_server_has_the_trust_domain_of_its_cluster(mesh: Program) -> None:
    for cluster in CLUSTERS:
        config = server_config(mesh, cluster)
        assert config["server"]["trust_domain"] == f"td{cluster[-1]}.example"
        assert cluster in config["plugins"]["NodeAttestor"]["k8s_psat"]["plugin_data"]["clusters"]


def test_a_changed_config_restarts_the_pods_that_read_it(mesh: Program) -> None:
    def digest(cluster: str, workload: str) -> str:
        template = spec_of(mesh, f"{cluster}-spire-{workload}")["template"]
        return str(template["metadata"]["annotations"]["fedmesh/config"])

    for workload in ("spire-server-statefulset", "spire-agent-daemonset"):
        assert len(digest("cluster-1", workload)) == 16
        assert digest("cluster-1", workload) != digest("cluster-2", workload)


def test_workloads_federate_with_all_peers_and_not_with_themselves(mesh: Program) -> None:
    spec = spec_of(mesh, "federation-cluster-1-mesh-workloads-clusterspiffeid")
    assert spec["federatesWith"] == ["td2.example", "td3.example"]
    assert "autoPopulateDNSNames" not in spec


def istiod(mesh: Program) -> Any:
    return mesh.one("cluster-1-istio-istiod").inputs["values"]


def test_istiod_tells_nobody_of_the_mesh_without_tls(mesh: Program) -> None:
    assert istiod(mesh)["extraContainerArgs"] == ["--grpcAddr="]


def test_istiod_knows_who_its_cluster_is_and_whom_it_accepts(mesh: Program) -> None:
    values = istiod(mesh)
    assert values["meshConfig"]["trustDomain"] == "td1.example"
    assert values["meshConfig"]["caCertificates"] == [{"trustDomains": ["td2.example", "td3.example"]}]
    assert values["global"]["multiCluster"]["clusterName"] == "cluster-1"
    assert values["global"]["network"] == "network-1"
    assert values["global"]["meshID"] == "mesh1"


def test_clusters_are_kept_apart_unless_the_stack_makes_them_one(folder: Path, mesh: Program) -> None:
    assert "trustDomainAliases" not in istiod(mesh)["meshConfig"]
    config = istiod(two(folder, istio={"trust": "aliases"}))["meshConfig"]
    assert config["trustDomainAliases"] == ["td2.example"]
    assert "caCertificates" not in config


def test_a_proxy_without_spire_can_not_take_another_identity(mesh: Program) -> None:
    socket = istiod(mesh)["meshConfig"]["defaultConfig"]["proxyMetadata"]["WORKLOAD_IDENTITY_SOCKET_FILE"]
    config = json.loads(mesh.one("cluster-1-spire-spire-agent-configmap").inputs["data"]["agent.json"])
    assert socket != "socket", "Istio falls back to its own CA under the default name"
    assert config["agent"]["socket_path"].endswith(f"/{socket}")


def test_gateways_take_their_identity_from_spire(mesh: Program) -> None:
    for gateway in ("ingress", "eastwest"):
        values = mesh.one(f"cluster-1-gateways-{gateway}-gateway").inputs["values"]
        assert values["podAnnotations"] == {"inject.istio.io/templates": "gateway,spire"}


def test_the_mesh_accepts_mutual_tls_only(mesh: Program) -> None:
    assert spec_of(mesh, "cluster-1-istio-default-peerauthentication") == {"mtls": {"mode": "STRICT"}}


def test_every_service_keeps_automatic_mutual_tls(mesh: Program) -> None:
    rule = spec_of(mesh, "cluster-1-istio-failover-destinationrule")
    assert rule["host"] == "*.local"
    assert "tls" not in rule["trafficPolicy"], "it would switch automatic mTLS off"


def test_crds_of_charts_go_with_the_stack(mesh: Program) -> None:
    crd = mesh.one("cluster-1-istio-base-gateways.networking.istio.io-customresourcedefinition")
    assert "helm.sh/resource-policy" not in crd.inputs["metadata"]["annotations"]
    assert mesh.one("cluster-1-cert-manager-release").inputs["values"]["crds"] == {
        "enabled": True,
        "keep": False,
    }


def test_the_clusters_take_turns_with_the_versions_of_helloworld(mesh: Program) -> None:
    found = sorted(d.name for d in of(mesh, "Deployment") if "helloworld" in d.name)
    assert found == [
        "cluster-1-samples-helloworld-v1-deployment",
        "cluster-2-samples-helloworld-v2-deployment",
        "cluster-3-samples-helloworld-v1-deployment",
    ]


def test_without_samples_no_deployment_is_theirs(folder: Path) -> None:
    mesh = two(folder, samples={"enabled": False})
    assert not [each for each in of(mesh, "Deployment") if "samples" in each.name]


def test_all_images_come_from_the_registry_of_the_stack(folder: Path) -> None:
    mesh = two(folder, images={"registry": "registry.example/mirror"})
    for kind in ("Deployment", "DaemonSet", "StatefulSet"):
        for workload in of(mesh, kind):
            for container in workload.inputs["spec"]["template"]["spec"]["containers"]:
                assert container["image"].startswith("registry.example/mirror/"), workload.name
    assert istiod(mesh)["global"]["hub"] == "registry.example/mirror/istio"
    assert (
        mesh.one("cluster-1-cert-manager-release").inputs["values"]["imageRegistry"]
        == "registry.example/mirror"
    )


def test_charts_come_from_their_official_repositories_by_default(folder: Path) -> None:
    mesh = two(folder, charts={})
    release = mesh.one("cluster-1-istio-istiod").inputs
    assert release["chart"] == "istiod"
    assert release["version"] == "1.31.0"
    assert release["repositoryOpts"] == {"repo": "https://istio-release.storage.googleapis.com/charts"}


def test_istios_own_filters_are_off_only_for_upstream_envoy(folder: Path) -> None:
    official = istiod(two(folder))
    assert "PILOT_ENABLE_ALPN_FILTER" not in official["env"]
    plain = istiod(two(folder, istio={"plainEnvoy": True}))
    assert plain["env"]["PILOT_ENABLE_ALPN_FILTER"] == "false"
    assert plain["telemetry"]["enabled"] is False


@pytest.mark.parametrize(
    ("address", "blocked"),
    [
        ("127.0.0.1", True),
        ("0.1.2.3", True),
        ("169.254.169.254", True),
        ("::1", True),
        ("::", True),
        ("fd00:ec2::254", True),
        ("10.96.0.10", False),
        ("192.0.2.1", False),
    ],
)
def test_istiod_fetches_no_keys_from_its_own_pod_or_the_machine(
    folder: Path, address: str, blocked: bool
) -> None:
    # istiod ignores a range that it cannot parse
    listed = istiod(two(folder))["env"]["BLOCKED_CIDRS_IN_JWKS_URIS"].split(",")
    ranges = [ip_network(each) for each in listed]
    assert any(ip_address(address) in each for each in ranges) is blocked


def test_a_host_with_its_own_failover_gets_rules_of_its_own(folder: Path) -> None:
    host = "slow.shop.svc.cluster.local"
    own = {"connectTimeout": "3s", "retries": {"attempts": 0}}
    mesh = two(folder, failover={"hosts": {host: own}})
    rule = spec_of(mesh, "cluster-1-istio-failover-slow-shop-svc-cluster-local-destinationrule")
    assert rule["host"] == host
    assert rule["trafficPolicy"]["connectionPool"]["tcp"]["connectTimeout"] == "3s"
    assert rule["trafficPolicy"]["outlierDetection"]["interval"] == "1s", "what is not set stays as for all"
    route = spec_of(mesh, "cluster-1-istio-retries-slow-shop-svc-cluster-local-virtualservice")
    assert route["hosts"] == [host]
    assert route["http"][0]["retries"]["attempts"] == 0
    assert spec_of(mesh, "cluster-1-istio-failover-destinationrule")["trafficPolicy"]["connectionPool"] == {
        "tcp": {"connectTimeout": "1s"}
    }


def test_a_revision_stands_beside_the_one_before_it_until_that_is_left_out(folder: Path) -> None:
    upgrading = two(folder, istio={"revision": "v1-32", "previousRevision": "default"})
    new, old = upgrading.one("cluster-1-istio-istiod-v1-32"), upgrading.one("cluster-1-istio-istiod")
    assert (new.inputs["name"], old.inputs["name"]) == ("istiod-v1-32", "istiod")
    assert new.inputs["values"]["revision"] == "v1-32"
    assert "revision" not in old.inputs["values"]
    assert not new.ignores
    assert {"chart", "version", "values"} <= set(old.ignores), "it stays as it was made"
    done = two(folder, istio={"revision": "v1-32"})
    assert not [each for each in done.objects if each.name == "cluster-1-istio-istiod"]


def test_gateways_and_samples_take_the_revisions_proxies_and_start_anew(folder: Path) -> None:
    mesh = two(folder, istio={"revision": "v1-32"})
    for gateway in ("ingress", "eastwest"):
        assert mesh.one(f"cluster-1-gateways-{gateway}-gateway").inputs["values"]["revision"] == "v1-32"
    labels = mesh.one("cluster-1-samples-helloworld-namespace").inputs["metadata"]["labels"]
    assert labels == {"istio.io/rev": "v1-32"}
    template = spec_of(mesh, "cluster-1-samples-helloworld-v1-deployment")["template"]
    assert template["metadata"]["annotations"]["fedmesh/istio-revision"] == "v1-32"
    for later in ("cluster-1-gateways-eastwest-gateway", "cluster-1-samples-helloworld-v1-deployment"):
        assert mesh.comes_after(later, "cluster-2-istio-istiod-v1-32"), (
            "proxies move when all know the revision"
        )


def test_without_a_revision_namespaces_have_istios_own_label(mesh: Program) -> None:
    labels = mesh.one("cluster-1-samples-sleep-namespace").inputs["metadata"]["labels"]
    assert labels == {"istio-injection": "enabled"}


def test_objects_are_applied_under_one_name_so_that_a_killed_run_can_be_repeated(mesh: Program) -> None:
    for kind in ("StatefulSet", "DaemonSet", "Deployment", "Service", "ConfigMap"):
        assert of(mesh, kind), kind
        for each in of(mesh, kind):
            manager = each.inputs["metadata"]["annotations"]["pulumi.com/patchFieldManager"]
            # the bundles' ConfigMaps are also waited for, under the same name
            awaited = kind == "ConfigMap" and each.inputs["metadata"]["name"].startswith("spire-bundle")
            assert manager == ("fedmesh" if awaited else "fedmesh-program"), each.name


def test_a_cluster_with_the_cni_plugin_redirects_pods_without_init_containers(folder: Path) -> None:
    one, other = members(2, folder)
    one["istioCni"] = {"enabled": True, "binDir": "/opt/bin", "confDir": "/opt/net.d"}
    mesh = run({"clusters": [one, other], "storage": LOCAL, "images": {"registry": "registry.example"}})
    (chart,) = [each for each in mesh.rendered if each["release_name"] == "cni"]
    assert chart["namespace"] == "kube-system", "istio-system is baseline, the agent has rights on its node"
    values = chart["values"]
    assert (values["cniBinDir"], values["cniConfDir"]) == ("/opt/bin", "/opt/net.d")
    assert values["global"]["hub"] == "registry.example/istio"
    assert mesh.one("cluster-1-istio-istiod").inputs["values"]["pilot"]["cni"] == {"enabled": True}
    assert mesh.one("cluster-2-istio-istiod").inputs["values"]["pilot"]["cni"] == {"enabled": False}
    agents = [each.name for each in mesh.objects if each.name.startswith("cluster-1-istio-cni-")]
    assert agents
    assert all(mesh.comes_after("cluster-1-istio-istiod", agent) for agent in agents), "before the first pod"
