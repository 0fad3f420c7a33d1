"""Sample applications of one cluster: the client sleep, and helloworld, whose answers name their version."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pulumi

from components.config.images import ImageSettings
from components.config.ingress import IngressSettings
from components.kube.manifests import Document, load, load_one, merged, with_images
from components.kube.objects import child_of, register, register_all
from components.mesh.istio import injected_by

SERVER = "helloworld"
IMAGE = "docker.io/istio/examples-helloworld-{}:1.0"


@dataclass(frozen=True)
class SamplesArgs:
    """Args of Samples.

    Attributes:
        version: of helloworld, v1 or v2.
        gateways_namespace: where Gateway objects for the ingress gateway belong.
        after: resources that inject proxies and give them identities.
        images: where images come from.
        revision: revision of the istiod that injects their proxies, "" for the one without a name.
        gateway_api: whether the cluster has Gateway API's CRDs.
        ingress: the hosts that users call by HTTPS; helloworld answers those that are its namespace's.
    """

    version: str
    gateways_namespace: pulumi.Input[str]
    after: Sequence[pulumi.Resource]
    images: ImageSettings = field(default_factory=ImageSettings)
    revision: str = ""
    gateway_api: bool = True
    ingress: IngressSettings = field(default_factory=IngressSettings)


class Samples(pulumi.ComponentResource):
    """sleep, helloworld in one version, and helloworld's routes through the ingress gateway."""

    def __init__(self, name: str, args: SamplesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:samples:Samples", name, None, opts)
        labels = {"metadata": {"labels": injected_by(args.revision)}}
        spaces = [merged(document, labels) for document in load("samples/namespaces.yaml")]
        namespaces = register_all(name, spaces, child_of(self, *args.after))
        inside = child_of(self, *namespaces.values())
        for documents in (load("samples/sleep.yaml"), helloworld(args.version)):
            restarted = [restarted_for(args.revision, document) for document in documents]
            register_all(name, with_images(restarted, args.images), inside)
        served = {
            "Gateway/helloworld-gateway": {"metadata": {"namespace": args.gateways_namespace}},
        }
        register_all(name, load("samples/gateway.yaml", served), inside)
        if args.gateway_api:
            attached = {"Gateway/helloworld": {"metadata": {"namespace": args.gateways_namespace}}}
            register_all(name, load("samples/http-route.yaml", attached), inside)
        named = args.ingress.hosts
        own = [host for host in args.ingress.served_by("virtual-services") if named[host].namespace == SERVER]
        if own:
            register(name, load_one("samples/https.yaml", {"spec": {"hosts": own}}), inside)
        self.register_outputs({})


def restarted_for(revision: str, document: Document) -> Document:
    """Makes a Deployment restart its pods when the revision of their proxies changes; other kinds stay the same."""
    if document["kind"] != "Deployment" or not revision:
        return document
    patch = {"spec": {"template": {"metadata": {"annotations": {"fedmesh/istio-revision": revision}}}}}
    return merged(document, patch)


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
