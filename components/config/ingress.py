"""The hosts that users call by HTTPS at the ingress gateways, and where their certificates come from."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Literal, Self

from pydantic import field_validator, model_validator

from components.config.aws import AwsSettings
from components.config.aws_facts import partition_of
from components.config.clusters import ClusterSpec
from components.config.fields import DnsLabel, Matching, Model, refusal
from components.config.fields import setting as described
from components.config.issuers import IssuerRef
from components.config.mesh import IstioSettings

# All keys of this module came with one release.
setting = partial(described, since="0.2")

MOST_HOSTS = 100  # names of a certificate of Let's Encrypt
MOST_ROUTED_HOSTS = 64  # listeners of a Gateway of Gateway API
SOURCES = ("issuer", "acme", "acm")

UserHost = Annotated[
    str,
    Matching(
        "a host such as shop.example.com or *.apps.example.com",
        r"^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$",
        245,
    ),
]
Directory = Annotated[str, Matching("the URL of an ACME directory, with https", r"^https://\S+$")]
Email = Annotated[str, Matching("an e-mail address", r"^([^@\s]+@[^@\s]+)?$")]
ZoneId = Annotated[
    str, Matching("the id of a public hosted zone such as Z0123456789ABC", r"^Z[A-Z0-9]{1,31}$")
]
RegionalCertificateArn = Annotated[
    str,
    Matching(
        "the ARN of a certificate in ACM",
        r"^arn:aws(-cn|-us-gov)?:acm:[a-z0-9-]+:[0-9]{12}:certificate/[0-9a-f-]{36}$",
    ),
]


class HostSpec(Model):
    """A host that users call by HTTPS. HTTP calls to it are redirected."""

    namespace: DnsLabel | None = setting(None, example="shop", default_text="any")
    """The one namespace whose routes serve the host. Without it, whoever may create routes in a namespace may
    take the host's calls."""
    routes: Literal["virtual-services", "http-routes"] = setting("virtual-services", example="http-routes")
    """How teams route the host's calls: by Istio's VirtualServices or by HTTPRoutes of Gateway API."""


class AcmeSpec(Model):
    """An ACME authority that cert-manager proves the hosts to by records in Route 53. EKS clusters only."""

    zone_id: ZoneId = setting(alias="hostedZoneId", example="Z0123456789ABC")
    """The id of the public hosted zone that holds all hosts. cert-manager may change its TXT records."""
    server: Directory = setting(
        "https://acme-v02.api.letsencrypt.org/directory",
        example="https://acme-staging-v02.api.letsencrypt.org/directory",
    )
    """The authority's directory."""
    email: Email = setting("", example="ops@example.com")
    """Where the authority sends its warnings."""


class AcmSpec(Model):
    """Certificates of ACM on the NLBs, which end TLS and call the gateways by HTTP. EKS clusters only."""

    certificate_arns: tuple[RegionalCertificateArn, ...] = setting(
        example=["arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"]
    )
    """The ARN of a certificate of all hosts in each region of the clusters."""

    @field_validator("certificate_arns", mode="after")
    @classmethod
    def _one_in_a_region(cls, arns: tuple[str, ...]) -> tuple[str, ...]:
        regions = [region_of(arn) for arn in arns]
        twice = next((region for region in regions if regions.count(region) > 1), None)
        if twice:
            raise refusal(f"must be one for each region, and {twice} has several")
        return arns

    def arn(self, region: str) -> str:
        """The certificate of a region, which `check_ingress` found."""
        return next(arn for arn in self.certificate_arns if region_of(arn) == region)


class IngressSettings(Model):
    """Hosts that users call by HTTPS. Exactly one of `issuer`, `acme` and `acm` says where certificates come from."""

    hosts: Mapping[UserHost, HostSpec] = setting({}, example={"shop.example.com": {"namespace": "shop"}})
    """The hosts, each with its settings. A host that begins with `*.` stands for all names with one label more."""
    issuer: IssuerRef | None = setting(None, example={"name": "users-ca"})
    """An issuer of cert-manager that you make; an Issuer is in namespace `istio-gateways`."""
    acme: AcmeSpec | None = setting(
        None, example={"hostedZoneId": "Z0123456789ABC", "email": "ops@example.com"}
    )
    """An ACME authority such as Let's Encrypt."""
    acm: AcmSpec | None = setting(
        None,
        example={
            "certificateArns": [
                "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
            ]
        },
    )
    """Certificates of ACM."""

    @model_validator(mode="after")
    def _hosts_have_certificates(self) -> Self:
        given = [name for name in SOURCES if getattr(self, name)]
        if self.hosts and len(given) != 1:
            raise refusal(f"set exactly one of {', '.join(SOURCES)}", given[-1] if given else "issuer")
        if given and not self.hosts:
            raise refusal("is missing: name the hosts that users call", "hosts")
        return self

    @model_validator(mode="after")
    def _hosts_go_together(self) -> Self:
        for host in self.hosts:
            wildcard = f"*.{host.partition('.')[2]}"
            # ACME authorities refuse a certificate with both
            if host != wildcard and wildcard in self.hosts:
                raise refusal(f"is covered by {wildcard}: remove one of them", "hosts", host)
        for hosts, most in (
            (tuple(self.hosts), MOST_HOSTS),
            (self.served_by("http-routes"), MOST_ROUTED_HOSTS),
        ):
            if len(hosts) > most:
                kind = "hosts" if most == MOST_HOSTS else "hosts with http-routes"
                raise refusal(f"must be {most} {kind} at most, not {len(hosts)}", "hosts")
        return self

    def served_by(self, routes: str) -> tuple[str, ...]:
        """The hosts that teams route in this way."""
        return tuple(host for host, spec in self.hosts.items() if spec.routes == routes)

    def covers(self, name: str) -> bool:
        """Whether a name is one of the hosts."""
        return name in self.hosts or f"*.{name.partition('.')[2]}" in self.hosts


def region_of(arn: str) -> str:
    """The region in an ARN."""
    return arn.split(":")[3]


def check_ingress(
    ingress: IngressSettings, clusters: Sequence[ClusterSpec], aws: AwsSettings, istio: IstioSettings
) -> None:
    """Refuses what other sections contradict.

    Raises:
        PydanticCustomError: with the key below `fedmesh:`.
    """
    if not ingress.hosts:
        return
    existing = next((cluster.name for cluster in clusters if cluster.kubeconfig), None)
    for name in ("acme", "acm"):
        if getattr(ingress, name) and existing:
            raise refusal(
                f"is for EKS clusters of the stack, and {existing} exists already: set issuer",
                "ingress",
                name,
            )
        # the zone and the certificates are those of one account
        if getattr(ingress, name) and len({each.eks.account_label for each in clusters if each.eks}) > 1:
            raise refusal("is for EKS clusters of one AWS account: set issuer", "ingress", name)
    if ingress.acm:
        _check_acm(ingress.acm, clusters, aws, istio)
    _check_edge(ingress, aws, istio)


def _check_acm(acm: AcmSpec, clusters: Sequence[ClusterSpec], aws: AwsSettings, istio: IstioSettings) -> None:
    if not aws.controller.enabled:
        raise refusal("needs the AWS Load Balancer Controller: enable it", "ingress", "acm")
    if istio.ingress_tls:
        raise refusal("must be false with ingress.acm: the load balancers end TLS", "istio", "ingressTls")
    regions = {region_of(arn) for arn in acm.certificate_arns}
    path = ("ingress", "acm", "certificateArns")
    without = next((cluster for cluster in clusters if cluster.region not in regions), None)
    if without:
        raise refusal(
            f"lacks a certificate in {without.region}, the region of {without.name}; load balancers take "
            "certificates of their own region",
            *path,
        )
    for place, arn in enumerate(acm.certificate_arns):
        region = region_of(arn)
        if region not in {cluster.region for cluster in clusters}:
            raise refusal(f"{arn} is in {region}, where the stack has no cluster", *path, place)
        if arn.split(":")[1] != partition_of(region):
            raise refusal(f"{arn} is not of the partition {partition_of(region)}", *path, place)


def _check_edge(ingress: IngressSettings, aws: AwsSettings, istio: IstioSettings) -> None:
    edge = aws.edge
    if edge.mode != "origin-failover":
        return
    path = ("aws", "edge", "originProtocol")
    if edge.origin_protocol == "http" and edge.domain and ingress.covers(edge.domain):
        # CloudFront hands on the redirect, and gets it again
        raise refusal(
            f"must be https: {edge.domain} is one of ingress.hosts, whose HTTP calls are redirected", *path
        )
    if edge.origin_protocol == "https" and not (ingress.covers(edge.domain) or istio.ingress_tls):
        name = edge.domain or "CloudFront's own name"
        raise refusal(f"must be http: {name} is none of ingress.hosts, so no certificate is for it", *path)
