"""The OIDC discovery provider of SPIRE, and the issuer that its documents name."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal, Self

from pydantic import model_validator

from components.config.fields import Matching, Model, Text, refusal
from components.config.fields import setting as described
from components.config.issuers import IssuerRef
from components.config.upstream import SecretName

# All keys of this module came with one release.
setting = partial(described, since="0.2")

# The part of an issuer that stands for a cluster's name.
CLUSTER = "{cluster}"
IssuerUrl = Annotated[
    str,
    Matching(
        f"a URL with https, without query and fragment, such as https://{CLUSTER}.oidc.example.com",
        r"^https://[^\s/?#@]+(/[^\s?#]*)?$",
    ),
]


class OidcSettings(Model):
    """SPIRE's OIDC discovery provider, which serves the keys of a cluster's JWT-SVIDs under `jwtIssuer`."""

    issuer: IssuerRef | None = setting(None, example={"name": "letsencrypt", "kind": "ClusterIssuer"})
    """The issuer of the certificate of `jwtIssuer`'s host; an Issuer is in namespace `spire-oidc`."""
    secret: SecretName | None = setting(None, example="oidc-tls")
    """A Secret in namespace `spire-oidc` of each cluster with `tls.crt` and `tls.key`, in place of `issuer`. It is
    not made by the program."""
    service: Literal["ClusterIP", "LoadBalancer"] = setting("ClusterIP", example="LoadBalancer")
    """The type of its Service `oidc-discovery-provider` in namespace `spire-oidc`. Who serves the issuer's host
    passes TLS through to it."""
    annotations: Mapping[Text, Text] = setting(
        {}, example={"service.beta.kubernetes.io/aws-load-balancer-scheme": "internet-facing"}
    )
    """Annotations of the Service."""

    @model_validator(mode="after")
    def _one_certificate(self) -> Self:
        if (self.issuer is None) == (self.secret is None):
            raise refusal("must have either issuer or secret")
        return self
