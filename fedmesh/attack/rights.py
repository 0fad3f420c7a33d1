"""Rights that lead to identities or keys: a tenant's roles, the accounts of the platform, pods of a tenant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fedmesh.attack.model import AttackResult, AttackSession, Verdict
from fedmesh.attack.pods import pod
from fedmesh.kube import FORBIDDEN, INVALID, NOT_FOUND, Json, KubeError
from fedmesh.probe import NAMESPACE, poll
from fedmesh.reading import Api, LiveCluster
from fedmesh.topology import CLIENT, GATEWAY_NAMESPACE, SPIRE_NAMESPACE

ISSUERS = "a tenant with edit or admin asks the issuers for certificates"
ACCOUNTS = "accounts of the platform ask for Secrets and for pods' insides"
STEPS = "a tenant's pod or Service steps out of the mesh"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
CERT_MANAGER = "cert-manager.io"
BINDINGS = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings"
INGRESS = "istio-ingressgateway"
SERVES = "fedmesh:istio: {ingressTls: true}: it serves teams' certificates of its namespace, and its pods have no token"
GATEWAY_API = "gateway.networking.k8s.io/v1"
SETTLED = 10.0  # seconds


@dataclass(frozen=True)
class Right:
    """A verb on a resource; `namespace` is "" for all namespaces."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    namespace: str = ""

    @property
    def words(self) -> str:
        """The right as `kubectl auth can-i` writes it."""
        name = "/".join(part for part in (self.resource, self.subresource) if part)
        return f"{self.verb} {name}{f' in {self.namespace}' if self.namespace else ''}"


# Whoever has one of them reads keys, or acts inside pods.
KEYS = (
    Right("list", "secrets"),
    Right("list", "configmaps"),
    Right("create", "pods", subresource="exec"),
    Right("get", "nodes", subresource="proxy"),
    Right("create", "serviceaccounts", subresource="token"),
)
# Each account of the platform that meets callers from outside, with a right that it needs: the control.
PLATFORM: Mapping[tuple[str, str], Right | None] = {
    (GATEWAY_NAMESPACE, "istio-ingressgateway"): None,
    (GATEWAY_NAMESPACE, "istio-eastwestgateway"): None,
    ("istio-remote-access", "remote-access"): Right("list", "services"),
    (SPIRE_NAMESPACE, "spire-agent"): Right("get", "nodes", subresource="pods"),
}


def allowed(api: Api, user: str, right: Right) -> bool:
    """Whether the API server's authorizers give a user a right."""
    attributes = {
        "verb": right.verb,
        "resource": right.resource,
        "group": right.group,
        "subresource": right.subresource,
        "namespace": right.namespace,
    }
    _, _, namespace, _ = user.split(":")
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": groups, "resourceAttributes": attributes},
    }
    return bool(api.create(REVIEWS, review).get("status", {}).get("allowed"))


def run_issuers(session: AttackSession, cluster: LiveCluster) -> Iterator[AttackResult]:
    """Bind an account to each of Kubernetes' roles for tenants, and review its rights on cert-manager's kinds."""
    for role in ("edit", "admin"):
        name = f"fedmesh-attack-{role}-{session.janitor.run}"
        user = f"system:serviceaccount:{NAMESPACE}:{name}"
        session.janitor.create(cluster.api, BINDINGS, binding(name, role))
        control = Right("create", "configmaps", namespace=NAMESPACE)
        # the authorizer learns of a binding a moment after its creation
        may = bool(
            poll(lambda user=user, control=control: allowed(cluster.api, user, control) or None, SETTLED, 0.5)
        )
        for kind in ("certificates", "certificaterequests", "issuers"):
            right = Right("create", kind, CERT_MANAGER, namespace=NAMESPACE)
            verdict, evidence = judge(allowed(cluster.api, user, right), may)
            yield AttackResult(
                ISSUERS, cluster.name, f"{role}: {right.words}", verdict, evidence, said(control, may)
            )
    found = [each["metadata"]["name"] for each in cluster.cert_manager("clusterissuers")]
    verdict = Verdict.UNJUDGED if found else Verdict.REFUSED
    evidence = f"{', '.join(found)} signs for every namespace: judge its root" if found else "there is none"
    yield AttackResult(ISSUERS, cluster.name, "ClusterIssuers", verdict, evidence)


def binding(name: str, role: str) -> Json:
    """A RoleBinding of a service account, which need not exist, in the attacker's namespace."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
    }


def run_accounts(_session: AttackSession, cluster: LiveCluster) -> Iterator[AttackResult]:
    """Review what the accounts could do that face other clusters, users and kubelets."""
    for (namespace, account), control in PLATFORM.items():
        user = f"system:serviceaccount:{namespace}:{account}"
        may = control is None or allowed(cluster.api, user, control)
        for right in (*KEYS, Right("list", "secrets", namespace=namespace)):
            gets = allowed(cluster.api, user, right)
            serves = right.namespace == GATEWAY_NAMESPACE and account == INGRESS
            verdict, evidence = (Verdict.BY_DESIGN, SERVES) if gets and serves else judge(gets, may)
            told = said(control, may) if control else "it needs no right"
            yield AttackResult(
                ACCOUNTS, cluster.name, f"{namespace}/{account}: {right.words}", verdict, evidence, told
            )


def judge(gets: bool, control: bool) -> tuple[Verdict, str]:
    """Verdict and evidence of a review, given that of a right that the same account must have."""
    if gets:
        return Verdict.THROUGH, "the API server allows it"
    return (
        (Verdict.REFUSED, "the API server denies it") if control else (Verdict.UNJUDGED, "nothing is allowed")
    )


def said(control: Right, may: bool) -> str:
    """How the control went."""
    return f"{control.words}: {'allowed' if may else 'denied as well'}"


def steps(run: str) -> dict[str, tuple[str, Json]]:
    """What a tenant might create, by what it would give him: plural and object."""

    network = {"topology.istio.io/network": "network-of-a-peer"}
    gateway: Json = {
        "apiVersion": GATEWAY_API,
        "kind": "Gateway",
        "metadata": {"name": f"step-{run}", "labels": network},
        "spec": {
            "gatewayClassName": "istio-remote",
            "addresses": [{"type": "IPAddress", "value": "192.0.2.1"}],
            "listeners": [
                {"name": "cross", "port": 15443, "protocol": "TLS", "tls": {"mode": "Passthrough"}}
            ],
        },
    }

    def changed(spec: Mapping[str, Any], annotations: Mapping[str, str] | None = None) -> tuple[str, Json]:
        made = pod(f"step-{run}", "registry.example/step:1.0.0", ["true"])
        made["spec"] |= spec
        made["metadata"]["annotations"] = dict(annotations or {})
        return "pods", made

    def service(spec: Mapping[str, Any], **labels: str) -> tuple[str, Json]:
        metadata = {"name": f"step-{run}", "labels": labels}
        ports = [{"name": "tls", "port": 15443}]
        body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports, **spec}}
        return "services", body

    def port() -> tuple[str, Json]:
        plural, made = changed({})
        made["spec"]["containers"][0]["ports"] = [{"containerPort": 8443, "hostPort": 10250}]
        return plural, made

    return {
        "every taint tolerated": changed({"tolerations": [{"operator": "Exists"}]}),
        "SPIRE's node selected": changed({"nodeSelector": {"dedicated": "spire-server"}}),
        "system priority": changed({"priorityClassName": "system-node-critical"}),
        "the node's folders": changed({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}),
        "the node's processes": changed({"hostPID": True}),
        "the kubelet's port": port(),
        "ports without the proxy": changed({}, {"traffic.sidecar.istio.io/excludeInboundPorts": "5000"}),
        "a port of the proxy's own": changed({}, {"status.sidecar.istio.io/port": "5000"}),
        "another socket of identities": changed(
            {}, {"proxy.istio.io/config": "proxyMetadata: {WORKLOAD_IDENTITY_SOCKET_FILE: socket}"}
        ),
        "a proxy of another's making": changed(
            {}, {"sidecar.istio.io/proxyImage": "registry.example/proxy:1"}
        ),
        "a foreign address": service({"externalIPs": ["192.0.2.1"]}),
        "a network's gateway": service({}, **network),
        "a network's gateway of Gateway API": ("gateways", gateway),
    }


def run_steps(session: AttackSession, cluster: LiveCluster) -> Iterator[AttackResult]:
    """Ask the API server, without making anything, for what leads a tenant out; the control is an ordinary object."""
    control = refusal(
        cluster.api, "pods", pod(f"step-{session.janitor.run}", "registry.example/step:1.0.0", ["true"])
    )
    for target, (plural, body) in steps(session.janitor.run).items():
        try:
            refused = refusal(cluster.api, plural, body)
        except KubeError as error:
            # without Gateway API, nobody can make its gateways
            if error.status == NOT_FOUND and body["apiVersion"] == GATEWAY_API:
                continue
            raise
        verdict, evidence = judge_step(refused, control)
        told = (
            "an ordinary pod is admitted" if control is None else f"an ordinary pod is refused too: {control}"
        )
        yield AttackResult(STEPS, cluster.name, target, verdict, evidence, told)


def refusal(api: Api, plural: str, body: Json) -> str | None:
    """Why the API server would not create an object; None where it would."""
    try:
        version = body["apiVersion"]
        prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
        api.create(f"{prefix}/namespaces/{CLIENT}/{plural}?dryRun=All", body)
    except KubeError as error:
        if error.status not in (FORBIDDEN, INVALID):
            raise
        return str(error)
    return None


def judge_step(refused: str | None, control: str | None) -> tuple[Verdict, str]:
    """Verdict and evidence of a dry run; only a refusal by a policy of the mesh is one."""
    if refused is None:
        return Verdict.THROUGH, "the API server would create it"
    if control is not None or "fedmesh-" not in refused:
        return Verdict.UNJUDGED, refused
    return Verdict.REFUSED, refused
