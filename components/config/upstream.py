"""The authority above a trust domain: the plugins of SPIRE's server that sign its CA, in SPIRE's own spelling."""

from functools import partial
from typing import Annotated, Any, Self

from pydantic import Strict, StringConstraints, model_validator

from components.config.fields import Model, Rule, Text, refusal
from components.config.fields import setting as described

# All keys of this module came with one release.
setting = partial(described, since="0.2")

Url = Annotated[
    str, Strict(), StringConstraints(pattern=r"^https://[^\s/]+(/\S*)?$"), Rule("a URL with https")
]
FilePath = Annotated[
    str, Strict(), StringConstraints(pattern=r"^/\S+$"), Rule("an absolute path in the server's container")
]
AuthorityArn = Annotated[
    str,
    Strict(),
    StringConstraints(pattern=r"^arn:aws[a-z-]*:acm-pca:[a-z0-9-]+:[0-9]{12}:certificate-authority/\S+$"),
    Rule("the ARN of a certificate authority"),
]
TemplateArn = Annotated[
    str,
    Strict(),
    StringConstraints(
        pattern=r"^arn:aws[a-z-]*:acm-pca:::template/SubordinateCACertificate_PathLen[0-3]/V1$"
    ),
    Rule("the ARN of a template SubordinateCACertificate_PathLen<n>/V1: others do not sign CAs"),
]
SecretName = Annotated[
    str, Strict(), StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"), Rule("a Secret's name")
]
FILES = "/run/spire/upstream"


class CertAuth(Model):
    """Vault's authentication by a client certificate."""

    mount_point: Text | None = setting(
        None,
        alias="cert_auth_mount_point",
        description="The mount point of the authentication method.",
        example="cert",
        default_text="cert",
    )
    role_name: Text | None = setting(
        None, alias="cert_auth_role_name", description="Vault's role.", example="spire", default_text="any"
    )
    client_cert_path: FilePath = setting(
        alias="client_cert_path",
        description="The file of the client certificate.",
        example=f"{FILES}/tls.crt",
    )
    client_key_path: FilePath = setting(
        alias="client_key_path", description="The file of its key.", example=f"{FILES}/tls.key"
    )


class KubernetesAuth(Model):
    """Vault's authentication by the token of the server's service account."""

    mount_point: Text | None = setting(
        None,
        alias="k8s_auth_mount_point",
        description="The mount point of the authentication method.",
        example="kubernetes",
        default_text="kubernetes",
    )
    role_name: Text = setting(alias="k8s_auth_role_name", description="Vault's role.", example="spire")
    token_path: FilePath = setting(
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        alias="token_path",
        description="The file of the token.",
        example="/var/run/secrets/kubernetes.io/serviceaccount/token",
    )


class Vault(Model):
    """SPIRE's plugin `vault`: HashiCorp Vault's PKI engine. Vault's certificate is always verified."""

    vault_addr: Url = setting(
        alias="vault_addr", description="Vault's URL.", example="https://vault.example.com:8200/"
    )
    namespace: Text | None = setting(
        None, description="The namespace in Vault Enterprise.", example="platform", default_text="none"
    )
    pki_mount_point: Text | None = setting(
        None,
        alias="pki_mount_point",
        description="The mount point of the PKI engine.",
        example="pki",
        default_text="pki",
    )
    ca_cert_path: FilePath | None = setting(
        None,
        alias="ca_cert_path",
        description="The file of the CA that Vault's certificate is verified with.",
        example=f"{FILES}/ca.crt",
        default_text="the system's CAs",
    )
    cert_auth: CertAuth | None = setting(
        None,
        alias="cert_auth",
        description="Authentication by a client certificate.",
        example={"client_cert_path": f"{FILES}/tls.crt", "client_key_path": f"{FILES}/tls.key"},
        default_text="none",
    )
    k8s_auth: KubernetesAuth | None = setting(
        None,
        alias="k8s_auth",
        description="Authentication by the server's service account.",
        example={"k8s_auth_role_name": "spire"},
        default_text="none",
    )

    @model_validator(mode="after")
    def _one_authentication(self) -> Self:
        if (self.cert_auth is None) == (self.k8s_auth is None):
            raise refusal("must have either cert_auth or k8s_auth")
        return self


class AwsPca(Model):
    """SPIRE's plugin `aws_pca`: AWS Private CA. The server's service account needs the rights to use it."""

    region: Text = setting(description="The region of the authority.", example="us-east-1")
    certificate_authority_arn: AuthorityArn = setting(
        alias="certificate_authority_arn",
        description="The ARN of the authority.",
        example="arn:aws:acm-pca:us-east-1:123456789012:certificate-authority/12345678-1234-1234-1234-123456789012",
    )
    ca_signing_template_arn: TemplateArn = setting(
        alias="ca_signing_template_arn",
        description="The ARN of the template that the server's CA is signed with.",
        example="arn:aws:acm-pca:::template/SubordinateCACertificate_PathLen0/V1",
    )
    signing_algorithm: Text | None = setting(
        None,
        alias="signing_algorithm",
        description="The signing algorithm.",
        example="SHA256WITHECDSA",
        default_text="the authority's own",
    )
    assume_role_arn: Text | None = setting(
        None,
        alias="assume_role_arn",
        description="A role to assume.",
        example="arn:aws:iam::123456789012:role/spire-pca",
        default_text="none",
    )
    supplemental_bundle_path: FilePath | None = setting(
        None,
        alias="supplemental_bundle_path",
        description="A file of CAs that are added to the bundle.",
        example=f"{FILES}/more.crt",
        default_text="none",
    )


class Disk(Model):
    """SPIRE's plugin `disk`: a CA in files, which the Secret named by `secret` holds."""

    cert_file_path: FilePath = setting(
        f"{FILES}/tls.crt",
        alias="cert_file_path",
        description="The file of the CA's certificate, and of the chain to its root.",
        example=f"{FILES}/tls.crt",
    )
    key_file_path: FilePath = setting(
        f"{FILES}/tls.key",
        alias="key_file_path",
        description="The file of the CA's key.",
        example=f"{FILES}/tls.key",
    )
    bundle_file_path: FilePath | None = setting(
        None,
        alias="bundle_file_path",
        description="The file of the roots, where the CA is not self-signed.",
        example=f"{FILES}/ca.crt",
        default_text="none",
    )


class Upstream(Model):
    """The authority that signs the CA of every SPIRE server. Without a key, cert-manager keeps a root per cluster."""

    vault: Vault | None = setting(
        None,
        description="SPIRE's plugin `vault`, in its own spelling.",
        example={
            "vault_addr": "https://vault.example.com:8200/",
            "k8s_auth": {"k8s_auth_role_name": "spire"},
        },
        default_text="none",
    )
    aws_pca: AwsPca | None = setting(
        None,
        alias="aws_pca",
        description="SPIRE's plugin `aws_pca`, in its own spelling.",
        example={
            "region": "us-east-1",
            "certificate_authority_arn": "arn:aws:acm-pca:us-east-1:123456789012:certificate-authority/1",
            "ca_signing_template_arn": "arn:aws:acm-pca:::template/SubordinateCACertificate_PathLen0/V1",
        },
        default_text="none",
    )
    disk: Disk | None = setting(
        None,
        description="SPIRE's plugin `disk`, in its own spelling.",
        example={"bundle_file_path": f"{FILES}/ca.crt"},
        default_text="none",
    )
    secret: SecretName | None = setting(
        None,
        description=f"A Secret in namespace `spire` of each cluster; the server finds its files in `{FILES}`. It is "
        "not made by the program.",
        example="spire-upstream",
        default_text="none",
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
