"""What verify makes of services, of owners' rules, and of what istiod has in force."""

import json

import pytest
import yaml
from fedmesh_samples import FakeApi

from fedmesh.kube import Output
from fedmesh.probe import Janitor
from fedmesh.reading import LiveCluster
from fedmesh.topology import Member, Topology
from fedmesh.verify import services
from fedmesh.verify.model import Failed, Mesh, Warned

ISTIO = "/apis/networking.istio.io/v1"
MEMBERS = tuple(
    Member(f"cluster-{n}", f"wsc-cluster{n}.com", f"network-{n}", None, f"cluster-{n}") for n in (1, 2)
)
SPACES = [
    {"metadata": {"name": "shop", "labels": {"istio-injection": "enabled"}}},
    {"metadata": {"name": "outside", "labels": {}}},
]


def service(name, *ports, namespace="shop"):
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"ports": list(ports)}}


def rule(name="own", namespace="shop", host="web", subsets=(), **policy):
    spec = {"host": host, "trafficPolicy": policy, "subsets": [{"name": each} for each in subsets]}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def route(name="own", namespace="shop", host="web", **more):
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"hosts": [host], **more}}


def api(found=(), rules=(), routes=(), config=None, sidecars=()):
    maps = [{"metadata": {"name": "istio"}, "data": {"mesh": yaml.safe_dump(config or {})}}]
    return FakeApi(
        {
            "/api/v1/namespaces": SPACES,
            "/api/v1/services": list(found),
            "/api/v1/namespaces/istio-system/configmaps": maps,
            f"{ISTIO}/destinationrules": list(rules),
            f"{ISTIO}/virtualservices": list(routes),
            f"{ISTIO}/sidecars": list(sidecars),
        }
    )


def examine(check, *apis):
    clusters = {member.name: LiveCluster(member, each) for member, each in zip(MEMBERS, apis, strict=True)}
    mesh = Mesh(Topology("lab", MEMBERS, samples=False), clusters, Janitor())
    return check.examine(mesh, clusters["cluster-1"])


def test_a_port_with_another_name_on_a_peer_is_named():
    here, there = (api([service("web", {"name": name, "port": 80})]) for name in ("http", "http-web"))
    with pytest.raises(
        Failed, match=r"port 80 of web\.shop.* is http on cluster-1 and http-web on cluster-2"
    ):
        examine(services.ports_are_alike, here, there)
    same = [api([service("web", {"name": "http", "port": 80})]) for _ in range(2)]
    assert examine(services.ports_are_alike, *same) == "1 services on several clusters"


def ports_on_both(here, there, **more):
    return [api([service("web", *ports)], **more) for ports in (here, there)]


def test_a_port_with_another_number_on_a_peer_is_named():
    both = ports_on_both([{"name": "http", "port": 80}], [{"name": "http", "port": 8080}])
    with pytest.raises(
        Failed, match=r"^port http of web\.shop[^;]* is 80 on cluster-1 and 8080 on cluster-2: [^;]* reset$"
    ):
        examine(services.ports_are_alike, *both)


def test_a_port_that_a_peer_lacks_is_named():
    http, more = {"name": "http", "port": 80}, {"name": "http-admin", "port": 81}
    with pytest.raises(
        Failed, match=r"^port 81 of web\.shop[^;]* \(http-admin\) does not exist on cluster-2"
    ):
        examine(services.ports_are_alike, *ports_on_both([http, more], [http]))
    examine(services.ports_are_alike, *ports_on_both([http], [http, more]))


def test_ports_that_no_call_of_another_cluster_reaches_may_differ():
    dns = {"name": "dns", "port": 53, "protocol": "UDP"}
    examine(services.ports_are_alike, *ports_on_both([dns], [{**dns, "name": "dns-udp"}]))
    local = {"serviceSettings": [{"settings": {"clusterLocal": True}, "hosts": ["*.shop.svc.cluster.local"]}]}
    differ = [{"name": "http", "port": 80}], [{"name": "http", "port": 81}]
    examine(services.ports_are_alike, *ports_on_both(*differ, config=local))
    but = {"settings": {"clusterLocal": False}, "hosts": ["web.shop.svc.cluster.local"]}
    local["serviceSettings"].append(but)
    with pytest.raises(Failed, match="port http of web"):
        examine(services.ports_are_alike, *ports_on_both(*differ, config=local))


def test_services_outside_the_mesh_may_differ():
    here, there = (
        api([service("web", {"name": name, "port": 80}, namespace="outside")]) for name in ("a", "b")
    )
    assert examine(services.ports_are_alike, here, there) == "0 services on several clusters"


@pytest.mark.parametrize(
    ("port", "warned"),
    [
        ({"name": "tcp-db", "port": 5432}, True),
        ({"name": "postgres", "port": 5432}, True),
        ({"port": 5432}, True),
        ({"name": "http", "port": 80}, False),
        ({"name": "grpc-api", "port": 80}, False),
        ({"name": "db", "port": 80, "appProtocol": "http"}, False),
        ({"name": "tls-postgres", "port": 5432}, True),
        ({"name": "tls", "port": 5432}, True),
        ({"name": "mysql", "port": 3306}, True),
        ({"name": "http", "port": 5432, "appProtocol": "tcp"}, True),
        ({"name": "https-web", "port": 443}, False),
        ({"name": "HTTP-web", "port": 80}, False),
        ({"name": "grpc-web-ui", "port": 80}, False),
        ({"name": "db", "port": 80, "appProtocol": "kubernetes.io/h2c"}, False),
        ({"name": "db", "port": 80, "appProtocol": "kubernetes.io/ws"}, False),
        ({"name": "db", "port": 80, "appProtocol": "kubernetes.io/wss"}, False),
        ({"name": "dns", "port": 53, "protocol": "UDP"}, False),
    ],
)
def test_a_database_on_several_clusters_must_be_declared(port, warned):
    both = [api([service("db", port)]) for _ in range(2)]
    if warned:
        with pytest.raises(
            Failed, match=rf"port {port['port']} of db\.shop.* is one service to all clusters"
        ):
            examine(services.databases_are_declared, *both)
    else:
        examine(services.databases_are_declared, *both)


@pytest.mark.parametrize(
    "declaration",
    [
        {"config": {"serviceSettings": [{"hosts": ["db.shop.svc.cluster.local"]}]}},
        {"config": {"serviceSettings": [{"hosts": ["*.shop.svc.cluster.local"]}]}},
        {"rules": [rule(namespace="istio-system", host="db.shop.svc.cluster.local", subsets=["home"])]},
    ],
)
def test_a_declared_database_is_as_its_owner_wants_it(declaration):
    port = {"name": "tcp-db", "port": 5432}
    both = [api([service("db", port)], **declaration) for _ in range(2)]
    examine(services.databases_are_declared, *both)


def test_a_database_on_one_cluster_needs_no_word():
    examine(services.databases_are_declared, api([service("db", {"port": 5432})]), api())


def test_a_subset_that_a_peer_lacks_is_named():
    found = [service("web", {"name": "http", "port": 80})]
    here = api(found, [rule(subsets=["v1", "v2"])])
    there = api(found, [rule(host="web.shop.svc.cluster.local", subsets=["v1"])])
    with pytest.raises(Failed, match=r"cluster-2 sees no subset v2 of web\.shop\.svc\.cluster\.local"):
        examine(services.subsets_are_everywhere, here, there)
    assert (
        examine(services.subsets_are_everywhere, here, api(found, [rule(subsets=["v1", "v2"])]))
        == "2 subsets"
    )
    examine(services.subsets_are_everywhere, here, api())


FULL = {"maxEjectionPercent": 100}
NETWORK_FIRST = {"enabled": True, "failoverPriority": ["topology.istio.io/network"]}


@pytest.mark.parametrize(
    ("policy", "fault"),
    [
        ({"outlierDetection": {"consecutive5xxErrors": 3}}, "maxEjectionPercent"),
        ({"loadBalancer": {"localityLbSetting": {"enabled": False}}}, "is not enabled"),
        ({"loadBalancer": {"zoneAwareLbSetting": {"enabled": False}}}, "is not enabled"),
        ({"loadBalancer": {"localityLbSetting": NETWORK_FIRST}}, "no effect without outlierDetection"),
        (
            {"loadBalancer": {"localityLbSetting": {"enabled": True}}, "outlierDetection": FULL},
            "another network in the same region and zone shares priority 0",
        ),
        (
            {
                "loadBalancer": {"localityLbSetting": {"distribute": [{"from": "*"}]}},
                "outlierDetection": FULL,
            },
            "distribute",
        ),
        ({"loadBalancer": {"zoneAwareLbSetting": {"enabled": True}}}, "another network in the same region"),
        ({"loadBalancer": {"simple": "PASSTHROUGH"}}, "PASSTHROUGH"),
        ({"loadBalancer": {"simple": "RANDOM"}}, ""),
        ({"loadBalancer": {"localityLbSetting": NETWORK_FIRST}, "outlierDetection": FULL}, ""),
        ({"connectionPool": {"tcp": {"maxConnections": 1}}}, ""),
        ({"outlierDetection": FULL}, ""),
    ],
)
@pytest.mark.parametrize("place", ["", "subset v1", "port 80", "port 80 of subset v1"])
def test_a_rule_that_undoes_failover_is_named_wherever_it_does(policy, fault, place):
    of_subset = place.startswith("port") and "subset" in place
    if of_subset and "no effect" not in fault:
        policy = {"outlierDetection": FULL, **policy}
    given = {"portLevelSettings": [{"port": {"number": 80}, **policy}]} if "port" in place else policy
    own = rule() if "subset" in place else rule(**given)
    if "subset" in place:
        own["spec"]["subsets"] = [{"name": "v1", "trafficPolicy": given}]
    apis = (api(rules=[own]), api())
    if fault:
        where = rf"DestinationRule shop/own{', ' if place else ''}{place}: "
        with pytest.raises(Failed, match=rf"^{where}[^;]*{fault}[^;]*$"):
            examine(services.rules_keep_failover, *apis)
    else:
        examine(services.rules_keep_failover, *apis)


def test_a_port_of_a_subset_without_outlier_detection_is_named():
    own = rule(subsets=["v1"])
    own["spec"]["subsets"][0]["trafficPolicy"] = {"portLevelSettings": [{"port": {"number": 80}}]}
    with pytest.raises(Failed, match="port 80 of subset v1: no outlierDetection"):
        examine(services.rules_keep_failover, api(rules=[own]), api())


def test_a_subset_completes_what_it_inherits():
    own = rule(loadBalancer={"localityLbSetting": NETWORK_FIRST}, outlierDetection=FULL)
    own["spec"]["subsets"] = [{"name": "v1", "trafficPolicy": {"outlierDetection": FULL}}]
    examine(services.rules_keep_failover, api(rules=[own]), api())
    own["spec"]["subsets"] = [{"name": "v1", "trafficPolicy": {"outlierDetection": {}}}]
    with pytest.raises(Failed, match="shop/own, subset v1: maxEjectionPercent"):
        examine(services.rules_keep_failover, api(rules=[own]), api())


@pytest.mark.parametrize("host", ["api.example.com", "*.example.com", "db.rds"])
def test_a_rule_for_a_host_outside_the_mesh_is_not_blamed(host):
    examine(services.rules_keep_failover, api(rules=[rule(host=host, outlierDetection={})]), api())


@pytest.mark.parametrize("host", ["web", "*", "*.local", "*.shop.svc.cluster.local"])
def test_a_rule_for_hosts_of_the_mesh_is_judged(host):
    with pytest.raises(Failed, match="maxEjectionPercent"):
        examine(services.rules_keep_failover, api(rules=[rule(host=host, outlierDetection={})]), api())


def test_owners_rules_without_a_retry_budget_are_told():
    ours = rule("failover", "istio-system", "*.local")
    found = [rule("a"), rule("b", retryBudget={"percent": {"value": 5}}), ours]
    detail = examine(services.rules_keep_failover, api(rules=found), api())
    assert detail == "3 DestinationRules, 0 VirtualServices; retries have no budget under shop/a"
    assert "budget" not in examine(services.rules_keep_failover, api(rules=found[1:]), api())


def test_an_owners_rule_beside_a_declaration_is_named():
    ours = route("service-web", "istio-system", "web.shop.svc.cluster.local", gateways=["mesh"])
    with pytest.raises(Failed, match=r"more than one VirtualService.*: istio-system/service-web, shop/own"):
        examine(services.rules_keep_failover, api(routes=[ours, route()]), api())
    ingress = route(gateways=["istio-gateways/public"])
    examine(services.rules_keep_failover, api(routes=[ours, ingress]), api())


DB = "db.shop.svc.cluster.local"


def declared(*subsets, **policy):
    return rule("service-db", "istio-system", DB, subsets, **policy)


def exported(found, *to):
    found["spec"]["exportTo"] = list(to)
    return found


@pytest.mark.parametrize(
    ("owner", "callers"),
    [
        (rule(host="*.shop.svc.cluster.local"), "all callers"),
        (rule(host="*.local"), "all callers"),
        (rule(host="db"), "all callers"),
        (rule(host=DB, namespace="other"), "callers in other"),
        (rule(host="*", namespace="other"), "callers in other"),
        (exported(rule(host="db"), "."), "callers in shop"),
        (exported(rule(host="db"), "shop", "other"), "callers in other, shop"),
        (exported(rule(host=DB, namespace="other"), "third"), ""),
        (exported(rule(host="db"), "~"), ""),
        (rule(host="*.other.svc.cluster.local"), ""),
        (rule(host="db", namespace="other"), ""),
    ],
)
def test_an_owners_rule_that_takes_the_place_of_a_declaration_is_named(owner, callers):
    db = service("db", {"name": "tcp-db", "port": 5432})
    for ours, check in (
        (declared(), services.rules_keep_failover),
        (declared("home"), services.declared_clusters_are_called),
    ):
        both = [api([db], [ours, owner]) for _ in range(2)]
        if not callers:
            examine(check, *both)
            continue
        ending = ": .*home, all these calls fail" if ours["spec"]["subsets"] else ""
        told = rf"^DestinationRule .*/own takes the place of istio-system/service-db .*{callers}{ending}$"
        with pytest.raises(Failed, match=told):
            examine(check, *both)


def test_calls_that_fail_are_more_than_a_warning_and_told_once():
    both = [api([service("db")], [declared("home"), rule(host="*.local")]) for _ in range(2)]
    assert services.declared_clusters_are_called.severity == "fatal"
    examine(services.rules_keep_failover, *both)


def test_an_owners_rule_with_the_declared_subset_only_replaces_the_policy():
    both = [api([service("db")], [declared("home"), rule(host="db", subsets=["home"])]) for _ in range(2)]
    examine(services.declared_clusters_are_called, *both)
    with pytest.raises(Failed, match="takes the place of istio-system/service-db"):
        examine(services.rules_keep_failover, *both)


def test_a_headless_service_cannot_be_one_clusters():
    db = service("db", {"name": "tcp-db", "port": 5432})
    db["spec"]["clusterIP"] = "None"
    both = [api([db], [declared("home")]) for _ in range(2)]
    with pytest.raises(Failed, match=r"^db\.shop[^;]* is headless"):
        examine(services.declared_clusters_are_called, *both)
    with pytest.raises(Failed, match="port 5432 of db"):
        examine(services.databases_are_declared, *both)


@pytest.mark.parametrize("name", ["tls-db", "https"])
def test_a_tls_port_does_not_go_to_the_declared_cluster(name):
    both = [api([service("db", {"name": name, "port": 5432})], [declared("home")]) for _ in range(2)]
    with pytest.raises(Warned, match=rf"^port 5432 of db\.shop[^;]* \({name}\)"):
        examine(services.declared_clusters_are_called, *both)


def test_declared_clusters_are_counted():
    both = [
        api([service("db", {"name": "tcp-db", "port": 5432})], [declared("home"), rule()]) for _ in range(2)
    ]
    assert examine(services.declared_clusters_are_called, *both) == "1 services of one cluster"


@pytest.mark.parametrize(
    ("there", "seen"),
    [
        (rule(subsets=["v1"]), True),
        (exported(rule(subsets=["v1"]), "."), False),
        (exported(rule(subsets=["v1"]), "other"), False),
        (exported(rule(subsets=["v1"]), "istio-gateways"), True),
        (rule(host="web.shop.svc.cluster.local", namespace="other", subsets=["v1"]), False),
        (rule(host="web.shop.svc.cluster.local", namespace="istio-system", subsets=["v1"]), True),
    ],
)
def test_only_rules_that_the_gateway_of_a_peer_sees_give_it_subsets(there, seen):
    found = [service("web", {"name": "http", "port": 80})]
    both = api(found, [rule(subsets=["v1"])]), api(found, [there])
    if seen:
        examine(services.subsets_are_everywhere, *both)
    else:
        with pytest.raises(Failed, match=r"^the east-west gateway of cluster-2 sees no subset v1 of web"):
            examine(services.subsets_are_everywhere, *both)


def headless(name="db", **more):
    found = service(name, {"name": "tcp-db", "port": 5432}, **more)
    found["spec"]["clusterIP"] = "None"
    return found


def test_a_headless_service_without_a_name_on_a_peer_is_named():
    with pytest.raises(
        Failed, match=r"^db\.shop[^;]* does not exist on cluster-2, whose clients have no name"
    ):
        examine(services.headless_services_are_everywhere, api([headless()]), api())
    detail = examine(services.headless_services_are_everywhere, api([headless()]), api([headless()]))
    assert detail == "1 headless services"
    examine(services.headless_services_are_everywhere, api([headless(namespace="outside")]), api())
    examine(services.headless_services_are_everywhere, api([service("web")]), api())


def test_a_headless_service_that_is_local_needs_no_name_elsewhere():
    local = {"serviceSettings": [{"settings": {"clusterLocal": True}, "hosts": [DB]}]}
    examine(services.headless_services_are_everywhere, api([headless()], config=local), api())


def sidecar(*hosts, namespace="shop"):
    spec = {"egress": [{"hosts": list(hosts)}]} if hosts else {}
    return {"metadata": {"name": "own", "namespace": namespace}, "spec": spec}


@pytest.mark.parametrize(
    ("found", "hidden"),
    [
        (sidecar("./*"), True),
        (sidecar("shop/*"), True),
        (sidecar(f"shop/{DB}"), True),
        (sidecar("./*.shop.svc.cluster.local", "istio-system/web.shop.svc.cluster.local"), True),
        (sidecar("*/*", "~istio-system/*"), True),
        (sidecar("./*", namespace="istio-system"), True),
        (sidecar("./*", "istio-system/*"), False),
        (sidecar("./*", f"istio-system/{DB}"), False),
        (sidecar("*/*"), False),
        (sidecar(f"*/{DB}"), False),
        (sidecar("./*", namespace="other"), False),
        (sidecar("~/*"), False),
        (sidecar(), False),
    ],
)
def test_a_sidecar_that_imports_a_service_without_its_declaration_is_named(found, hidden):
    ours = route("service-db", "istio-system", DB, gateways=["mesh"])
    one = api(routes=[ours], sidecars=[found])
    if hidden:
        with pytest.raises(Failed, match=rf"^Sidecar {found['metadata']['namespace']}/own .* {DB}"):
            examine(services.sidecars_import_declarations, one, api())
    else:
        assert examine(services.sidecars_import_declarations, one, api()) == "1 Sidecars"


def test_a_database_outside_the_mesh_that_calls_can_leave_for_a_peers_is_named():
    port = {"name": "tcp-db", "port": 5432}
    here, there = api([service("db", port)]), api([service("db", port)])
    here.answers["/api/v1/namespaces"] = [{"metadata": {"name": "shop", "labels": {}}}]
    with pytest.raises(Failed, match="port 5432 of db"):
        examine(services.databases_are_declared, here, there)
    examine(services.databases_are_declared, there, here)


def istiod(found, wanted):
    pod = {
        "metadata": {"name": "istiod-1", "namespace": "istio-system", "labels": {"app": "istiod"}},
        "spec": {"containers": [{"name": "discovery"}]},
        "status": {"phase": "Running"},
    }
    answers = {
        "/api/v1/pods": [pod],
        "/api/v1/namespaces/istio-system/configmaps/istio": {"data": {"mesh": yaml.safe_dump(wanted)}},
    }
    return FakeApi(answers, run=lambda *_: Output(json.dumps(found), "", 0))


def test_an_istiod_that_fell_back_to_its_defaults_is_named():
    wanted = {"trustDomain": "td1", "zoneAwareLbSetting": {"failoverPriority": ["a", "b"]}}
    with pytest.raises(Failed, match="istiod-1 has another zoneAwareLbSetting in force"):
        examine(services.configuration_is_in_force, istiod({"trustDomain": "td1"}, wanted), api())
    found = {**wanted, "zoneAwareLbSetting": {"enabled": True, "failoverPriority": ["a", "b"]}, "more": 1}
    assert (
        examine(services.configuration_is_in_force, istiod(found, wanted), api())
        == "in force in 1 pods of istiod"
    )
