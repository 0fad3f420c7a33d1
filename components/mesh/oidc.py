"""SPIRE's OIDC discovery provider on one cluster: relying parties outside of the mesh verify JWT-SVIDs by its keys."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pulumi

from components.config.images import ImageSettings
from components.config.oidc import OidcSettings
from components.kube.manifests import as_json, load, load_one, with_images
from components.kube.objects import child_of, register, register_all
from components.kube.workloads import restart_on

PROGRAM = "oidc-discovery-provider"


@dataclass(frozen=True)
class OidcDiscoveryArgs:
    """Args of OidcDiscovery.

    Attributes:
        issuer: URL that the cluster's JWT-SVIDs name.
        settings: the certificate, and the Service.
        after: resources that bring the namespace, the bundle in it, and cert-manager's kinds.
        log_level: least severity of its log lines.
        images: where images come from.
    """

    issuer: str
    settings: OidcSettings
    after: Sequence[pulumi.Resource]
    log_level: str = "INFO"
    images: ImageSettings = field(default_factory=ImageSettings)


class OidcDiscovery(pulumi.ComponentResource):
    """The provider's pods, their Service, and the certificate of the issuer's host."""

    def __init__(
        self, name: str, args: OidcDiscoveryArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("fedmesh:oidc:OidcDiscovery", name, None, opts)
        after: list[pulumi.Resource] = list(args.after)
        if args.settings.issuer:
            spec = {
                "dnsNames": [urlsplit(args.issuer).hostname],
                "issuerRef": args.settings.issuer.model_dump(),
            }
            document = load_one("oidc/certificate.yaml", {"spec": spec})
            after.append(register(name, document, child_of(self, *after)))
        data = {"provider.json": provider_config(args)}
        service = {
            "metadata": {"annotations": dict(args.settings.annotations)},
            "spec": {"type": args.settings.service},
        }
        patches = {
            f"ConfigMap/{PROGRAM}": {"data": data},
            f"Service/{PROGRAM}": service,
            **restart_on(f"Deployment/{PROGRAM}", data),
        }
        *others, workload = with_images(load("oidc/provider.yaml", patches), args.images)
        pod = workload["spec"]["template"]["spec"]
        if args.settings.secret:
            pod["volumes"][-1]["secret"]["secretName"] = args.settings.secret
        made = register_all(name, others, child_of(self, *after))
        register(name, workload, child_of(self, *made.values()))
        self.register_outputs({})


def provider_config(args: OidcDiscoveryArgs) -> str:
    """The provider's config. It answers under the issuer's host and path, and nowhere else."""
    url = urlsplit(args.issuer)
    config = {
        "domains": [url.hostname],
        "jwt_issuer": args.issuer,
        "jwks_uri": f"{args.issuer.rstrip('/')}/keys",
        "server_path_prefix": url.path or "/",
        "log_level": args.log_level.lower(),
    }
    return as_json(load_one("oidc/config.yaml", config))
