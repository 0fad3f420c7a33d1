"""X.509: SPIFFE IDs in certificates, validation against a trust bundle, and forged certificates."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey


def parse_chain(pem: bytes) -> list[x509.Certificate]:
    """Certificates of a PEM text, leaf first; an empty text has none. Raises ValueError."""
    return x509.load_pem_x509_certificates(pem) if pem.strip() else []


def parse_der(encoded: str) -> x509.Certificate:
    """A certificate in base64-encoded DER, the format of authorities in SPIRE's JSON."""
    return x509.load_der_x509_certificate(base64.b64decode(encoded))


def spiffe_id(certificate: x509.Certificate) -> str | None:
    """The URI SAN of a certificate; None unless there is exactly one."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return uris[0] if len(uris) == 1 else None


def fingerprint(certificate: x509.Certificate) -> str:
    """The SHA-256 fingerprint of a certificate in hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def key_id(certificate: x509.Certificate) -> str | None:
    """The subject key identifier of a certificate in hex, or None."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
    except x509.ExtensionNotFound:
        return None


def chain_fault(
    chain: Sequence[x509.Certificate], roots: Iterable[x509.Certificate], now: datetime
) -> str | None:
    """The reason why a chain, leaf first, is not valid under any of the roots; None when it is."""
    for certificate in chain:
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            return f"{_subject(certificate)} is valid from {_span(certificate)} only"
    for issued, issuer in pairwise(chain):
        if not _is_ca(issuer) or not _issued_by(issued, issuer):
            return f"{_subject(issued)} was not issued by {_subject(issuer)}"
    for root in roots:
        if root.not_valid_after_utc >= now and (chain[-1] == root or _issued_by(chain[-1], root)):
            return None
    return f"{_subject(chain[-1])} was not issued by any authority of the bundle"


def life(certificate: x509.Certificate) -> timedelta:
    """The validity period of a certificate."""
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc


def life_left(certificate: x509.Certificate, now: datetime) -> float:
    """The remaining share of a certificate's validity period: 1.0 when new, below 0 when expired."""
    return (certificate.not_valid_after_utc - now) / life(certificate)


def renewal_due(svid: x509.Certificate) -> datetime:
    """The time at which SPIRE's agents renew an SVID: half of its validity period."""
    return svid.not_valid_before_utc + life(svid) / 2


def human(left: timedelta) -> str:
    """A duration in its two largest units, such as 3d 4h or 12m 5s."""
    seconds = int(abs(left).total_seconds())
    units = (
        ("d", seconds // 86400),
        ("h", seconds // 3600 % 24),
        ("m", seconds // 60 % 60),
        ("s", seconds % 60),
    )
    first = next((index for index, (_, count) in enumerate(units) if count), len(units) - 1)
    text = " ".join(f"{count}{unit}" for unit, count in units[first : first + 2] if count) or "0s"
    return f"-{text}" if left < timedelta(0) else text


@dataclass(frozen=True)
class ForeignIdentity:
    """A client certificate of an untrusted authority, with its key, in PEM."""

    spiffe_id: str
    pem: str


def forge(identity: str, now: datetime | None = None) -> ForeignIdentity:
    """Creates an authority and a client certificate of it with a SPIFFE ID."""
    now = now or datetime.now(UTC)
    trust_domain = identity.removeprefix("spiffe://").split("/")[0]
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"foreign authority of {trust_domain}")]
    )
    ca = (
        _builder(ca_name, ca_name, ca_key, now, f"spiffe://{trust_domain}")
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    return ForeignIdentity(identity, signed_by(ca, ca_key, identity, now))


def parse_key(pem: bytes) -> Key:
    """A private key of an authority. Raises ValueError unless it is an elliptic curve's."""
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, Key):
        raise ValueError(  # noqa: TRY004 (of what was read)
            f"not a key of an elliptic curve but {type(key).__name__}"
        )
    return key


def signed_by(ca: x509.Certificate, ca_key: Key, identity: str, now: datetime | None = None) -> str:
    """A client certificate of an authority with a SPIFFE ID, the authority's own, and the client's key, in PEM."""
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    leaf_name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SPIRE")])
    leaf = (
        _builder(leaf_name, ca.subject, leaf_key, now or datetime.now(UTC), identity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    parts = (
        leaf.public_bytes(serialization.Encoding.PEM),
        ca.public_bytes(serialization.Encoding.PEM),
        leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    return b"".join(parts).decode()


def signing_request() -> tuple[str, str]:
    """A certificate signing request without names, and its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return request.public_bytes(serialization.Encoding.PEM).decode(), pem.decode()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, uri: str
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(minutes=10))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
    )


def _key_usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=not ca,
        data_encipherment=False,
        key_agreement=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _issued_by(issued: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        issued.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _subject(certificate: x509.Certificate) -> str:
    return spiffe_id(certificate) or certificate.subject.rfc4514_string() or "a certificate without a subject"


def _span(certificate: x509.Certificate) -> str:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return f"{start:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S}"
