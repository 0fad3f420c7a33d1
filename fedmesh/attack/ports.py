"""Plaintext to every port of the mesh."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from fedmesh import curl
from fedmesh.attack.attacker import Attacker, attacker_on, member
from fedmesh.attack.model import AttackSession, Finding, Verdict
from fedmesh.kube import Json
from fedmesh.reading import PROXY, LiveCluster, containers, full_name
from fedmesh.topology import GATEWAY_NAMESPACE, SERVER, SPIRE_NAMESPACE
from fedmesh.verify.istio import CROSS_NETWORK_PORT
from fedmesh.verify.security import alert_of
from fedmesh.verify.traffic import calls_to_peer, client_pod

TITLE = "plaintext to every mesh port"
# Of a sidecar: Envoy's own inbound and outbound listeners, its administration, one that no app has named, and what
# its agent answers.
SIDECAR_PORTS = (15006, 15001, 15000, 15999, 15020, 15021)
HEALTH, METRICS = "answers health checks only", "answers metrics only"
# Nobody's data passes these; probes and Prometheus have no certificates.
BY_DESIGN: dict[str, dict[int, str]] = {
    PROXY: {15020: METRICS, 15021: HEALTH, 15090: METRICS},
    "discovery": {8080: HEALTH, 15014: f"{METRICS}, and its version"},
    "spire-server": {8080: HEALTH, 9988: METRICS},
    "spire-agent": {9982: HEALTH, 9988: METRICS},
    "spire-controller-manager": {8082: METRICS, 8083: HEALTH},
}
FRONT_DOOR = "the mesh's front door: callers from outside have no certificates"
# Where programs tell of themselves and of the mesh: istiod, Go's profiler, Envoy.
PRYING = ("/", "/debug/configz", "/debug/pprof/", "/config_dump")
OK = 200
# curl's: an answer that is not HTTP, empty, cut off while sending or receiving, or no HTTP/2.
CUT_OFF = (1, 16, 52, 55, 56)
STREAM_CUT_OFF = "before end of the underlying stream"
CLOSED = 7
TLS_ONLY = "HTTP request to an HTTPS server"


@dataclass(frozen=True)
class Port:
    """A port of a pod that belongs to the mesh.

    Attributes:
        door: where a member is let in: the port itself, or where nothing is behind it another of the same proxy.
        design: why it is open to all, "" when it must not be.
    """

    pod: Json
    number: int
    door: int
    design: str

    @property
    def target(self) -> str:
        """The port in words."""
        return f"{full_name(self.pod)}:{self.number}"


def run(session: AttackSession, cluster: LiveCluster) -> list[Finding]:
    """Knock at every port with HTTP/1.1 and HTTP/2, without TLS."""
    attacker, pem = attacker_on(session, cluster), member(cluster)
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(lambda port: _knock(session, attacker, port, pem), ports(cluster)))


def ports(cluster: LiveCluster) -> list[Port]:
    """Every TCP port of the pods with a proxy, of istiod and of SPIRE: named by pod or Service, or implied."""
    found: list[Port] = []
    pods = [*cluster.mesh_pods(), *cluster.istiods(), *cluster.pods(SPIRE_NAMESPACE)]
    for pod in pods:
        sidecar = PROXY in containers(pod) and len(containers(pod) - {"istio-init", "istio-validation"}) > 1
        services = cluster.services(pod["metadata"]["namespace"])
        named = {*_declared(pod), *_served(pod, services)}
        first = min((number for number in named if not _design(pod, number)), default=0)
        numbers = {*named, *(SIDECAR_PORTS if sidecar else ())}
        front = _front_door(pod, services)
        for number in sorted(numbers):
            design = _design(pod, number) or (FRONT_DOOR if number in front else "")
            found.append(Port(pod, number, number if number in named else first, design))
    return found


def judge(plain: curl.Answer, http2: curl.Answer, control: curl.Answer | None) -> tuple[Verdict, str, str]:
    """Verdict, evidence and control for a port that must take no plaintext."""
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
    return Verdict.REFUSED, evidence, f"TLS is taken{_status(control)}"


def judge_open(design: str, pages: Mapping[str, curl.Answer]) -> tuple[Verdict, str]:
    """Verdict and evidence for a port that is open on purpose, by its answers to what it must not tell."""
    if told := [path for path, page in pages.items() if page.status == OK and not _is_metrics(page.body)]:
        return Verdict.THROUGH, f"{design}, it should be, but it answered {', '.join(told)}"
    if all(page.code == CLOSED for page in pages.values()):
        return Verdict.REFUSED, "connection refused: nothing listens"
    if silent := [f"{path}: {page.error}" for path, page in pages.items() if not page.status]:
        return Verdict.UNJUDGED, "; ".join(silent)
    heard = [f"{path} {'metrics' if page.status == OK else page.status}" for path, page in pages.items()]
    return Verdict.BY_DESIGN, f"{design}: {', '.join(heard)}"


def _is_metrics(body: str) -> bool:
    return body.startswith(("# HELP ", "# TYPE "))


def _cut_off(answer: curl.Answer) -> bool:
    # By its words: the number is the same where a server speaks HTTP/2 and resets a stream.
    return TLS_ONLY in answer.body or answer.code in CUT_OFF or STREAM_CUT_OFF in answer.error


def _knock(session: AttackSession, attacker: Attacker, port: Port, pem: str) -> Finding:
    cluster = attacker.cluster
    address = port.pod["status"]["podIP"]
    url = f"http://{address}:{port.number}"
    if port.design == FRONT_DOOR:
        return Finding(TITLE, cluster.name, port.target, Verdict.BY_DESIGN, port.design)
    if port.design:
        pages = {path: attacker.ask(url + path) for path in PRYING}
        return Finding(TITLE, cluster.name, port.target, *judge_open(port.design, pages))
    plain = attacker.ask(f"{url}/hello")
    http2 = attacker.ask(f"{url}/hello", "--http2-prior-knowledge")
    control = None if plain.code == CLOSED else _control(session, attacker, port, pem)
    return Finding(TITLE, cluster.name, port.target, *judge(plain, http2, control))


def _control(session: AttackSession, attacker: Attacker, port: Port, pem: str) -> curl.Answer:
    """How somebody fares who comes as the port wants it."""
    if port.number == CROSS_NETWORK_PORT:
        return _across(session, attacker.cluster)
    address = port.pod["status"]["podIP"]
    if PROXY in containers(port.pod):
        return attacker.ask_tls(address, port.door, pem)
    # istiod and SPIRE don't know the mesh's certificates: a TLS alert of theirs, too, shows that TLS is taken
    answer = attacker.ask_tls(address, port.door, None)
    return replace(answer, secured=answer.secured or alert_of(answer.error) is not None)


def _across(session: AttackSession, cluster: LiveCluster) -> curl.Answer:
    """A call from a peer by way of the gateway, which passes on the mesh's own TLS and no other."""
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
    """Ports to which Services send; by number alone, as named ones are declared by the pod."""
    for service in _services_of(pod, services):
        for port in service["spec"].get("ports") or []:
            target = port.get("targetPort", port["port"])
            if isinstance(target, int) and port.get("protocol", "TCP") == "TCP":
                yield target


def _front_door(pod: Json, services: list[Json]) -> set[int]:
    """Ports of an ingress gateway that are for callers from outside the mesh."""
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
