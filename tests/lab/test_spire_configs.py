"""The configs that the program writes for SPIRE are what SPIRE's own programs take, with each option."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components.config.clusters import ClusterSpec
from components.config.mesh import ChartSettings, SpireSettings
from components.mesh.spire import AwsRole, SpireArgs, agent_data, server_data
from testbed.lab import paths
from testbed.lab.pki import Authority

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "oidc": {"jwtIssuer": "https://{cluster}.oidc.example.com", "oidc": {"secret": "tls"}},
    "aws": {"keyManager": "aws_kms", "nodeAttestor": "aws_iid"},
    "shared": {"replicas": 2, "datastore": {"secret": "spire-datastore"}},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    Authority("spire", folder)
    return folder / "ca.crt"


def args(**settings: Any) -> SpireArgs:
    spec = {"name": "cluster-1", "trustDomain": "td1.example", "network": "n", "region": "us-east-1"}
    return SpireArgs(
        cluster=ClusterSpec.model_validate({**spec, "kubeconfig": {"path": "none"}}),
        cert_manager=[],
        storage_class=None,
        crds=ChartSettings().spire_crds,
        settings=SpireSettings.model_validate(settings),
        aws_role=AwsRole("us-east-1", "{}", {"project": "fedmesh"}, pulumi.Resource.__new__(pulumi.Resource)),
    )


def said(program: str, text: str, folder: Path) -> str:
    """What `validate` says of a config: "" when it is valid."""
    file = folder / f"{program}.json"
    file.write_text(text)
    line = [paths.cache() / "bin" / program, "validate", "-config", file]
    done = subprocess.run(line, check=False, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_is_what_spires_programs_take(option: str, root: Path, tmp_path: Path) -> None:
    given = args(**OPTIONS[option])
    assert said("spire-server", server_data(given)["server.json"], tmp_path) == ""
    agent = agent_data(given)["agent.json"].replace("/run/spire/bundle/bundle", str(root))
    assert said("spire-agent", agent.replace("/run/spire/data", str(tmp_path)), tmp_path) == ""


def test_what_spire_does_not_take_is_named(root: Path, tmp_path: Path) -> None:
    given = args(**OPTIONS["aws"])
    assert given.aws_role
    strange = replace(given, aws_role=replace(given.aws_role, tags={"spire-own": "x"}))
    assert "reserved prefix" in said("spire-server", server_data(strange)["server.json"], tmp_path)
    document = json.loads(server_data(given)["server.json"])
    document["server"]["prune_tofu"] = True
    assert "unknown configuration" in said("spire-server", json.dumps(document), tmp_path)
