"""What a drill needs besides the clusters' API servers: `pulumi up` and `fedmesh verify`."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from fedmesh.connect import connect
from fedmesh.drill.environment import ANY_CLUSTER, Environment, pulumi_up
from fedmesh.reading import LiveCluster
from fedmesh.topology import Topology
from fedmesh.verify.command import examine
from fedmesh.verify.runner import failures

# Seconds for `pulumi up` of a stack with a fault; without one it takes a few seconds.
UP_SECONDS = 400


class DrillError(Exception):
    """A drill or an attack cannot be run as requested."""


def every_cluster(topology: Topology, command: str) -> dict[str, LiveCluster]:
    """All clusters by name. Raises DrillError, naming the command, when one does not answer."""
    clusters, unreachable = connect(topology.members)
    if unreachable:
        raise DrillError(f"{command} needs every cluster: {'; '.join(unreachable.values())}")
    return clusters


@dataclass(frozen=True)
class Means:
    """The stack that a drill runs on, its project folder, and the environment of the command."""

    topology: Topology
    project: Path
    environment: Environment = ANY_CLUSTER

    @property
    def contained(self) -> bool:
        """Whether the stack belongs to a test environment."""
        return self.environment.owns(self.topology, self.project)

    def up(self, **istio: str) -> float:
        """Runs `pulumi up` and returns its duration in seconds.

        Args:
            istio: values below `fedmesh:istio` that differ from the stack's own, for this run.

        Raises:
            DrillError: `pulumi up` failed, or did not end in time; the message ends with its output.
        """
        began = time.monotonic()
        try:
            done = subprocess.run(
                self._command(istio),
                cwd=self.project,
                capture_output=True,
                text=True,
                timeout=UP_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DrillError(f"pulumi up did not end within {UP_SECONDS:.0f} s") from error
        if done.returncode != 0:
            raise DrillError(f"pulumi up failed: {(done.stdout + done.stderr).strip()[-600:]}")
        return time.monotonic() - began

    def complaints(self) -> list[str]:
        """The failed checks of `fedmesh verify`, one line each."""
        found = failures(examine(self.topology))
        return [f"{result.cluster}: {result.name}: {result.detail}" for result in found]

    def _section(self) -> dict[str, str]:
        """The stack's own values of `fedmesh:istio`."""
        path = self.project / f"Pulumi.{self.topology.stack}.yaml"
        section = yaml.safe_load(path.read_text(encoding="utf-8"))["config"].get("fedmesh:istio") or {}
        return {key: value if isinstance(value, str) else json.dumps(value) for key, value in section.items()}

    def _command(self, istio: dict[str, str]) -> list[str]:
        # Pulumi replaces a whole section as soon as one of its values is on the command line.
        values = [
            part
            for key, value in (self._section() | istio if istio else {}).items()
            for part in ("--config", f"fedmesh:istio.{key}={value}")
        ]
        changed = ["--config-path", *values] if values else []
        engine = self.environment.up if self.contained else pulumi_up
        return [*engine(self.topology.stack), *changed]
