"""cert-manager on one cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from components.config.mesh import ChartSpec
from components.kube.charts import release
from components.kube.manifests import load, load_one, merged
from components.kube.objects import MANAGED, child_of, register, register_all

NAMESPACE = "cert-manager"
POD_SECURITY = {"pod-security.kubernetes.io/enforce": "restricted"}


@dataclass(frozen=True)
class CertManagerArgs:
    """Args of CertManager: its chart, and the registry that holds all images ("": the official ones)."""

    chart: ChartSpec
    registry: str


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
        mirror = {"imageRegistry": args.registry} if args.registry else {}
        installed = release(
            f"{name}-release",
            args.chart,
            name="cert-manager",
            namespace=namespace.metadata.name,
            values=merged(load_one("cert_manager/values.yaml"), mirror),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.webhooks = [
            register(name, document, child_of(self, installed))
            for document in load("cert_manager/trusted-webhooks.yaml")
        ]
        self.register_outputs({})
