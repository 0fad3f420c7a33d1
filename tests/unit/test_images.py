"""Where images come from, by which digests, and that no image of the program is forgotten."""

import hashlib
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.config import images
from components.config.errors import ConfigError
from components.config.images import FILE, ImageSettings, known_digests
from components.config.mesh import ChartSpec
from components.config.settings import Settings, parse
from components.config.versions import OFFICIAL_CHARTS
from components.kube.charts import check_archives, version_of
from components.kube.manifests import FOLDER
from components.mesh.samples import IMAGE as HELLOWORLD
from fedmesh.defaults import CURL_IMAGE, LOAD_IMAGE
from tests.unit.program import Program, members, run
from tests.unit.stacks import TODAY

ENVOY = "docker.io/istio/proxyv2:1.31.0"
DIGEST = known_digests()[ENVOY]
UNKNOWN = "registry.k8s.io/kubectl:v1.34.4"
PINNED = re.compile(r"[\w.:/-]+:[\w.-]+@sha256:[0-9a-f]{64}")
WORKLOADS = ("Deployment", "DaemonSet", "StatefulSet")


def settings(**sections: Any) -> Settings:
    clusters = [
        {
            "name": f"cluster-{number}",
            "trustDomain": f"cluster-{number}.example.com",
            "network": f"network-{number}",
            "region": "region-1",
            "kubeconfig": {"path": "unread"},
        }
        for number in (1, 2)
    ]
    return parse({"clusters": clusters, **sections}, "Pulumi.test.yaml", TODAY)


def entries() -> dict[str, dict[str, str]]:
    return dict(yaml.safe_load(FILE.read_text()))


def used() -> set[str]:
    """Every image that the manifests, the charts at their tested versions, and the command name."""
    found = {
        reference
        for manifest in FOLDER.rglob("*.yaml")
        for reference in re.findall(r"^\s*(?:- )?image: ([\w./-]+:[\w.-]+)$", manifest.read_text(), re.M)
    }
    version = {name: chart.version for name, chart in OFFICIAL_CHARTS.items()}
    parts = ("acmesolver", "cainjector", "controller", "webhook")
    controller = settings().aws.controller.version
    return {
        *found,
        *(f"quay.io/jetstack/cert-manager-{part}:{version['certManager']}" for part in parts),
        *(f"docker.io/istio/{name}:{version['istiod']}" for name in ("pilot", "proxyv2")),
        f"docker.io/istio/install-cni:{version['istioCni']}",
        f"quay.io/kiali/kiali:v{version['kiali']}",
        f"public.ecr.aws/eks/aws-load-balancer-controller:v{controller}",
        *(HELLOWORLD.format(each) for each in ("v1", "v2")),
        CURL_IMAGE,
        LOAD_IMAGE,
    }


def test_every_image_is_in_the_file_and_no_other() -> None:
    assert set(entries()) == used()


@pytest.mark.parametrize("image", sorted(entries()))
def test_a_digest_is_confirmed_and_a_missing_one_has_a_reason(image: str) -> None:
    entry = entries()[image]
    if "digest" in entry:
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", entry["digest"])
        assert set(entry) == {"digest", "confirmed"}
        assert entry["confirmed"]
    else:
        assert set(entry) == {"unknown"}
        assert entry["unknown"]


def test_no_two_images_have_one_digest() -> None:
    known = [digest for digest in known_digests().values() if digest]
    assert len(known) > 12
    assert len(set(known)) == len(known)


@pytest.mark.parametrize(
    ("given", "image", "named"),
    [
        ({}, ENVOY, f"{ENVOY}@{DIGEST}"),
        ({}, UNKNOWN, UNKNOWN),
        ({}, "docker.io/istio/proxyv2:1.31.9", "docker.io/istio/proxyv2:1.31.9"),
        ({"digests": False}, ENVOY, ENVOY),
        ({"registry": "registry.example"}, ENVOY, "registry.example/istio/proxyv2:1.31.0"),
        ({"registry": "r.example:5000/m"}, ENVOY, "r.example:5000/m/istio/proxyv2:1.31.0"),
        ({"registry": "r.example", "digests": True}, ENVOY, f"r.example/istio/proxyv2:1.31.0@{DIGEST}"),
    ],
)
def test_an_image_is_named_by_the_stacks_registry_and_its_digest(
    given: dict[str, Any], image: str, named: str
) -> None:
    assert settings(images=given).images.of(image) == named


def two(folder: Path, **sections: Any) -> Program:
    return run({"clusters": members(2, folder), **sections})


def containers(mesh: Program) -> list[str]:
    pods = [
        each.inputs["spec"]["template"]["spec"]
        for each in mesh.objects
        if each.type.rsplit(":", 1)[-1] in WORKLOADS
    ]
    assert len(pods) > 10
    return [
        container["image"]
        for pod in pods
        for container in (*pod.get("initContainers", []), *pod["containers"])
    ]


def test_every_container_is_pulled_by_the_digest_that_is_known(folder: Path) -> None:
    found = containers(two(folder))
    tags = {image for image in found if not PINNED.fullmatch(image)}
    assert tags == {image for image in found if not known_digests().get(image.partition("@")[0])}
    assert len(tags) < len(set(found)), "most have one"


@pytest.mark.parametrize("section", [{"digests": False}, {"registry": "registry.example"}])
def test_without_digests_all_go_by_their_tags(folder: Path, section: dict[str, Any]) -> None:
    mesh = two(folder, images=section)
    assert not [image for image in containers(mesh) if "@" in image]
    assert "sha256:" not in str([each.inputs.get("values") for each in mesh.objects])


def test_charts_get_the_digests_of_their_images(folder: Path) -> None:
    mesh = two(folder)
    istiod = mesh.one("cluster-1-istio-istiod").inputs["values"]
    pinned = f"{ENVOY}@{DIGEST}"
    assert istiod["global"]["proxy"]["image"] == istiod["global"]["proxy_init"]["image"] == pinned
    assert istiod["global"]["proxy"]["resources"], "the other values stay"
    assert istiod["initContainers"][0]["image"] == pinned
    assert "image" not in istiod, "pilot's digest is not known"
    values = mesh.one("cluster-1-cert-manager-release").inputs["values"]
    for part in (values, values["webhook"], values["cainjector"], values["acmesolver"]):
        assert part["image"]["tag"] == "v1.21.2"
        assert part["image"]["digest"].startswith("sha256:")


def test_kiali_takes_a_digest_in_two_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = "quay.io/kiali/kiali:v2.31.0"
    monkeypatch.setattr(images, "known_digests", lambda: {image: f"sha256:{'1' * 64}"})
    mesh = two(folder, observability={"kiali": {"enabled": True}})
    deployment = mesh.one("cluster-1-kiali").inputs["values"]["deployment"]
    # as the chart puts it together
    assert (
        f"{deployment['image_name']}@{deployment['image_digest']}:{deployment['image_version']}"
        == f"{image}@sha256:{'1' * 64}"
    )


def test_a_chart_in_a_folder_says_its_own_version(tmp_path: Path) -> None:
    chart = ChartSpec(path=str(tmp_path), version="1.31.0")
    assert version_of(chart) == "1.31.0"
    (tmp_path / "Chart.yaml").write_text("name: istiod\nversion: 1.31.7\n")
    assert version_of(chart) == "1.31.7", "its images must not be those of another version"
    assert version_of(ChartSpec(version="1.31.0")) == "1.31.0"


def test_a_chart_in_an_archive_says_its_own_version(tmp_path: Path) -> None:
    for name, version in (("charts/needed", "9.9.9"), ("istiod", "1.31.8")):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "Chart.yaml").write_text(f"version: {version}\n")
    path = tmp_path / "istiod-1.31.8.tgz"
    with tarfile.open(path, "w:gz") as made:
        made.add(tmp_path / "charts", "istiod/charts")
        made.add(tmp_path / "istiod", "istiod")
    assert version_of(ChartSpec(path=str(path), version="1.31.0")) == "1.31.8"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "istiod-1.31.0.tgz"
    path.write_bytes(b"a chart")
    return path


def with_archive(archive: Path, **changes: str) -> dict[str, Any]:
    given = {"path": archive.name, "sha256": hashlib.sha256(b"a chart").hexdigest(), **changes}
    return {"charts": {"istiod": given}}


def test_an_archive_is_what_the_stack_says(archive: Path) -> None:
    check_archives(settings(**with_archive(archive)), archive.parent)
    archive.write_bytes(b"another chart")
    with pytest.raises(ConfigError, match=r"istiod-1.31.0.tgz, which has [0-9a-f]{64}") as refused:
        check_archives(settings(**with_archive(archive)), archive.parent)
    assert refused.value.key == "fedmesh:charts.istiod.sha256"


def test_an_archive_that_is_not_there_is_named(archive: Path) -> None:
    archive.unlink()
    with pytest.raises(ConfigError, match="can't be read") as refused:
        check_archives(settings(**with_archive(archive)), archive.parent)
    assert refused.value.key == "fedmesh:charts.istiod.path"


@pytest.mark.parametrize("given", [{"path": "charts/istiod"}, {"path": ""}, {"sha256": "abc"}])
def test_a_digest_needs_an_archive(archive: Path, given: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as refused:
        settings(**with_archive(archive, **given))
    assert refused.value.key == "fedmesh:charts.istiod.sha256"


def test_the_labs_stacks_use_the_images_that_the_lab_built() -> None:
    for name in ("lab", "lab3"):
        config = yaml.safe_load((FOLDER.parent / f"Pulumi.{name}.yaml").read_text())["config"]
        own = {key.removeprefix("fedmesh:"): value for key, value in config.items()}
        assert not parse(own, name).images.digest(ENVOY)


def test_a_setting_by_name_is_one_by_key() -> None:
    assert ImageSettings(digests=False).of(ENVOY) == ENVOY
