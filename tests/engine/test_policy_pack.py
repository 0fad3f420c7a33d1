"""The policy pack in the real engine: a program that breaks every rule is stopped, one that keeps them is not."""

from pathlib import Path

import pytest

from policies.rules import RULES
from testbed.engine import EngineError
from testbed.sandbox.engine import SandboxEngine
from tests.engine.conftest import PROJECT

LOCAL_CHART = """
import json
import pulumi
import pulumi_kubernetes as k8s

kubeconfig = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "nobody",
    "clusters": [{"name": "nobody", "cluster": {"server": "https://127.0.0.1:9"}}],
    "users": [{"name": "nobody", "user": {"token": "x"}}],
    "contexts": [{"name": "nobody", "context": {"cluster": "nobody", "user": "nobody"}}],
}
files = [pulumi.FileAsset("values.yaml")]
nobody = pulumi.ResourceOptions(provider=k8s.Provider("nobody", kubeconfig=json.dumps(kubeconfig)))
k8s.helm.v3.Release("local", chart="chart", value_yaml_files=files, opts=nobody)
"""
HERE = Path(__file__).parent
PACKS = [str(PROJECT / "policies")]


def program(name: str, cloud: dict[str, str], folder: Path) -> SandboxEngine:
    engine = SandboxEngine(PROJECT, folder / "engine", "dev", cloud, program=HERE / name)
    engine.configure({"aws:region": "us-east-1"})
    return engine


def test_a_preview_stops_at_every_rule_that_a_program_breaks(cloud: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(EngineError) as stopped:
        program("broken_program", cloud, tmp_path).run("preview", policy_packs=PACKS)
    for rule in RULES:
        assert f"[mandatory]  {rule.name}" in str(stopped.value), rule.name


def test_a_preview_passes_a_program_that_keeps_every_rule(cloud: dict[str, str], tmp_path: Path) -> None:
    planned, outcome = program("kept_program", cloud, tmp_path).planned(policy_packs=PACKS)
    assert {rule.name for rule in RULES} <= {each["urn"].rsplit("::", 1)[1] for each in planned}
    assert set(outcome.changes) == {"create"}


def test_a_preview_reads_a_local_chart_and_its_files_of_values(cloud: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "program"
    (folder / "chart").mkdir(parents=True)
    (folder / "Pulumi.yaml").write_text((HERE / "kept_program" / "Pulumi.yaml").read_text())
    (folder / "__main__.py").write_text(LOCAL_CHART)
    (folder / "chart" / "Chart.yaml").write_text("{apiVersion: v2, name: chart, version: 1.0.0}")
    (folder / "chart" / "values.yaml").write_text("image: evil.example/own:1.0")
    (folder / "values.yaml").write_text("global: {hub: evil.example/file}")
    with pytest.raises(EngineError) as stopped:
        program(str(folder), cloud, tmp_path).run("preview", policy_packs=PACKS)
    for image in ("evil.example/own:1.0", "evil.example/file"):
        assert f"{image} is in a registry that is not allowed" in str(stopped.value)
