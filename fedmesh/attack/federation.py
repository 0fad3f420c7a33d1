"""The attack of a man in the middle of federation, who serves a bundle with an authority of his own."""

from __future__ import annotations

import base64
import json
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedmesh import certs
from fedmesh.attack import pods
from fedmesh.attack.model import AttackResult, AttackSession, Verdict
from fedmesh.kube import Json, KubeError
from fedmesh.probe import wait_for
from fedmesh.reading import PROXY, LiveCluster
from fedmesh.spire import parse_bundles, parse_relationships
from fedmesh.topology import CLIENT, SPIRE_NAMESPACE
from fedmesh.verify.security import certificate_of
from fedmesh.verify.traffic import client_pod

TITLE = "a tampered bundle on the federation endpoint"
RELATIONSHIPS = "/apis/spire.spiffe.io/v1alpha1/clusterfederatedtrustdomains"
PUBLISHED = f"/api/v1/namespaces/{SPIRE_NAMESPACE}/configmaps/spire-bundle-spiffe"
PATIENCE = 30.0
# Errors of go-spiffe, which authenticates endpoints for SPIRE: an unknown authority, and an unexpected SPIFFE ID.
REFUSALS = ("x509svid: could not verify", "unexpected ID")
RELAY, FORGED, INSIDER = 8443, 9443, 10443


def run(session: AttackSession, cluster: LiveCluster) -> list[AttackResult]:
    """Directs this cluster's SPIRE server to a relay to each peer's bundle endpoint, then to false endpoints."""
    return [finding for peer in session.peers(cluster) for finding in _attack(session, cluster, peer)]


def _attack(session: AttackSession, cluster: LiveCluster, peer: LiveCluster) -> list[AttackResult]:
    domain = peer.member.trust_domain
    found = next(r for r in cluster.api.items(RELATIONSHIPS) if r["spec"]["trustDomain"] == domain)
    middle = _Middle(session, cluster, peer, found, peer.api.get(PUBLISHED)["data"]["bundle"])
    address = middle.start()
    before = _held(cluster, domain)
    middle.point(f"https://{address}:{RELAY}/")
    # The relay's Envoy needs a moment until it listens.
    relayed = wait_for(
        lambda: refresh(cluster, domain) == "" or None, "the relay does not reach the peer", PATIENCE
    )
    control = "the true bundle is fetched through a relay" if relayed else ""
    shown = {
        FORGED: f"spiffe://{domain}/spire/server, forged",
        INSIDER: f"a genuine certificate of {domain}, not its server's",
    }
    findings: list[AttackResult] = []
    for port, who in shown.items():
        middle.point(f"https://{address}:{port}/")
        verdict, evidence = judge(refresh(cluster, domain), before, _held(cluster, domain), middle.prints)
        target = f"{peer.name}'s endpoint as {who}"
        findings.append(AttackResult(TITLE, cluster.name, target, verdict, evidence, control))
    middle.put_back()
    if error := refresh(cluster, domain):
        findings.append(
            AttackResult(TITLE, cluster.name, peer.name, Verdict.UNJUDGED, f"restored, but: {error}")
        )
    return findings


def refresh(cluster: LiveCluster, trust_domain: str) -> str:
    """Makes the SPIRE server fetch a peer's bundle; returns its error, or ""."""
    try:
        cluster.spire_server("federation", "refresh", "-id", trust_domain)
    except KubeError as error:
        return str(error).partition("failed to refresh bundle: ")[2] or str(error)
    return ""


def judge(
    error: str, before: frozenset[str], after: frozenset[str], false: frozenset[str]
) -> tuple[Verdict, str]:
    """The verdict: the server must refuse the bundle with an error and keep its authorities."""
    if after & false:
        return Verdict.THROUGH, "the attacker's authority is in the bundle"
    if not error:
        return Verdict.THROUGH, "the server accepted the endpoint"
    if after != before or not any(words in error for words in REFUSALS):
        return Verdict.UNJUDGED, f"not refused, or the bundle changed meanwhile: {error}"
    return Verdict.REFUSED, f"{error}; the bundle is unchanged"


class _Middle:
    """The attacker's endpoint, and the relationship that is directed to it."""

    def __init__(
        self, session: AttackSession, cluster: LiveCluster, peer: LiveCluster, relationship: Json, bundle: str
    ) -> None:
        self._raid, self._cluster, self._peer = session, cluster, peer
        self._spec = relationship["spec"]
        self._path = f"{RELATIONSHIPS}/{relationship['metadata']['name']}"
        self._bundle = bundle
        self._domain = peer.member.trust_domain
        self._forged = certs.forge(f"spiffe://{self._domain}/spire/server")
        chain = certs.parse_chain(self._forged.pem.split("-----BEGIN PRIVATE KEY")[0].encode())
        self._authority = chain[-1]
        self.prints = frozenset({certs.fingerprint(self._authority)})

    def start(self) -> str:
        """Starts the endpoint and returns its address."""
        insider = f"spiffe://{self._domain}/ns/{CLIENT}/sa/{CLIENT}"
        config = envoy_config(
            urlsplit(self._spec["bundleEndpointURL"]).hostname or "",
            {FORGED: self._forged.pem, INSIDER: certificate_of(self._peer, insider, 300)},
            tampered(self._bundle, self._authority),
        )
        name = f"fedmesh-probe-{self._raid.janitor.run}-middle-{self._peer.name}"[:63].rstrip("-")
        volumes = [pods.files(self._raid, self._cluster, name, {"envoy.json": json.dumps(config)})]
        command = ["/usr/local/bin/envoy", "-c", f"{pods.FILES}/envoy.json", "--disable-hot-restart"]
        image = pods.image(client_pod(self._cluster), PROXY)
        body = pods.pod(name, image, [*command, "--concurrency", "1"], volumes=volumes)
        return pods.start(self._raid, self._cluster, body)["status"]["podIP"]

    def point(self, url: str) -> None:
        """Directs the relationship to a URL. The current bundle is the seed, so that the server keeps it."""
        self._raid.undo.push(f"the address in {self._path}", self.put_back)
        self._patch(url, self._bundle)
        self._known(url)

    def put_back(self) -> None:
        """Restores the relationship as the program wrote it."""
        spec = self._cluster.api.get(self._path)["spec"]
        if spec["bundleEndpointURL"] != self._spec["bundleEndpointURL"]:
            self._patch(self._spec["bundleEndpointURL"], self._bundle)
            self._known(self._spec["bundleEndpointURL"])
        # SPIRE reads the seed only when the URL changes; the program's seed may be older than the current bundle.
        self._patch(self._spec["bundleEndpointURL"], self._spec["trustDomainBundle"])

    def _known(self, url: str) -> None:
        """Waits until the controller-manager has updated the server."""

        def told() -> bool | None:
            answer = parse_relationships(self._cluster.spire_server("federation", "list"))
            return True if any(known.url == url for known in answer) else None

        wait_for(told, f"the server of {self._cluster.name} does not get the URL {url}", PATIENCE)

    def _patch(self, url: str, bundle: str) -> None:
        self._cluster.api.patch(self._path, {"spec": {"bundleEndpointURL": url, "trustDomainBundle": bundle}})


def tampered(bundle: str, authority: x509.Certificate) -> str:
    """A bundle in SPIFFE's JSON format with one more authority and a higher sequence number."""
    whole = json.loads(bundle)
    whole["spiffe_sequence"] = int(whole.get("spiffe_sequence", 0)) + 1000
    whole["keys"].append(_jwk(authority))
    return json.dumps(whole)


def envoy_config(peer: str, identities: dict[int, str], bundle: str) -> Json:
    """Envoy's configuration: port RELAY forwards to the peer, the other ports serve a bundle with an identity."""
    listeners = [
        _listener(RELAY, _relay()),
        *(_listener(p, _answer(bundle), pem) for p, pem in identities.items()),
    ]
    target = {"address": peer, "port_value": 8443}
    endpoint = {"endpoint": {"address": {"socket_address": target}}}
    cluster = {
        "name": "peer",
        "type": "STRICT_DNS",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": "peer", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    return {"static_resources": {"listeners": listeners, "clusters": [cluster]}}


_EXTENSIONS = "type.googleapis.com/envoy.extensions"


def _listener(port: int, network_filter: Json, pem: str = "") -> Json:
    chain: Json = {"filters": [network_filter]}
    if pem:
        certificate, marker, key = pem.partition("-----BEGIN PRIVATE KEY")
        tls = {
            "certificate_chain": {"inline_string": certificate},
            "private_key": {"inline_string": marker + key},
        }
        chain["transport_socket"] = {
            "name": "tls",
            "typed_config": {
                "@type": f"{_EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {"tls_certificates": [tls]},
            },
        }
    address = {"socket_address": {"address": "0.0.0.0", "port_value": port}}  # noqa: S104 (in the attacker's pod)
    return {"name": str(port), "address": address, "filter_chains": [chain]}


def _relay() -> Json:
    config = {
        "@type": f"{_EXTENSIONS}.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "relay",
        "cluster": "peer",
    }
    return {"name": "relay", "typed_config": config}


def _answer(bundle: str) -> Json:
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": bundle}}}
    routes = {
        "max_direct_response_body_size_bytes": 1 << 20,
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
    }
    router = {"@type": f"{_EXTENSIONS}.filters.http.router.v3.Router"}
    config = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "answer",
        "route_config": routes,
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    return {"name": "answer", "typed_config": config}


def _jwk(authority: x509.Certificate) -> Json:
    key = authority.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TypeError("forged authorities have keys on P-256")
    numbers = key.public_numbers()
    der = authority.public_bytes(serialization.Encoding.DER)
    return {
        "use": "x509-svid",
        "kty": "EC",
        "crv": "P-256",
        "x": _number(numbers.x),
        "y": _number(numbers.y),
        "x5c": [base64.b64encode(der).decode()],
    }


def _number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes(32, "big")).decode().rstrip("=")


def _held(cluster: LiveCluster, trust_domain: str) -> frozenset[str]:
    return parse_bundles(cluster.spire_server("bundle", "list"))[trust_domain].prints
