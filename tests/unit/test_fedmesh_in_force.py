"""What `fedmesh verify --service` reads from a caller's proxy."""

import json

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


def proxy(_namespace, _name, _container, command, _stdin):
    path = command[-1]
    if "dynamic_active_clusters" in path:
        found = {"configs": [{"cluster": CLUSTER}]} if "outbound.80..cart" in path else {}
    elif "dynamic_route_configs" in path:
        virtual = {"domains": [HOST], "routes": [READS, OTHERS]}
        found = {"configs": [{"route_config": {"virtual_hosts": [virtual]}}]}
    else:
        found = CLUSTERS
    return Output(json.dumps(found), "", 0)


def cluster(ports=({"name": "http", "port": 80},)):
    services = [{"metadata": {"name": "cart", "namespace": "shop"}, "spec": {"ports": list(ports)}}]
    answers = {
        "/api/v1/namespaces": [{"metadata": {"name": "shop", "labels": {"istio-injection": "enabled"}}}],
        "/api/v1/services": services,
        "/api/v1/pods": [pod("caller", namespace="shop")],
    }
    return LiveCluster(MEMBER, FakeApi(answers, run=proxy))


def test_time_outs_retries_failover_and_endpoints_are_told():
    (seen,) = in_force([cluster()], "shop", "cart")
    assert seen.caller == "shop/caller"
    assert seen.routes == ("GET: time-out 15s 3 retries on 5xx, 2s each sticky", "no time-out no retries")
    assert seen.balancing == "least request, connect within 1s"
    assert seen.ejection == "after 5 x 502, 503, 504 or 2 failed connections; up to 100 % of the endpoints"
    assert seen.endpoints == ("0: 1 of 1", "1: 1 of 2")
    assert seen.rules == ("istio-system/failover",)


def test_tcp_ports_have_no_routes():
    (seen,) = in_force([cluster([{"name": "tcp-db", "port": 80}])], "shop", "cart")
    assert seen.routes == ()


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
