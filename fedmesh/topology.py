"""The mesh that a stack describes, as far as an operator's command needs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SPIRE_NAMESPACE = "spire"
ISTIO_NAMESPACE = "istio-system"
OBSERVABILITY_NAMESPACE = "observability"
CLIENT = "sleep"
SERVER = "helloworld"
SERVER_PORT = 5000
SERVER_HOST = f"{SERVER}.{SERVER}.svc.cluster.local"


@dataclass(frozen=True)
class Member:
    """One cluster of the mesh. `kubeconfig` is None where the user's own default is to be used."""

    name: str
    trust_domain: str
    network: str
    kubeconfig: Path | None
    context: str


@dataclass(frozen=True)
class Topology:
    """A stack's mesh: its clusters, and whether the sample apps run on them."""

    stack: str
    members: tuple[Member, ...]
    samples: bool = True

    def others(self, member: Member) -> tuple[Member, ...]:
        """Every cluster but one."""
        return tuple(other for other in self.members if other != member)
