"""Attacks with tokens, with a peer's root and on the reader: what counts as refused, and what proves nothing."""

import subprocess
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from fedmesh_samples import pod

from fedmesh import certs, curl
from fedmesh.attack import ports, reader, tokens
from fedmesh.attack.model import Verdict


def answer(status=0, code=0, error="", body="", **headers):
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return curl.Answer(status, body, named, code, error, 0.1)


UNKNOWN = answer(200, grpc_status="16", grpc_message="authentication failure")
REFUSED = answer(200, grpc_status="3", grpc_message="requested TTL is too long")


@pytest.mark.parametrize("life", [0, 3600])
def test_a_request_is_framed_as_grpc_asks_whatever_the_shell(life):
    before, after = tokens.framed("x" * 300, life)
    script = 'printf "$1"; printf %s "$3"; printf "$2"'
    words = ["sh", "-c", script, "sh", before, after, "x" * 300]
    sent = subprocess.run(words, capture_output=True, check=True).stdout
    assert sent[:1] == b"\0"
    assert int.from_bytes(sent[1:5], "big") == len(sent) - 5
    assert sent[5:8] == b"\x0a\xac\x02"
    assert sent[8:308] == b"x" * 300
    assert sent[308:] == (b"\x18\x90\x1c" if life else b"")


def test_a_signing_request_names_nobody():
    request, key = certs.signing_request()
    assert len(x509.load_pem_x509_csr(request.encode()).subject) == 0
    assert "PRIVATE KEY" in key
    assert request.isascii()


@pytest.mark.parametrize(
    ("answers", "control", "verdict"),
    [
        ([REFUSED, answer(code=1, error="not HTTP/2")], UNKNOWN, Verdict.REFUSED),
        ([answer(404), answer(code=7, error="refused")], UNKNOWN, Verdict.REFUSED),
        ([REFUSED], answer(code=7, error="refused"), Verdict.UNJUDGED),
        ([REFUSED, answer(code=28, error="timed out")], UNKNOWN, Verdict.UNJUDGED),
    ],
)
def test_no_certificate_counts_where_the_service_was_there(answers, control, verdict):
    assert tokens.judge_denied(answers, control)[0] is verdict


@pytest.mark.parametrize(
    ("got", "control", "verdict"),
    [
        (answer(403, body="Forbidden (nodes/proxy)"), answer(200), Verdict.REFUSED),
        (answer(403), answer(401), Verdict.UNJUDGED),
        (answer(401), answer(200), Verdict.UNJUDGED),
        (answer(400, body="Upgrade request required"), answer(200), Verdict.THROUGH),
        (answer(200), answer(200), Verdict.THROUGH),
        (answer(code=28, error="timed out"), answer(200), Verdict.UNJUDGED),
    ],
)
def test_a_kubelet_must_know_the_agent_and_deny_it(got, control, verdict):
    assert tokens.judge_kubelet(got, control)[0] is verdict


def test_every_way_of_a_kubelet_into_a_pod_is_tried():
    tried = {what for what, _, _ in tokens.kubelet_paths(pod("a"))}
    assert {"exec", "run", "attach", "port-forward", "logs", "configuration"} == tried
    assert all(
        "/sleep/a" in path for what, _, path in tokens.kubelet_paths(pod("a")) if what != "configuration"
    )


@pytest.mark.parametrize(
    ("got", "control", "verdict"),
    [
        (answer(201), True, Verdict.THROUGH),
        (answer(422, body="policy 'fedmesh-routes' denied request"), True, Verdict.REFUSED),
        (answer(422, body="policy 'fedmesh-routes' denied request"), False, Verdict.UNJUDGED),
        (answer(422, body="policy 'fedmesh-mutual-tls' denied request"), True, Verdict.REFUSED),
        (answer(403, body='User "fedmesh-attack-routes-x" cannot create resource'), True, Verdict.UNJUDGED),
        (answer(code=28, error="timed out"), True, Verdict.UNJUDGED),
    ],
)
def test_only_the_meshs_own_policy_refuses_a_route(got, control, verdict):
    assert tokens.judge_route(got, control)[0] is verdict


@pytest.mark.parametrize(
    ("got", "control", "verdict"),
    [
        (answer(403, body="RBAC: access denied"), answer(200), Verdict.REFUSED),
        (answer(403), answer(503), Verdict.UNJUDGED),
        (answer(200), answer(200), Verdict.THROUGH),
        (answer(503), answer(200), Verdict.UNJUDGED),
        (answer(code=35, error="alert"), answer(200), Verdict.UNJUDGED),
    ],
)
def test_the_reader_must_deny_a_stranger_and_serve_a_peers_istiod(got, control, verdict):
    assert reader.judge(got, control)[0] is verdict


def test_what_a_network_policy_drops_is_refused_where_the_pod_lives():
    silent, alive = answer(code=28, error="timed out"), pod("a")
    dead = {**pod("a"), "status": {"phase": "Running", "conditions": []}}
    verdict, evidence, _ = ports.judge_silent(alive, "spire-server", [silent, silent])
    assert (verdict, "NetworkPolicy spire-server" in evidence) == (Verdict.REFUSED, True)
    assert ports.judge_silent(alive, "", [silent]) is None
    assert ports.judge_silent(dead, "spire-server", [silent]) is None
    assert ports.judge_silent(alive, "spire-server", [silent, answer(200)]) is None


def test_a_peers_root_signs_what_chains_to_it_alone():
    forged = certs.parse_chain(
        certs.forge("spiffe://b.example/x").pem.split("-----BEGIN PRIVATE")[0].encode()
    )
    key = certs.parse_key(certs.signing_request()[1].encode())
    pem = certs.signed_by(forged[1], key, "spiffe://a.example/ns/sleep/sa/sleep")
    leaf, root = certs.parse_chain(pem.split("-----BEGIN PRIVATE")[0].encode())
    assert certs.spiffe_id(leaf) == "spiffe://a.example/ns/sleep/sa/sleep"
    assert root == forged[1]
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(minutes=11)


def test_a_key_of_another_kind_is_told():
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(ValueError, match="not a key of an elliptic curve"):
        certs.parse_key(pem)
