"""Charts from Go modules carry the release's versions, as those from the official repositories do."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from testbed.lab.charts import write_charts

CHART = "apiVersion: v2\nname: x\nversion: 1.0.0\nappVersion: 1.0.0\n"
ISTIOD_VALUES = """global:
  x:
    hub: ""
_internal_defaults_do_not_set:
  global:
    hub: registry.istio.io/testing
    tag: latest
"""


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """Modules with the folders that the real ones have."""
    root = tmp_path / "modules"
    istio = root / "istio.io/istio/manifests/charts"
    for name in ("base", "istio-cni", "istio-control/istio-discovery", "gateway"):
        (istio / name / "templates").mkdir(parents=True)
        (istio / name / "Chart.yaml").write_text(CHART)
    for name in ("istio-cni", "istio-control/istio-discovery"):
        (istio / name / "values.yaml").write_text(ISTIOD_VALUES)
    cert_manager = root / "github.com/cert-manager/cert-manager/deploy/charts/cert-manager"
    cert_manager.mkdir(parents=True)
    (cert_manager / "Chart.yaml").write_text(CHART)
    bases = root / "github.com/spiffe/spire-controller-manager/config/crd/bases"
    bases.mkdir(parents=True)
    for resource in ("clusterfederatedtrustdomains", "clusterspiffeids", "clusterstaticentries"):
        (bases / f"spire.spiffe.io_{resource}.yaml").write_text("kind: CustomResourceDefinition\n")
    (cert_manager / "Chart.yaml").chmod(0o444)
    standard = root / "sigs.k8s.io/gateway-api/config/crd/standard"
    standard.mkdir(parents=True)
    for resource in ("gateways", "httproutes"):
        text = f"---\nkind: CustomResourceDefinition\nmetadata: {{name: {resource}}}\n"
        (standard / f"gateway.networking.k8s.io_{resource}.yaml").write_text(text)
    return root


def test_gateway_api_is_one_file_as_in_its_release(tmp_path: Path, modules: Path) -> None:
    write_charts(tmp_path / "charts", lambda path: modules / path)
    documents = yaml.safe_load_all((tmp_path / "charts/gateway-api.yaml").read_text())
    assert [each["metadata"]["name"] for each in documents] == ["gateways", "httproutes"]


def test_charts_have_their_versions_and_istiod_its_images(tmp_path: Path, modules: Path) -> None:
    write_charts(tmp_path / "charts", lambda path: modules / path)
    made = {
        chart.parent.name: yaml.safe_load(chart.read_text()) for chart in tmp_path.glob("charts/*/Chart.yaml")
    }
    assert sorted(made) == ["base", "cert-manager", "cni", "gateway", "istiod", "spire-crds"]
    assert {made[name]["version"] for name in ("base", "cni", "istiod", "gateway")} == {"1.31.0"}
    assert made["cert-manager"]["appVersion"] == "v1.21.2"
    for name in ("cni", "istiod"):
        values = yaml.safe_load((tmp_path / "charts" / name / "values.yaml").read_text())
        defaults = values["_internal_defaults_do_not_set"]["global"]
        assert defaults == {"hub": "docker.io/istio", "tag": "1.31.0"}
    assert len(list((tmp_path / "charts/spire-crds/templates").iterdir())) == 3


def test_a_chart_that_is_not_as_expected_is_refused(tmp_path: Path, modules: Path) -> None:
    chart = modules / "istio.io/istio/manifests/charts/base/Chart.yaml"
    chart.write_text("name: base\n")
    with pytest.raises(ValueError, match=r"Chart.yaml of chart base: 0 lines are like"):
        write_charts(tmp_path / "charts", lambda path: modules / path)


def test_a_crd_that_helm_would_take_for_a_template_is_refused(tmp_path: Path, modules: Path) -> None:
    crd = (
        modules
        / "github.com/spiffe/spire-controller-manager/config/crd/bases/spire.spiffe.io_clusterspiffeids.yaml"
    )
    crd.write_text("description: use {{ .PodMeta }}\n")
    with pytest.raises(ValueError, match="clusterspiffeids"):
        write_charts(tmp_path / "charts", lambda path: modules / path)
