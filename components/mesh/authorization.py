"""Who may call whom on one cluster, where the mesh denies what no policy allows."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from components.kube.manifests import load_one
from components.kube.objects import child_of, register


@dataclass(frozen=True)
class AuthorizationArgs:
    """Args of Authorization.

    Attributes:
        samples: whether the sample applications are installed.
        after: the gateways, the samples, and what else makes the namespaces of the policies.
    """

    samples: bool
    after: Sequence[pulumi.Resource]


class Authorization(pulumi.ComponentResource):
    """The calls that the platform itself needs, and after them the rule that denies all others."""

    def __init__(
        self, name: str, args: AuthorizationArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fedmesh:authorization:Authorization", name, None, opts)
        files = ["gateways", *(["samples"] if args.samples else [])]
        allowed = [
            register(name, load_one(f"authorization/{file}.yaml"), child_of(self, *args.after))
            for file in files
        ]
        # made last and removed first: in between nobody is denied
        register(name, load_one("authorization/default-deny.yaml"), child_of(self, *allowed))
        self.register_outputs({})
