"""Samples of one cluster: a client, and a service that says who answered."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from components.manifests import Document, load, with_registry
from components.objects import child_of, register_all

IMAGE = "docker.io/istio/examples-helloworld-{}:1.0"


@dataclass(frozen=True)
class SamplesArgs:
    """Args of Samples.

    Attributes:
        version: of helloworld, v1 or v2.
        after: what injects proxies and gives them identities.
        registry: registry that holds all images ("": the official ones).
    """

    version: str
    after: Sequence[pulumi.Resource]
    registry: str = ""


class Samples(pulumi.ComponentResource):
    """sleep, helloworld in one version, and helloworld's way in through the ingress gateway."""

    def __init__(self, name: str, args: SamplesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:samples:Samples", name, None, opts)
        namespaces = register_all(name, load("samples/namespaces.yaml"), child_of(self, *args.after))
        inside = child_of(self, *namespaces.values())
        register_all(name, with_registry(load("samples/sleep.yaml"), args.registry), inside)
        register_all(name, with_registry(helloworld(args.version), args.registry), inside)
        register_all(name, load("samples/gateway.yaml"), inside)
        self.register_outputs({})


def helloworld(version: str) -> list[Document]:
    """The documents of one version of helloworld."""
    account, service, deployment = load("samples/helloworld.yaml")
    labels = {"app": "helloworld", "version": version}
    deployment["metadata"]["name"] = f"helloworld-{version}"
    deployment["spec"]["selector"]["matchLabels"] = labels
    template = deployment["spec"]["template"]
    template["metadata"]["labels"] = labels
    template["spec"]["containers"][0]["image"] = IMAGE.format(version)
    return [account, service, deployment]
