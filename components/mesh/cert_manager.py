"""cert-manager on one cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from components.config.images import ImageSettings
from components.config.mesh import ChartSpec
from components.kube.charts import release, version_of
from components.kube.manifests import Document, load, load_one
from components.kube.objects import MANAGED, child_of, register, register_all

NAMESPACE = "cert-manager"
POD_SECURITY = {"pod-security.kubernetes.io/enforce": "restricted"}
IMAGE = "quay.io/jetstack/cert-manager-{}:{}"


@dataclass(frozen=True)
class CertManagerArgs:
    """Args of CertManager.

    Attributes:
        chart: its chart.
        images: where images come from.
        identity: what gives its pods an identity in AWS, which their Issuers may use; None for none.
    """

    chart: ChartSpec
    images: ImageSettings
    identity: pulumi.Resource | None = None


class CertManager(pulumi.ComponentResource):
    """cert-manager. Components that need certificates create Issuers in their own namespaces.

    Outputs:
        webhooks: resources that Issuers and Certificates depend on.
    """

    webhooks: Sequence[pulumi.Resource]

    def __init__(self, name: str, args: CertManagerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:certmanager:CertManager", name, None, opts)
        namespace = k8s.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": NAMESPACE, "annotations": MANAGED, "labels": POD_SECURITY},
            opts=pulumi.ResourceOptions(parent=self),
        )
        register_all(name, load("cert_manager/network-policies.yaml"), child_of(self, namespace))
        values = image_values(args)
        if args.identity:
            values["extraArgs"] = ["--issuer-ambient-credentials"]
        installed = release(
            f"{name}-release",
            args.chart,
            name="cert-manager",
            namespace=namespace.metadata.name,
            values=load_one("cert_manager/values.yaml", values),
            # a pod that started before its identity stays without
            opts=child_of(self, *([args.identity] if args.identity else [])),
        )
        self.webhooks = [
            register(name, document, child_of(self, installed))
            for document in load("cert_manager/trusted-webhooks.yaml")
        ]
        self.register_outputs({})


def image_values(args: CertManagerArgs) -> Document:
    """The chart's values that name the images: the registry, and the digests of those that have one."""
    version = version_of(args.chart)
    digests = {
        part: args.images.digest(IMAGE.format(part, version))
        for part in ("controller", "webhook", "cainjector", "acmesolver")
    }
    pinned = {
        part: {"image": {"tag": version, "digest": digest}} for part, digest in digests.items() if digest
    }
    mirror = {"imageRegistry": args.images.registry} if args.images.registry else {}
    return {**mirror, **pinned.pop("controller", {}), **pinned}
