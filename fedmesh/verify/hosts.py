"""Hosts, ports and rules as istiod reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from components.config.mesh import MESH_DOMAIN
from fedmesh.kube import Json

HTTP = frozenset({"http", "http_proxy", "http2", "grpc", "grpc-web"})
TLS = frozenset({"https", "tls"})
# Protocols whose name says nothing of the calls' content.
TCP = frozenset({"tcp", "mongo", "mysql", "redis"})
UDP = "udp"
# What Istio takes for HTTP or for TCP by the first bytes of a connection.
SNIFFED = ""
OF_KUBERNETES = {"kubernetes.io/h2c": "http2", "kubernetes.io/ws": "http", "kubernetes.io/wss": "https"}
# SMTP, DNS, MySQL and MongoDB, whose servers speak first.
NEVER_SNIFFED = (25, 53, 3306, 27017)


def full(host: str, namespace: str) -> str:
    """A host as istiod reads it in a rule of that namespace."""
    return host if "." in host or host.startswith("*") else f"{host}.{namespace}{MESH_DOMAIN}"


def host_of(service: Json) -> str:
    """The host of a Service."""
    return f"{service['metadata']['name']}.{service['metadata']['namespace']}{MESH_DOMAIN}"


def host_of_rule(rule: Json) -> str:
    """The full host of a DestinationRule."""
    return full(rule["spec"]["host"], rule["metadata"]["namespace"])


def is_headless(service: Json) -> bool:
    """Whether a Service has no address of its own."""
    return service["spec"].get("clusterIP") == "None"


def in_mesh(host: str) -> bool:
    """Whether a full host is one of Services, or a wildcard that has some below it."""
    return host.endswith(MESH_DOMAIN) or (host.startswith("*") and MESH_DOMAIN.endswith(host[1:]))


def protocol(port: Mapping[str, Any]) -> str:
    """The protocol of a Service's port, as Istio reads it."""
    if port.get("protocol") == "UDP":
        return UDP
    name, said = port.get("name") or "", port.get("appProtocol")
    if said in OF_KUBERNETES:
        return OF_KUBERNETES[said]
    word = str(name if said is None else said).lower()
    if word.startswith("grpc-web"):
        return "grpc-web"
    word = word.partition("-")[0]
    if word in HTTP | TLS | TCP | {UDP}:
        return word
    return "tcp" if port.get("port") in NEVER_SNIFFED else SNIFFED


def covers(pattern: str, host: str) -> bool:
    """Whether a host is the one that a rule names, or below its wildcard."""
    return pattern == host or (pattern.startswith("*") and host.endswith(pattern[1:]))


def closest(host: str, patterns: Iterable[str]) -> str | None:
    """The pattern that Istio takes for a host: itself, else the longest wildcard; None where none covers it."""
    found = [each for each in patterns if covers(each, host)]
    return max(found, key=lambda each: (each == host, len(each)), default=None)
