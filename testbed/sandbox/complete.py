"""`make lab STACK=dev`: the AWS half in the simulated AWS, the mesh on the lab's clusters, in one `pulumi up`."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from testbed.lab import journey as lab_journey
from testbed.lab.stack import engine_environment
from testbed.sandbox import account, inventory
from testbed.sandbox.changes import AWS, CLUSTERS, Config
from testbed.sandbox.cloud import running
from testbed.sandbox.engine import SandboxEngine
from testbed.sandbox.journey import JourneyError, Say, expect

# Settings that differ on the lab: local charts, a storage driver, upstream Envoy, and images that it has.
LAB_KEYS = (
    "fedmesh:charts",
    "fedmesh:gatewayApi",
    "fedmesh:images",
    "fedmesh:storage",
    "fedmesh:istio",
    "fedmesh:observability",
)
# The lab's controller provides load balancers, and no resolver here uses Route 53.
LAB_AWS = {"loadBalancerController": {"enabled": False}, "privateZone": ""}
FIRST_PHASES = ("preflight", "tools", "clusters")


def on_the_lab(config: Config, lab: Config) -> Config:
    """A stack's configuration with the settings that differ on the lab.

    Args:
        config: the stack's own config.
        lab: the config of the stack `lab`.
    """
    taken = {key: lab[key] for key in LAB_KEYS if key in lab}
    return {**config, **taken, AWS: {**config.get(AWS, {}), **LAB_AWS}}


def run(project: Path, name: str, say: Say, quiet: bool) -> None:
    """Builds and starts the lab, brings the stack up, verifies it, and destroys it.

    Raises:
        JourneyError, EngineError, lab.journey.PhaseError: a step did not do what it must.
    """
    environment = os.environ | engine_environment(project)
    for phase in lab_journey.phases("lab", quiet, 2):
        if phase.name in FIRST_PHASES:
            seconds = lab_journey.run(phase, project, environment)
            say(f"  {phase.name:<44} {seconds:.1f} s")
    folder = project / ".sandbox" / "lab"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with running.running(folder / "aws.log") as cloud:
        inventory.use(cloud)
        account.prepare(cloud["AWS_ENDPOINT_URL"])
        engine = SandboxEngine(project, folder, name, cloud)
        config = on_the_lab(engine.committed(), _config(project, "lab"))
        _give_clusters(engine, config, _lab_clusters(project))
        engine.configure(config)
        try:
            say(f"  {'pulumi up':<44} {engine.run('up')}")
            unchanged = engine.run("up", expect_no_changes=True)
            expect(unchanged.changed == 0, f"a second up changed something: {unchanged}")
            say(f"  {'up again changes nothing':<44} {unchanged}")
            _verify(project, name, engine, folder)
            say(inventory.as_text(inventory.take((config[CLUSTERS][0]["region"],))))
        finally:
            say(f"  {'destroy':<44} {engine.run('destroy')}")
    shutil.rmtree(folder, ignore_errors=True)


def _config(project: Path, stack: str) -> Config:
    return dict(yaml.safe_load((project / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8"))["config"])


def _lab_clusters(project: Path) -> list[Path]:
    return sorted((project / ".lab" / "clusters").glob("*/admin.kubeconfig"))


def _give_clusters(engine: SandboxEngine, config: Config, kubeconfigs: list[Path]) -> None:
    """Makes the lab's clusters stand in for the stack's, in the order of their names."""
    clusters = config[CLUSTERS]
    if len(kubeconfigs) < len(clusters):
        raise JourneyError(f"the lab has {len(kubeconfigs)} clusters and the stack wants {len(clusters)}")
    for cluster, kubeconfig in zip(clusters, kubeconfigs, strict=False):
        shutil.copy(kubeconfig, engine.clusters / f"istio-eks-{cluster['name']}.kubeconfig")


def _verify(project: Path, name: str, engine: SandboxEngine, folder: Path) -> None:
    """Runs `fedmesh verify` with the kubeconfigs from the stack's outputs."""
    merged = folder / "kubeconfig"
    merged.touch(mode=0o600)
    merged.write_text(json.dumps(merged_kubeconfigs(engine.outputs()["kubeconfigs"])), encoding="utf-8")
    # the committed stack lacks what its user adds, such as the callers of a public API server
    filled = folder / "project"
    filled.mkdir()
    shutil.copy(project / "Pulumi.yaml", filled)
    shutil.copy(engine.config_file, filled / f"Pulumi.{name}.yaml")
    command = [
        sys.executable,
        "-m",
        "fedmesh",
        "verify",
        "--stack",
        name,
        "--project",
        str(filled),
        "--wait",
        "180",
    ]
    environment = {**os.environ, **engine.environment, "KUBECONFIG": str(merged)}
    done = subprocess.run(command, cwd=project, env=environment, check=False)
    expect(done.returncode == 0, "fedmesh verify found the mesh broken")


def merged_kubeconfigs(kubeconfigs: Mapping[str, str]) -> dict[str, Any]:
    """Merges kubeconfigs in JSON with one context each."""
    parsed = [json.loads(text) for text in kubeconfigs.values()]
    kinds = ("clusters", "users", "contexts")
    lists = {kind: [entry for config in parsed for entry in config[kind]] for kind in kinds}
    return {"apiVersion": "v1", "kind": "Config", **lists, "current-context": parsed[0]["current-context"]}
