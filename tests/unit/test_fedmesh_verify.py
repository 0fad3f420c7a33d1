"""What verify makes of clusters, certificates, istiod, proxies, calls and refusals."""

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from fedmesh_samples import (
    NOW,
    PEER_DOMAIN,
    TRUST_DOMAIN,
    Authority,
    FakeApi,
    bundle,
    node,
    pod,
    secrets_dump,
)
from rich.console import Console

from fedmesh import curl, envoy
from fedmesh.console import console_for
from fedmesh.kube import Kube, KubeError, Output
from fedmesh.probe import COLLECTIONS, LABEL, Janitor, outsider, remove_stale
from fedmesh.reading import LiveCluster
from fedmesh.topology import Member, Topology
from fedmesh.verify import command, traffic
from fedmesh.verify.certificates import judge_certificates, judge_issuers, judge_served
from fedmesh.verify.checks import ALL
from fedmesh.verify.cluster import judge_nodes
from fedmesh.verify.identity import judge_secrets, waiting_for_identity
from fedmesh.verify.istio import gateway_addresses, judge_cni, judge_istiod, judge_remote_clusters
from fedmesh.verify.model import Check, Failed, Mesh, Result, Severity, Warned, category, refuse
from fedmesh.verify.report import as_json, passed, print_table
from fedmesh.verify.runner import REACH, UNEXAMINED, run
from fedmesh.verify.security import alert_of, judge_handshake, judge_plaintext

MEMBERS = tuple(
    Member(f"cluster-{n}", f"wsc-cluster{n}.com", f"network-{n}", None, f"cluster-{n}") for n in (1, 2)
)
SLEEP = f"spiffe://{TRUST_DOMAIN}/ns/sleep/sa/sleep"


def mesh(api=None, samples=True):
    clusters = {member.name: LiveCluster(member, api or FakeApi()) for member in MEMBERS}
    return Mesh(Topology("lab", MEMBERS, samples), clusters, Janitor(), now=lambda: NOW)


def answer(status=200, body="Hello version: v1, instance: x\n", headers=None, code=0, error=""):
    return curl.Answer(status, body, headers or {}, code, error, 0.01)


# Nodes, issuers, certificates


def test_a_node_that_is_not_ready_is_named():
    assert judge_nodes([node("a"), node("b")]) == "2 ready"
    with pytest.raises(Failed, match="b is not ready"):
        judge_nodes([node("a"), node("b", ready="Unknown")])


def test_a_cluster_without_nodes_fails():
    with pytest.raises(Failed, match="no nodes"):
        judge_nodes([])


def certificate(name="cacerts", ready="True", **status):
    conditions = [{"type": "Ready", "status": ready, "message": "the issuer is missing"}]
    return {
        "metadata": {"name": name, "namespace": "istio-system"},
        "status": {"conditions": conditions, "notAfter": "2026-12-23T12:00:00Z", **status},
    }


def test_the_first_certificate_to_expire_is_told():
    soon = certificate("soon", notAfter="2026-11-24T12:00:00Z")
    assert judge_certificates([certificate(), soon], NOW).endswith(
        "istio-system/soon is the first to expire, in 1d"
    )


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (certificate(ready="False"), "cacerts: the issuer is missing"),
        (certificate(notAfter="2026-11-23T11:00:00Z"), "expired 1h ago"),
        (certificate(renewalTime="2026-11-23T11:00:00Z"), "should have been renewed at"),
        ({"metadata": {"name": "new", "namespace": "x"}}, "cert-manager has not processed it yet"),
    ],
)
def test_a_certificate_that_is_not_well_is_named(broken, complaint):
    with pytest.raises(Failed, match=complaint):
        judge_certificates([broken], NOW)


@pytest.mark.parametrize(
    ("left", "issued", "fault"),
    [
        (None, NOW, "has no certificate of users' hosts"),
        (timedelta(days=20), NOW - timedelta(days=1), None),
        (
            timedelta(days=10),
            NOW - timedelta(hours=2),
            "still serves the certificate before the newest, which is 2h old",
        ),
        (timedelta(days=10), NOW - timedelta(seconds=5), None),
    ],
)
def test_a_gateway_without_the_newest_certificate_of_users_hosts_is_named(left, issued, fault):
    root = Authority("users")
    leaf = [] if left is None else [root.issue("spiffe://x/y", left=left, life=timedelta(days=30))]
    name = "kubernetes-gateway://istio-gateways/users-hosts"
    dump = secrets_dump(leaf, {})
    dump["configs"][0]["name"] = name
    status = {"notAfter": (NOW + timedelta(days=20)).isoformat(), "notBefore": issued.isoformat()}
    said = judge_served("gw", envoy.parse_secrets(dump).served.get(name, ()), {"status": status}, NOW)
    assert said == (f"gw {fault}" if fault else None)


def test_no_issuers_and_no_certificates_are_failures():
    with pytest.raises(Failed):
        judge_issuers([])
    with pytest.raises(Failed):
        judge_certificates([], NOW)


# Istio


def istiod(replicas=1, available=1):
    return {
        "metadata": {"name": "istiod", "labels": {"app": "istiod"}},
        "spec": {"replicas": replicas},
        "status": {"availableReplicas": available} if available else {},
    }


def test_istiod_without_an_available_replica_fails():
    assert judge_istiod([istiod()]) == "istiod 1 available"
    with pytest.raises(Failed, match="0 of 2 replicas"):
        judge_istiod([istiod(replicas=2, available=0)])
    with pytest.raises(Failed, match="no Deployment"):
        judge_istiod([])


@pytest.mark.parametrize(
    ("remotes", "complaint"),
    [
        ([], "no remote secret for cluster-2"),
        ([{"id": "cluster-2", "syncStatus": "timeout"}], "cluster-2 is timeout"),
    ],
)
def test_a_peer_that_istiod_does_not_read_is_named(remotes, complaint):
    judge_remote_clusters(["cluster-2"], [{"id": "cluster-2", "syncStatus": "synced"}])
    with pytest.raises(Failed, match=complaint):
        judge_remote_clusters(["cluster-2"], remotes)


def agents(ready=2, wanted=2):
    return {
        "metadata": {"name": "istio-cni-node"},
        "status": {"desiredNumberScheduled": wanted, "numberReady": ready},
    }


def relying():
    found = pod("shop", namespace="shop")
    found["spec"]["initContainers"] = [{"name": "istio-validation"}]
    return found


def test_nodes_without_the_plugin_that_pods_rely_on_are_found():
    assert judge_cni([agents()], [relying()]) == "2 agents ready"
    assert judge_cni([], [pod("shop")]).startswith("not used")
    with pytest.raises(Failed, match="1 of 2 agents are ready"):
        judge_cni([agents(ready=1)], [relying()])
    with pytest.raises(Failed, match="istio-cni-node is missing, and shop/shop"):
        judge_cni([], [relying()])


def gateway(network="network-2", ingress=({"ip": "10.90.0.200"},)):
    return {
        "metadata": {"name": "istio-eastwestgateway", "labels": {"topology.istio.io/network": network}},
        "spec": {"ports": [{"port": 15021}, {"port": 15443}]},
        "status": {"loadBalancer": {"ingress": list(ingress)}},
    }


def test_a_gateways_address_may_be_an_ip_or_a_hostname():
    assert gateway_addresses([gateway()], "network-2") == ["10.90.0.200"]
    assert gateway_addresses([gateway(ingress=[{"hostname": "nlb.example"}])], "network-2") == ["nlb.example"]


def test_a_gateway_of_another_network_or_without_an_address_fails():
    with pytest.raises(Failed, match="no Service with label"):
        gateway_addresses([gateway(network="network-1")], "network-2")
    with pytest.raises(Failed, match="no address yet"):
        gateway_addresses([gateway(ingress=())], "network-2")


# Identity


def secrets(chain, trusted):
    return envoy.parse_secrets(secrets_dump(chain, trusted))


def test_a_proxy_with_a_certificate_of_its_clusters_spire_is_well():
    root = Authority("root")
    intermediate = Authority("spire", issuer=root)
    chain = [intermediate.issue(SLEEP), intermediate.certificate]
    trusted = {TRUST_DOMAIN: [root.certificate], PEER_DOMAIN: [Authority("peer").certificate]}
    found = secrets(chain, trusted)
    own = bundle(TRUST_DOMAIN, root.certificate)
    assert judge_secrets(pod("p"), found, own, [TRUST_DOMAIN, PEER_DOMAIN], NOW) is None


@pytest.mark.parametrize(
    ("uri", "left", "complaint"),
    [
        (
            f"spiffe://{TRUST_DOMAIN}/ns/sleep/sa/default",
            40,
            "not spiffe://wsc-cluster1.com/ns/sleep/sa/sleep",
        ),
        ("spiffe://cluster.local/ns/sleep/sa/sleep", 40, "is spiffe://cluster.local"),
        (None, 40, "is nameless"),
        (SLEEP, 10, "is not being renewed, 10m left"),
        (SLEEP, -1, "is valid"),
    ],
)
def test_a_wrong_name_or_a_stale_certificate_is_told(uri, left, complaint):
    root = Authority("root")
    found = secrets([root.issue(uri, left=timedelta(minutes=left))], {TRUST_DOMAIN: [root.certificate]})
    own = bundle(TRUST_DOMAIN, root.certificate)
    assert complaint in (judge_secrets(pod("p"), found, own, [TRUST_DOMAIN], NOW) or "")


def test_a_certificate_of_another_authority_is_told():
    own = bundle(TRUST_DOMAIN, Authority("root").certificate)
    found = secrets([Authority("istiod").issue(SLEEP)], {TRUST_DOMAIN: []})
    assert "not issued by any authority" in (judge_secrets(pod("p"), found, own, [TRUST_DOMAIN], NOW) or "")


def test_a_certificate_of_a_tainted_root_is_told_until_it_is_renewed():
    old, new = Authority("old"), Authority("new")
    both = bundle(TRUST_DOMAIN, old.certificate, new.certificate)
    own = replace(both, tainted=(old.certificate,))
    faults = [
        judge_secrets(pod("p"), secrets([root.issue(SLEEP)], {TRUST_DOMAIN: []}), own, [TRUST_DOMAIN], NOW)
        for root in (old, new)
    ]
    assert "tainted root" in (faults[0] or "")
    assert faults[1] is None


def test_a_proxy_that_does_not_trust_a_peer_is_told():
    root = Authority("root")
    found = secrets([root.issue(SLEEP)], {TRUST_DOMAIN: [root.certificate]})
    own = bundle(TRUST_DOMAIN, root.certificate)
    fault = judge_secrets(pod("p"), found, own, [TRUST_DOMAIN, PEER_DOMAIN], NOW)
    assert fault == f"sleep/p does not trust {PEER_DOMAIN}"


def test_a_proxy_without_a_certificate_has_an_empty_chain():
    assert envoy.parse_secrets({"configs": []}).chain == ()


def starting(minutes, ready=False):
    found = pod("p")
    found["metadata"]["creationTimestamp"] = (NOW - timedelta(minutes=minutes)).isoformat()
    found["status"] = {"phase": "Pending", "initContainerStatuses": [{"name": "istio-proxy", "ready": ready}]}
    return found


def test_a_proxy_that_waits_too_long_for_an_identity_is_named():
    (fault,) = waiting_for_identity([starting(5), starting(0.5), starting(5, ready=True)], NOW)
    assert fault == "the proxy of sleep/p has been waiting for an identity for 5m"


# Traffic

CLUSTERS = {
    "cluster_statuses": [
        {
            "name": "outbound|5000||helloworld.helloworld.svc.cluster.local",
            "host_statuses": [
                {
                    "address": {"socket_address": {"address": "10.91.0.9", "port_value": 5000}},
                    "health_status": {"eds_health_status": "HEALTHY"},
                },
                {
                    "address": {"socket_address": {"address": "10.90.0.200", "port_value": 15443}},
                    "health_status": {"eds_health_status": "HEALTHY", "failed_outlier_check": True},
                    "priority": 1,
                },
            ],
        }
    ]
}


def test_endpoints_are_read_with_priority_and_health():
    found = envoy.parse_endpoints(CLUSTERS, envoy.outbound(5000, "helloworld.helloworld.svc.cluster.local"))
    assert [(e.address, e.priority, e.healthy) for e in found] == [
        ("10.91.0.9", 0, True),
        ("10.90.0.200", 1, False),
    ]


def test_an_ejected_or_unknown_gateway_is_named():
    found = envoy.parse_endpoints(CLUSTERS, "outbound|5000||helloworld.helloworld.svc.cluster.local")
    with pytest.raises(Failed, match=r"the gateway of cluster-2 \(10.90.0.200\) is ejected"):
        traffic.judge_endpoints(found, ["10.91.0.9"], {"cluster-2": ["10.90.0.200"]})
    with pytest.raises(Failed, match="is unknown"):
        traffic.judge_endpoints(found, [], {"cluster-2": ["10.90.0.201"]})


def test_every_version_must_answer_and_every_call_succeed():
    assert traffic.judge_versions({"v1"}, [answer(), answer()]) == "v1"
    with pytest.raises(Failed, match="v2 never answered, only v1"):
        traffic.judge_versions({"v1", "v2"}, [answer()])
    with pytest.raises(Failed, match="1 of 2 calls failed: 503"):
        traffic.judge_versions({"v1"}, [answer(), answer(status=503, body="no healthy upstream")])


def test_both_identities_must_be_on_the_connection():
    server = f"spiffe://{PEER_DOMAIN}/ns/helloworld/sa/helloworld"
    seen = {traffic.CLIENT_WAS: SLEEP, traffic.SERVER_SAW: server}
    assert traffic.judge_identities(answer(headers=seen), SLEEP, server) == f"{SLEEP} -> {server}"
    with pytest.raises(Failed, match="the server was nobody"):
        traffic.judge_identities(answer(headers={traffic.CLIENT_WAS: SLEEP}), SLEEP, server)


def test_a_peers_route_is_seen_by_the_client_alone_and_pins_the_servers_identity():
    route = traffic.peer_route("ab12", "cluster-2", ["10.90.0.200"], "spiffe://x/y")
    specs = {plural: body["spec"] for plural, body in route.objects}
    assert all(spec["exportTo"] == ["."] for spec in specs.values())
    tls = specs["destinationrules"]["trafficPolicy"]["tls"]
    assert tls["sni"] == "outbound_.5000_._.helloworld.helloworld.svc.cluster.local"
    assert tls["subjectAltNames"] == ["spiffe://x/y"]
    assert specs["serviceentries"]["resolution"] == "STATIC"


def test_a_gateway_known_by_name_is_resolved_by_dns():
    route = traffic.peer_route("ab12", "cluster-2", ["nlb-1.example.com"], "spiffe://x/y")
    assert dict(route.objects)["serviceentries"]["spec"]["resolution"] == "DNS"


# Security


def test_plaintext_that_is_cut_off_is_refused_only_if_a_member_gets_in():
    reset = answer(status=0, code=56, error="Recv failure: Connection reset by peer")
    assert "refused" in judge_plaintext(reset, answer())
    with pytest.raises(Failed) as raised:
        judge_plaintext(reset, answer(status=0, error="timed out"))
    assert "prove" in raised.value.hint


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (answer(), "plaintext was answered with 200"),
        (answer(status=0, code=7, error="refused"), "did not reach"),
        (answer(status=0, code=28, error="timed out"), "did not reach"),
    ],
)
def test_plaintext_that_is_answered_or_never_arrives_fails(reply, complaint):
    with pytest.raises(Failed, match=complaint):
        judge_plaintext(reply, answer())


@pytest.mark.parametrize(
    ("error", "alert"),
    [
        ("OpenSSL SSL_read: ... tlsv1 alert unknown ca, errno 0", "unknown ca"),
        ("sslv3 alert certificate unknown", "certificate unknown"),
        ("TLS alert, tlsv13 alert certificate required", "certificate required"),
        ("Connection reset by peer", None),
        ("SSL certificate problem: unknown ca", None),
    ],
)
def test_only_an_alert_of_the_server_counts_as_a_refusal(error, alert):
    assert alert_of(error) == alert


def test_a_foreign_certificate_that_is_let_in_or_merely_lost_fails():
    with pytest.raises(Failed, match="accepted with 403"):
        judge_handshake("x", answer(status=403), answer())
    with pytest.raises(Failed, match="not refused by the server"):
        judge_handshake("x", answer(status=0, error="timed out"), answer())


# curl


def test_an_answer_is_read_with_body_status_and_headers():
    mark = "\n---fedmesh---\n"
    facts = '{"response_code":200,"exitcode":0,"errormsg":null,"time_total":0.012}'
    found = curl.parse(Output(f"hi{mark}{facts}{mark}" + '{"x-a":["1"]}', "", 0))
    assert (found.status, found.body, found.headers, found.seconds) == (200, "hi", {"x-a": "1"}, 0.012)


def test_a_curl_that_did_not_start_is_an_error():
    with pytest.raises(ValueError, match="exit 126"):
        curl.parse(Output("", "no such file", 126))


def test_a_key_goes_by_standard_input_and_never_on_the_command_line():
    words = curl.command_with_identity("https://x", "SECRET")
    assert "SECRET" not in " ".join(words)
    assert words[4] == "6"
    assert "mktemp" in words[2]


# Probes


def test_the_janitor_removes_newest_first_and_makes_nothing_afterwards():
    api, janitor = FakeApi(), Janitor()
    janitor.create(api, "/a", {"metadata": {"name": "one"}})
    janitor.create(api, "/b", {"metadata": {"name": "two"}})
    assert api.created[0][1]["metadata"]["labels"] == {LABEL: janitor.run}
    assert janitor.clean() == []
    assert api.deleted == ["/b/two", "/a/one"]
    with pytest.raises(KubeError):
        janitor.create(api, "/a", {"metadata": {"name": "three"}})


def test_the_janitor_tells_what_it_could_not_remove():
    class Stubborn(FakeApi):
        def delete(self, _path, **_query):
            raise KubeError("gone away")

    janitor = Janitor()
    janitor.create(Stubborn(), "/a", {"metadata": {"name": "one"}})
    assert janitor.clean() == ["/a/one: gone away"]


def test_only_old_probes_of_killed_runs_are_removed():
    def probe(name, minutes):
        made = (NOW - timedelta(minutes=minutes)).isoformat()
        return {"metadata": {"name": name, "creationTimestamp": made}}

    networking = "/apis/networking.istio.io/v1/namespaces/sleep"
    api = FakeApi(
        {
            "/api/v1/namespaces/default/pods": [probe("old", 11), probe("running", 1)],
            f"{networking}/virtualservices": [],
            f"{networking}/destinationrules": KubeError("no such kind", 404),
            f"{networking}/serviceentries": [probe("old", 60)],
        }
    )
    assert remove_stale(LiveCluster(MEMBERS[0], api), COLLECTIONS, now=NOW) == []
    assert api.deleted == ["/api/v1/namespaces/default/pods/old", f"{networking}/serviceentries/old"]


def test_verify_reports_although_the_user_may_not_list_leftovers(monkeypatch, capsys):
    class Forbidden(FakeApi):
        def items(self, path, **_query):
            raise KubeError(f"GET {path}: pods is forbidden", 403)

    clusters = {member.name: LiveCluster(member, Forbidden()) for member in MEMBERS}
    monkeypatch.setattr(command, "connect", lambda *_: (clusters, {}))
    monkeypatch.setattr(command, "ALL", (one_check(lambda *_: "fine"),))
    results = command.examine(Topology("lab", MEMBERS), 2)
    assert [result.ok for result in results] == [True, True]
    assert "cluster-2, not removed: /api/v1/namespaces/default/pods: GET" in capsys.readouterr().err


def test_an_api_server_that_goes_away_is_asked_once_for_leftovers():
    asked = []

    class Gone(FakeApi):
        def items(self, path, **_query):
            asked.append(path)
            raise KubeError("no route")

    assert len(remove_stale(LiveCluster(MEMBERS[0], Gone()), COLLECTIONS)) == len(asked) == 1


def test_the_outsiders_pod_has_no_proxy_no_token_and_an_end():
    spec = outsider("ab12", "curl:1")
    assert spec["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    assert spec["spec"]["automountServiceAccountToken"] is False
    assert spec["spec"]["activeDeadlineSeconds"] <= 120


# The report


def printed(results, quiet=False):
    console = Console(file=io.StringIO(), width=140)
    print_table(console, results, 1.5, quiet)
    return console.file.getvalue()


def test_a_hint_is_told_once_for_all_clusters_it_is_for():
    results = [Result("x is y", f"cluster-{n}", False, "it is not", "turn it", 0.1) for n in (1, 2)]
    text = printed(results)
    assert text.count("turn it") == 1
    assert "(cluster-1, cluster-2): turn it" in text
    assert "2 of 2 checks failed" in text


def test_checks_of_a_dead_cluster_are_counted_not_listed():
    dead = [Result(f"check {n}", "cluster-2", False, UNEXAMINED, "", 0.0) for n in range(9)]
    text = printed(dead)
    assert "9 more checks of cluster-2" in text
    assert "check 4" not in text


def test_quiet_says_nothing_of_a_healthy_mesh():
    well = [Result("x", "cluster-1", True, "[fine]", "", 0.1)]
    assert printed(well, quiet=True) == ""
    assert "[fine]" in printed(well)


def test_the_json_report_has_every_result():
    failed = Result("x", "c", False, "d", "h", 0.1, "Istio", Severity.FATAL, "docs/troubleshooting.md#x")
    report = json.loads(as_json("lab", [failed], 1.5))
    assert report["ok"] is False
    assert report["results"] == [
        {
            "name": "x",
            "cluster": "c",
            "ok": False,
            "detail": "d",
            "hint": "h",
            "duration": 0.1,
            "category": "Istio",
            "severity": "fatal",
            "url": "docs/troubleshooting.md#x",
        }
    ]


def test_a_warning_is_shown_and_does_not_fail_the_run():
    warned = Result("x", "c", False, "newer", "read", 0.1, "Istio", Severity.WARNING, "docs/x.md#x")
    text = printed([warned])
    assert "warn  Istio" in text
    assert "x (c): read See docs/x.md#x" in text
    assert "no check failed, 1 warning (1 in 1.5 s)" in text
    assert passed([warned])
    assert not passed([warned, Result("y", "c", False, "no", "", 0.1)])
    assert not passed([])


def test_rows_are_whole_where_the_output_is_no_terminal(capsys):
    detail = "a " * 200 + "end"
    print_table(console_for(), [Result("x", "c", False, detail, "h", 0.1)], 1.0, False)
    assert any(detail in line for line in capsys.readouterr().out.splitlines())


# The runner


def one_check(examine, samples=False):
    return Check("it works", examine, "the usual hint", samples, "Tests")


def test_a_check_runs_once_per_cluster_and_keeps_its_detail():
    results = run(mesh(), [one_check(lambda _mesh, cluster: f"fine on {cluster.name}")], {}, deadline=2)
    assert [(r.cluster, r.ok, r.detail) for r in results] == [
        ("cluster-1", True, "fine on cluster-1"),
        ("cluster-2", True, "fine on cluster-2"),
    ]


def test_a_crash_is_a_failed_check_with_a_hint():
    def crash(_mesh, _cluster):
        raise RuntimeError("boom")

    (first, _) = run(mesh(), [one_check(crash)], {}, deadline=2)
    assert (first.ok, first.hint) == (False, "the usual hint")
    assert "RuntimeError: boom" in first.detail


def test_a_failure_may_bring_a_hint_of_its_own():
    def fail(_mesh, _cluster):
        raise Failed("no", "try this")

    assert run(mesh(), [one_check(fail)], {}, deadline=2)[0].hint == "try this"


def test_an_unreachable_cluster_fails_every_check_without_being_asked():
    def only_second(_mesh, cluster):
        assert cluster.name == "cluster-2"
        return "ok"

    first, second = run(mesh(), [one_check(only_second)], {"cluster-1": "connection refused"}, deadline=2)
    assert (first.ok, second.ok) == (False, True)
    assert first.detail == UNEXAMINED


def test_why_an_api_server_does_not_answer_is_told_once():
    reach = next(c for c in ALL if c.name == REACH)
    results = run(mesh(), [reach], {"cluster-1": "connection refused", "cluster-2": "no route"}, deadline=2)
    assert [r.detail for r in results] == ["connection refused", "no route"]


def test_a_check_that_hangs_fails_at_the_deadline_and_holds_up_nobody():
    began = time.monotonic()
    results = run(mesh(), [one_check(lambda *_: time.sleep(5) or "late")], {}, deadline=0.2)
    assert time.monotonic() - began < 2
    assert not any(result.ok for result in results)
    assert "no answer within" in results[0].detail


def test_clusters_beyond_the_second_give_the_checks_more_time(monkeypatch):
    given = []
    monkeypatch.setattr(command, "connect", lambda *_: ({}, {}))
    monkeypatch.setattr(command, "run", lambda *arguments: given.append(arguments[-1]) or [])
    three = (*MEMBERS, replace(MEMBERS[0], name="cluster-3"))
    command.examine(Topology("lab", MEMBERS))
    command.examine(Topology("lab3", three))
    command.examine(Topology("lab3", three), 5)
    assert given == [18, 24, 5]


def test_commands_in_pods_wait_for_their_turn(monkeypatch, tmp_path):
    document = {
        "clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.1"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
    }
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(document))
    running, most = [], []

    def command_in_pod(*_arguments, **_options):
        running.append(1)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()
        return Output("", "", 0)

    monkeypatch.setattr(Kube, "_exec", command_in_pod)
    api = Kube(kubeconfig, "c", commands=2)
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda n: api.exec("sleep", f"p{n}", "sleep", ["true"]), range(8)))
    assert (len(most), max(most)) == (8, 2)


def test_checks_of_samples_are_left_out_where_there_are_none():
    assert run(mesh(samples=False), [one_check(lambda *_: "", samples=True)], {}, deadline=1) == []


def test_many_faults_are_told_in_one_line():
    with pytest.raises(Failed, match="a; b; c; and 2 more"):
        refuse(["a", "b", "c", "d", "e"])
    refuse([])


def test_every_check_has_a_name_of_its_own_and_a_hint():
    assert len({c.name for c in ALL}) == len(ALL)
    assert all(c.hint for c in ALL)


def test_a_check_has_a_category_a_severity_and_an_entry_in_the_documentation():
    check = category("Istio")
    made = check("istiod's pods are ready", "look", severity=Severity.WARNING)(lambda *_: "z")
    assert (made.category, made.severity, made.samples) == ("Istio", Severity.WARNING, False)
    assert made.url == "docs/troubleshooting.md#istiods-pods-are-ready"
    (first, _) = run(mesh(), [made], {}, deadline=2)
    assert (first.category, first.severity, first.url) == (made.category, made.severity, made.url)


def test_a_verdict_may_be_a_warning_of_a_fatal_check():
    def newer(_mesh, _cluster):
        raise Warned("newer than tested")

    (first, _) = run(mesh(), [one_check(newer)], {}, deadline=2)
    assert (first.ok, first.severity, first.fatal) == (False, Severity.WARNING, False)


def test_a_reading_is_made_once_however_many_ask():
    asked = []
    api = FakeApi()
    api.items = lambda path, **_: asked.append(path) or []
    cluster = LiveCluster(MEMBERS[0], api)
    cluster.nodes(), cluster.nodes()
    assert asked == ["/api/v1/nodes"]


def test_a_command_that_fails_in_a_pod_is_told_with_its_words():
    api = FakeApi(run=lambda *_: Output("", "connection refused", 1))
    with pytest.raises(KubeError, match=r"pilot-agent in sleep/p failed with 1: connection refused"):
        LiveCluster(MEMBERS[0], api).proxy(pod("p"), "certs")


def test_checks_are_repeated_until_all_pass_while_there_is_time(monkeypatch, capsys):
    from fedmesh.verify import command

    rounds = iter([[Result("x", "c", False, "d", "h", 0.1)], [Result("x", "c", True, "d", "h", 0.1)]])
    monkeypatch.setattr(command, "examine", lambda *_: next(rounds))
    monkeypatch.setattr(command.time, "sleep", lambda _: None)
    assert command.verify(Topology("lab", ()), wait=60.0) == 0
    failing = [Result("x", "c", False, "d", "h", 0.1)]
    monkeypatch.setattr(command, "examine", lambda *_: failing)
    assert command.verify(Topology("lab", ()), wait=0.0) == 1
