"""The hosts that users call by HTTPS at the ingress gateway of one cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from components.config.ingress import AcmeSpec, HostSpec, IngressSettings
from components.kube.manifests import Document, load, load_one, merged
from components.kube.objects import child_of, register

SECRET = "users-hosts"  # noqa: S105 - its name
NAMESPACE_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class IngressArgs:
    """Args of Ingress.

    Attributes:
        settings: the hosts, one at least, and where their certificate comes from.
        region: the cluster's region, in which cert-manager calls AWS.
        namespace: the gateways' namespace, known when it is there.
        gateways: the gateways. One that starts waits for a certificate that is not there yet, one that runs does not.
        cert_manager: resources that Issuers and Certificates depend on.
    """

    settings: IngressSettings
    region: str
    namespace: pulumi.Input[str]
    gateways: pulumi.Resource
    cert_manager: Sequence[pulumi.Resource]


class Ingress(pulumi.ComponentResource):
    """Gateways for the hosts, and their Certificate where no load balancer ends TLS."""

    def __init__(self, name: str, args: IngressArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fedmesh:ingress:Ingress", name, None, opts)
        inside = {"metadata": {"namespace": args.namespace}}
        for document in certificate(args.settings, args.region):
            register(name, merged(document, inside), child_of(self, *args.cert_manager))
        for document in gateways(args.settings):
            register(name, merged(document, inside), child_of(self, args.gateways))
        self.register_outputs({})


def certificate(settings: IngressSettings, region: str) -> list[Document]:
    """The Certificate of all hosts, after the Issuer that signs it where the program makes one."""
    if settings.acm:
        return []
    spec: Document = {"dnsNames": list(settings.hosts)}
    if settings.issuer:
        spec["issuerRef"] = settings.issuer.model_dump()
    made = load_one("ingress/certificate.yaml", {"spec": spec})
    return [issuer(settings.acme, region), made] if settings.acme else [made]


def issuer(acme: AcmeSpec, region: str) -> Document:
    """The Issuer of an ACME authority."""
    route53 = {"hostedZoneID": acme.zone_id, "region": region}
    account: Document = {"server": acme.server, "solvers": [{"dns01": {"route53": route53}}]}
    if acme.email:
        account["email"] = acme.email
    return load_one("ingress/issuer.yaml", {"spec": {"acme": account}})


def gateways(settings: IngressSettings) -> list[Document]:
    """The Gateways of Istio and of Gateway API, as the hosts need them."""
    plain = settings.acm is not None
    made: list[Document] = []
    by_service = {host: settings.hosts[host] for host in settings.served_by("virtual-services")}
    if by_service:
        gateway = load_one("ingress/gateway.yaml")
        https, redirect = gateway["spec"]["servers"]
        https["hosts"] = [
            f"{spec.namespace}/{host}" if spec.namespace else host for host, spec in by_service.items()
        ]
        redirect["hosts"] = list(by_service)
        if plain:
            https["port"]["protocol"] = "HTTP"
            del https["tls"]
        made.append(gateway)
    by_route = {host: settings.hosts[host] for host in settings.served_by("http-routes")}
    if by_route:
        own = {"namespaces": {"from": "Same"}}
        redirects = [listener(host, 80, "HTTP", own) for host in by_route]
        made += load(
            "ingress/routes.yaml",
            {
                "Gateway/https-routes": {"spec": {"listeners": https_listeners(by_route, plain=plain)}},
                "Gateway/http-redirect": {"spec": {"listeners": redirects}},
            },
        )
    return made


def https_listeners(hosts: Mapping[str, HostSpec], *, plain: bool) -> list[Document]:
    """Listeners of users' HTTPS; `plain` where a load balancer has ended it."""
    ends = {"tls": {"mode": "Terminate", "certificateRefs": [{"name": SECRET}]}}
    return [
        {
            **listener(host, 443, "HTTP" if plain else "HTTPS", {"namespaces": allowed(spec.namespace)}),
            **({} if plain else ends),
        }
        for host, spec in hosts.items()
    ]


def listener(host: str, port: int, protocol: str, routes: Document) -> Document:
    """One listener; no two hosts give the same name."""
    name = host.replace("*.", "any.")
    return {"name": name, "port": port, "protocol": protocol, "hostname": host, "allowedRoutes": routes}


def allowed(namespace: str | None) -> dict[str, Any]:
    """The namespaces whose routes may attach."""
    if namespace is None:
        return {"from": "All"}
    return {"from": "Selector", "selector": {"matchLabels": {NAMESPACE_LABEL: namespace}}}
