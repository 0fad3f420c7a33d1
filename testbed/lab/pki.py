"""The certificates and kubeconfigs of one cluster: a CA, and a certificate for each program."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from testbed.lab.config import Cluster

LIFE = datetime.timedelta(days=3650)
# program -> (user, group) in its client certificate
CLIENTS = {
    "admin": ("admin", "system:masters"),
    "lab": ("fedmesh-lab", "system:masters"),
    "kubelet-client": ("kube-apiserver-kubelet-client", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", None),
    "scheduler": ("system:kube-scheduler", None),
    "proxy": ("system:kube-proxy", None),
}


class PkiError(Exception):
    """The existing certificates belong to another configuration of the cluster."""


def make(cluster: Cluster, folder: Path) -> bool:
    """Writes <name>.crt, <name>.key and <name>.kubeconfig for every program of `cluster` into `folder`.

    Returns False, and writes nothing, when they are complete. Raises PkiError when they were made for another
    configuration of the cluster.
    """
    complete = folder / "complete"
    if complete.exists():
        if complete.read_text() != repr(cluster):
            raise PkiError(f"{cluster.name} was made with another lab.yaml; run `make lab-down` first")
        return False
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = Authority(cluster.name, folder)
    address = cluster.control_plane.address
    names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    authority.issue(
        "apiserver",
        "kube-apiserver",
        None,
        ["localhost", *names],
        [IPv4Address("127.0.0.1"), address, cluster.kubernetes_service],
    )
    for program, (user, group) in CLIENTS.items():
        authority.issue(program, user, group)
        authority.kubeconfig(program, cluster)
    for node in cluster.nodes:
        authority.issue(node.name, f"system:node:{node.name}", "system:nodes", [node.name], [node.address])
        authority.kubeconfig(node.name, cluster)
    signer = ec.generate_private_key(ec.SECP256R1())
    _write_key(folder / "service-accounts.key", signer)
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / "service-accounts.pub").write_bytes(
        signer.public_key().public_bytes(serialization.Encoding.PEM, public)
    )
    complete.write_text(repr(cluster))
    return True


class Authority:
    """A CA whose certificates are files of a folder, such as that of a cluster."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}-ca")])
        builder = self._builder(self.subject, self.key.public_key())
        builder = _signing(builder, self.key)
        self.certificate = builder.sign(self.key, hashes.SHA256())
        _write_key(folder / "ca.key", self.key)
        (folder / "ca.crt").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def intermediate(self, name: str) -> None:
        """Writes <name>.key, and <name>.crt with the chain, of a CA that this one signs."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}-ca")])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = _signing(self._builder(subject, key.public_key()), key).add_extension(
            issuer, critical=False
        )
        chain = (builder.sign(self.key, hashes.SHA256()), self.certificate)
        _write_key(self.folder / f"{name}.key", key)
        pem = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain)
        (self.folder / f"{name}.crt").write_bytes(pem)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        # an hour ago, for clocks that are slow
        start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.subject).public_key(key)
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(start).not_valid_after(start + LIFE)

    def issue(
        self,
        program: str,
        user: str,
        group: str | None,
        names: Sequence[str] = (),
        addresses: Sequence[IPv4Address] = (),
    ) -> None:
        """Writes <program>.key and <program>.crt, for use by servers and clients."""
        key = ec.generate_private_key(ec.SECP256R1())
        groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
        subject = x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, user)])
        builder = self._builder(subject, key.public_key()).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        alternatives = [*map(x509.DNSName, names), *map(x509.IPAddress, addresses)]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        _write_key(self.folder / f"{program}.key", key)
        (self.folder / f"{program}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def kubeconfig(self, program: str, cluster: Cluster) -> None:
        """Writes <program>.kubeconfig with all data inline and one context named after the cluster."""

        def inline(file: str) -> str:
            return base64.b64encode((self.folder / file).read_bytes()).decode()

        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": cluster.name,
                    "cluster": {"server": cluster.server, "certificate-authority-data": inline("ca.crt")},
                }
            ],
            "users": [
                {
                    "name": program,
                    "user": {
                        "client-certificate-data": inline(f"{program}.crt"),
                        "client-key-data": inline(f"{program}.key"),
                    },
                }
            ],
            "contexts": [{"name": cluster.name, "context": {"cluster": cluster.name, "user": program}}],
            "current-context": cluster.name,
        }
        _write_secret(
            self.folder / f"{program}.kubeconfig", yaml.safe_dump(document, sort_keys=False).encode()
        )


def _signing(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return builder.add_extension(usage, critical=True).add_extension(identifier, critical=False)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    form = serialization.PrivateFormat.PKCS8
    _write_secret(path, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))


def _write_secret(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(data)
