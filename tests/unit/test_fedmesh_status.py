"""The status's lines from recorded shapes, and the picture of them."""

import io
from datetime import timedelta

from fedmesh_samples import NOW, PEER_DOMAIN
from rich.console import Console

from fedmesh import envoy
from fedmesh.spire import FederationEvents, parse_federation_log
from fedmesh.status.snapshot import CertificateLine, ClusterLine, FederationLine, Snapshot, TrafficLine
from fedmesh.status.view import draw

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
