"""What owners declare for services and namespaces, and what the program makes of it on each cluster."""

from pathlib import Path
from typing import Any

import pulumi
import pytest

from components.config.errors import ConfigError
from components.config.services import PLATFORM_NAMESPACES
from components.config.settings import parse
from components.mesh.gateway_api import documents_of
from tests.unit.program import LOCAL, Program, members, run

HOST = "shop.shop.svc.cluster.local"
RULE = "cluster-{}-services-service-shop-shop-svc-cluster-local-{}"


def two(folder: Path, **sections: Any) -> Program:
    return run({"clusters": members(2, folder), "storage": LOCAL, **sections})


def declared(folder: Path, **wishes: Any) -> Program:
    return two(folder, services={HOST: wishes})


def rule_of(mesh: Program, cluster: int = 1) -> Any:
    return mesh.one(RULE.format(cluster, "destinationrule")).inputs["spec"]


def route_of(mesh: Program, cluster: int = 1) -> Any:
    return mesh.one(RULE.format(cluster, "virtualservice")).inputs["spec"]


def names(mesh: Program, kind: str) -> list[str]:
    return [each.name for each in mesh.kind(kind) if "-services-" in each.name]


def refused(folder: Path, **sections: Any) -> str:
    with pytest.raises(ConfigError) as found:
        parse({"clusters": members(2, folder)} | sections, "Pulumi.unit.yaml")
    return str(found.value)


def test_only_reads_of_an_idempotent_service_are_sent_again(folder: Path) -> None:
    mesh = declared(folder, idempotent="reads", perTryTimeout="2s", timeout="15s")
    reads, others = route_of(mesh)["http"]
    assert [each["method"]["exact"] for each in reads["match"]] == ["GET", "HEAD", "OPTIONS"]
    assert {"5xx", "reset", "connect-failure"} <= set(reads["retries"]["retryOn"].split(","))
    assert reads["retries"]["perTryTimeout"] == "2s"
    assert reads["timeout"] == others["timeout"] == "15s"
    assert "retries" not in others, "the mesh's own: only what cannot have reached the app"
    assert not names(mesh, "DestinationRule"), "the mesh's rule holds"


def test_all_requests_of_a_service_may_be_idempotent(folder: Path) -> None:
    mesh = declared(folder, idempotent="all")
    (route,) = route_of(mesh)["http"]
    assert route["retries"]["attempts"] == 3
    assert "perTryTimeout" not in route["retries"]
    assert route_of(mesh)["gateways"] == ["mesh"]


def test_a_declaration_holds_on_all_clusters(folder: Path) -> None:
    mesh = declared(folder, timeout="15s", warmup="1m")
    assert route_of(mesh, 1) == route_of(mesh, 2)
    assert rule_of(mesh, 1) == rule_of(mesh, 2)


@pytest.mark.parametrize(
    ("wish", "balancing"),
    [
        ({"warmup": "1m"}, {"simple": "LEAST_REQUEST", "warmup": {"duration": "1m"}}),
        (
            {"stickiness": {"cookie": {"name": "sid"}}},
            {"consistentHash": {"httpCookie": {"name": "sid", "ttl": "0s"}}},
        ),
        ({"stickiness": {"header": "x-user"}}, {"consistentHash": {"httpHeaderName": "x-user"}}),
        ({"stickiness": {"sourceIp": True}}, {"consistentHash": {"useSourceIp": True}}),
        ({"maxConnections": 7}, {}),
    ],
)
def test_a_rule_of_a_service_keeps_the_meshs_failover(folder: Path, wish: Any, balancing: Any) -> None:
    mesh = declared(folder, **wish)
    everyone = mesh.one("cluster-1-istio-failover-destinationrule").inputs["spec"]["trafficPolicy"]
    policy = rule_of(mesh)["trafficPolicy"]
    assert policy["outlierDetection"] == everyone["outlierDetection"]
    assert policy["retryBudget"] == everyone["retryBudget"]
    assert policy["loadBalancer"] == {**everyone["loadBalancer"], **balancing}
    assert not names(mesh, "VirtualService")


def test_limits_are_those_of_istios_connection_pool(folder: Path) -> None:
    mesh = declared(folder, maxConnections=1, maxPendingRequests=2, maxRequests=3, maxRequestsPerConnection=4)
    assert rule_of(mesh)["trafficPolicy"]["connectionPool"] == {
        "tcp": {"connectTimeout": "1s", "maxConnections": 1},
        "http": {"http1MaxPendingRequests": 2, "http2MaxRequests": 3, "maxRequestsPerConnection": 4},
    }


def test_one_clusters_database_is_called_from_all(folder: Path) -> None:
    mesh = declared(folder, cluster="cluster-2")
    assert rule_of(mesh)["subsets"] == [
        {"name": "home", "labels": {"topology.istio.io/cluster": "cluster-2"}}
    ]
    home = [{"destination": {"host": HOST, "subset": "home"}}]
    assert route_of(mesh)["tcp"] == [{"route": home}]
    assert route_of(mesh)["http"] == [{"route": home}]


def service_settings(mesh: Program) -> Any:
    return mesh.one("cluster-1-istio-istiod").inputs["values"]["meshConfig"].get("serviceSettings")


def test_local_services_and_namespaces_never_leave_their_cluster(folder: Path) -> None:
    mesh = two(
        folder,
        services={HOST: {"localOnly": True}, "api.db.svc.cluster.local": {"localOnly": False}},
        namespaces={"db": {"localOnly": True}},
    )
    assert service_settings(mesh) == [
        {"settings": {"clusterLocal": True}, "hosts": ["*.db.svc.cluster.local", HOST]},
        {"settings": {"clusterLocal": False}, "hosts": ["api.db.svc.cluster.local"]},
    ]
    assert not names(mesh, "DestinationRule") + names(mesh, "VirtualService")


def test_without_declarations_all_services_are_everywhere(mesh: Program) -> None:
    assert service_settings(mesh) is None


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({HOST: {"localOnly": True, "cluster": "cluster-1"}}, f"services.{HOST}.cluster in"),
        ({HOST: {"cluster": "cluster-9"}}, "must be one of cluster-1, cluster-2, not 'cluster-9'"),
        ({HOST: {"perTryTimeout": "2s"}}, "needs idempotent"),
        ({HOST: {"warmup": "1m", "stickiness": {"header": "x-user"}}}, "excludes stickiness"),
        (
            {HOST: {"stickiness": {"header": "x", "sourceIp": True}}},
            "exactly one of cookie, header and sourceIp",
        ),
        ({"*.shop.svc.cluster.local": {"timeout": "1s"}}, "can have localOnly only"),
        ({HOST: {"idempotent": True}}, "must be one of reads, all, not True"),
    ],
)
def test_a_wish_that_cannot_hold_is_refused(folder: Path, wishes: Any, said: str) -> None:
    assert said in refused(folder, services=wishes)


def test_a_host_has_its_rule_in_one_section_only(folder: Path) -> None:
    said = refused(
        folder, services={HOST: {"warmup": "1m"}}, failover={"hosts": {HOST: {"connectTimeout": "2s"}}}
    )
    assert f"fedmesh:services.{HOST} in" in said
    assert "failover.hosts" in said


DB = "ledger.db.svc.cluster.local"


@pytest.mark.parametrize(
    ("sections", "whose"),
    [
        ({"namespaces": {"db": {"localOnly": True}}}, "*.db.svc.cluster.local"),
        ({"services": {"*.db.svc.cluster.local": {"localOnly": True}}}, "*.db.svc.cluster.local"),
        ({"services": {"*.svc.cluster.local": {"localOnly": True}}}, "*.svc.cluster.local"),
    ],
)
def test_a_service_of_one_cluster_is_not_local_by_a_wildcard(
    folder: Path, sections: dict[str, Any], whose: str
) -> None:
    services = {**sections.pop("services", {}), DB: {"cluster": "cluster-1"}}
    said = refused(folder, services=services, **sections)
    assert f"fedmesh:services.{DB}.cluster in Pulumi.unit.yaml" in said
    assert f"localOnly of {whose}" in said
    assert "set localOnly to false beside it" in said
    services[DB] = {"cluster": "cluster-1", "localOnly": False}
    assert parse({"clusters": members(2, folder), "services": services} | sections, "Pulumi.unit.yaml")


def test_the_most_specific_wildcard_says_whether_a_service_is_local(folder: Path) -> None:
    services = {
        "*.svc.cluster.local": {"localOnly": True},
        "*.db.svc.cluster.local": {"localOnly": False},
        DB: {"cluster": "cluster-1"},
    }
    assert parse({"clusters": members(2, folder), "services": services}, "Pulumi.unit.yaml")


def test_a_namespace_is_local_or_not(folder: Path) -> None:
    wildcard = {"*.db.svc.cluster.local": {"localOnly": False}}
    said = refused(folder, services=wildcard, namespaces={"db": {"localOnly": True}})
    assert "fedmesh:services.*.db.svc.cluster.local.localOnly in" in said
    assert "must be true, as in namespaces.db" in said


OUTSIDE = ("cart.shop", "cart.shop.local", "cart.svc.cluster.local")
SCOPES: tuple[dict[str, Any], ...] = ({"localOnly": True}, {"localOnly": False})


@pytest.mark.parametrize(
    ("host", "wish"),
    [
        *((host, wish) for host in (*OUTSIDE, "*.shop", "*.example.com") for wish in SCOPES),
        # a wildcard has localOnly only
        *((host, {"cluster": "cluster-1"}) for host in OUTSIDE),
    ],
)
def test_only_services_of_the_mesh_are_local_or_one_clusters(
    folder: Path, host: str, wish: dict[str, Any]
) -> None:
    said = refused(folder, services={host: wish})
    assert f"fedmesh:services.{host}.{next(iter(wish))} in Pulumi.unit.yaml" in said
    assert "<service>.<namespace>.svc.cluster.local" in said


@pytest.mark.parametrize("host", ["*.local", "*.cluster.local", "*.svc.cluster.local", HOST])
def test_hosts_that_hold_services_of_the_mesh_may_be_local(folder: Path, host: str) -> None:
    sections = {"services": {host: {"localOnly": True}}}
    assert parse({"clusters": members(2, folder)} | sections, "Pulumi.unit.yaml")


@pytest.mark.parametrize("host", ["cart.shop.svc", "*.shop.svc", "cart.shop.svc.cluster"])
@pytest.mark.parametrize("section", ["services", "failover"])
def test_a_name_of_a_service_that_istio_does_not_know_is_refused(
    folder: Path, section: str, host: str
) -> None:
    """Istio completes names without dots only."""
    hosts = {host: {}}
    said = refused(folder, **{section: hosts if section == "services" else {"hosts": hosts}})
    key = f"fedmesh:services.{host}" if section == "services" else f"fedmesh:failover.hosts.{host}"
    assert f"{key} in Pulumi.unit.yaml" in said
    assert ".svc.cluster.local" in said


def test_rules_of_hosts_that_differ_only_in_dots_have_names_of_their_own(folder: Path) -> None:
    wish = {"timeout": "1s", "warmup": "1m"}
    others = {"a-b.c.svc.cluster.local": wish, "a.b-c.svc.cluster.local": wish}
    mesh = two(folder, services={HOST: wish, **others})
    for kind in ("DestinationRule", "VirtualService"):
        made = [each for each in names(mesh, kind) if each.startswith("cluster-1-")]
        assert len(set(made)) == 3
        assert RULE.format(1, kind.lower()) in made
        assert f"cluster-1-services-service-a-b-c-svc-cluster-local-{kind.lower()}" in made


def test_the_platforms_namespaces_are_no_teams(mesh: Program, folder: Path) -> None:
    exempt = {
        name
        for policy in mesh.kind("ValidatingAdmissionPolicy")
        for rule in policy.inputs["spec"]["matchConstraints"]
        .get("namespaceSelector", {})
        .get("matchExpressions", [])
        for name in rule.get("values", [])
    }
    made = {each.inputs["metadata"]["name"] for each in mesh.kind("Namespace")}
    assert made
    assert made - {"sleep", "helloworld"} <= set(PLATFORM_NAMESPACES)
    assert {"observability", "kube-system"} <= exempt <= set(PLATFORM_NAMESPACES)
    for name in (*PLATFORM_NAMESPACES, "sleep", "helloworld"):
        said = refused(folder, namespaces={name: {}})
        assert f"fedmesh:namespaces.{name} in Pulumi.unit.yaml" in said
    sections = {"samples": {"enabled": False}, "namespaces": {"helloworld": {}}}
    assert parse({"clusters": members(2, folder)} | sections, "Pulumi.unit.yaml")


def with_plugin(clusters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The clusters with Istio's CNI plugin."""
    for cluster in clusters:
        cluster["istioCni"] = {"enabled": True}
    return clusters


def test_a_declared_namespace_is_in_the_mesh_on_all_clusters(folder: Path) -> None:
    mesh = run(
        {
            "clusters": with_plugin(members(2, folder)),
            "storage": LOCAL,
            "namespaces": {"shop": {"podSecurity": "restricted"}},
        }
    )
    for cluster in ("cluster-1", "cluster-2"):
        made = mesh.one(f"{cluster}-namespaces-shop-namespace").inputs["metadata"]
        member = mesh.one(f"{cluster}-namespaces-shop-namespacepatch").inputs["metadata"]
        assert "labels" not in made, "they go with the stack, the namespace stays"
        assert member["labels"] == {
            "istio-injection": "enabled",
            "pod-security.kubernetes.io/enforce": "restricted",
        }
        managers = {each["annotations"]["pulumi.com/patchFieldManager"] for each in (made, member)}
        assert len(managers) == 2


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_a_level_that_refuses_init_containers_needs_the_cni_plugin_everywhere(
    folder: Path, level: str
) -> None:
    one, other = members(2, folder)
    said = refused(folder, clusters=[*with_plugin([one]), other], namespaces={"shop": {"podSecurity": level}})
    assert "fedmesh:namespaces.shop.podSecurity in" in said
    assert "set istioCni.enabled for cluster-2" in said


def test_a_declared_namespace_takes_the_revisions_proxies(folder: Path) -> None:
    mesh = two(folder, namespaces={"shop": {}}, istio={"revision": "v1-32"})
    labels = mesh.one("cluster-1-namespaces-shop-namespacepatch").inputs["metadata"]["labels"]
    assert labels == {"istio.io/rev": "v1-32"}


def test_a_teams_namespace_outlives_the_stack(folder: Path) -> None:
    mesh = two(folder, namespaces={"shop": {}})
    assert mesh.one("cluster-1-namespaces-shop-namespace").retained
    assert not mesh.one("cluster-1-namespaces-shop-namespacepatch").retained


def test_names_of_all_clusters_resolve_in_all(mesh: Program, folder: Path) -> None:
    def captured(program: Program) -> Any:
        values = program.one("cluster-1-istio-istiod").inputs["values"]
        metadata = values["meshConfig"]["defaultConfig"]["proxyMetadata"]
        assert metadata["WORKLOAD_IDENTITY_SOCKET_FILE"] == "spire-agent.sock"
        assert values["env"]["PILOT_ENABLE_IP_AUTOALLOCATE"] == "false"
        return metadata["ISTIO_META_DNS_CAPTURE"]

    assert captured(mesh) == "true"
    assert captured(two(folder, istio={"dnsProxy": False})) == "false"


def test_gateway_api_is_there_before_istiod(mesh: Program, folder: Path) -> None:
    release = "https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.6.0/standard-install.yaml"
    assert set(mesh.files) == {release}
    made = "cluster-1-gateway-api-gateways.gateway.networking.k8s.io-customresourcedefinition"
    assert mesh.comes_after("cluster-1-istio-istiod", made)
    own = two(folder, gatewayApi={"path": "charts/gateway-api.yaml"})
    assert all(file.endswith("/charts/gateway-api.yaml") for file in own.files)


def test_a_release_of_gateway_api_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(pulumi.RunError, match=r"fedmesh:gatewayApi: .*none\.yaml can't be read"):
        documents_of(str(tmp_path / "none.yaml"))
    (tmp_path / "some.yaml").write_text("---\na: 1\n---\n---\nb: 2\n")
    assert documents_of(str(tmp_path / "some.yaml")) == ({"a": 1}, {"b": 2})


def test_gateway_api_is_left_out_where_the_clusters_bring_it(mesh: Program, folder: Path) -> None:
    none = two(folder, gatewayApi={"install": False})
    assert mesh.kind("HTTPRoute")
    assert not none.kind("HTTPRoute")
    assert not [each for each in none.objects if "gateway-api" in each.name]


@pytest.mark.parametrize(
    ("wanted", "milliseconds"), [("3s", [3000, 3000]), ("1m", [60000, 60000]), ("0s", [])]
)
def test_uploads_to_servers_that_pause_may_have_their_time(
    folder: Path, wanted: str, milliseconds: list[int]
) -> None:
    mesh = two(folder, istio={"deadPeers": {"userTimeout": wanted}})
    patches = mesh.one("cluster-1-istio-dead-peers-envoyfilter").inputs["spec"]["configPatches"]
    found = [
        option["int_value"]
        for patch in patches
        if "cluster" not in patch["match"]
        for option in patch["patch"]["value"].get("upstream_bind_config", {}).get("socket_options", [])
    ]
    assert found == milliseconds
