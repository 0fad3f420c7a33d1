"""What the API server of one cluster refuses, so that tenants cannot step out of what the mesh gives them."""

from dataclasses import dataclass

import pulumi

from components.kube.manifests import FOLDER, Document, load
from components.kube.objects import child_of, register

FILES = sorted(f"admission/{path.name}" for path in (FOLDER / "admission").glob("*.yaml"))
# The variable of a policy that stands for the label of the nodes of SPIRE's server.
NODE_LABEL = "key"


@dataclass(frozen=True)
class AdmissionArgs:
    """Args of Admission: the label of the nodes that run SPIRE's server."""

    node_label: str


class Admission(pulumi.ComponentResource):
    """ValidatingAdmissionPolicies and their bindings; namespaces of the platform are exempt."""

    def __init__(self, name: str, args: AdmissionArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:admission:Admission", name, None, opts)
        for file in FILES:
            policy, binding = load(file)
            made = register(name, with_label(policy, args.node_label), pulumi.ResourceOptions(parent=self))
            register(name, binding, child_of(self, made))
        self.register_outputs({})


def with_label(policy: Document, label: str) -> Document:
    """The policy with the label of the nodes of SPIRE's server, where it asks for it."""
    variables = [
        {**each, "expression": f"'{label}'"} if each["name"] == NODE_LABEL else each
        for each in policy["spec"].get("variables", [])
    ]
    return {**policy, "spec": {**policy["spec"], **({"variables": variables} if variables else {})}}
