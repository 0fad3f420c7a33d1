"""The authority above a trust domain: the plugins of SPIRE's server that sign its CA, in SPIRE's own spelling."""

from functools import partial
from typing import Annotated, Any, Self

from pydantic import ConfigDict, model_validator

from components.config.fields import Matching, Model, Text, refusal
from components.config.fields import setting as described

# All keys of this module came with one release.
setting = partial(described, since="0.2")

Url = Annotated[str, Matching("a URL with https", r"^https://[^\s/]+(/\S*)?$")]
FilePath = Annotated[str, Matching("an absolute path in the server's container", r"^/\S+$")]
AuthorityArn = Annotated[
    str,
    Matching(
        "the ARN of a certificate authority",
        r"^arn:aws[a-z-]*:acm-pca:[a-z0-9-]+:[0-9]{12}:certificate-authority/\S+$",
    ),
]
TemplateArn = Annotated[
    str,
    Matching(
        "the ARN of a template SubordinateCACertificate_PathLen<n>/V1: others do not sign CAs",
        r"^arn:aws[a-z-]*:acm-pca:::template/SubordinateCACertificate_PathLen[0-3]/V1$",
    ),
]
SecretName = Annotated[str, Matching("a Secret's name", r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
FILES = "/run/spire/upstream"


class PluginModel(Model):
    """A section whose keys are spelled as its attributes, which is how SPIRE spells them."""

    model_config = ConfigDict(alias_generator=None)


class CertAuth(PluginModel):
    """Vault's authentication by a client certificate."""

    cert_auth_mount_point: Text | None = setting(None, example="cert", default_text="cert")
    """The mount point of the authentication method."""
    cert_auth_role_name: Text | None = setting(None, example="spire", default_text="any")
    """Vault's role."""
    client_cert_path: FilePath = setting(example=f"{FILES}/tls.crt")
    """The file of the client certificate."""
    client_key_path: FilePath = setting(example=f"{FILES}/tls.key")
    """The file of its key."""


class KubernetesAuth(PluginModel):
    """Vault's authentication by the token of the server's service account."""

    k8s_auth_mount_point: Text | None = setting(None, example="kubernetes", default_text="kubernetes")
    """The mount point of the authentication method."""
    k8s_auth_role_name: Text = setting(example="spire")
    """Vault's role."""
    token_path: FilePath = setting(
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        example="/var/run/secrets/kubernetes.io/serviceaccount/token",
    )
    """The file of the token."""


class Vault(PluginModel):
    """SPIRE's plugin `vault`: HashiCorp Vault's PKI engine. Vault's certificate is always verified."""

    vault_addr: Url = setting(example="https://vault.example.com:8200/")
    """Vault's URL."""
    namespace: Text | None = setting(None, example="platform")
    """The namespace in Vault Enterprise."""
    pki_mount_point: Text | None = setting(None, example="pki", default_text="pki")
    """The mount point of the PKI engine."""
    ca_cert_path: FilePath | None = setting(None, example=f"{FILES}/ca.crt", default_text="the system's CAs")
    """The file of the CA that Vault's certificate is verified with."""
    cert_auth: CertAuth | None = setting(
        None,
        example={"client_cert_path": f"{FILES}/tls.crt", "client_key_path": f"{FILES}/tls.key"},
    )
    """Authentication by a client certificate."""
    k8s_auth: KubernetesAuth | None = setting(None, example={"k8s_auth_role_name": "spire"})
    """Authentication by the server's service account."""

    @model_validator(mode="after")
    def _one_authentication(self) -> Self:
        if (self.cert_auth is None) == (self.k8s_auth is None):
            raise refusal("must have either cert_auth or k8s_auth")
        return self


class AwsPca(PluginModel):
    """SPIRE's plugin `aws_pca`: AWS Private CA. The server's service account needs the rights to use it."""

    region: Text = setting(example="us-east-1")
    """The region of the authority."""
    certificate_authority_arn: AuthorityArn = setting(
        example="arn:aws:acm-pca:us-east-1:123456789012:certificate-authority/12345678-1234-1234-1234-123456789012"
    )
    """The ARN of the authority."""
    ca_signing_template_arn: TemplateArn = setting(
        example="arn:aws:acm-pca:::template/SubordinateCACertificate_PathLen0/V1"
    )
    """The ARN of the template that the server's CA is signed with."""
    signing_algorithm: Text | None = setting(
        None, example="SHA256WITHECDSA", default_text="the authority's own"
    )
    """The signing algorithm."""
    assume_role_arn: Text | None = setting(None, example="arn:aws:iam::123456789012:role/spire-pca")
    """A role to assume."""
    supplemental_bundle_path: FilePath | None = setting(None, example=f"{FILES}/more.crt")
    """A file of CAs that are added to the bundle."""


class Disk(PluginModel):
    """SPIRE's plugin `disk`: a CA in files, which the Secret named by `secret` holds."""

    cert_file_path: FilePath = setting(f"{FILES}/tls.crt", example=f"{FILES}/tls.crt")
    """The file of the CA's certificate, and of the chain to its root."""
    key_file_path: FilePath = setting(f"{FILES}/tls.key", example=f"{FILES}/tls.key")
    """The file of the CA's key."""
    bundle_file_path: FilePath | None = setting(None, example=f"{FILES}/ca.crt")
    """The file of the roots, where the CA is not self-signed."""


class Upstream(PluginModel):
    """The authority that signs the CA of every SPIRE server. Without a key, cert-manager keeps a root per cluster."""

    vault: Vault | None = setting(
        None,
        example={
            "vault_addr": "https://vault.example.com:8200/",
            "k8s_auth": {"k8s_auth_role_name": "spire"},
        },
    )
    """SPIRE's plugin `vault`, in its own spelling."""
    aws_pca: AwsPca | None = setting(
        None,
        example={
            "region": "us-east-1",
            "certificate_authority_arn": "arn:aws:acm-pca:us-east-1:123456789012:certificate-authority/1",
            "ca_signing_template_arn": "arn:aws:acm-pca:::template/SubordinateCACertificate_PathLen0/V1",
        },
    )
    """SPIRE's plugin `aws_pca`, in its own spelling."""
    disk: Disk | None = setting(None, example={"bundle_file_path": f"{FILES}/ca.crt"})
    """SPIRE's plugin `disk`, in its own spelling."""
    secret: SecretName | None = setting(
        None,
        description=f"A Secret in namespace `spire` of each cluster; the server finds its files in `{FILES}`. It is "
        "not made by the program.",
        example="spire-upstream",
    )

    @model_validator(mode="after")
    def _one_authority(self) -> Self:
        given = [key for key in ("vault", "aws_pca", "disk") if getattr(self, key) is not None]
        if len(given) > 1:
            raise refusal(f"must have one of vault, aws_pca and disk, not {' and '.join(given)}")
        if self.disk and not self.secret:
            raise refusal("is missing: disk needs the Secret with its files", "secret")
        if self.secret and not given:
            raise refusal("is used by vault, aws_pca and disk only", "secret")
        return self

    @property
    def plugin(self) -> tuple[str, dict[str, Any]] | None:
        """Name and data of SPIRE's plugin, None for cert-manager."""
        for name, model in (("vault", self.vault), ("aws_pca", self.aws_pca), ("disk", self.disk)):
            if model is not None:
                return name, model.model_dump(by_alias=True, exclude_none=True)
        return None
