"""The lab's Helm charts, from the same Go modules as the programs that they install.

Versions and image names are filled in as the projects' release tooling does, so that a chart from this folder
installs the same as the one from the official repository.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from testbed.lab.catalogue import CERT_MANAGER, ISTIO

SPIRE_CRDS = "0.6.0"  # version of the official spire-crds chart with the same CRDs
SPIRE_RESOURCES = ("clusterfederatedtrustdomains", "clusterspiffeids", "clusterstaticentries")
ISTIO_CHARTS = {
    "base": "base",
    "cni": "istio-cni",
    "gateway": "gateway",
    "istiod": "istio-control/istio-discovery",
}
WITH_IMAGES = ("cni", "istiod")  # charts whose values name images
CONTROLLER = "aws-load-balancer-controller"

Module = Callable[[str], Path]


def write_charts(target: Path, module: Module) -> None:
    """Fills `target` with base, cni, gateway, istiod, cert-manager, spire-crds, and gateway-api.yaml.

    `module` returns the folder of a Go module by its path, as `go list -m` does.
    """
    for name, source in ISTIO_CHARTS.items():
        chart = _copy(module("istio.io/istio") / "manifests/charts" / source, target / name)
        _set_versions(chart, ISTIO)
        if name in WITH_IMAGES:
            _replace(chart / "values.yaml", r"^    hub: [a-z].*$", "    hub: docker.io/istio")
            _replace(chart / "values.yaml", r"^    tag: latest$", f"    tag: {ISTIO}")
    cert_manager = module("github.com/cert-manager/cert-manager") / "deploy/charts/cert-manager"
    _set_versions(_copy(cert_manager, target / "cert-manager"), CERT_MANAGER)
    _write_spire_crds(target / "spire-crds", module("github.com/spiffe/spire-controller-manager"))
    _write_gateway_api(target / "gateway-api.yaml", module("sigs.k8s.io/gateway-api"))


def write_controller_chart(target: Path, module: Path) -> None:
    """Copies the chart of the AWS Load Balancer Controller, which the module holds as it was released."""
    _copy(module / "helm" / CONTROLLER, target)


def _write_gateway_api(target: Path, module: Path) -> None:
    """The release's standard-install.yaml, which is put together from the same files in the order of their names."""
    files = sorted((module / "config/crd/standard").glob("*.yaml"))
    if not files:
        raise ValueError(f"{module.name} has no CRDs of Gateway API's standard channel")
    documents = [file.read_text().strip().removeprefix("---").strip() for file in files]
    target.write_text("\n---\n".join(documents) + "\n")


def _write_spire_crds(target: Path, module: Path) -> None:
    templates = target / "templates"
    templates.mkdir(parents=True)
    (target / "Chart.yaml").write_text(
        "apiVersion: v2\nname: spire-crds\ndescription: CRDs of spire-controller-manager\n"
        f"version: {SPIRE_CRDS}\n"
    )
    for resource in SPIRE_RESOURCES:
        name = f"spire.spiffe.io_{resource}.yaml"
        text = (module / "config/crd/bases" / name).read_text()
        if "{{" in text:
            raise ValueError(f"{name}: contains {{, which Helm would take for a template")
        (templates / name).write_text(text)


def _set_versions(chart: Path, version: str) -> None:
    _replace(chart / "Chart.yaml", r"^version: .*$", f"version: {version}")
    _replace(chart / "Chart.yaml", r"^appVersion: .*$", f"appVersion: {version}")


def _copy(source: Path, target: Path) -> Path:
    # Go's modules are read-only; the copies must not be
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for folder in (target, *(path for path in target.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    return target


def _replace(file: Path, pattern: str, text: str) -> None:
    content, count = re.subn(pattern, text, file.read_text(), flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"{file.name} of chart {file.parent.name}: {count} lines are like {pattern}, not 1")
    file.write_text(content)
