"""Go programs are built from pinned modules, and again only when what they are made from has changed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from components.aws.load_balancer_controller import IMAGE
from components.config.aws import ControllerSpec
from components.config.versions import OFFICIAL_CHARTS
from components.kube.manifests import load
from testbed.lab import builder, charts, gomods, oidc
from testbed.lab.catalogue import (
    CERT_MANAGER,
    CONTROLLER_MANAGER,
    CSI_DRIVER,
    LOAD_BALANCER_CONTROLLER,
    PROMETHEUS,
    SPIRE,
    images,
    load_balancer_controller,
)
from testbed.lab.gomods import AWS, CLUSTER, ENGINE, MESH, MODULES, OBSERVE, OIDC, PROVIDER, GoModule

COMPILER = "go version go1.26.0 linux/amd64"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GoModule:
    """A copy of the cluster's module that a test may change."""
    shutil.copytree(CLUSTER.folder, tmp_path / "cluster")
    monkeypatch.setattr(gomods, "TOOLS", tmp_path)
    return CLUSTER


def test_a_programs_key_changes_with_its_source(module: GoModule) -> None:
    before = module.key("helloworld", COMPILER), module.key("coredns", COMPILER)
    main = module.folder / "cmd/helloworld/main.go"
    main.write_text(main.read_text() + "\n// changed\n")
    assert module.key("helloworld", COMPILER) != before[0]
    assert module.key("coredns", COMPILER) == before[1]


@pytest.mark.parametrize("file", ["go.mod", "go.sum"])
def test_every_key_changes_with_the_pinned_versions(module: GoModule, file: str) -> None:
    before = {program: module.key(program, COMPILER) for program in module.programs}
    path = module.folder / file
    path.write_text(path.read_text() + "\n")
    assert all(module.key(program, COMPILER) != key for program, key in before.items())


def test_a_key_changes_with_the_compiler(module: GoModule) -> None:
    assert module.key("kube", COMPILER) != module.key("kube", "go version go1.27.0 linux/amd64")


def test_the_versions_in_the_code_are_those_of_the_modules() -> None:
    assert CLUSTER.version("k8s.io/kubernetes") == gomods.KUBERNETES
    assert CLUSTER.version("github.com/coredns/coredns") == gomods.COREDNS
    assert CLUSTER.version("go.etcd.io/etcd/server/v3") == f"v{gomods.ETCD}"
    assert MESH.version("github.com/spiffe/spire") == f"v{SPIRE}"
    assert OIDC.version("github.com/spiffe/spire") == f"v{SPIRE}"
    assert MESH.version("github.com/spiffe/spire-controller-manager") == f"v{CONTROLLER_MANAGER}"
    assert CLUSTER.version("github.com/spiffe/spiffe-csi") == f"v{CSI_DRIVER}"
    assert ENGINE.version("github.com/pulumi/pulumi/pkg/v3") == f"v{gomods.PULUMI}"
    assert MESH.version("github.com/cert-manager/cert-manager") == CERT_MANAGER
    assert PROVIDER.version(gomods.PROVIDER_MODULE).startswith("v4.")
    major, minor, patch = PROMETHEUS.removeprefix("v").split(".")
    # as a Go module, 3.11.3 is v0.311.3
    assert OBSERVE.version("github.com/prometheus/prometheus") == f"v0.{major}{minor:0>2}.{patch}"


def test_every_image_of_the_manifests_is_one_that_the_lab_builds(tmp_path: Path) -> None:
    built = {image.reference for image in images(lambda name: tmp_path / name, tmp_path / "bootstrap")}
    named = {
        reference
        for manifest in (Path(__file__).parents[3] / "manifests").rglob("*.yaml")
        for reference in re.findall(r"^\s*(?:- )?image: ([\w./-]+:[\w.-]+)$", manifest.read_text(), re.M)
    }
    assert len(named) > 6
    # the lab's stack has no discovery provider: the test of it builds the image
    built.add(oidc.REFERENCE)
    # the Go proxy does not serve Grafana, so the lab's stack runs without it
    assert {name for name in named - built if not name.startswith("docker.io/grafana/")} == set()


def test_the_load_balancer_controller_is_of_the_major_version_of_the_default_chart() -> None:
    assert ControllerSpec().version.split(".")[0] == LOAD_BALANCER_CONTROLLER.removeprefix("v").split(".")[0]


def test_the_load_balancer_controllers_image_is_called_like_the_one_that_the_program_installs() -> None:
    assert load_balancer_controller(Path).reference == f"{IMAGE}:{LOAD_BALANCER_CONTROLLER}"


def test_a_module_that_is_built_on_demand_alone_is_none_of_the_engines() -> None:
    assert [module.name for module in MODULES if module.on_demand] == ["aws"]
    assert set(AWS.programs) == builder.FOR_AWS
    assert not builder.FOR_AWS & builder.FOR_ENGINE


def test_the_labs_chart_of_spire_crds_is_the_official_one_that_the_program_installs() -> None:
    assert OFFICIAL_CHARTS["spireCrds"].version == charts.SPIRE_CRDS


def test_tags_of_one_module_change_no_other_modules_flags() -> None:
    flags = {module.name: module.compile_flags for module in MODULES}
    assert "kubernetes_sd" in " ".join(flags.pop("observe"))
    assert len(set(flags.values())) == 1


def test_the_engine_and_the_provider_are_those_of_the_python_packages() -> None:
    requirements = (Path(__file__).parents[3] / "requirements.txt").read_text()
    assert re.search(rf"^pulumi=={re.escape(gomods.PULUMI)}\b", requirements, re.M)
    assert re.search(rf"^pulumi-kubernetes=={re.escape(gomods.PULUMI_KUBERNETES)}\b", requirements, re.M)


def test_an_unknown_dependency_is_named() -> None:
    with pytest.raises(LookupError, match=r"cluster/go.mod does not name example.org/x"):
        CLUSTER.version("example.org/x")


def test_every_program_has_sources_or_a_tool_line() -> None:
    for module in MODULES:
        pinned = (module.folder / "go.mod").read_text()
        for package in module.programs.values():
            own = package.startswith("./")
            assert (module.folder / package / "main.go").exists() if own else package in pinned, package


def test_what_a_test_alone_asks_for_is_not_built_with_the_lab() -> None:
    assert OIDC not in MODULES
    assert oidc.PROGRAM not in {program for module in MODULES for program in module.programs}
    (workload,) = [each for each in load("oidc/provider.yaml") if each["kind"] == "Deployment"]
    assert workload["spec"]["template"]["spec"]["containers"][0]["image"] == oidc.REFERENCE


def test_no_program_is_built_twice() -> None:
    programs = [program for module in MODULES for program in module.programs]
    assert len(programs) == len(set(programs))


def test_collectors_share_the_machines_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2 << 20}.__getitem__)
    assert int(gomods.go_environment()["GOMEMLIMIT"]) == (8 << 30) // 128
