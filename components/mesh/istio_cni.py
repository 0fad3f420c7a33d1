"""Istio's CNI plugin on one cluster: it redirects pods to their proxies, so that they need no privileged container."""

from dataclasses import dataclass

import pulumi

from components.config.clusters import CniSettings
from components.config.images import ImageSettings
from components.config.mesh import ChartSpec
from components.kube.charts import rendered
from components.kube.manifests import load_one
from components.mesh.istio import image_hub, pinned

NAMESPACE = "kube-system"  # system-node-critical pods with rights on the node


@dataclass(frozen=True)
class IstioCniArgs:
    """Args of IstioCni.

    Attributes:
        chart: Istio's chart cni.
        settings: the node's folders.
        images: where images come from.
    """

    chart: ChartSpec
    settings: CniSettings
    images: ImageSettings


class IstioCni(pulumi.ComponentResource):
    """The node agents that install the plugin.

    Outputs:
        agents: the chart's objects, known when every node has the plugin.
    """

    agents: pulumi.Output[list[pulumi.Resource]]

    def __init__(self, name: str, args: IstioCniArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:istio_cni:IstioCni", name, None, opts)
        values = load_one(
            "istio_cni/values.yaml",
            {
                "cniBinDir": args.settings.bin_dir,
                "cniConfDir": args.settings.conf_dir,
                "global": {"hub": image_hub(args.images.registry)},
                **pinned("install-cni", args.chart, args.images),
            },
        )
        self.agents = rendered(name, args.chart, namespace=NAMESPACE, values=values, parent=self)
        self.register_outputs({})
