"""Checks of what goes around the mesh: certificates for others, ports and pods without a proxy, leftovers."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence

from fedmesh.certs import fingerprint, parse_chain
from fedmesh.kube import Json
from fedmesh.probe import LABEL
from fedmesh.reading import PROXY, LiveCluster, containers, full_name
from fedmesh.topology import ISTIO_NAMESPACE, SPIRE_NAMESPACE
from fedmesh.verify.model import Mesh, Severity, Warned, category, refuse
from fedmesh.verify.services import is_meshed

check = category("Around the mesh")

# ConfigMaps with the roots in PEM, and their keys.
ROOTS = (
    (SPIRE_NAMESPACE, "spire-bundle", "bundle"),
    (ISTIO_NAMESPACE, "istio-ca-root-cert", "root-cert.pem"),
)
# The Certificates under these roots: each root itself, and istiod's CA.
OWN = {f"{SPIRE_NAMESPACE}/spire-root", f"{ISTIO_NAMESPACE}/istiod-root", f"{ISTIO_NAMESPACE}/cacerts"}
SPIRE_SERVER = f"system:serviceaccount:{SPIRE_NAMESPACE}:spire-server"
CERT_MANAGER = "system:serviceaccount:cert-manager:"
CERTIFICATE_NAME = "cert-manager.io/certificate-name"
REDIRECTION = "traffic.sidecar.istio.io/"
REVISION = "istio.io/rev"
GATEWAYS = ("istio-ingressgateway", "istio-eastwestgateway")


@check(
    "certificates of the mesh's roots are the mesh's own",
    "Somebody got a certificate that the mesh takes for genuine. Delete it, find out who asked (spec.username of the "
    "CertificateRequest), and follow docs/operations.md, a new root without a gap.",
)
def certificates_are_own(_mesh: Mesh, cluster: LiveCluster) -> str:
    """Only SPIRE's server and cert-manager for istiod have certificates under the roots of the mesh."""
    pems = [
        cluster.api.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")["data"][key]
        for namespace, name, key in ROOTS
    ]
    roots = {fingerprint(each) for pem in pems for each in parse_chain(pem.encode())}
    return judge_requests(
        cluster.cert_manager("certificates"), cluster.cert_manager("certificaterequests"), roots
    )


@check(
    "every pod of the mesh is behind its proxy",
    "Remove the annotation, or take the pod's namespace out of the mesh: what arrives at the port is neither encrypted "
    "nor authorized.",
)
def pods_are_behind_proxies(mesh: Mesh, cluster: LiveCluster) -> str:
    """No pod of a namespace in the mesh keeps inbound ports from its proxy, or has none."""
    meshed = {
        each["metadata"]["name"]
        for each in cluster.namespaces()
        if in_mesh(each["metadata"].get("labels") or {})
    }
    pods = [
        pod
        for pod in cluster.pods()
        if pod["metadata"]["namespace"] in meshed
        and (pod["metadata"].get("labels") or {}).get(LABEL) != mesh.janitor.run
    ]
    return judge_pods(pods)


@check(
    "nothing of an upgrade is left",
    "Remove `migrating` and `previousRevision` from fedmesh:istio when UPGRADING.md says so, and run `pulumi up`.",
    severity=Severity.WARNING,
)
def upgrades_are_over(_mesh: Mesh, cluster: LiveCluster) -> str:
    """No gateway, issuer or istiod of a former version runs that nobody uses any more."""
    deployments = cluster.deployments(ISTIO_NAMESPACE)
    return judge_leftovers(deployments, cluster.cert_manager("clusterissuers"), cluster.mesh_pods())


def in_mesh(labels: Mapping[str, str]) -> bool:
    """Whether a namespace with these labels is in the mesh."""
    return is_meshed(labels) and labels.get("istio-injection") != "disabled"


def judge_requests(certificates: Sequence[Json], requests: Sequence[Json], roots: set[str]) -> str:
    """Raises Failed when a certificate under one of the roots, given by fingerprints, is somebody else's."""
    faults = [
        f"Certificate {full_name(each)} is not one of the mesh's"
        for each in certificates
        if each["metadata"]["namespace"] in (SPIRE_NAMESPACE, ISTIO_NAMESPACE) and full_name(each) not in OWN
    ]
    under = [each for each in requests if _authorities(each) & roots]
    faults += [
        f"CertificateRequest {full_name(each)} of {each['spec'].get('username') or 'nobody'} was signed"
        for each in under
        if not _is_own(each)
    ]
    refuse(faults)
    return f"{len(under)} requests under {len(roots)} roots"


def _authorities(request: Json) -> set[str]:
    """Fingerprints of the certificates that a request's answer consists of."""
    status = request.get("status") or {}
    pems = [base64.b64decode(status[key]) for key in ("ca", "certificate") if status.get(key)]
    return {fingerprint(each) for pem in pems for each in parse_chain(pem)}


def _is_own(request: Json) -> bool:
    """cert-manager itself writes who asked, and nobody can change it."""
    meta, asked = request["metadata"], str(request["spec"].get("username", ""))
    if meta["namespace"] == SPIRE_NAMESPACE and asked == SPIRE_SERVER:
        return True
    name = (meta.get("annotations") or {}).get(CERTIFICATE_NAME)
    return asked.startswith(CERT_MANAGER) and f"{meta['namespace']}/{name}" in OWN


def judge_pods(pods: Sequence[Json]) -> str:
    """Raises Failed when a pod keeps ports from its proxy, and warns when a pod has no proxy."""
    refuse(
        [
            f"{key} of {full_name(pod)} is {value!r}"
            for pod in pods
            for key, value in (pod["metadata"].get("annotations") or {}).items()
            if takes_past(key, value)
        ]
    )
    bare = [full_name(pod) for pod in pods if PROXY not in containers(pod)]
    if bare:
        raise Warned(
            f"without a proxy: {', '.join(bare[:3])}{f' and {len(bare) - 3} more' if len(bare) > 3 else ''}",
            "A pod without a proxy has no identity, and its ports take plaintext. Restart it, or move it to a "
            "namespace outside of the mesh.",
        )
    return f"{len(pods)} pods"


# Ports on which the proxy answers for itself.
OF_THE_PROXY = {"", "15020", "15021", "15090"}
# Values that lead nothing past the proxy, of annotations that could; as in manifests/admission/proxies.yaml.
HARMLESS: Mapping[str, tuple[str, ...]] = {
    "sidecar.istio.io/interceptionMode": ("REDIRECT", "TPROXY"),
    "istio.io/reroute-virtual-interfaces": ("",),
    "status.sidecar.istio.io/port": ("15020", "0"),
    f"{REDIRECTION}includeInboundPorts": ("*",),
}
# The same for fields of a proxy's config. YAML has many spellings: a value that is not plain counts as another.
FIELDS = re.compile(r"(?i)interception_?mode|status_?port")
HARMLESS_FIELDS = re.compile(
    r"(?i)(?:interception_?mode[\"']?[ \t]*:[ \t]*[\"']?(?:REDIRECT|TPROXY)"
    r"|status_?port[\"']?[ \t]*:[ \t]*[\"']?15020)[\"']?[ \t]*(?:,|}|\n|\Z)"
)


def takes_past(key: str, value: str) -> bool:
    """Whether an annotation leads inbound traffic past the proxy."""
    if key in HARMLESS:
        return value not in HARMLESS[key]
    if key == "proxy.istio.io/config":
        return len(FIELDS.findall(value)) != len(HARMLESS_FIELDS.findall(value))
    if not key.startswith(REDIRECTION) or not ("Inbound" in key or "Interfaces" in key):
        return False
    if (
        key == f"{REDIRECTION}excludeInboundPorts"
    ):  # with Istio's CNI plugin the injector leaves out the proxy's own
        return not set(value.split(",")) <= OF_THE_PROXY
    return value != ""


def judge_leftovers(deployments: Sequence[Json], issuers: Sequence[Json], pods: Sequence[Json]) -> str:
    """Raises Failed when a former version's gateways, issuer or unused istiod are still there."""
    faults = [
        f"gateway {full_name(each)} of version 0.1"
        for each in deployments
        if each["metadata"]["name"] in GATEWAYS
    ]
    faults += [
        "ClusterIssuer selfsigned-ca of version 0.1 signs for every namespace"
        for each in issuers
        if each["metadata"]["name"] == "selfsigned-ca"
    ]
    istiods = {
        (each["metadata"].get("labels") or {}).get(REVISION, "default"): each
        for each in deployments
        if (each["metadata"].get("labels") or {}).get("app") == "istiod"
    }
    used = {_revision(pod) for pod in pods}
    if len(istiods) > 1:
        faults += [
            f"{full_name(each)} makes the proxy of no pod"
            for name, each in istiods.items()
            if name not in used
        ]
    refuse(faults)
    return f"{len(istiods)} revisions of istiod" if len(istiods) > 1 else "no leftovers"


def _revision(pod: Json) -> str:
    meta = pod["metadata"]
    return str({**(meta.get("labels") or {}), **(meta.get("annotations") or {})}.get(REVISION, "default"))


CHECKS = (
    certificates_are_own,
    pods_are_behind_proxies,
    upgrades_are_over,
)
