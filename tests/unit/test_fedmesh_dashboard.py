"""A dashboard on the loopback: found by its Service, served to as many as ask, closed cleanly."""

import contextlib
import socket
import threading

import pytest
from fedmesh_samples import FakeApi, pod

from fedmesh.dashboard import DashboardPod, Forwarder, find
from fedmesh.kube import KubeError

SERVICE = {
    "metadata": {"name": "prometheus", "namespace": "observability"},
    "spec": {"selector": {"app": "prometheus"}, "ports": [{"port": 9090, "targetPort": "http"}]},
}
PODS = "/api/v1/namespaces/observability/pods"
OURS = "/api/v1/namespaces/observability/services/prometheus"


def running():
    ready = pod("prometheus-0", namespace="observability")
    ready["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": 9091}]
    return ready


def test_a_dashboard_is_the_ready_pod_behind_its_service():
    api = FakeApi({OURS: SERVICE, PODS: [running()]})
    assert find(api, "prometheus") == DashboardPod("observability", "prometheus-0", 9091)


def test_a_missing_dashboard_says_what_to_do():
    missing = KubeError("not found", 404)
    with pytest.raises(KubeError, match="fedmesh:observability"):
        find(FakeApi({OURS.replace("prometheus", "kiali"): missing}), "kiali")
    with pytest.raises(KubeError, match="is ready"):
        find(FakeApi({OURS: SERVICE, PODS: []}), "prometheus")


def test_a_service_of_that_name_in_another_namespace_is_never_served():
    tenants = {**SERVICE, "metadata": {"name": "prometheus", "namespace": "apps"}}
    answers = {"/api/v1/services": [tenants], OURS: KubeError("not found", 404)}
    with pytest.raises(KubeError, match="there is no Service observability/prometheus"):
        find(FakeApi(answers), "prometheus")


@contextlib.contextmanager
def echo():
    """Dials a peer that answers everything in capitals."""
    ends = []

    def shout(there):
        with contextlib.suppress(OSError):
            while data := there.recv(100):
                there.sendall(data.upper())

    def dial():
        here, there = socket.socketpair()
        ends.extend((here, there))
        threading.Thread(target=shout, args=(there,), daemon=True).start()
        return here

    yield dial
    for end in ends:
        end.close()


def test_every_connection_gets_one_of_its_own_on_loopback_only():
    with echo() as dial, Forwarder(dial) as forwarder:
        forwarder.start()
        assert forwarder.server_address[0] == "127.0.0.1"
        clients = [socket.create_connection(("127.0.0.1", forwarder.port), timeout=2) for _ in range(3)]
        for number, client in enumerate(clients):
            client.sendall(f"hello {number}".encode())
        assert [client.recv(100) for client in clients] == [b"HELLO 0", b"HELLO 1", b"HELLO 2"]
        for client in clients:
            client.close()
        forwarder.shutdown()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", forwarder.port), timeout=1)


def test_a_pod_that_cannot_be_reached_ends_the_connection_not_the_server():
    def dial():
        raise KubeError("gone")

    with Forwarder(dial) as forwarder:
        forwarder.start()
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", forwarder.port), timeout=2) as client:
                assert client.recv(10) == b""
        forwarder.shutdown()
