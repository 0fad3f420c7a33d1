"""An attacker's pod, outside the mesh, and its ways to knock at a port of the mesh."""

from __future__ import annotations

from dataclasses import dataclass

from fedmesh import curl
from fedmesh.kube import Json
from fedmesh.probe import CONTAINER, NAMESPACE, start_outsider
from fedmesh.reading import Cluster
from fedmesh.security.model import Raid
from fedmesh.topology import CLIENT, SERVER, SERVER_PORT
from fedmesh.verify.security import JUDGED_FIRST, alert_of, certificate_of, image_of
from fedmesh.verify.traffic import client_pod

TRIES = 8
SECONDS = 2.0
# The whole drill, with time to spare.
LIFE = 400


@dataclass(frozen=True)
class Outsider:
    """A pod without a proxy on one cluster."""

    cluster: Cluster
    pod: str

    def ask(self, url: str, *options: str, pem: str | None = None) -> curl.Answer:
        """One request, presenting the certificate and key of `pem` if any. Never verifies the server."""
        options = ("-k", *options)
        words = (
            curl.command(url, *options, timeout=SECONDS)
            if pem is None
            else curl.command_with_identity(url, pem, *options, timeout=SECONDS)
        )
        return curl.parse(self.cluster.api.exec(NAMESPACE, self.pod, CONTAINER, words, stdin=pem))

    def show(self, address: str, port: int, pem: str | None, *options: str) -> curl.Answer:
        """A TLS request in which the server has judged the caller's certificate before anything is said."""
        url = f"https://{address}:{port}/hello"
        answer = self.ask(url, *JUDGED_FIRST, *options, pem=pem)
        if answer.status or alert_of(answer.error):
            return answer
        # A server that takes TLS 1.3 only tells its refusal late: sometimes after the connection's end.
        for _ in range(TRIES):
            answer = self.ask(url, *options, pem=pem)
            if answer.status or alert_of(answer.error):
                break
        return answer


def outsider(raid: Raid, cluster: Cluster) -> Outsider:
    """The cluster's one attacker, started at the first call."""

    def start() -> Outsider:
        pod = start_outsider(raid.janitor, cluster, image_of(client_pod(cluster)), life=LIFE)
        return Outsider(cluster, pod["metadata"]["name"])

    return cluster.once("attacker", start)


def server(cluster: Cluster) -> Json:
    """A pod of the sample server; raises ValueError when none runs."""
    pods = cluster.pods(SERVER, app=SERVER)
    if not pods:
        raise ValueError(f"no pod of {SERVER} runs on {cluster.name} to knock at")
    return pods[0]


def door(cluster: Cluster) -> tuple[str, int]:
    """Address and port of the sample server itself."""
    return server(cluster)["status"]["podIP"], SERVER_PORT


def member(cluster: Cluster, seconds: int = 300) -> str:
    """Certificate and key of a member of the cluster's trust domain."""
    identity = f"spiffe://{cluster.member.trust_domain}/ns/{CLIENT}/sa/fedmesh-drill"
    return cluster.once("member", lambda: certificate_of(cluster, identity, seconds))
