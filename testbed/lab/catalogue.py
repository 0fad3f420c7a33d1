"""The lab's container images: the content and entry point of each, as in its official counterpart.

Versions and registries are the official ones, so that charts and manifests need no changes for the lab.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from testbed.lab.images import Image, Layer

ISTIO = "1.31.0"
SPIRE = "1.15.3"
CONTROLLER_MANAGER = "0.7.0"
CSI_DRIVER = "0.2.3"
CERT_MANAGER = "v1.21.2"
LOAD_BALANCER_CONTROLLER = "v3.2.2"  # the one nearest to the program's that the Go proxy serves
CURL = "8.16.0"
KUBERNETES = "v1.34.4"
PAUSE = "3.10"
PROMETHEUS = "v3.11.3"
VEGETA = "6.9.1"  # the version of the image; tools/load/go.mod has that of the program

# the lab's own app, which no registry has
DRILL_TARGET = "localhost/fedmesh/drill-target:1"

Locate = Callable[[str], Path]


def images(program: Locate, envoy_bootstrap: Path) -> list[Image]:
    """Every image of the lab; `program` returns the path of the program with that name."""
    return [
        Image(
            f"registry.k8s.io/pause:{PAUSE}",
            Layer(files={"pause": program("pause")}),
            entrypoint=["/pause"],
            user="65535:65535",
        ),
        Image(
            f"registry.k8s.io/kubectl:{KUBERNETES}",
            Layer(files={"bin/kubectl": program("kube")}),
            entrypoint=["/bin/kubectl"],
        ),
        *_spire(program),
        *(_cert_manager(name, program(name)) for name in ("controller", "webhook", "cainjector")),
        *_istio(program, envoy_bootstrap),
        *(_helloworld(version, program("helloworld")) for version in ("v1", "v2")),
        Image(
            DRILL_TARGET,
            Layer(files={"drill-target": program("drill-target")}),
            entrypoint=["/drill-target"],
            user="65534:65534",
        ),
        Image(
            f"docker.io/curlimages/curl:{CURL}",
            Layer(),
            command=["curl", "--help"],
            user="100:101",
            on_base=True,
        ),
        Image(
            f"docker.io/peterevans/vegeta:{VEGETA}",
            Layer(files={"bin/vegeta": program("vegeta")}),
            command=["vegeta"],
            on_base=True,
        ),
        Image(
            f"docker.io/prom/prometheus:{PROMETHEUS}",
            Layer(files={"bin/prometheus": program("prometheus")}, folders=["prometheus"], owner=65534),
            entrypoint=["/bin/prometheus"],
            command=["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"],
            user="65534:65534",
            workdir="/prometheus",
            on_base=True,
        ),
    ]


def load_balancer_controller(program: Locate) -> Image:
    """The image of the AWS Load Balancer Controller, which only a stack with a simulated AWS needs."""
    return Image(
        f"public.ecr.aws/eks/aws-load-balancer-controller:{LOAD_BALANCER_CONTROLLER}",
        Layer(files={"controller": program("aws-load-balancer-controller")}, folders=["tmp"]),
        entrypoint=["/controller"],
        user="65532",
    )


def _spire(program: Locate) -> list[Image]:
    return [
        Image(
            f"ghcr.io/spiffe/spire-server:{SPIRE}",
            Layer(
                files={"opt/spire/bin/spire-server": program("spire-server")},
                folders=[
                    "etc/spire/server",
                    "run/spire/server/private",
                    "tmp/spire-server/private",
                    "var/lib/spire/server",
                    "tmp",
                ],
                owner=1000,
            ),
            entrypoint=["/opt/spire/bin/spire-server", "run"],
            user="1000:1000",
            workdir="/opt/spire",
        ),
        Image(
            f"ghcr.io/spiffe/spire-agent:{SPIRE}",
            Layer(
                files={"opt/spire/bin/spire-agent": program("spire-agent")},
                folders=[
                    "etc/spire/agent",
                    "run/spire/agent/public",
                    "tmp/spire-agent/public",
                    "var/lib/spire/agent",
                    "tmp",
                ],
            ),
            entrypoint=["/opt/spire/bin/spire-agent", "run"],
            workdir="/opt/spire",
        ),
        _single(
            f"ghcr.io/spiffe/spire-controller-manager:{CONTROLLER_MANAGER}",
            program("spire-controller-manager"),
        ),
        _single(f"ghcr.io/spiffe/spiffe-csi-driver:{CSI_DRIVER}", program("spiffe-csi-driver")),
        Image(
            "registry.k8s.io/sig-storage/csi-node-driver-registrar:v2.13.0",
            Layer(files={"csi-node-driver-registrar": program("csi-registrar")}),
            entrypoint=["/csi-node-driver-registrar"],
        ),
    ]


def _istio(program: Locate, envoy_bootstrap: Path) -> list[Image]:
    return [
        Image(
            f"docker.io/istio/pilot:{ISTIO}",
            Layer(files={"usr/local/bin/pilot-discovery": program("pilot-discovery")}, folders=["tmp"]),
            entrypoint=["/usr/local/bin/pilot-discovery"],
            user="1337:1337",
            on_base=True,
        ),
        Image(
            f"docker.io/istio/proxyv2:{ISTIO}",
            Layer(
                files={
                    "usr/local/bin/pilot-agent": program("pilot-agent"),
                    "usr/local/bin/envoy": program("envoy"),
                    "var/lib/istio/envoy/envoy_bootstrap_tmpl.json": envoy_bootstrap,
                },
                folders=["tmp"],
            ),
            entrypoint=["/usr/local/bin/pilot-agent"],
            user="1337:1337",
            environment=[f"ISTIO_META_ISTIO_PROXY_VERSION={ISTIO}"],
            on_base=True,
        ),
        Image(
            f"docker.io/istio/install-cni:{ISTIO}",
            Layer(
                files={
                    "opt/cni/bin/istio-cni": program("istio-cni"),
                    "usr/local/bin/install-cni": program("install-cni"),
                },
                folders=["tmp"],
            ),
            command=["/usr/local/bin/install-cni"],
            workdir="/opt/cni/bin",
            on_base=True,
        ),
    ]


def _helloworld(version: str, program: Path) -> Image:
    return Image(
        f"docker.io/istio/examples-helloworld-{version}:1.0",
        Layer(files={"helloworld": program}),
        entrypoint=["/helloworld"],
        user="65534:65534",
        environment=[f"SERVICE_VERSION={version}"],
    )


def _cert_manager(name: str, program: Path) -> Image:
    path = f"/app/cmd/{name}/{name}"
    return Image(
        f"quay.io/jetstack/cert-manager-{name}:{CERT_MANAGER}",
        Layer(files={path.lstrip("/"): program}, folders=["tmp"]),
        entrypoint=[path],
        user="1000",
    )


def _single(reference: str, program: Path) -> Image:
    return Image(reference, Layer(files={program.name: program}), entrypoint=[f"/{program.name}"])
