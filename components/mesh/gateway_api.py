"""The CRDs of Gateway API on one cluster, as the project releases them."""

from dataclasses import dataclass
from pathlib import Path

import pulumi
from pulumi_kubernetes.yaml.v2 import ConfigFile

RELEASE = "https://github.com/kubernetes-sigs/gateway-api/releases/download/{}/standard-install.yaml"


@dataclass(frozen=True)
class GatewayApiArgs:
    """Args of GatewayApi.

    Attributes:
        version: release of the standard channel.
        path: local file in place of the release, "" for none.
    """

    version: str
    path: str = ""


class GatewayApi(pulumi.ComponentResource):
    """Gateway API's standard channel; istiod takes the kinds that are there when it starts."""

    def __init__(self, name: str, args: GatewayApiArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:gatewayapi:GatewayApi", name, None, opts)
        source = str(Path(args.path).absolute()) if args.path else RELEASE.format(args.version)
        ConfigFile(f"{name}-crds", file=source, opts=pulumi.ResourceOptions(parent=self))
        self.register_outputs({})
