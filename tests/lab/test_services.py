"""What teams run in the mesh goes on working: slow, silent, big, stateful, with Istio objects of their own.

LONG=300 makes the long calls take five minutes; CALLS=1000 makes so many calls beside a healthy pod.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import PROJECT, kubectl
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from components.kube.manifests import merged
from fedmesh.connect import connect
from fedmesh.verify.in_force import in_force
from testbed.lab import config
from testbed.lab.paths import State
from testbed.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]
APPS = Path(__file__).parent / "apps"
ONE, OTHER = (cluster.name for cluster in config.load().clusters[:2])
SPACE = "lab-services"
LONG = float(os.environ.get("LONG", "35"))
CALLS = int(os.environ.get("CALLS", "100"))
NEAR, FAR = f"near.{SPACE}", f"far.{SPACE}"
HOST = f"{NEAR}.svc.cluster.local"
ROUND_ROBIN = {"loadBalancer": {"simple": "ROUND_ROBIN"}}
Document = dict[str, Any]


def apply(cluster: str, *documents: Document) -> None:
    kubectl(cluster, "apply", "-n", SPACE, "-f", "-", given=yaml.safe_dump_all(documents))


def named(name: str, pod: Document | None = None) -> list[Document]:
    """The app under another name, its pod's spec merged with `pod`."""
    account, service, deployment = yaml.safe_load_all((APPS / "app.yaml").read_text())
    for document in (account, service, deployment):
        document["metadata"]["name"] = name
    service["spec"]["selector"] = deployment["spec"]["selector"]["matchLabels"] = {"app": name}
    template = deployment["spec"]["template"]
    template["metadata"]["labels"] = {"app": name}
    template["spec"] = merged(template["spec"], {"serviceAccountName": name, **(pod or {})})
    for volume in template["spec"]["volumes"]:
        if volume["name"] == "site":
            volume["hostPath"]["path"] = sysconfig.get_path("purelib")
    return [account, service, deployment]


def until(condition: Callable[[], bool], within: float = 60.0) -> None:
    wait_until(condition, within, lambda: f"not in {within:.0f} s", 1.0)


def in_client(*words: str) -> str:
    return kubectl(ONE, "exec", "-n", SPACE, "deploy/client", "-c", "app", "--", *words)


def curl(*words: str) -> str:
    return in_client("curl", "-sS", "--max-time", "20", "-w", " %{http_code}", *words)


def answers(count: int, target: str, *words: str) -> list[str]:
    """The pods that answered so many calls, one connection each; what went wrong in place of a pod."""
    urls = [word for _ in range(count) for word in ("-o-", target)]
    return in_client("curl", "-sS", "--max-time", "10", "-w", "\\n", *words, *urls).split()


def pods(cluster: str, app: str) -> list[str]:
    names = kubectl(cluster, "get", "pods", "-n", SPACE, "-l", f"app={app}", "-o", "name")
    return [name.removeprefix("pod/") for name in names.split()]


def tls_secret() -> Document:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "app.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=2))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    data = {"tls.crt": certificate.public_bytes(pem).decode(), "tls.key": private.decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}, "stringData": data}


@pytest.fixture(scope="module", autouse=True)
def team() -> Iterator[None]:
    """near on both clusters, far on the other one only, and a client; the client's cluster has no Service far."""
    code = {file.name: file.read_text() for file in APPS.glob("*.py")}
    files = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app"}, "data": code}
    space = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": SPACE, "labels": {"istio-injection": "enabled"}},
    }
    secret = tls_secret()
    try:
        for cluster, apps in ((ONE, ("near", "client")), (OTHER, ("near", "far"))):
            kubectl(cluster, "apply", "-f", "-", given=yaml.safe_dump(space))
            apply(cluster, files, secret, *(document for app in apps for document in named(app)))
        for cluster, apps in ((ONE, ("near", "client")), (OTHER, ("near", "far"))):
            for app in apps:
                kubectl(cluster, "rollout", "status", "-n", SPACE, f"deploy/{app}", "--timeout=120s")
        until(lambda: curl(f"http://{FAR}:8080/answer").endswith(" 200"))
        yield
    finally:
        for cluster in (ONE, OTHER):
            kubectl(cluster, "delete", "namespace", SPACE, "--ignore-not-found")


@pytest.fixture(scope="module")
def long_calls() -> dict[str, str]:
    """The answers to long calls, while the caller's proxy is sent new configuration all the time."""
    over = threading.Event()
    pushed: list[str] = []

    def push() -> None:
        while not over.wait(3.0):
            apply(ONE, rule(HOST, ROUND_ROBIN))
            pushed.append(kubectl(ONE, "delete", "destinationrule", "owners", "-n", SPACE))

    pushing = threading.Thread(target=push)
    pushing.start()
    try:
        found = json.loads(in_client("/usr/bin/python3", "/app/client.py", str(LONG), NEAR, FAR))
    finally:
        over.set()
        pushing.join()
    assert len(pushed) > LONG / 10
    return found


@pytest.mark.parametrize(
    "kind", ["GET", "POST", "stream", "upload", "WebSocket", "TCP", "gRPC", "gRPC stream"]
)
@pytest.mark.parametrize(("host", "cluster", "app"), [(NEAR, ONE, "near"), (FAR, OTHER, "far")])
def test_a_call_that_takes_long_is_whole(
    long_calls: dict[str, str], kind: str, host: str, cluster: str, app: str
) -> None:
    (pod,) = pods(cluster, app)
    whole = {
        "GET": f"200 {pod}",
        "POST": f"200 {pod}",
        "upload": f"200 {pod}",
        "stream": f"200 first{pod}",
        "WebSocket": f"{pod} one {pod} two",
        "TCP": f"{pod} one {pod} two",
        "gRPC": pod,
        "gRPC stream": f"{pod} last",
    }
    assert long_calls[f"{host} {kind}"] == whole[kind]


@pytest.mark.usefixtures("long_calls")
@pytest.mark.parametrize("host", [NEAR, FAR])
def test_a_slow_post_is_executed_once(host: str) -> None:
    executed = curl(f"http://{host}:8080/posts").split()
    assert executed.count(f"{host}-{LONG}") == 1


def rule(host: str, policy: Document, **spec: Any) -> Document:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "owners"},
        "spec": {"host": host, "trafficPolicy": policy, **spec},
    }


@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"connectionPool": {"http": {"http2MaxRequests": 100}}},
        {"loadBalancer": {"consistentHash": {"httpHeaderName": "user"}}},
        {"loadBalancer": {"simple": "ROUND_ROBIN"}, "tls": {"mode": "ISTIO_MUTUAL"}},
    ],
    ids=["none", "pool", "sticky", "round robin"],
)
def test_calls_stay_with_a_healthy_pod_of_their_cluster(policy: Document) -> None:
    stay_with_the_healthy_pod(*([rule(HOST, policy)] if policy else []))


def test_calls_to_a_subset_stay_with_a_healthy_pod_of_their_cluster() -> None:
    subset = {"name": "all", "labels": {"app": "near"}}
    route = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "owners"},
        "spec": {
            "hosts": [HOST],
            "exportTo": ["."],
            "http": [{"route": [{"destination": {"host": HOST, "subset": "all"}}]}],
        },
    }
    stay_with_the_healthy_pod(rule(HOST, ROUND_ROBIN, subsets=[subset]), route)


def stay_with_the_healthy_pod(*rules: Document) -> None:
    (own,) = pods(ONE, "near")
    try:
        if rules:
            apply(ONE, *rules)
            time.sleep(3)
        for _ in range(CALLS // 100):
            assert set(answers(100, f"http://{NEAR}:8080/answer", "-H", "user: me")) == {own}
    finally:
        for kind in ("destinationrule", "virtualservice"):
            kubectl(ONE, "delete", kind, "owners", "-n", SPACE, "--ignore-not-found")


def test_neither_slow_calls_nor_the_apps_own_errors_move_calls_away() -> None:
    (own,) = pods(ONE, "near")
    slow = [
        word
        for _ in range(max(20, CALLS // 10))
        for word in ("-o", "/dev/null", f"http://{NEAR}:8080/answer?pause=6")
    ]
    in_client("curl", "-sS", "--parallel", "--parallel-max", "100", *slow)
    mixed = f"http://{NEAR}:8080/answer?status=500"
    for _ in range(CALLS // 10):
        assert set(answers(9, f"http://{NEAR}:8080/answer")) == {own}
        assert set(answers(3, mixed)) == {own}


def test_the_apps_own_errors_move_no_calls_away_under_its_owners_rule() -> None:
    (own,) = pods(ONE, "near")
    url = f"http://{NEAR}:8080/answer"
    tenth = [word for each in (*[url] * 9, f"{url}?status=500") for word in ("-o-", each)]
    try:
        apply(ONE, rule(HOST, ROUND_ROBIN))
        time.sleep(3)
        said = in_client("curl", "-sS", "--max-time", "10", "-w", "\\n", *tenth * (CALLS // 10))
        assert set(said.split()) == {own}
    finally:
        kubectl(ONE, "delete", "destinationrule", "owners", "-n", SPACE, "--ignore-not-found")


def test_a_service_without_local_pods_is_answered_by_the_other_cluster() -> None:
    (there,) = pods(OTHER, "near")
    kubectl(ONE, "scale", "-n", SPACE, "deploy/near", "--replicas=0")
    try:
        until(lambda: set(answers(5, f"http://{NEAR}:8080/answer")) == {there}, 20)
    finally:
        kubectl(ONE, "scale", "-n", SPACE, "deploy/near", "--replicas=1")
        kubectl(ONE, "rollout", "status", "-n", SPACE, "deploy/near", "--timeout=60s")
    (own,) = pods(ONE, "near")
    until(lambda: set(answers(5, f"http://{NEAR}:8080/answer")) == {own}, 20)


def test_an_app_speaks_tls_of_its_own() -> None:
    for host in (NEAR, FAR):
        assert curl("--insecure", f"https://{host}:8443/answer").endswith(" 200")


@pytest.mark.parametrize("host", [NEAR, FAR])
def test_a_client_of_http_1_0_is_answered(host: str) -> None:
    assert curl("--http1.0", f"http://{host}:8080/answer").endswith(" 200")
    posted = ("-H", f"Id: old-{host}", "--data", "order", f"http://{host}:8080/answer")
    assert curl("--http1.0", *posted).endswith(" 200")
    assert curl("--http1.0", f"http://{host}:8080/posts").split().count(f"old-{host}") == 1


def test_large_headers_pass() -> None:
    for host in (NEAR, FAR):
        big = f"Cookie: {'c' * 30_000}"
        assert curl("-H", big, f"http://{host}:8080/header?size=30000").endswith(" 200")


def test_headless_services_and_aliases_have_names() -> None:
    ports = [{"name": "http", "port": 8080}]
    headless = {"clusterIP": "None", "selector": {"app": "near"}, "ports": ports}
    alias = {"type": "ExternalName", "externalName": f"near.{SPACE}.svc.cluster.local", "ports": ports}
    made = [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
        for name, spec in (("headless", headless), ("alias", alias))
    ]
    apply(ONE, *made)
    for name in ("headless", "alias"):
        until(lambda name=name: curl(f"http://{name}.{SPACE}:8080/answer").endswith(" 200"), 20)


def test_a_server_outside_the_mesh_is_called_by_a_service_entry() -> None:
    """The mesh has the host by an address of its owner's; a proxy of the mesh is not asked for there."""
    *_, outside = made = named("outside")
    outside["spec"]["template"]["metadata"]["labels"]["sidecar.istio.io/inject"] = "false"
    apply(ONE, *made)
    kubectl(ONE, "rollout", "status", "-n", SPACE, "deploy/outside", "--timeout=60s")
    pod = json.loads(kubectl(ONE, "get", "pods", "-n", SPACE, "-l", "app=outside", "-o", "json"))["items"][0]
    entry = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "outside"},
        "spec": {
            "hosts": ["api.outside.example"],
            "exportTo": ["."],
            "location": "MESH_EXTERNAL",
            "resolution": "STATIC",
            "addresses": ["240.9.9.1"],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}],
            "endpoints": [{"address": pod["status"]["podIP"]}],
        },
    }
    apply(ONE, entry)
    said = f"{pod['metadata']['name']} 200"
    until(lambda: curl("http://api.outside.example/answer") == said, 20)


def test_an_apps_own_metrics_are_read_through_its_proxy() -> None:
    """A Prometheus has no identity of the mesh, and the app's port takes mutual TLS only."""
    (pod,) = pods(ONE, "near")
    path = f"/api/v1/namespaces/{SPACE}/pods/{pod}"
    refused = kubectl(ONE, "get", "--raw", f"{path}:8080/proxy/metrics", check=False)
    assert "app_up 1" not in refused
    assert "app_up 1" in kubectl(ONE, "get", "--raw", f"{path}:15020/proxy/stats/prometheus")


CALL = ["curl", "-sSf", "--retry", "20", "--retry-all-errors", "--retry-delay", "1"]


def task(name: str, command: list[str], **pod: Any) -> Document:
    container = {
        "name": "task",
        "image": "docker.io/curlimages/curl:8.16.0",
        "imagePullPolicy": "IfNotPresent",
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "backoffLimit": 0,
            "template": {
                "spec": {"restartPolicy": "Never", "containers": [{**container, "command": command}], **pod}
            },
        },
    }


def test_a_job_calls_from_its_init_container_and_its_own_sidecar_too_and_completes() -> None:
    call = [*CALL, f"http://{FAR}:8080/answer"]
    first = {
        "name": "first",
        "image": "docker.io/curlimages/curl:8.16.0",
        "imagePullPolicy": "IfNotPresent",
        "command": call,
    }
    # the job begins when its sidecar has called
    beside = {
        **first,
        "name": "beside",
        "restartPolicy": "Always",
        "command": ["sh", "-c", f"trap exit TERM; {' '.join(call)} && touch /tmp/called; sleep 1000 & wait"],
        "startupProbe": {"exec": {"command": ["ls", "/tmp/called"]}, "periodSeconds": 1},  # noqa: S108
    }
    apply(ONE, task("job", call, initContainers=[first, beside]))
    kubectl(ONE, "wait", "-n", SPACE, "job/job", "--for=condition=Complete", "--timeout=90s")


def test_a_pod_that_shuts_down_makes_its_last_call() -> None:
    goodbye = [*CALL, "-H", "Id: goodbye", "--data", "x", f"http://{FAR}:8080/answer"]
    container = {
        "name": "app",
        "image": "docker.io/curlimages/curl:8.16.0",
        "imagePullPolicy": "IfNotPresent",
        "command": [
            "sh",
            "-c",
            f"trap '{' '.join(map(repr_for_shell, goodbye))}; exit' TERM; sleep 1000 & wait",
        ],
    }
    last = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "last"},
        "spec": {"containers": [container]},
    }
    apply(ONE, last)
    kubectl(ONE, "wait", "-n", SPACE, "pod/last", "--for=condition=Ready", "--timeout=60s")
    kubectl(ONE, "delete", "-n", SPACE, "pod/last")
    assert curl(f"http://{FAR}:8080/posts").split().count("goodbye") == 1


def repr_for_shell(word: str) -> str:
    return f'"{word}"'


def test_a_hardened_pod_runs_in_a_restricted_namespace() -> None:
    label = "pod-security.kubernetes.io/enforce"
    kubectl(ONE, "label", "namespace", SPACE, f"{label}=restricted")
    safe = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    job = task("hardened", [*CALL, f"http://{FAR}:8080/answer"])
    pod = job["spec"]["template"]["spec"]
    pod["securityContext"] = {
        "runAsNonRoot": True,
        "runAsUser": 12345,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    pod["containers"][0]["securityContext"] = safe
    try:
        apply(ONE, job)
        kubectl(ONE, "wait", "-n", SPACE, "job/hardened", "--for=condition=Complete", "--timeout=90s")
    finally:
        kubectl(ONE, "label", "namespace", SPACE, f"{label}-")


def test_a_gateway_of_gateway_api_serves_as_it_is() -> None:
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "shop"},
        "spec": {
            "gatewayClassName": "istio",
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        },
    }
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "shop"},
        "spec": {
            "parentRefs": [{"name": "shop"}],
            "rules": [{"backendRefs": [{"name": "near", "port": 8080}]}],
        },
    }
    apply(ONE, gateway, route)
    kubectl(
        ONE,
        "wait",
        "-n",
        SPACE,
        "gateway.gateway.networking.k8s.io/shop",
        "--for=condition=Programmed",
        "--timeout=90s",
    )
    until(lambda: curl(f"http://shop-istio.{SPACE}/answer").endswith(" 200"), 30)


def test_a_gateway_of_istios_chart_serves_as_it_is() -> None:
    apply(ONE, *yaml.safe_load_all((APPS / "gateway.yaml").read_text()))
    kubectl(ONE, "rollout", "status", "-n", SPACE, "deploy/team-gateway", "--timeout=90s")
    call = ("-H", "Host: team.example", f"http://team-gateway.{SPACE}/answer")
    until(lambda: curl(*call).endswith(" 200"), 30)


USERS_CA = State(PROJECT / ".lab").users / "ca.crt"
NAMED, ROUTED = "helloworld.lab.example", "near.apps.lab.example"
GATEWAYS = "istio-gateways"


@pytest.fixture(scope="module")
def ingress() -> str:
    service = json.loads(kubectl(ONE, "get", "service", "-n", GATEWAYS, "istio-ingressgateway", "-o", "json"))
    return service["status"]["loadBalancer"]["ingress"][0]["ip"]


def users(ingress: str, url: str, *words: str, ca: Path | None = USERS_CA) -> tuple[int, str]:
    """Exit code and answer of a user's curl, which trusts the users' CA alone, or what the system does."""
    host = url.split("/")[2]
    line = ["curl", "-sS", "--max-time", "10", "--tlsv1.2", "-w", " %{http_code} HTTP/%{http_version}"]
    line += ["--resolve", f"{host}:443:{ingress}", "--resolve", f"{host}:80:{ingress}"]
    done = subprocess.run(
        [*line, *(["--cacert", str(ca)] if ca else []), *words, url],
        check=False,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout


def strict() -> ssl.SSLContext:
    """Trusts the users' CA alone, and asks of a chain what RFC 5280 does."""
    context = ssl.create_default_context(cafile=str(USERS_CA))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def handshake(ingress: str, name: str, context: ssl.SSLContext) -> tuple[bytes, str | None]:
    """The certificate that a client of a name is served, and the protocol."""
    with (
        socket.create_connection((ingress, 443), 10) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b"", secure.version()


def test_users_call_a_named_host_by_https(ingress: str) -> None:
    code, answer = users(ingress, f"https://{NAMED}/hello", "--http2")
    assert code == 0
    assert answer.startswith("Hello version")
    assert answer.endswith(" 200 HTTP/2")
    assert handshake(ingress, NAMED, strict())[1] == "TLSv1.3"


def test_users_are_served_no_certificate_that_they_can_not_trust(ingress: str) -> None:
    url = f"https://{NAMED}/hello"
    assert users(ingress, url)[0] == 0
    # 60: the certificate can't be verified
    assert users(ingress, url, ca=None)[0] == 60
    assert users(ingress, f"https://two.{ROUTED}/")[0] == 60, "a wildcard stands for one label"
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer certificate"):
        handshake(ingress, NAMED, ssl.create_default_context())
    with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
        handshake(ingress, "other.lab.example", strict())


def test_users_need_tls_1_2(ingress: str) -> None:
    def spoken(newest: ssl.TLSVersion) -> str | None:
        context = strict()
        # OpenSSL offers TLS 1.1 at its lowest level of security alone
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, newest
        return handshake(ingress, NAMED, context)[1]

    assert spoken(ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    with pytest.raises(ssl.SSLError, match="alert protocol version"):
        spoken(ssl.TLSVersion.TLSv1_1)


def test_http_calls_to_named_hosts_are_redirected_and_no_others(ingress: str) -> None:
    location = ("-w", " %{http_code} %{redirect_url}")
    assert users(ingress, f"http://{NAMED}/hello?x=1", *location)[1] == f" 301 https://{NAMED}/hello?x=1"
    assert users(ingress, f"http://{ROUTED}/", *location)[1] == f" 301 https://{ROUTED}/"
    assert users(ingress, "http://any.example/hello")[1].endswith(" 200 HTTP/1.1")


def test_a_team_serves_a_named_host_by_an_http_route(ingress: str) -> None:
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "users"},
        "spec": {
            "parentRefs": [{"name": "https-routes", "namespace": GATEWAYS}],
            "hostnames": [ROUTED],
            "rules": [{"backendRefs": [{"name": "near", "port": 8080}]}],
        },
    }
    apply(ONE, route)
    until(lambda: users(ingress, f"https://{ROUTED}/answer")[1].endswith(" 200 HTTP/2"), 20)


def test_a_team_serves_a_certificate_of_its_own(ingress: str) -> None:
    name, host = f"{SPACE}-own", "team.example"
    secret = tls_secret()
    secret["metadata"] = {"name": name, "namespace": GATEWAYS}
    server = {
        "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
        "tls": {"mode": "SIMPLE", "credentialName": name},
        "hosts": [host],
    }
    gateway = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "own"},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]},
    }
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    der = ssl.PEM_cert_to_DER_cert(secret["stringData"]["tls.crt"])

    def served() -> bool:
        try:
            return handshake(ingress, host, trusting)[0] == der
        except OSError:
            return False

    try:
        kubectl(ONE, "apply", "-f", "-", given=yaml.safe_dump(secret))
        apply(ONE, gateway)
        until(served, 20)
    finally:
        kubectl(ONE, "delete", "secret", "-n", GATEWAYS, name, "--ignore-not-found")
        kubectl(ONE, "delete", "gateways.networking.istio.io", "-n", SPACE, "own", "--ignore-not-found")


def test_a_renewed_certificate_costs_no_connection(ingress: str) -> None:
    lost: list[str] = []
    served: set[bytes] = set()
    done = threading.Event()

    def connect_on_and_on() -> None:
        while not done.is_set():
            try:
                served.add(handshake(ingress, NAMED, strict())[0])
            except OSError as error:
                lost.append(str(error))

    caller = threading.Thread(target=connect_on_and_on)
    caller.start()
    try:
        with socket.create_connection((ingress, 443), 10) as plain:
            # one that lasts, by the protocol that can be written by hand
            lasting = http.client.HTTPConnection(NAMED)
            lasting.sock = strict().wrap_socket(plain, server_hostname=NAMED)
            assert _hello(lasting) == 200
            until(lambda: len(served) == 1, 10)
            kubectl(ONE, "delete", "secret", "-n", GATEWAYS, "users-hosts")
            until(lambda: len(served) == 2, 30)
            assert _hello(lasting) == 200
    finally:
        done.set()
        caller.join()
    assert lost == []


def _hello(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/hello")
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_verify_shows_what_is_in_force_for_a_service(topology: Any) -> None:
    clusters, _ = connect(topology.members)
    seen = {each.cluster: each for each in in_force(clusters.values(), SPACE, "near") if each.port == 8080}
    assert seen[ONE].endpoints == ("0: 1 of 1", "1: 1 of 1")
    assert seen[ONE].routes
    assert all(route.startswith("no time-out 4 retries on connect-failure") for route in seen[ONE].routes)
    assert seen[ONE].rules == ("istio-system/failover",)
