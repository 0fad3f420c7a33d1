"""The attacker: a pod outside the mesh, and its requests to ports of the mesh."""

from __future__ import annotations

from dataclasses import dataclass

from fedmesh import curl
from fedmesh.attack.model import AttackSession
from fedmesh.kube import UNENDED, Json, Output
from fedmesh.probe import CONTAINER, NAMESPACE, start_outsider
from fedmesh.reading import LiveCluster
from fedmesh.topology import CLIENT, SERVER, SERVER_PORT
from fedmesh.verify.security import JUDGED_FIRST, alert_of, certificate_of, image_of
from fedmesh.verify.traffic import client_pod

TRIES = 8
SECONDS = 2.0
# Seconds that a command of two seconds may take on a busy node, where many attackers start theirs at once.
EXEC_SECONDS = 20.0
# Seconds; longer than a whole run.
LIFE = 400


@dataclass(frozen=True)
class Attacker:
    """A pod without a proxy on one cluster."""

    cluster: LiveCluster
    pod: str

    def ask(self, url: str, *options: str, pem: str | None = None) -> curl.Answer:
        """Sends one request, with the certificate and key in `pem` if given. The server is not verified."""
        options = ("-k", *options)
        words = (
            curl.command(url, *options, timeout=SECONDS)
            if pem is None
            else curl.command_with_identity(url, pem, *options, timeout=SECONDS)
        )
        return curl.parse(self.run(words, pem))

    def ask_as(self, token: str, url: str, *options: str) -> curl.Answer:
        """Sends one request with a bearer token, which is in no command line."""
        words = curl.command(url, "-k", "-H", "@-", *options, timeout=SECONDS)
        header = f"authorization: Bearer {token}\n"
        return curl.parse(self.run(words, header))

    def run(self, words: list[str], stdin: str | None = None) -> Output:
        """Runs a command in the pod; one that does not end in time says nothing of the target, and is run again."""
        for _ in range(2):
            output = self.cluster.api.exec(
                NAMESPACE, self.pod, CONTAINER, words, stdin=stdin, timeout=EXEC_SECONDS
            )
            if output.code != UNENDED:
                break
        return output

    def ask_tls(self, address: str, port: int, pem: str | None, *options: str) -> curl.Answer:
        """Sends one TLS request; the server has verified the caller's certificate before it answers."""
        url = f"https://{address}:{port}/hello"
        answer = self.ask(url, *JUDGED_FIRST, *options, pem=pem)
        if answer.status or alert_of(answer.error):
            return answer
        # A server that accepts TLS 1.3 only may close the connection before curl has read its alert.
        for _ in range(TRIES):
            answer = self.ask(url, *options, pem=pem)
            if answer.status or alert_of(answer.error):
                break
        return answer


def attacker_on(session: AttackSession, cluster: LiveCluster) -> Attacker:
    """The attacker of a cluster, started by the first call."""

    def start() -> Attacker:
        pod = start_outsider(session.janitor, cluster, image_of(client_pod(cluster)), life=LIFE)
        return Attacker(cluster, pod["metadata"]["name"])

    return cluster.once("attacker", start)


def server(cluster: LiveCluster) -> Json:
    """A running pod of helloworld. Raises ValueError when there is none."""
    pods = cluster.pods(SERVER, app=SERVER)
    if not pods:
        raise ValueError(f"no pod of {SERVER} is running on {cluster.name}")
    return pods[0]


def server_address(cluster: LiveCluster) -> tuple[str, int]:
    """Address and port of a helloworld pod."""
    return server(cluster)["status"]["podIP"], SERVER_PORT


def member(cluster: LiveCluster, seconds: int = 300) -> str:
    """Certificate and key of a member of the cluster's trust domain, valid for `seconds`."""
    identity = f"spiffe://{cluster.member.trust_domain}/ns/{CLIENT}/sa/fedmesh-drill"
    return cluster.once("member", lambda: certificate_of(cluster, identity, seconds))
