"""Small authorities, pods and nodes in the shapes that the live interfaces give them."""

import base64
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedmesh.drill.target import Target
from fedmesh.spire import Bundle

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TRUST_DOMAIN = "wsc-cluster1.com"
TARGET = Target("shop", "orders", 8080, {"app": "orders"}, 8080)
PEER_DOMAIN = "wsc-cluster2.com"


class Authority:
    """A CA, a root unless it has an issuer."""

    def __init__(self, name, issuer=None, days=30):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = _sign(issuer or self, self.name, self.key, timedelta(days=days), uri=None, ca=True)

    def issue(self, uri, left=timedelta(minutes=40), life=timedelta(hours=1)):
        key = ec.generate_private_key(ec.SECP256R1())
        return _sign(self, x509.Name([]), key, left, uri=uri, ca=False, life=life)


def _sign(issuer, subject, key, left, *, uri, ca, life=timedelta(days=60)):
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + left - life)
        .not_valid_after(NOW + left)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if uri:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=True
        )
    return builder.sign(issuer.key, hashes.SHA256())


def pem(*certificates):
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


def inline(*certificates):
    return {"inline_bytes": base64.b64encode(pem(*certificates)).decode()}


def bundle(trust_domain, *certificates):
    return Bundle(trust_domain, tuple(certificates))


def pod(
    name, *, namespace="sleep", account="sleep", app="sleep", version="v1", ip="10.91.0.5", image="curl:1"
):
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": app, "version": version}},
        "spec": {
            "serviceAccountName": account,
            "initContainers": [{"name": "istio-proxy"}],
            "containers": [{"name": app, "image": image}],
        },
        "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def node(name, uid="u1", taints=(), ready="True"):
    return {
        "metadata": {"name": name, "uid": uid, "labels": {}},
        "spec": {"taints": list(taints)},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def secrets_dump(chain, trusted):
    """A proxy's answer to config_dump?resource=dynamic_active_secrets."""
    return {
        "configs": [
            {
                "@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump.DynamicSecret",
                "name": "default",
                "secret": {
                    "name": "default",
                    "tls_certificate": {
                        "certificate_chain": inline(*chain),
                        "private_key": {"inline_bytes": "W3JlZGFjdGVkXQ=="},
                    },
                },
            },
            {
                "@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump.DynamicSecret",
                "name": "ROOTCA",
                "secret": {
                    "name": "ROOTCA",
                    "validation_context": {
                        "custom_validator_config": {
                            "name": "envoy.tls.cert_validator.spiffe",
                            "typed_config": {
                                "trust_domains": [
                                    {"name": name, "trust_bundle": inline(*roots)}
                                    for name, roots in trusted.items()
                                ]
                            },
                        }
                    },
                },
            },
        ]
    }


class FakeApi:
    """Answers from a table of paths; records what is created and deleted."""

    server = "https://10.90.0.11:6443"

    def __init__(self, answers=None, run=None):
        self.answers = answers or {}
        self.run = run
        self.created = []
        self.deleted = []

    def get(self, path, **_query):
        answer = self.answers[path]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def items(self, path, **query):
        return self.get(path, **query)

    def create(self, path, body):
        self.created.append((path, body))
        return body

    def patch(self, _path, body):
        return body

    def delete(self, path, **_query):
        self.deleted.append(path)

    def exec(self, namespace, pod, container, command, *, stdin=None, timeout=8.0):
        del timeout
        return self.run(namespace, pod, container, command, stdin)
