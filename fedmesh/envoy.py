"""The state of an Envoy proxy, parsed from the JSON of its admin interface."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509

from fedmesh.certs import parse_chain

# Names of Istio's SDS secrets: the workload's certificate and its trust bundles.
OWN_CERTIFICATE = "default"
TRUSTED_ROOTS = "ROOTCA"
# What Secrets of Kubernetes are called, such as kubernetes-gateway://istio-gateways/users-hosts.
OF_KUBERNETES = "://"


@dataclass(frozen=True)
class ProxySecrets:
    """A proxy's certificate chain (leaf first) and the roots it accepts, by trust domain.

    Roots without SPIFFE validation are under the empty name. `served` holds the chains of Secrets, by their SDS name.
    """

    chain: tuple[x509.Certificate, ...]
    trusted: dict[str, tuple[x509.Certificate, ...]]
    served: dict[str, tuple[x509.Certificate, ...]] = field(
        default_factory=dict[str, tuple[x509.Certificate, ...]]
    )


@dataclass(frozen=True)
class Endpoint:
    """An endpoint of an Envoy cluster; priority 0 is preferred. Counters are since the start of the proxy."""

    address: str
    port: int
    priority: int
    healthy: bool
    requests: int = 0
    errors: int = 0


def parse_secrets(dump: dict[str, Any]) -> ProxySecrets:
    """Active secrets of a `config_dump`; the chain is empty when the proxy has no certificate."""
    chain: tuple[x509.Certificate, ...] = ()
    trusted: dict[str, tuple[x509.Certificate, ...]] = {}
    served: dict[str, tuple[x509.Certificate, ...]] = {}
    for name, secret in _active_secrets(dump):
        found = tuple(parse_chain(_inline(secret.get("tls_certificate", {}).get("certificate_chain", {}))))
        if name == OWN_CERTIFICATE:
            chain = found
        elif OF_KUBERNETES in name and found:
            served[name] = found
        elif name == TRUSTED_ROOTS:
            trusted = _trusted(secret.get("validation_context", {}))
    return ProxySecrets(chain, trusted, served)


def parse_endpoints(clusters: dict[str, Any], cluster_name: str) -> list[Endpoint]:
    """Endpoints of one Envoy cluster in the answer of `clusters?format=json`."""
    return [endpoint for name, endpoint in _endpoints(clusters) if name == cluster_name]


def parse_traffic(clusters: dict[str, Any]) -> list[tuple[str, Endpoint]]:
    """Endpoints with requests, each with its service as host:port."""
    found: list[tuple[str, Endpoint]] = []
    for name, endpoint in _endpoints(clusters):
        direction, _, rest = name.partition("|")
        port, _, host = rest.partition("||")
        if direction == "outbound" and host and endpoint.requests:
            found.append((f"{host}:{port}", endpoint))
    return found


def parse_connections(clusters: dict[str, Any]) -> dict[str, int]:
    """Open connections by Envoy cluster in the answer of `clusters?format=json`."""
    found: dict[str, int] = {}
    for cluster in clusters.get("cluster_statuses") or []:
        for host in cluster.get("host_statuses") or []:
            open_ = [
                int(stat.get("value", 0)) for stat in host.get("stats") or [] if stat["name"] == "cx_active"
            ]
            found[cluster["name"]] = found.get(cluster["name"], 0) + sum(open_)
    return found


def outbound(port: int, host: str) -> str:
    """The name of the Envoy cluster that Istio makes for a port of a host."""
    return f"outbound|{port}||{host}"


def cross_network_sni(port: int, host: str) -> str:
    """The SNI by which an east-west gateway routes a connection to a port of a host."""
    return f"outbound_.{port}_._.{host}"


def _endpoints(clusters: dict[str, Any]) -> Iterator[tuple[str, Endpoint]]:
    for cluster in clusters.get("cluster_statuses") or []:
        for host in cluster.get("host_statuses") or []:
            socket = host.get("address", {}).get("socket_address")
            if not socket:
                continue
            counts = {stat["name"]: int(stat.get("value", 0)) for stat in host.get("stats") or []}
            yield (
                cluster["name"],
                Endpoint(
                    address=socket["address"],
                    port=int(socket["port_value"]),
                    priority=int(host.get("priority", 0)),
                    healthy=_is_healthy(host.get("health_status", {})),
                    requests=counts.get("rq_total", 0),
                    errors=counts.get("rq_error", 0),
                ),
            )


def _is_healthy(status: dict[str, Any]) -> bool:
    eds = status.get("eds_health_status", "HEALTHY")
    return eds == "HEALTHY" and not any(value for key, value in status.items() if key.startswith("failed_"))


def _active_secrets(dump: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for entry in dump.get("configs") or []:
        # A filtered dump lists the secrets, a complete one a SecretsConfigDump.
        if "secret" in entry:
            yield entry["name"], entry["secret"]
        for active in entry.get("dynamic_active_secrets") or []:
            yield active["name"], active["secret"]


def _trusted(context: dict[str, Any]) -> dict[str, tuple[x509.Certificate, ...]]:
    validator = context.get("custom_validator_config", {}).get("typed_config", {})
    if "trust_domains" in validator:
        return {
            domain["name"]: tuple(parse_chain(_inline(domain.get("trust_bundle", {}))))
            for domain in validator["trust_domains"]
        }
    pem = _inline(context.get("trusted_ca", {}))
    return {"": tuple(parse_chain(pem))} if pem else {}


def _inline(source: dict[str, Any]) -> bytes:
    if "inline_string" in source:
        return str(source["inline_string"]).encode()
    return base64.b64decode(source.get("inline_bytes", ""))
