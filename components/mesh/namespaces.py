"""Teams' namespaces in the mesh, on one cluster."""

from dataclasses import dataclass

import pulumi

from components.config.services import Namespaces, NamespaceSpec
from components.kube.manifests import load
from components.kube.objects import child_of, register
from components.mesh.istio import injected_by

ENFORCE = "pod-security.kubernetes.io/enforce"


@dataclass(frozen=True)
class TeamNamespacesArgs:
    """Args of TeamNamespaces.

    Attributes:
        namespaces: their settings, by name.
        after: Istio's component.
        revision: revision of the istiod that injects their proxies, "" for the one without a name.
    """

    namespaces: Namespaces
    after: pulumi.Resource
    revision: str = ""


class TeamNamespaces(pulumi.ComponentResource):
    """Creates missing namespaces, labels them for injection, and keeps them when the stack is destroyed."""

    def __init__(
        self, name: str, args: TeamNamespacesArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fedmesh:namespaces:TeamNamespaces", name, None, opts)
        for space, spec in args.namespaces.items():
            documents = load("namespaces/namespace.yaml")
            for document in documents:
                document["metadata"]["name"] = space
            namespace, membership = documents
            membership["metadata"]["labels"] = {**injected_by(args.revision), **pod_security(spec)}
            kept = pulumi.ResourceOptions.merge(
                child_of(self, args.after), pulumi.ResourceOptions(retain_on_delete=True)
            )
            made = register(name, namespace, kept)
            register(name, membership, child_of(self, made))
        self.register_outputs({})


def pod_security(spec: NamespaceSpec) -> dict[str, str]:
    """The label of a Pod Security level; none to keep the cluster's default."""
    return {ENFORCE: spec.pod_security} if spec.pod_security else {}
