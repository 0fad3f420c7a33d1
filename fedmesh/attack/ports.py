"""The attack with plaintext on every port of the mesh."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from fedmesh import curl
from fedmesh.attack.attacker import Attacker, attacker_on, member
from fedmesh.attack.model import AttackResult, AttackSession, Verdict
from fedmesh.kube import Json
from fedmesh.network_policies import TrafficSource, closed_by
from fedmesh.probe import NAMESPACE
from fedmesh.reading import PROXY, LiveCluster, containers, full_name, is_ready
from fedmesh.topology import GATEWAY_NAMESPACE, SERVER, SPIRE_NAMESPACE
from fedmesh.verify.istio import CROSS_NETWORK_PORT
from fedmesh.verify.security import alert_of
from fedmesh.verify.traffic import calls_to_peer, client_pod

TITLE = "plaintext to every mesh port"
# Of a sidecar: the inbound and outbound listeners, the admin interface, a port that no app declares, and the ports of
# the Istio agent.
SIDECAR_PORTS = (15006, 15001, 15000, 15999, 15020, 15021)
HEALTH, METRICS = "answers health checks only", "answers metrics only"
# Ports without workload traffic; the kubelet's probes and Prometheus have no certificates.
BY_DESIGN: dict[str, dict[int, str]] = {
    PROXY: {15020: METRICS, 15021: HEALTH, 15090: METRICS},
    "discovery": {8080: HEALTH, 15014: f"{METRICS}, and its version"},
    "spire-server": {8080: HEALTH, 9988: METRICS},
    "spire-agent": {9982: HEALTH, 9988: METRICS},
    "spire-controller-manager": {8082: METRICS, 8083: HEALTH},
}
EXTERNAL = "for callers from outside the mesh, who have no certificates"
# Debug pages of istiod, Go's profiler and Envoy.
DEBUG_PAGES = ("/", "/debug/configz", "/debug/pprof/", "/config_dump")
OK = 200
# Exit codes of curl: the answer is not HTTP, is empty, is cut off, or is not HTTP/2.
CUT_OFF = (1, 16, 52, 55, 56)
STREAM_CUT_OFF = "before end of the underlying stream"
CLOSED = 7
TIMED_OUT = 28
TLS_ONLY = "HTTP request to an HTTPS server"


@dataclass(frozen=True)
class Port:
    """A port of a pod that belongs to the mesh.

    Attributes:
        control: the port that must accept a member: this one or, if no app listens there, another of the same proxy.
        design: the reason why the port is open to everyone; "": it must not be.
    """

    pod: Json
    number: int
    control: int
    design: str

    @property
    def target(self) -> str:
        """Pod and port number."""
        return f"{full_name(self.pod)}:{self.number}"


def run(session: AttackSession, cluster: LiveCluster) -> list[AttackResult]:
    """Sends HTTP/1.1 and HTTP/2 without TLS to every port."""
    attacker, pem = attacker_on(session, cluster), member(cluster)
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(lambda port: _attack(session, attacker, port, pem), ports(cluster)))


def ports(cluster: LiveCluster) -> list[Port]:
    """Every TCP port of proxied pods, istiod and SPIRE: those that pods or Services declare, and Istio's own."""
    found: list[Port] = []
    pods = [*cluster.mesh_pods(), *cluster.istiods(), *cluster.pods(SPIRE_NAMESPACE)]
    for pod in pods:
        sidecar = PROXY in containers(pod) and len(containers(pod) - {"istio-init", "istio-validation"}) > 1
        services = cluster.services(pod["metadata"]["namespace"])
        named = {*_declared(pod), *_served(pod, services)}
        first = min((number for number in named if not _design(pod, number)), default=0)
        numbers = {*named, *(SIDECAR_PORTS if sidecar else ())}
        external = _external_ports(pod, services)
        for number in sorted(numbers):
            design = _design(pod, number) or (EXTERNAL if number in external else "")
            found.append(Port(pod, number, number if number in named else first, design))
    return found


def judge(plain: curl.Answer, http2: curl.Answer, control: curl.Answer | None) -> tuple[Verdict, str, str]:
    """Verdict, evidence and control for a port that must refuse plaintext."""
    if answered := next((a for a in (plain, http2) if a.status and TLS_ONLY not in a.body), None):
        return Verdict.THROUGH, f"answered with {answered.status}", ""
    if plain.code == http2.code == CLOSED:
        return Verdict.REFUSED, "connection refused: nothing listens", ""
    if not all(map(_cut_off, (plain, http2))):
        return Verdict.UNJUDGED, f"neither answered nor refused: {plain.error}; {http2.error}", ""
    if control is None or not control.secured:
        return (
            Verdict.UNJUDGED,
            plain.error,
            f"TLS fails as well: {control.error if control else 'not tried'}",
        )
    evidence = f"{plain.status} {plain.body.strip()}" if plain.status else plain.error
    return Verdict.REFUSED, evidence, f"TLS is accepted{_status(control)}"


def judge_open(design: str, pages: Mapping[str, curl.Answer]) -> tuple[Verdict, str]:
    """Verdict and evidence for a port that is open by design: it must not serve debug pages."""
    if told := [path for path, page in pages.items() if page.status == OK and not _is_metrics(page.body)]:
        return Verdict.THROUGH, f"should be a port that {design}, but it answered {', '.join(told)}"
    if all(page.code == CLOSED for page in pages.values()):
        return Verdict.REFUSED, "connection refused: nothing listens"
    if silent := [f"{path}: {page.error}" for path, page in pages.items() if not page.status]:
        return Verdict.UNJUDGED, "; ".join(silent)
    heard = [f"{path} {'metrics' if page.status == OK else page.status}" for path, page in pages.items()]
    return Verdict.BY_DESIGN, f"{design}: {', '.join(heard)}"


def judge_silent(pod: Json, policy: str, answers: Iterable[curl.Answer]) -> tuple[Verdict, str, str] | None:
    """Verdict, evidence and control where nothing answered in time, as the network drops what a policy closes."""
    if not policy or not is_ready(pod) or any(each.code != TIMED_OUT for each in answers):
        return None
    return Verdict.REFUSED, f"dropped, as the NetworkPolicy {policy} asks", "its kubelet finds the pod ready"


def closing_policy(cluster: LiveCluster, pod: Json, number: int) -> str:
    """The NetworkPolicies that keep the attacker from a port."""

    def attacker() -> TrafficSource:
        labels = cluster.api.get(f"/api/v1/namespaces/{NAMESPACE}")["metadata"].get("labels") or {}
        return TrafficSource({}, NAMESPACE, labels)

    path = "/apis/networking.k8s.io/v1/networkpolicies"
    policies = cluster.once(path, lambda: cluster.api.items(path))
    return closed_by(policies, pod, number, cluster.once("attacker's labels", attacker))


def _is_metrics(body: str) -> bool:
    return body.startswith(("# HELP ", "# TYPE "))


def _cut_off(answer: curl.Answer) -> bool:
    # By the message: curl has the same exit code for a stream that an HTTP/2 server resets.
    return TLS_ONLY in answer.body or answer.code in CUT_OFF or STREAM_CUT_OFF in answer.error


def _attack(session: AttackSession, attacker: Attacker, port: Port, pem: str) -> AttackResult:
    cluster = attacker.cluster
    address = port.pod["status"]["podIP"]
    url = f"http://{address}:{port.number}"
    if port.design == EXTERNAL:
        return AttackResult(TITLE, cluster.name, port.target, Verdict.BY_DESIGN, port.design)
    policy = closing_policy(cluster, port.pod, port.number)
    if port.design:
        pages = {path: attacker.ask(url + path) for path in DEBUG_PAGES}
        silent = judge_silent(port.pod, policy, pages.values())
        if silent:
            return AttackResult(TITLE, cluster.name, port.target, *silent)
        return AttackResult(TITLE, cluster.name, port.target, *judge_open(port.design, pages))
    plain = attacker.ask(f"{url}/hello")
    http2 = attacker.ask(f"{url}/hello", "--http2-prior-knowledge")
    if silent := judge_silent(port.pod, policy, (plain, http2)):
        return AttackResult(TITLE, cluster.name, port.target, *silent)
    control = None if plain.code == CLOSED else _authorized(session, attacker, port, pem)
    return AttackResult(TITLE, cluster.name, port.target, *judge(plain, http2, control))


def _authorized(session: AttackSession, attacker: Attacker, port: Port, pem: str) -> curl.Answer:
    """Positive control: an authorized request."""
    if port.number == CROSS_NETWORK_PORT:
        return _across(session, attacker.cluster)
    address = port.pod["status"]["podIP"]
    if PROXY in containers(port.pod):
        return attacker.ask_tls(address, port.control, pem)
    # istiod and SPIRE do not accept the mesh's certificates: their TLS alert shows as well that they speak TLS.
    answer = attacker.ask_tls(address, port.control, None)
    return replace(answer, secured=answer.secured or alert_of(answer.error) is not None)


def _across(session: AttackSession, cluster: LiveCluster) -> curl.Answer:
    """A call from a peer through the east-west gateway, which forwards the mesh's mutual TLS only."""
    peer = session.peers(cluster)[0]
    calls = calls_to_peer(session.janitor, peer, client_pod(peer), cluster, cluster.pods(SERVER, app=SERVER))
    return replace(calls[0], secured=calls[0].status > 0)


def _status(control: curl.Answer) -> str:
    return f", {control.status}" if control.status else ""


def _design(pod: Json, number: int) -> str:
    return next(
        (BY_DESIGN[name][number] for name in containers(pod) if number in BY_DESIGN.get(name, {})), ""
    )


def _all_containers(pod: Json) -> list[Json]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def _declared(pod: Json) -> Iterator[int]:
    for container in _all_containers(pod):
        for port in container.get("ports") or []:
            if port.get("protocol", "TCP") == "TCP":
                yield port["containerPort"]


def _served(pod: Json, services: list[Json]) -> Iterator[int]:
    """Target ports of Services, if numeric: the pod declares named ones."""
    for service in _services_of(pod, services):
        for port in service["spec"].get("ports") or []:
            target = port.get("targetPort", port["port"])
            if isinstance(target, int) and port.get("protocol", "TCP") == "TCP":
                yield target


def _external_ports(pod: Json, services: list[Json]) -> set[int]:
    """Ports of an ingress gateway for callers from outside the mesh."""
    if pod["metadata"]["namespace"] != GATEWAY_NAMESPACE or not pod["metadata"].get("labels", {}).get(
        "istio", ""
    ).startswith("ingress"):
        return set()
    return set(_served(pod, services)) - {CROSS_NETWORK_PORT}


def _services_of(pod: Json, services: list[Json]) -> list[Json]:
    labels = pod["metadata"].get("labels", {})
    return [
        service
        for service in services
        if (selector := service["spec"].get("selector")) and selector.items() <= labels.items()
    ]
