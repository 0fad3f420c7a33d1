"""The CRDs of Gateway API on one cluster, as the project releases them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.request import urlopen

import pulumi
import yaml

from components.kube.manifests import Document
from components.kube.objects import register_all

RELEASE = "https://github.com/kubernetes-sigs/gateway-api/releases/download/{}/standard-install.yaml"
SECONDS = 60.0


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
    """Gateway API's standard channel; istiod watches the kinds that exist when it starts.

    Outputs:
        crds: the CRDs and what the release has beside them.
    """

    crds: list[pulumi.Resource]

    def __init__(self, name: str, args: GatewayApiArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:gatewayapi:GatewayApi", name, None, opts)
        # the provider's own ConfigFile fails for a cluster that is down, and with it the whole run
        documents = documents_of(
            str(Path(args.path).absolute()) if args.path else RELEASE.format(args.version)
        )
        self.crds = list(register_all(name, documents, pulumi.ResourceOptions(parent=self)).values())
        self.register_outputs({})


@cache
def documents_of(source: str) -> tuple[Document, ...]:
    """The documents of a file or of an https URL, in their order.

    Raises:
        pulumi.RunError: it can't be read.
    """
    try:
        if source.startswith("https://"):
            with urlopen(source, timeout=SECONDS) as answer:  # noqa: S310 (https only)
                text = answer.read().decode()
        else:
            text = Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise pulumi.RunError(
            f"fedmesh:gatewayApi: {source} can't be read ({error}); path names a local copy"
        ) from None
    # libyaml's loader, where it is there: the CRDs are a megabyte
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return tuple(document for document in yaml.load_all(text, Loader=loader) if document)
