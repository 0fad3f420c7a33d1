"""What `fedmesh verify --service` reads from a caller's proxy."""

import json
import re

import pytest
from fedmesh_samples import FakeApi, pod

from fedmesh.kube import Output
from fedmesh.reading import LiveCluster
from fedmesh.topology import Member
from fedmesh.verify.in_force import balancing, ejection, in_force, route_text

HOST = "cart.shop.svc.cluster.local"
MEMBER = Member("cluster-1", "td1", "network-1", None, "")
CLUSTER = {
    "name": f"outbound|80||{HOST}",
    "lb_policy": "LEAST_REQUEST",
    "connect_timeout": "1s",
    "outlier_detection": {
        "consecutive_gateway_failure": 5,
        "enforcing_consecutive_gateway_failure": 100,
        "enforcing_consecutive_5xx": 0,
        "consecutive_local_origin_failure": 2,
        "max_ejection_percent": 100,
    },
    "metadata": {
        "filter_metadata": {
            "istio": {
                "config": "/apis/networking.istio.io/v1/namespaces/istio-system/destination-rule/failover"
            }
        }
    },
}
READS = {
    "match": {"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]},
    "route": {
        "timeout": "15s",
        "retry_policy": {"num_retries": 3, "retry_on": "5xx", "per_try_timeout": "2s"},
        "hash_policy": [{"header": {"header_name": "user"}}],
    },
}
OTHERS = {"match": {"prefix": "/"}, "route": {"timeout": "0s", "retry_policy": {"num_retries": 0}}}
ENDPOINT = {
    "address": {"socket_address": {"address": "10.1.0.9", "port_value": 80}},
    "health_status": {"eds_health_status": "HEALTHY"},
}
CLUSTERS = {
    "cluster_statuses": [
        {
            "name": CLUSTER["name"],
            "host_statuses": [
                ENDPOINT,
                ENDPOINT | {"priority": 1},
                ENDPOINT | {"priority": 1, "health_status": {"failed_outlier_check": True}},
            ],
        }
    ]
}


class Proxy:
    """A caller's admin interface: clusters by subset, routes by the name of their config, clusters of TCP listeners."""

    def __init__(self, subsets=("",), routes=None, tcp=("",), domain=HOST):
        self.subsets = {f"outbound|80|{subset}|{HOST}" for subset in subsets}
        self.routes = {"80": [READS, OTHERS]} if routes is None else routes
        self.tcp = tcp
        self.domain = domain
        self.asked = []

    def __call__(self, _namespace, name, _container, command, _stdin):
        self.asked.append(name)
        path, _, pattern = command[-1].partition("&name_regex=")
        known = re.compile(pattern)
        if "dynamic_active_clusters" in path:
            configs = [{"cluster": CLUSTER | {"name": n}} for n in sorted(self.subsets) if known.fullmatch(n)]
        elif "dynamic_route_configs" in path:
            configs = [
                {
                    "route_config": {
                        "virtual_hosts": [{"name": f"{HOST}:80", "domains": [self.domain], "routes": routes}]
                    }
                }
                for config, routes in self.routes.items()
                if known.fullmatch(config)
            ]
        elif "dynamic_listeners" in path:
            filters = [
                {
                    "typed_config": {
                        "stat_prefix": f"outbound|80||{HOST}",
                        "cluster": f"outbound|80|{subset}|{HOST}",
                    }
                }
                for subset in self.tcp
            ]
            listener = {"filter_chains": [{"filters": filters}]}
            configs = [{"active_state": {"listener": listener}}] if known.fullmatch("10.96.0.9_80") else []
        else:
            hosts = CLUSTERS["cluster_statuses"][0]["host_statuses"]
            return Output(
                json.dumps({"cluster_statuses": [{"name": n, "host_statuses": hosts} for n in self.subsets]}),
                "",
                0,
            )
        return Output(json.dumps({"configs": configs}), "", 0)


def cluster(ports=({"name": "http", "port": 80},), proxy=None, pods=None):
    services = [{"metadata": {"name": "cart", "namespace": "shop"}, "spec": {"ports": list(ports)}}]
    answers = {
        "/api/v1/namespaces": [{"metadata": {"name": "shop", "labels": {"istio-injection": "enabled"}}}],
        "/api/v1/services": services,
        "/api/v1/pods": pods or [pod("caller", namespace="shop")],
    }
    return LiveCluster(MEMBER, FakeApi(answers, run=proxy or Proxy()))


def to(subset, route=OTHERS):
    return {**route, "route": {**route["route"], "cluster": f"outbound|80|{subset}|{HOST}"}}


def test_time_outs_retries_failover_and_endpoints_are_told():
    (seen,) = in_force([cluster()], "shop", "cart")
    assert seen.caller == "shop/caller"
    assert seen.subset == ""
    assert seen.routes == ("GET: time-out 15s 3 retries on 5xx, 2s each sticky", "no time-out no retries")
    assert seen.balancing == "least request, connect within 1s"
    assert seen.ejection == "after 5 x 502, 503, 504 or 2 failed connections; up to 100 % of the endpoints"
    assert seen.endpoints == ("0: 1 of 1", "1: 1 of 2")
    assert seen.rules == ("istio-system/failover",)


def test_the_subset_is_told_that_the_routes_name():
    proxy = Proxy(subsets=["", "home"], routes={"80": [to("home")]})
    (seen,) = in_force([cluster(proxy=proxy)], "shop", "cart")
    assert (seen.subset, seen.endpoints) == ("home", ("0: 1 of 1", "1: 1 of 2"))


def test_each_subset_has_the_routes_that_lead_there():
    both = {"route": {"weighted_clusters": {"clusters": [{"name": f"outbound|80|v1|{HOST}"}]}}}
    proxy = Proxy(subsets=["", "v1", "v2"], routes={"80": [both, to("v2", READS)]})
    seen = in_force([cluster(proxy=proxy)], "shop", "cart")
    assert [(each.subset, each.routes[0][:4]) for each in seen] == [("v1", "no t"), ("v2", "GET:")]


def test_a_subset_that_does_not_exist_is_told():
    (seen,) = in_force([cluster(proxy=Proxy(routes={"80": [to("home")]}))], "shop", "cart")
    assert (seen.subset, seen.balancing, seen.endpoints) == ("home", "does not exist: calls fail", ())


def test_tcp_ports_have_no_routes():
    tcp = [{"name": "tcp-db", "port": 80}]
    (seen,) = in_force([cluster(tcp, Proxy(routes={}))], "shop", "cart")
    assert seen.routes == ("TCP",)
    (seen,) = in_force([cluster(tcp, Proxy(["", "home"], {}, ["home"]))], "shop", "cart")
    assert (seen.subset, seen.routes) == ("home", ("TCP",))


def test_a_port_that_istio_sniffs_has_routes_and_tcp():
    sniffed = Proxy(routes={f"{HOST}:80": [to("", OTHERS)]}, domain="*")
    (seen,) = in_force([cluster([{"port": 80}], sniffed)], "shop", "cart")
    assert seen.routes == ("no time-out no retries", "TCP")


def test_an_http_port_without_a_route_is_told():
    (seen,) = in_force([cluster(proxy=Proxy(routes={}))], "shop", "cart")
    assert seen.routes == ("no route found",)


def test_a_gateway_is_no_caller():
    gateway = pod("gateway", namespace="shop")
    gateway["spec"]["containers"] = [{"name": "istio-proxy", "image": "", "args": ["proxy", "router"]}]
    proxy = Proxy()
    in_force([cluster(proxy=proxy, pods=[gateway, pod("caller", namespace="shop")])], "shop", "cart")
    assert set(proxy.asked) == {"caller"}


def test_udp_ports_are_left_out():
    ports = [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    assert [each.port for each in in_force([cluster(ports)], "shop", "cart")] == [80]


def test_a_service_that_is_not_in_the_mesh_or_that_nobody_knows_is_named():
    with pytest.raises(LookupError, match="no namespace shop with a Service other"):
        in_force([cluster()], "shop", "other")
    with pytest.raises(LookupError, match=f"no proxy knows {HOST}"):
        in_force([cluster([{"name": "http", "port": 81}])], "shop", "cart")


def test_without_outlier_detection_nobody_is_put_aside():
    assert ejection({}) == "never: no failover from endpoints that fail"
    assert ejection({"outlier_detection": {}}).startswith("after 5 x 5xx or 5 failed connections; up to 10 %")
    assert balancing({}) == "round robin, connect within 5s"
    assert route_text({}) == "no time-out no retries"
