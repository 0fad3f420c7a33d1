"""Issuers of cert-manager that users make, and the settings that name one."""

from functools import partial
from typing import Annotated, Literal

from components.config.fields import Matching, Model, Text
from components.config.fields import setting as described

# All keys of this module came with one release.
setting = partial(described, since="0.2")

IssuerName = Annotated[str, Matching("the name of an issuer", r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]


class IssuerRef(Model):
    """An issuer of cert-manager that you make on every cluster."""

    name: IssuerName = setting(example="users-ca")
    """Its name."""
    kind: Literal["Issuer", "ClusterIssuer"] = setting("Issuer", example="ClusterIssuer")
    """An Issuer of the namespace that the certificate is in, or a ClusterIssuer."""
    group: Text = setting("cert-manager.io", example="awspca.cert-manager.io")
    """The API group of its kind."""
