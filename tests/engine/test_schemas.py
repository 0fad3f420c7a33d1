"""Every object that the program and its charts make is one that Kubernetes accepts, field by field."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from components.config.images import known_digests
from tests.engine.conftest import GATEWAY_API, NAMESPACES, PROGRAMS, Checkout, Server, stack_config
from tests.unit.program import Program, run

Document = dict[str, Any]


@pytest.fixture(scope="module")
def mesh(servers: dict[str, Server]) -> Program:
    config = {key.removeprefix("fedmesh:"): each for key, each in stack_config(servers).items()}
    own = {"connectTimeout": "3s", "retries": {"attempts": 0}}
    hosts = {"hosts": {"slow.shop.svc.cluster.local": own}}
    # the API servers have no nodes that would pull an image
    return run({**config, "failover": hosts, "images": {"digests": True}})


@pytest.fixture(scope="module")
def charts(
    mesh: Program, servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Document]]:
    """What comes out of the first cluster's charts, with the program's values, by release."""
    options = {
        each.inputs["name"]: {
            "path": each.inputs["chart"],
            "release_name": each.inputs["name"],
            "namespace": each.inputs["namespace"],
            "values": each.inputs["values"],
            "kube_version": mesh.rendered[0]["kube_version"],
        }
        for each in mesh.objects
        if each.type.endswith(":Release") and each.provider == "cluster-1"
    }
    options |= {
        each["release_name"]: each for each in mesh.rendered if each["release_name"] in ("base", "cni")
    }
    folder = tmp_path_factory.mktemp("charts")
    (folder / "charts.json").write_text(json.dumps(options))
    checkout = Checkout(folder, PROGRAMS / "charts.py", stack_config(servers))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(servers["cluster-1"].kubeconfig))
        up = checkout.run("up")
    assert up.went_well, up.output
    return checkout.outputs()


@pytest.fixture(scope="module")
def server(charts: dict[str, list[Document]], servers: dict[str, Server]) -> Iterator[Server]:
    """An API server that knows the CRDs of all charts, for as long as this module runs."""
    crds = [each for documents in charts.values() for each in documents if is_crd(each)]
    assert len(crds) > 20
    crds += [each for each in yaml.safe_load_all(GATEWAY_API.read_text()) if each and is_crd(each)]
    known = servers["cluster-1"]
    # an earlier test may have destroyed namespaces that its program had taken over
    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES]
    known.kubectl("apply", "--server-side", "-f", "-", given=as_list(spaces))
    known.kubectl("apply", "--server-side", "-f", "-", given=as_list(crds))
    known.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
    yield known
    known.kubectl("delete", "crd", "--all")


def is_crd(document: Document) -> bool:
    return bool(document["kind"] == "CustomResourceDefinition")


def as_list(documents: list[Document]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})


def accept(server: Server, documents: list[Document]) -> list[str]:
    """Lets the API server judge documents without keeping them; unknown fields are errors."""
    said = server.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", given=as_list(documents)
    )
    return said.splitlines()


def test_every_object_of_the_program_is_accepted(mesh: Program, server: Server) -> None:
    first = [each for each in mesh.objects if each.provider == "cluster-1" and not each.read]
    documents = [each.document for each in first if each.document and not is_crd(each.document)]
    assert len(documents) > 40
    assert len(accept(server, documents)) == len(documents)


@pytest.mark.parametrize(
    "chart",
    ["cert-manager", "cni", "istiod", "istio-ingressgateway", "istio-eastwestgateway", "spire-crds", "base"],
)
def test_every_object_of_a_chart_is_accepted(
    chart: str, charts: dict[str, list[Document]], server: Server
) -> None:
    documents = [each for each in charts[chart] if not is_crd(each)] or charts[chart]
    assert len(accept(server, documents)) == len(documents)


def containers(documents: list[Document]) -> dict[str, str]:
    """The images of the workloads' containers, by the workload's and the container's name."""
    return {
        f"{each['metadata']['name']}/{container['name']}": container["image"]
        for each in documents
        if each["kind"] in ("Deployment", "DaemonSet")
        for pod in [each["spec"]["template"]["spec"]]
        for container in (*pod.get("initContainers", []), *pod["containers"])
    }


def with_digest(image: str) -> str:
    return f"{image}@{known_digests()[image]}"


def test_rendered_charts_pull_their_images_by_digest(charts: dict[str, list[Document]]) -> None:
    proxy = with_digest("docker.io/istio/proxyv2:1.31.0")
    assert containers(charts["istiod"]) == {
        "istiod/peers": proxy,
        "istiod/discovery": "docker.io/istio/pilot:1.31.0",  # its digest is not known
    }
    assert containers(charts["cni"]) == {
        "istio-cni-node/install-cni": with_digest("docker.io/istio/install-cni:1.31.0")
    }
    jetstack = "quay.io/jetstack/cert-manager-{}:v1.21.2"
    assert containers(charts["cert-manager"]) == {
        "cert-manager/cert-manager-controller": with_digest(jetstack.format("controller")),
        "cert-manager-webhook/cert-manager-webhook": with_digest(jetstack.format("webhook")),
        "cert-manager-cainjector/cert-manager-cainjector": with_digest(jetstack.format("cainjector")),
    }
    solver = with_digest(jetstack.format("acmesolver"))
    assert f"--acme-http01-solver-image={solver}" in str(charts["cert-manager"])


def test_the_injected_proxy_is_pulled_by_its_digest(charts: dict[str, list[Document]]) -> None:
    (injector,) = [
        each["data"]
        for each in charts["istiod"]
        if each["metadata"]["name"] == "istio-sidecar-injector" and each["kind"] == "ConfigMap"
    ]
    known = json.loads(injector["values"])["global"]
    proxy = with_digest("docker.io/istio/proxyv2:1.31.0")
    assert (known["proxy"]["image"], known["proxy_init"]["image"]) == (proxy, proxy)


def test_a_field_that_kubernetes_does_not_know_is_refused(server: Server) -> None:
    faulty = {
        "apiVersion": "spire.spiffe.io/v1alpha1",
        "kind": "ClusterSPIFFEID",
        "metadata": {"name": "faulty"},
        "spec": {"spiffeIDTemplate": "spiffe://td/it", "federateWith": ["td2"]},
    }
    with pytest.raises(AssertionError, match="federateWith"):
        accept(server, [faulty])
