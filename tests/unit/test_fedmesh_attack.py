"""The security drill: what counts as refused, and what never passes for it."""

import base64
import json
import time
from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console

from fedmesh import certs, curl
from fedmesh.attack import attestation, federation, ports, workload
from fedmesh.attack.attacker import Attacker
from fedmesh.attack.certificates import judge, judge_namesake, policy
from fedmesh.attack.command import print_table, refuse_unconfirmed, run_attacks, run_one, succeeded
from fedmesh.attack.model import Attack, AttackResult, AttackSession, Verdict
from fedmesh.drill.means import DrillError
from fedmesh.kube import UNENDED, Output
from fedmesh.probe import Janitor


def answer(status=0, code=0, error="", body="", secured=False):
    return curl.Answer(status, body, {}, code, error, 0.1, secured)


CUT = answer(code=56, error="Recv failure: Connection reset by peer")
LET_IN = answer(200, secured=True)
ALERT = answer(code=56, error="OpenSSL SSL_read: tlsv1 alert certificate unknown")


def test_plaintext_that_is_cut_off_where_tls_is_taken_is_refused():
    assert ports.judge(CUT, CUT, LET_IN)[0] is Verdict.REFUSED


def test_a_gos_server_that_asks_for_tls_has_refused():
    asks = answer(400, body="Client sent an HTTP request to an HTTPS server.\n")
    verdict, evidence, _ = ports.judge(asks, CUT, answer(404, secured=True))
    assert (verdict, "HTTPS server" in evidence) == (Verdict.REFUSED, True)


def test_an_answer_to_plaintext_of_either_kind_is_a_way_in():
    assert ports.judge(answer(404), CUT, LET_IN)[0] is Verdict.THROUGH
    assert ports.judge(CUT, answer(415), LET_IN)[0] is Verdict.THROUGH


def test_a_dead_port_never_passes_for_a_safe_one():
    silent = answer(code=28, error="timed out")
    assert ports.judge(silent, silent, LET_IN)[0] is Verdict.UNJUDGED
    assert ports.judge(CUT, CUT, ALERT)[0] is Verdict.UNJUDGED
    assert ports.judge(CUT, CUT, None)[0] is Verdict.UNJUDGED


def test_a_server_that_speaks_http2_without_tls_has_not_refused():
    closed = answer(code=92, error="stream 1 was not closed cleanly before end of the underlying stream")
    assert ports.judge(CUT, closed, LET_IN)[0] is Verdict.REFUSED
    reset = answer(code=92, error="stream 1 was not closed cleanly: PROTOCOL_ERROR (err 1)")
    assert ports.judge(CUT, reset, LET_IN)[0] is Verdict.UNJUDGED


def test_a_command_that_a_busy_node_does_not_end_in_time_is_run_again():
    outputs = [Output("", "", UNENDED), Output("late", "", 0)]
    api = SimpleNamespace(exec=lambda *_, **__: outputs.pop(0))
    attacker = Attacker(SimpleNamespace(api=api), "probe")
    assert attacker.run(["curl"]).stdout == "late"
    outputs += [Output("", "", UNENDED), Output("", "", UNENDED)]
    assert attacker.run(["curl"]).code == UNENDED


def test_where_nothing_listens_nothing_gets_in():
    closed = answer(code=7)
    assert ports.judge(closed, closed, None)[0] is Verdict.REFUSED


class Rooms:
    """A cluster of one sidecar, one ingress gateway and an istiod."""

    def __init__(self):
        self.sidecar = self._pod("sleep", "sleep-1", {"app": "sleep"}, sleep=[], **{"istio-proxy": [15090]})
        labels = {"istio": "ingressgateway"}
        self.gateway = self._pod("istio-gateways", "ingress", labels, **{"istio-proxy": [15021, 15090]})
        self.istiod = self._pod("istio-system", "istiod", {"app": "istiod"}, discovery=[8080, 15012])

    def _pod(self, namespace, name, labels, **containers):
        made = [
            {"name": container, "ports": [{"containerPort": port} for port in numbers]}
            for container, numbers in containers.items()
        ]
        return {
            "metadata": {"namespace": namespace, "name": name, "labels": labels},
            "spec": {"containers": made},
            "status": {"podIP": "10.0.0.1"},
        }

    def mesh_pods(self):
        return [self.sidecar, self.gateway]

    def istiods(self):
        return [self.istiod]

    def pods(self, _namespace):
        return []

    def services(self, namespace):
        if namespace == "sleep":
            return [{"spec": {"selector": {"app": "sleep"}, "ports": [{"port": 80}]}}]
        served = [{"port": 80, "targetPort": 8081}]
        return [{"spec": {"selector": {"istio": "ingressgateway"}, "ports": served}}]


def test_every_port_is_knocked_at_that_a_pod_or_a_service_names_and_those_of_envoy_itself():
    found = {port.target: port.design for port in ports.ports(Rooms())}
    strict = {target for target, design in found.items() if not design}
    assert strict == {
        "sleep/sleep-1:80",
        "sleep/sleep-1:15000",
        "sleep/sleep-1:15001",
        "sleep/sleep-1:15006",
        "sleep/sleep-1:15999",
        "istio-system/istiod:15012",
    }
    assert found["istio-gateways/ingress:8081"] == ports.EXTERNAL
    assert set(found) - strict >= {"istio-system/istiod:8080", "istio-gateways/ingress:15021"} | {
        f"sleep/sleep-1:{number}" for number in (15020, 15021, 15090)
    }


METRICS = "# HELP up Whether it is.\nup 1\n"


def pages(**differing):
    return {path: differing.get(path.strip("/"), answer(404)) for path in ports.DEBUG_PAGES}


def test_a_port_that_is_open_on_purpose_tells_nothing_but_that():
    verdict, evidence = ports.judge_open(ports.METRICS, pages(config_dump=answer(200, body=METRICS)))
    assert verdict is Verdict.BY_DESIGN
    assert evidence == f"{ports.METRICS}: / 404, /debug/configz 404, /debug/pprof/ 404, /config_dump metrics"


def test_a_port_that_tells_more_than_it_should_is_a_way_in():
    verdict, evidence = ports.judge_open(ports.HEALTH, pages(config_dump=answer(200, body='{"configs": []}')))
    assert verdict is Verdict.THROUGH
    assert "/config_dump" in evidence


def test_an_open_port_that_does_not_answer_is_not_judged_and_a_closed_one_is_shut():
    silent, closed = answer(code=28, error="timed out"), answer(code=7)
    assert ports.judge_open(ports.HEALTH, pages(config_dump=silent))[0] is Verdict.UNJUDGED
    assert ports.judge_open(ports.HEALTH, dict.fromkeys(ports.DEBUG_PAGES, closed))[0] is Verdict.REFUSED


def test_a_certificate_is_refused_by_an_alert_and_by_nothing_else():
    assert judge(ALERT, LET_IN) == (Verdict.REFUSED, "TLS alert: certificate unknown")
    assert judge(LET_IN, LET_IN)[0] is Verdict.THROUGH
    assert judge(CUT, LET_IN)[0] is Verdict.UNJUDGED
    assert judge(ALERT, CUT)[0] is Verdict.UNJUDGED


def test_a_namesake_may_enter_with_aliases_and_never_with_strict_trust():
    denied = answer(403, body="RBAC: access denied")
    assert judge_namesake("strict", LET_IN, denied) == (Verdict.REFUSED, "403 RBAC: access denied")
    assert judge_namesake("strict", LET_IN, LET_IN)[0] is Verdict.THROUGH
    assert judge_namesake("aliases", LET_IN, LET_IN)[0] is Verdict.BY_DESIGN
    assert judge_namesake("strict", denied, denied)[0] is Verdict.UNJUDGED
    assert judge_namesake("strict", LET_IN, CUT)[0] is Verdict.UNJUDGED


def test_the_policy_touches_the_drills_own_requests_only():
    (rule,) = policy("r1", "td/ns/sleep/sa/sleep")["spec"]["rules"]
    assert rule["when"] == [{"key": "request.headers[x-fedmesh-drill]", "values": ["r1"]}]


def test_a_workload_may_get_its_own_identity_alone():
    assert workload.judge_given(["own"], "own")[0] is Verdict.REFUSED
    assert workload.judge_given(["own", "other"], "own")[0] is Verdict.THROUGH


def test_silence_of_the_workload_api_is_no_refusal():
    denied = Output("", "rpc error: code = PermissionDenied desc = no identity issued", 1)
    assert workload.judge_refusal(denied, control=True)[0] is Verdict.REFUSED
    assert workload.judge_refusal(denied, control=False)[0] is Verdict.UNJUDGED
    assert workload.judge_refusal(Output("", "connection refused", 1), control=True)[0] is Verdict.UNJUDGED
    assert workload.judge_refusal(Output("{}", "", 0), control=True)[0] is Verdict.THROUGH


def test_an_agents_log_tells_whether_it_was_attested():
    assert attestation.read_log('level=info msg="Starting agent"\n') is None
    assert attestation.read_log('msg="Node attestation was successful" subsystem_name=attestor') == ""
    away = 'msg="Failed to retrieve attestation result" error="code = Unavailable"'
    assert attestation.read_log(away) is None
    line = r'level=error msg="Agent crashed" error="failed to attest: nodeattestor(k8s_psat): \"no\""'
    assert attestation.read_log(line) == 'failed to attest: nodeattestor(k8s_psat): "no"'


def test_a_foreign_token_counts_as_refused_only_where_an_own_one_is_accepted():
    refusal = "nodeattestor(k8s_psat): token not authenticated"
    assert attestation.judge(refusal, "") == (Verdict.REFUSED, refusal)
    assert attestation.judge("", "")[0] is Verdict.THROUGH
    assert attestation.judge(refusal, refusal)[0] is Verdict.UNJUDGED
    assert attestation.judge("connection refused", "")[0] is Verdict.UNJUDGED


def test_a_false_agent_has_the_real_ones_config_and_its_own_token():
    config = {
        "agent": {"trust_domain": "td", "server_address": "spire-server.spire"},
        "plugins": {"NodeAttestor": {"k8s_psat": {"plugin_data": {"cluster": "cluster-1"}}}},
        "health_checks": {},
    }
    made = attestation.agent_config(json.dumps(config))
    assert made["agent"]["server_address"] == "spire-server.spire"
    plugin = made["plugins"]["NodeAttestor"]["k8s_psat"]["plugin_data"]
    assert plugin == {"cluster": "cluster-1", "token_path": "/attack/token"}


def test_a_bundle_with_the_attackers_authority_is_a_way_in():
    before, false = frozenset({"a"}), frozenset({"x"})
    refusal = "failed to authenticate bundle endpoint: x509svid: could not verify leaf certificate"
    assert federation.judge(refusal, before, before, false)[0] is Verdict.REFUSED
    stranger = 'unexpected ID "spiffe://td/ns/sleep/sa/sleep"'
    assert federation.judge(stranger, before, before, false)[0] is Verdict.REFUSED
    assert federation.judge("", before, before, false)[0] is Verdict.THROUGH
    assert federation.judge("connection refused", before, before, false)[0] is Verdict.UNJUDGED
    assert federation.judge(refusal, before, before | false, false)[0] is Verdict.THROUGH
    assert federation.judge(refusal, before, frozenset({"b"}), false)[0] is Verdict.UNJUDGED


def test_a_tampered_bundle_is_newer_and_has_one_authority_more():
    forged = certs.forge("spiffe://td/spire/server").pem.split("-----BEGIN PRIVATE KEY")[0]
    authority = certs.parse_chain(forged.encode())[-1]
    made = json.loads(federation.tampered('{"keys": [], "spiffe_sequence": 3}', authority))
    assert made["spiffe_sequence"] > 3
    (key,) = made["keys"]
    assert base64.b64decode(key["x5c"][0]) == certs.parse_der(key["x5c"][0]).public_bytes(
        certs.serialization.Encoding.DER
    )


def finding(verdict):
    return AttackResult("attack", "cluster-1", "[target]", verdict, "evidence")


def test_the_drill_succeeds_only_when_every_attack_was_judged_and_refused():
    assert succeeded([finding(Verdict.REFUSED), finding(Verdict.BY_DESIGN)])
    assert not succeeded([])
    for verdict in (Verdict.THROUGH, Verdict.UNJUDGED):
        assert not succeeded([finding(Verdict.REFUSED), finding(verdict)])


class Named:
    name = "cluster-1"


def test_an_attack_that_breaks_or_finds_nothing_is_not_judged():
    def breaks(*_):
        raise ValueError("no pod")

    for play in (breaks, lambda *_: []):
        (found,) = run_one(Attack(1, "attack", play), None, Named())
        assert found.verdict is Verdict.UNJUDGED


def test_an_attack_that_must_be_alone_is_made_when_the_others_are_over():
    open_now, seen = set(), []

    def play(name):
        def by(_raid, cluster):
            open_now.add((name, cluster.name))
            time.sleep(0.05)
            seen.append((name, {other for other, _ in open_now}))
            open_now.discard((name, cluster.name))
            return [finding(Verdict.REFUSED)]

        return by

    attacks = [
        Attack(1, "alone", play("alone"), exclusive=True),
        Attack(2, "beside", play("beside")),
        Attack(3, "too", play("too")),
    ]
    clusters = {name: SimpleNamespace(name=name) for name in ("cluster-1", "cluster-2")}
    found = run_attacks(AttackSession(clusters, Janitor(), None), attacks)
    assert len(found) == 6
    assert [others for name, others in seen if name == "alone"] == [{"alone"}, {"alone"}]
    assert {"beside", "too"} in [others for _, others in seen]


def test_the_table_shows_evidence_as_it_is():
    out = StringIO()
    print_table(Console(file=out, width=120), [finding(Verdict.REFUSED)], 1.0)
    assert "[target]" in out.getvalue()
    assert "1 attacks in 1 s: 1 refused" in out.getvalue()


def test_outside_the_lab_the_stacks_name_must_be_typed():
    refuse_unconfirmed(contained=True, stack="lab", typed=None)
    refuse_unconfirmed(contained=False, stack="prod", typed="prod")
    with pytest.raises(DrillError, match="--destructive"):
        refuse_unconfirmed(contained=False, stack="prod", typed=None)
