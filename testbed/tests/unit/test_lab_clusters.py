"""The lab's certificates, programs, addresses and stack: what can be seen without starting a cluster."""

from __future__ import annotations

import base64
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from testbed import engine
from testbed.lab import config, journey, pki, users_ca
from testbed.lab.config import Cluster, Node
from testbed.lab.controller import assigned, next_address
from testbed.lab.interrupted import recorded_releases
from testbed.lab.node import link_plugins
from testbed.lab.paths import State
from testbed.lab.programs import NodeContext, program_names, programs, write_configs
from testbed.lab.stack import LabEngine


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return config.load().clusters[0]


@pytest.fixture(scope="module")
def certificates(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    pki.make(cluster, folder)
    return folder


def certificate(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def test_every_certificate_is_signed_by_the_clusters_authority(certificates: Path) -> None:
    authority = certificate(certificates, "ca")
    for file in certificates.glob("*.crt"):
        certificate(certificates, file.stem).verify_directly_issued_by(authority)


def test_a_ca_of_each_cluster_signs_for_users_and_the_root_stays_outside(tmp_path: Path) -> None:
    state = State(tmp_path)
    for name in ("one", "two"):
        state.cluster(name).mkdir(parents=True)
    users_ca.make(state)
    root = certificate(state.users, "ca")
    for name in ("one", "two"):
        secret, issuer = users_ca.issuer(state, name)["items"]
        data = {key: base64.b64decode(value) for key, value in secret["data"].items()}
        signer, top = x509.load_pem_x509_certificates(data["tls.crt"])
        signer.verify_directly_issued_by(root)
        assert top == root
        assert signer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        key = serialization.load_pem_private_key(data["tls.key"], None)
        assert key.public_key() == signer.public_key() != root.public_key()
        assert issuer["spec"]["ca"]["secretName"] == secret["metadata"]["name"]
    users_ca.make(state)
    assert certificate(state.users, "ca") == root, "users trust the root that they have"


def test_the_api_servers_certificate_names_its_service_and_its_address(
    certificates: Path, cluster: Cluster
) -> None:
    names = certificate(certificates, "apiserver").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert "kubernetes.default.svc" in names.value.get_values_for_type(x509.DNSName)
    addresses = names.value.get_values_for_type(x509.IPAddress)
    assert {cluster.kubernetes_service, cluster.control_plane.address} <= set(addresses)


def test_a_kubelet_is_known_by_its_nodes_name(certificates: Path, cluster: Cluster) -> None:
    for node in cluster.nodes:
        subject = certificate(certificates, node.name).subject
        assert subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == f"system:node:{node.name}"
        assert subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"


def test_keys_and_kubeconfigs_are_readable_by_their_owner_alone(certificates: Path) -> None:
    secret = [*certificates.glob("*.key"), *certificates.glob("*.kubeconfig")]
    assert secret
    assert {file.stat().st_mode & 0o777 for file in secret} == {0o600}


def test_certificates_once_complete_are_kept(certificates: Path, cluster: Cluster) -> None:
    before = (certificates / "ca.crt").read_bytes()
    pki.make(cluster, certificates)
    assert (certificates / "ca.crt").read_bytes() == before


def test_the_kubeconfigs_context_is_called_like_the_cluster(certificates: Path, cluster: Cluster) -> None:
    document = yaml.safe_load((certificates / "admin.kubeconfig").read_text())
    assert document["current-context"] == cluster.name
    assert document["clusters"][0]["cluster"]["server"] == cluster.server


def context(cluster: Cluster, node: Node, folder: Path) -> NodeContext:
    made = NodeContext(cluster, node, State(folder), Path("/tools"), f"/fedmesh/{node.name}")
    made.folder.mkdir(parents=True)
    return made


def test_only_the_first_node_runs_a_control_plane(cluster: Cluster, tmp_path: Path) -> None:
    running = {
        node.name: {program.name for program in programs(context(cluster, node, tmp_path), "python")}
        for node in cluster.nodes
    }
    first, *others = [running[node.name] for node in cluster.nodes]
    worker = {"containerd", "kubelet", "kube-proxy"}
    assert first > worker | {"etcd", "kube-apiserver"}
    assert all(other == worker for other in others)


@pytest.mark.parametrize("file", sorted(config.FOLDER.glob(config.FILES)), ids=lambda file: file.stem)
def test_pods_ask_a_resolver_on_their_own_node_first(file: Path, tmp_path: Path) -> None:
    for cluster, node in config.load(file).nodes():
        made = context(cluster, node, tmp_path)
        write_configs(made)
        asked = yaml.safe_load((made.folder / "kubelet.yaml").read_text())["clusterDNS"]
        assert set(asked) == {str(each.address) for each in cluster.resolvers}
        running = {program.name for program in programs(made, "python")}
        assert running == program_names(cluster, node)
        assert ("coredns" in running) == (asked[0] == str(node.address))


def test_the_kubelet_registers_the_nodes_taints(cluster: Cluster, tmp_path: Path) -> None:
    for node in cluster.nodes:
        made = context(cluster, node, tmp_path)
        write_configs(made)
        kubelet = yaml.safe_load((made.folder / "kubelet.yaml").read_text())
        assert kubelet["registerWithTaints"] == [dict(taint) for taint in node.taints]


def service(name: str, address: str | None, kind: str = "LoadBalancer") -> Any:
    ingress = [SimpleNamespace(ip=address)] if address else None
    return SimpleNamespace(
        metadata=SimpleNamespace(namespace="default", name=name),
        spec=SimpleNamespace(type=kind),
        status=SimpleNamespace(load_balancer=SimpleNamespace(ingress=ingress)),
    )


def test_only_load_balancers_hold_addresses() -> None:
    services = [service("a", "10.90.0.96"), service("b", None), service("c", "10.90.0.97", kind="ClusterIP")]
    assert assigned(services) == {"default/a": IPv4Address("10.90.0.96")}


def test_the_lowest_free_address_is_given_next(cluster: Cluster) -> None:
    first, second, *_ = cluster.load_balancers
    assert next_address(cluster, set()) == first
    assert next_address(cluster, {first}) == second


def test_a_full_range_of_addresses_is_said(cluster: Cluster) -> None:
    with pytest.raises(LookupError, match="widen it"):
        next_address(cluster, set(cluster.load_balancers))


def test_the_journey_goes_from_the_machine_to_the_proof() -> None:
    names = [phase.name for phase in journey.phases("lab", quiet=True)]
    assert names == ["preflight", "tools", "clusters", "pulumi up", "verify"]


def test_a_failed_phase_ends_the_journey_with_its_exit_code(tmp_path: Path) -> None:
    phase = journey.Phase("verify", lambda: ["sh", "-c", "exit 7"])
    with pytest.raises(journey.PhaseError, match="verify failed with exit code 7") as failed:
        journey.run(phase, tmp_path, {"PATH": "/usr/bin:/bin"})
    assert failed.value.code == 7


def test_the_summary_adds_up_the_phases() -> None:
    last = journey.summary({"clusters": 10.0, "pulumi up": 32.5}).splitlines()[-1]
    assert last.split() == ["total", "42.5", "s"]


def test_only_a_stacks_helm_releases_are_known() -> None:
    provider = "urn:pulumi:lab::fedmesh::pulumi:providers:kubernetes::cluster-1::d37e2a4b"
    release = {
        "type": "kubernetes:helm.sh/v3:Release",
        "provider": provider,
        "inputs": {"namespace": "istio-system", "name": "istiod"},
    }
    namespace = {"type": "kubernetes:core/v1:Namespace", "provider": provider, "inputs": {}}
    assert recorded_releases([release, namespace]) == {("cluster-1", "istio-system", "istiod")}


def test_a_node_has_the_machines_cni_plugins_and_keeps_those_installed_on_it(tmp_path: Path) -> None:
    machine, own = tmp_path / "machine", tmp_path / "own"
    for folder, name in ((machine, "ptp"), (machine, "portmap"), (own, "portmap"), (own, "istio-cni")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(folder.name)
    (own / "ptp").symlink_to(tmp_path / "gone")
    link_plugins(own, [machine, tmp_path / "absent"])
    assert {file.name: file.read_text() for file in own.iterdir()} == {
        "ptp": "machine",
        "portmap": "own",
        "istio-cni": "own",
    }


@pytest.mark.parametrize("own", [True, False])
def test_a_cluster_that_the_given_config_declares_down_gets_no_ca(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    given: list[str] = []
    monkeypatch.setattr(users_ca, "give", lambda _state, names: given.extend(names))
    monkeypatch.setattr(engine.Engine, "run", lambda *_, **__: engine.Outcome({}, 0.0, ""))
    lab = LabEngine("lab", tmp_path)
    for file, down in ((lab.config_file, own), (tmp_path / "other.yaml", not own)):
        file.parent.mkdir(parents=True, exist_ok=True)
        clusters = [{"name": "one"}, {"name": "two", "down": down}]
        settings = {"fedmesh:clusters": clusters, "fedmesh:ingress": {}}
        file.write_text(yaml.safe_dump({"config": settings}), encoding="utf-8")
    options = {} if own else {"config_file": str(tmp_path / "other.yaml")}
    lab.run("up", **options)
    assert given == ["one"]
