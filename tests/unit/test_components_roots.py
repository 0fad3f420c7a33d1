"""Who signs what: SPIRE and istiod have roots of their own, and nobody else may ask for certificates under them."""

import json
from typing import Any

from tests.unit.program import Object, Program

CLUSTERS = ("cluster-1", "cluster-2", "cluster-3")


def spec_of(mesh: Program, name: str) -> Any:
    return mesh.one(name).inputs["spec"]


def issuer_of(mesh: Program, certificate: str) -> Object:
    """The Issuer object that signs a Certificate: same cluster, same namespace."""
    made = mesh.one(certificate)
    reference = made.inputs["spec"]["issuerRef"]
    assert reference["kind"] == "Issuer"
    (found,) = [
        each
        for each in mesh.kind("Issuer")
        if each.provider == made.provider
        and each.inputs["metadata"]["name"] == reference["name"]
        and each.inputs["metadata"]["namespace"] == made.inputs["metadata"]["namespace"]
    ]
    return found


def test_no_issuer_signs_for_every_namespace(mesh: Program) -> None:
    assert not mesh.kind("ClusterIssuer")
    for kind in ("Issuer", "Certificate"):
        namespaces = {each.inputs["metadata"]["namespace"] for each in mesh.kind(kind)}
        assert namespaces == {"spire", "istio-system"}, kind


def test_cert_managers_rights_are_not_part_of_the_roles_of_tenants(mesh: Program) -> None:
    for cluster in CLUSTERS:
        values = mesh.one(f"{cluster}-cert-manager-release").inputs["values"]
        assert values["global"]["rbac"]["aggregateClusterRoles"] is False


def test_spire_asks_the_issuer_of_its_own_namespace(mesh: Program) -> None:
    config = json.loads(mesh.one("cluster-1-spire-spire-server-configmap").inputs["data"]["server.json"])
    authority = config["plugins"]["UpstreamAuthority"]["cert-manager"]["plugin_data"]
    assert authority == {
        "namespace": "spire",
        "issuer_kind": "Issuer",
        "issuer_name": "spire-root",
        "issuer_group": "cert-manager.io",
    }
    issuer = mesh.one("cluster-1-spire-spire-root-issuer").inputs
    assert issuer["metadata"]["namespace"] == "spire"
    assert mesh.comes_after("cluster-1-spire-spire-server-statefulset", "cluster-1-spire-spire-root-issuer")


def test_every_root_is_signed_by_itself_and_keeps_its_key(mesh: Program) -> None:
    for root in ("spire-spire-root", "istio-istiod-root"):
        for cluster in CLUSTERS:
            certificate = f"{cluster}-{root}-certificate"
            assert issuer_of(mesh, certificate).inputs["spec"] == {"selfSigned": {}}
            spec = spec_of(mesh, certificate)
            assert spec["isCA"] is True
            assert spec["privateKey"]["rotationPolicy"] == "Never"
            assert mesh.comes_after(f"{cluster}-{root}-issuer", certificate)
            assert spec_of(mesh, f"{cluster}-{root}-issuer") == {"ca": {"secretName": spec["secretName"]}}


def test_istiods_ca_is_under_a_root_of_its_own(mesh: Program) -> None:
    for cluster in CLUSTERS:
        issuer = issuer_of(mesh, f"{cluster}-istio-cacerts-certificate")
        assert issuer.name == f"{cluster}-istio-istiod-root-issuer"
        assert mesh.comes_after(f"{cluster}-istio-istiod", issuer.name)


def test_istiods_ca_can_name_istiod_only(mesh: Program) -> None:
    constraints = spec_of(mesh, "cluster-1-istio-cacerts-certificate")["nameConstraints"]
    assert constraints["critical"] is True
    assert constraints["permitted"]["dnsDomains"] == ["istio-system.svc"]
    (uri,) = constraints["permitted"]["uriDomains"]
    trust_domains = {f"td{number}.example" for number in (1, 2, 3)}
    assert uri.endswith(".invalid"), "reserved by RFC 2606: no trust domain is in it"
    assert not any(domain.endswith(uri) for domain in trust_domains)


def test_istiod_gives_no_certificate_that_is_valid(mesh: Program) -> None:
    """A positive lifetime exceeds the maximum and is refused; any other gets the default, which is over."""
    env = mesh.one("cluster-1-istio-istiod").inputs["values"]["env"]
    assert env["MAX_WORKLOAD_CERT_TTL"] == "0s"
    assert env["DEFAULT_WORKLOAD_CERT_TTL"].startswith("-")


def test_istiod_never_starts_with_what_another_issuer_signed(mesh: Program) -> None:
    """A Certificate that is changed in place stays Ready for a moment, by the certificate that it had before."""
    assert mesh.one("cluster-1-istio-cacerts-certificate").replaced_on == ("spec",)


def test_issuers_wait_for_cert_managers_webhooks(mesh: Program) -> None:
    for issuer in ("spire-spire-self-signed-issuer", "istio-istiod-self-signed-issuer"):
        for kind in ("validating", "mutating"):
            webhook = f"cluster-1-cert-manager-cert-manager-webhook-{kind}webhookconfigurationpatch"
            assert mesh.comes_after(f"cluster-1-{issuer}", webhook)


def test_what_is_signed_is_awaited(mesh: Program) -> None:
    for kind in ("Issuer", "Certificate"):
        for each in mesh.kind(kind):
            annotations = each.inputs["metadata"]["annotations"]
            assert annotations["pulumi.com/waitFor"] == "condition=Ready", each.name
