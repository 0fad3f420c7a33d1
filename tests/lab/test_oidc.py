"""A relying party outside of the mesh verifies a workload's token by SPIRE's discovery provider, and refuses others."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import jwt
import pytest
from conftest import PROJECT, kubectl, pulumi, stack_file
from cryptography.hazmat.primitives.asymmetric import ec

from fedmesh.attack.workload import AGENT, CSI, SOCKET, SOCKETS
from testbed.lab import config, oidc, paths
from testbed.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]
LAB = config.current(PROJECT / ".lab")
STACK = LAB.stack
CLUSTERS = tuple(cluster.name for cluster in LAB.clusters)
ONE, TWO, *_ = CLUSTERS
AUDIENCE = "relying-party"
CHECK = "the OIDC discovery provider serves SPIRE's keys"
SPIRE = {
    "jwtIssuer": "https://{cluster}.oidc.test",
    "oidc": {"issuer": {"name": "oidc-test", "kind": "ClusterIssuer"}, "service": "LoadBalancer"},
}
# An authority of the user's own.
AUTHORITY = """
apiVersion: cert-manager.io/v1
kind: ClusterIssuer
metadata: {name: oidc-test-root}
spec: {selfSigned: {}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: oidc-test, namespace: cert-manager}
spec:
  isCA: true
  commonName: oidc-test
  secretName: oidc-test
  issuerRef: {kind: ClusterIssuer, name: oidc-test-root}
---
apiVersion: cert-manager.io/v1
kind: ClusterIssuer
metadata: {name: oidc-test}
spec: {ca: {secretName: oidc-test}}
"""
WORKLOAD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "oidc-test",
        "namespace": "sleep",
        "labels": {"service.istio.io/canonical-name": "oidc-test", "sidecar.istio.io/inject": "false"},
    },
    "spec": {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "workload",
                "image": f"ghcr.io/spiffe/spire-agent:{oidc.SPIRE}",
                # it does not end, so that the pod stays running
                "command": [AGENT, "api", "watch", "-socketPath", SOCKET],
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "workload-api", "mountPath": SOCKETS, "readOnly": True}],
            }
        ],
        "volumes": [{"name": "workload-api", **CSI}],
    },
}


def up(*arguments: str) -> None:
    pulumi("-q", "--stack", STACK, "up", *arguments)


@pytest.fixture(scope="module", autouse=True)
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A provider on each cluster, with a certificate of an authority that the user brought."""
    file = stack_file(
        tmp_path_factory.mktemp("stack"),
        STACK,
        lambda config: config.setdefault("fedmesh:spire", {}).update(SPIRE),
    )
    for cluster in LAB.clusters:
        for node in cluster.nodes:
            oidc.put_image(paths.cache(), node)
        kubectl(cluster.name, "apply", "-f", "-", given=AUTHORITY)
        kubectl(cluster.name, "wait", "--for=condition=Ready", "clusterissuer/oidc-test", "--timeout=60s")
    try:
        up("--config-file", str(file))
        for cluster in CLUSTERS:
            kubectl(cluster, "apply", "-f", "-", given=json.dumps(WORKLOAD))
        yield
    finally:
        for cluster in CLUSTERS:
            kubectl(cluster, "delete", "pod", "-n", "sleep", "oidc-test", "--ignore-not-found", "--now")
        up()
        for cluster in CLUSTERS:
            kubectl(cluster, "delete", "--ignore-not-found", "-f", "-", given=AUTHORITY)
            kubectl(cluster, "delete", "secret", "-n", "cert-manager", "oidc-test", "--ignore-not-found")


def token(cluster: str, audience: str = AUDIENCE) -> str:
    """A JWT-SVID that the workload gets by the Workload API."""
    words = [AGENT, "api", "fetch", "jwt", "-socketPath", SOCKET, "-audience", audience, "-output", "json"]
    line = ("exec", "-n", "sleep", "oidc-test", "--", *words)
    wait_until(lambda: kubectl(cluster, *line, check=False).startswith("["), 90.0, lambda: "no identity")
    return str(json.loads(kubectl(cluster, *line))[0]["svids"][0]["svid"])


class RelyingParty:
    """Who knows an issuer's URL, and the authority of its host's certificate, and nothing else."""

    def __init__(self, issuer: str, authority: str) -> None:
        context = ssl.create_default_context(cadata=authority)
        with urlopen(f"{issuer}/.well-known/openid-configuration", context=context) as answer:  # noqa: S310
            found = json.load(answer)
        assert found["issuer"] == issuer
        self.issuer = issuer
        self.algorithms = found["id_token_signing_alg_values_supported"]
        self.keys = jwt.PyJWKClient(found["jwks_uri"], ssl_context=context)

    def claims(self, token: str, audience: str = AUDIENCE, issuer: str = "") -> dict[str, Any]:
        key = self.keys.get_signing_key_from_jwt(token)
        return jwt.decode(
            token, key, algorithms=self.algorithms, audience=audience, issuer=issuer or self.issuer
        )


@pytest.fixture
def parties(monkeypatch: pytest.MonkeyPatch) -> dict[str, RelyingParty]:
    """A relying party of each cluster's issuer, in a world whose DNS knows the hosts of the issuers."""
    hosts: dict[str, str] = {}
    authorities: dict[str, str] = {}
    for cluster in CLUSTERS:
        service = json.loads(
            kubectl(cluster, "get", "service", "-n", "spire-oidc", "oidc-discovery-provider", "-o", "json")
        )
        hosts[f"{cluster}.oidc.test"] = service["status"]["loadBalancer"]["ingress"][0]["ip"]
        secret = json.loads(
            kubectl(cluster, "get", "secret", "-n", "cert-manager", "oidc-test", "-o", "json")
        )
        authorities[cluster] = base64.b64decode(secret["data"]["tls.crt"]).decode()
    resolve = socket.getaddrinfo

    def resolved(host: Any, *arguments: Any, **options: Any) -> Any:
        return resolve(hosts.get(host, host), *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    return {name: RelyingParty(f"https://{name}.oidc.test", authorities[name]) for name in CLUSTERS}


def test_a_relying_party_verifies_a_workloads_token(parties: dict[str, RelyingParty], topology: Any) -> None:
    domains = {member.name: member.trust_domain for member in topology.members}
    for cluster in CLUSTERS:
        claims = parties[cluster].claims(token(cluster))
        assert claims["iss"] == f"https://{cluster}.oidc.test"
        assert claims["sub"] == f"spiffe://{domains[cluster]}/ns/sleep/sa/default"


def test_it_refuses_another_audience_issuer_or_key(parties: dict[str, RelyingParty]) -> None:
    own = token(ONE)
    assert parties[ONE].claims(own)
    with pytest.raises(jwt.InvalidAudienceError):
        parties[ONE].claims(token(ONE, "somebody-else"))
    with pytest.raises(jwt.InvalidIssuerError):
        parties[ONE].claims(own, issuer=f"https://{TWO}.oidc.test")
    with pytest.raises(jwt.PyJWKClientError):
        parties[ONE].claims(token(TWO))
    # signed with a key of its own under the name of SPIRE's
    forged = jwt.encode(
        jwt.decode(own, options={"verify_signature": False}),
        ec.generate_private_key(ec.SECP256R1()),
        algorithm="ES256",
        headers={"kid": jwt.get_unverified_header(own)["kid"]},
    )
    with pytest.raises(jwt.InvalidSignatureError):
        parties[ONE].claims(forged)


def test_verify_sees_a_key_that_is_not_spires(patient: Any, topology: Any) -> None:
    assert patient.ask(CHECK).detail.endswith(" keys")
    place = ("configmap", "-n", "spire-oidc", "spire-bundle-spiffe")
    bundle = json.loads(kubectl(ONE, "get", *place, "-o", "json"))["data"]["bundle"]
    strange = json.loads(bundle)
    other = json.loads(kubectl(TWO, "get", *place, "-o", "json"))["data"]["bundle"]
    strange["keys"] += [key for key in json.loads(other)["keys"] if key["use"] == "jwt-svid"]
    try:
        kubectl(ONE, "patch", *place, "-p", json.dumps({"data": {"bundle": json.dumps(strange)}}))
        assert not patient.says(CHECK, "not in the bundle", within=150.0).ok
    finally:
        kubectl(ONE, "patch", *place, "-p", json.dumps({"data": {"bundle": bundle}}))
    end = time.monotonic() + 150.0
    while not (found := patient.ask(CHECK)).ok and time.monotonic() < end:
        time.sleep(1)
    assert found.ok, found.detail
