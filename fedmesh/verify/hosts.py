"""Hosts, ports and rules as istiod reads them."""

from __future__ import annotations

from fedmesh.kube import Json

DOMAIN = "svc.cluster.local"


def full(host: str, namespace: str) -> str:
    """A host as istiod reads it in a rule of that namespace."""
    return host if "." in host or host.startswith("*") else f"{host}.{namespace}.{DOMAIN}"


def host_of(service: Json) -> str:
    """The host of a Service."""
    return f"{service['metadata']['name']}.{service['metadata']['namespace']}.{DOMAIN}"


def in_mesh(host: str) -> bool:
    """Whether a full host is one of Services, or a wildcard that has some below it."""
    return host.endswith(f".{DOMAIN}") or (host.startswith("*") and f".{DOMAIN}".endswith(host[1:]))
