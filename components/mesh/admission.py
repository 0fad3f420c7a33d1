"""Admission policies that keep the tenants of one cluster inside the mesh."""

from dataclasses import dataclass

import pulumi

from components.kube.manifests import FOLDER, Document, load
from components.kube.objects import child_of, register

FILES = sorted(f"admission/{path.name}" for path in (FOLDER / "admission").glob("*.yaml"))


@dataclass(frozen=True)
class AdmissionArgs:
    """Args of Admission.

    Attributes:
        node_label: the label of the nodes that run SPIRE's server.
        network: the cluster's network.
        hub: where the proxy's image is, without its name.
    """

    node_label: str
    network: str
    hub: str


class Admission(pulumi.ComponentResource):
    """ValidatingAdmissionPolicies and their bindings; namespaces of the platform are exempt."""

    def __init__(self, name: str, args: AdmissionArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:admission:Admission", name, None, opts)
        for file in FILES:
            policy, binding = load(file)
            made = register(name, filled_in(policy, args), pulumi.ResourceOptions(parent=self))
            register(name, binding, child_of(self, made))
        self.register_outputs({})


def filled_in(policy: Document, args: AdmissionArgs) -> Document:
    """Sets the policy's variables `key` (the label of SPIRE's nodes), `network` and `hub` to the cluster's values."""
    known = {"key": args.node_label, "network": args.network, "hub": args.hub}
    variables = [
        {**each, "expression": f"'{known[each['name']]}'"} if each["name"] in known else each
        for each in policy["spec"].get("variables", [])
    ]
    return {**policy, "spec": {**policy["spec"], **({"variables": variables} if variables else {})}}
