"""Kiali on one cluster, with a view of all clusters."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import pulumi
import pulumi_kubernetes as k8s

from components.config.images import ImageSettings
from components.config.mesh import ChartSpec
from components.kube.charts import release, version_of
from components.kube.manifests import Document, load_one
from components.kube.objects import register
from components.kube.tokens import peer_kubeconfig

IMAGE = "quay.io/kiali/kiali"


@dataclass(frozen=True)
class KialiMember:
    """One cluster.

    Attributes:
        api_server: URL under which the peers reach its API server.
        namespace: namespace of Prometheus and Kiali.
        provider: access to the cluster.
    """

    api_server: pulumi.Input[str]
    namespace: k8s.core.v1.Namespace
    provider: k8s.Provider


@dataclass(frozen=True)
class KialiArgs:
    """Args of Kiali.

    Attributes:
        members: the clusters by name; Kiali runs on the first.
        chart: Kiali's chart `kiali-server`.
        images: where images come from.
    """

    members: Mapping[str, KialiMember]
    chart: ChartSpec
    images: ImageSettings = field(default_factory=ImageSettings)


class Kiali(pulumi.ComponentResource):
    """Kiali on the first cluster, and on every other an account with which it reads."""

    def __init__(self, name: str, args: KialiArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:observability:Kiali", name, None, opts)
        self._args = args
        home, *others = args.members
        known = [self._known(home, there, self._account(there)) for there in others]
        closed = load_one("observability/kiali-network-policy.yaml")
        known.append(register(f"{home}-kiali", closed, self._inside(home)))
        self._release(home, kiali_values(home, others, image_values(args)), known)
        self.register_outputs({})

    def _release(
        self, cluster: str, values: Document, after: list[pulumi.CustomResource]
    ) -> k8s.helm.v3.Release:
        member = self._args.members[cluster]
        return release(
            f"{cluster}-kiali",
            self._args.chart,
            name="kiali",
            namespace=member.namespace.metadata.name,
            values=values,
            opts=pulumi.ResourceOptions(parent=self, provider=member.provider, depends_on=after),
        )

    def _account(self, cluster: str) -> pulumi.Output[Mapping[str, str]]:
        made = self._release(cluster, load_one("observability/kiali-remote-values.yaml"), [])
        opts = pulumi.ResourceOptions(
            parent=self,
            provider=self._args.members[cluster].provider,
            depends_on=[made],
            # Kubernetes fills in the data
            ignore_changes=["data"],
            additional_secret_outputs=["data"],
        )
        token = register(f"{cluster}-kiali", load_one("observability/kiali-token.yaml"), opts)
        return pulumi.Output.secret(cast(k8s.core.v1.Secret, token).data)

    def _known(self, home: str, there: str, token: pulumi.Output[Mapping[str, str]]) -> pulumi.CustomResource:
        members = self._args.members
        content = pulumi.Output.all(members[there].api_server, token).apply(
            lambda known: json.dumps(peer_kubeconfig(there, known[0], known[1]))
        )
        document = load_one(
            "observability/kiali-cluster.yaml",
            {
                "metadata": {"name": cluster_secret(there), "annotations": {"kiali.io/cluster": there}},
                "stringData": {there: pulumi.Output.secret(content)},
            },
        )
        return register(f"{home}-kiali", document, self._inside(home))

    def _inside(self, cluster: str) -> pulumi.ResourceOptions:
        member = self._args.members[cluster]
        return pulumi.ResourceOptions(parent=self, provider=member.provider, depends_on=[member.namespace])


def kiali_values(home: str, others: list[str], image: Document) -> Document:
    """Values of the chart on the cluster that runs Kiali."""
    return load_one(
        "observability/kiali-values.yaml",
        {
            "clustering": {
                "clusters": [{"name": there, "secret_name": cluster_secret(there)} for there in others]
            },
            "deployment": image,
            "kubernetes_config": {"cluster_name": home},
        },
    )


def image_values(args: KialiArgs) -> Document:
    """The chart's values that name the image; it takes a digest as `<image_name>@<image_digest>:<image_version>`."""
    name, tag = args.images.of(IMAGE), f"v{version_of(args.chart)}"
    kind, _, hexadecimal = args.images.digest(f"{IMAGE}:{tag}").partition(":")
    if not hexadecimal:
        return {"image_name": name}
    return {"image_name": f"{name}:{tag}", "image_digest": kind, "image_version": hexadecimal}


def cluster_secret(cluster: str) -> str:
    """Name of the Secret with which Kiali reaches a cluster."""
    return f"kiali-cluster-{cluster}"
