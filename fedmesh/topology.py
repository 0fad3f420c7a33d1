"""The mesh that a stack describes, as far as the command needs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SPIRE_NAMESPACE = "spire"
ISTIO_NAMESPACE = "istio-system"
GATEWAY_NAMESPACE = "istio-gateways"
OBSERVABILITY_NAMESPACE = "observability"
# Of remote secrets: istiod reads the clusters of those with the value "true".
ROTATION = "istio/multiCluster"
DRAINED = "drained"
CLIENT = "sleep"
SERVER = "helloworld"
SERVER_PORT = 5000
SERVER_HOST = f"{SERVER}.{SERVER}.svc.cluster.local"


@dataclass(frozen=True)
class Member:
    """One cluster of the mesh.

    Attributes:
        kubeconfig: None: the user's default kubeconfig.
        context: "": the kubeconfig's current context.
        api_server: the URL under which the peers reach the API server; "": the kubeconfig's.
        created: whether the program creates the cluster.
        drained: whether the other clusters send no calls to it.
    """

    name: str
    trust_domain: str
    network: str
    kubeconfig: Path | None
    context: str
    api_server: str = ""
    created: bool = False
    drained: bool = False


@dataclass(frozen=True)
class Topology:
    """The mesh of a stack.

    Attributes:
        samples: whether the sample apps are installed.
        storage_class: the StorageClass of the stack file; "": the cluster's default.
        creates_storage_class: whether the program creates that class.
        replicas: pods of istiod and of each gateway.
        kiali: whether Kiali on the first cluster calls the API servers of the others.
        edge: what sends users to the clusters that the program creates; "none": nothing.
    """

    stack: str
    members: tuple[Member, ...]
    samples: bool = True
    storage_class: str = ""
    creates_storage_class: bool = False
    replicas: int = 1
    edge: str = "none"
    kiali: bool = False

    def others(self, member: Member) -> tuple[Member, ...]:
        """Every other cluster."""
        return tuple(other for other in self.members if other != member)
