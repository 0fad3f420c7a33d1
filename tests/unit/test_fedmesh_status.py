"""The status's lines from recorded shapes, and the picture of them."""

import io
import json
from datetime import timedelta

import pytest
from fedmesh_samples import NOW, PEER_DOMAIN, FakeApi, node, pod
from rich.console import Console

from fedmesh import envoy
from fedmesh.kube import Output
from fedmesh.reading import LiveCluster
from fedmesh.spire import FederationEvents, parse_federation_log
from fedmesh.status.snapshot import (
    CertificateLine,
    ClusterLine,
    FederationLine,
    Snapshot,
    TrafficLine,
    cluster_line,
)
from fedmesh.status.view import draw
from fedmesh.topology import Member

LOG = """\
time="2026-11-23T11:59:00Z" level=info msg="Serving bundle endpoint" subsystem_name=endpoints
time="2026-11-23T11:59:10Z" level=info msg="Bundle refreshed" subsystem_name=bundle_client trust_domain=b.example
time="2026-11-23T11:59:25Z" level=error msg="Error updating bundle" error="failed to fetch: \\"x509svid\\" no" \
subsystem_name=bundle_client trust_domain=b.example
"""


def test_the_newest_refresh_and_error_are_read_from_the_log():
    events = parse_federation_log(LOG)["b.example"]
    assert events.refreshed == NOW - timedelta(seconds=50)
    assert events.trouble(NOW) == 'failed to fetch: "x509svid" no'


def test_a_log_in_json_is_read_as_well():
    line = (
        '{"time":"2026-11-23T11:59:10Z","msg":"Bundle refreshed",'
        '"subsystem_name":"bundle_client","trust_domain":"b.example"}'
    )
    assert parse_federation_log(line)["b.example"].refreshed == NOW - timedelta(seconds=50)


def test_an_error_is_over_after_a_refresh_or_when_it_is_old():
    past = NOW - timedelta(seconds=20)
    assert FederationEvents(refreshed=NOW, failed=past, error="x").trouble(NOW) == ""
    assert FederationEvents(failed=NOW - timedelta(minutes=5), error="x").trouble(NOW) == ""
    assert FederationEvents(failed=past, error="x").trouble(NOW) == "x"


def test_traffic_is_that_of_services_with_requests():
    def status(name, total):
        return {
            "name": name,
            "host_statuses": [
                {
                    "address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}},
                    "stats": [{"name": "rq_total", "value": str(total)}, {"name": "rq_error"}],
                }
            ],
        }

    dump = {
        "cluster_statuses": [
            status("outbound|5000||helloworld.helloworld.svc.cluster.local", 7),
            status("outbound|80||idle.x.svc.cluster.local", 0),
            status("xds-grpc", 9),
        ]
    }
    ((service, endpoint),) = envoy.parse_traffic(dump)
    assert (service, endpoint.requests, endpoint.errors) == (
        "helloworld.helloworld.svc.cluster.local:5000",
        7,
        0,
    )


ISTIODS = "/apis/apps/v1/namespaces/istio-system/deployments"
GATEWAY = {
    "metadata": {"name": "eastwest", "labels": {"topology.istio.io/network": "network-1"}},
    "spec": {"ports": [{"port": 15443}]},
    "status": {"loadBalancer": {"ingress": [{"ip": "10.90.0.200"}]}},
}


def shown(istiods, members=("cluster-1", "cluster-2", "cluster-3"), drained=()):
    """The line of cluster-1, whose istiods read remote clusters in these states."""

    def run(_namespace, name, _container, _command, _stdin):
        states = [{"id": remote, "syncStatus": state} for remote, state in istiods[int(name)].items()]
        return Output(json.dumps(states), "", 0)

    answers = {
        "/api/v1/nodes": [node("n")],
        "/api/v1/pods": [pod(str(n), namespace="istio-system", app="istiod") for n in range(len(istiods))],
        ISTIODS: [{"metadata": {"name": "istiod"}, "spec": {}, "status": {"availableReplicas": 1}}],
        "/api/v1/namespaces/istio-gateways/services": [GATEWAY],
        "/version": {"gitVersion": "v1.34.4"},
    }
    mesh = [Member(name, name, "network-1", None, "", drained=name in drained) for name in members]
    line = cluster_line(LiveCluster(mesh[0], FakeApi(answers, run)), mesh)
    return line.remotes, line.well


def test_a_cluster_is_well_when_every_istiod_reads_every_other_cluster():
    whole = {"cluster-1": "synced", "cluster-2": "synced", "cluster-3": "synced"}
    assert shown([whole, whole]) == ("cluster-2 synced, cluster-3 synced", True)
    assert shown([{"cluster-1": "synced"}], members=("cluster-1",)) == ("none", True)


@pytest.mark.parametrize("worse", ["timeout", "missing"])
@pytest.mark.parametrize("first", [True, False])
def test_no_istiod_hides_another_one_that_does_not_read_a_cluster(worse, first):
    whole = {"cluster-2": "synced", "cluster-3": "synced"}
    other = whole | {"cluster-2": worse} if worse != "missing" else {"cluster-3": "synced"}
    istiods = [other, whole] if first else [whole, other]
    assert shown(istiods) == (f"cluster-2 {worse}, cluster-3 synced", False)


def test_a_cluster_that_no_istiod_knows_is_missing_unless_it_is_drained():
    assert shown([{}]) == ("cluster-2 missing, cluster-3 missing", False)
    assert shown([{}], drained=("cluster-2", "cluster-3")) == ("none", True)
    assert shown([{}, {"cluster-2": "synced"}], drained=("cluster-2", "cluster-3")) == (
        "cluster-2 synced",
        True,
    )


def snapshot(requests=100, at=NOW):
    return Snapshot(
        at=at,
        clusters=(
            ClusterLine("cluster-1", "a", "v1.34.4", "2/2", "1/1", "cluster-2 synced", "10.90.0.200", True),
        ),
        certificates=(CertificateLine("cluster-1", "cacerts", timedelta(days=3), timedelta(days=1)),),
        federation=(FederationLine("cluster-1", PEER_DOMAIN, "equal", True, None, ""),),
        traffic=(TrafficLine("cluster-1", "helloworld:5000", "10.91.0.9:5000", 0, True, requests, 0),),
        unread=("cluster-2: no route",),
    )


def picture(*shown):
    console = Console(file=io.StringIO(), width=160)
    console.print(draw(*shown))
    return console.file.getvalue()


def test_the_picture_names_every_part_and_what_was_not_read():
    text = picture(snapshot())
    for part in (
        "cluster-2 synced",
        "cacerts",
        "3d",
        PEER_DOMAIN,
        "helloworld:5000",
        "not read: cluster-2: no route",
    ):
        assert part in text


def test_a_rate_needs_two_snapshots_and_a_counter_that_did_not_start_anew():
    later = NOW + timedelta(seconds=4)
    assert " 10.0" in picture(snapshot(requests=140, at=later), snapshot())
    assert " 10.0" not in picture(snapshot(requests=40, at=later), snapshot(requests=100))
