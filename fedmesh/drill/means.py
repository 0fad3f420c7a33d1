"""What a drill can do beyond faults: run the program again, and have the mesh examined."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from fedmesh.connect import connect
from fedmesh.reading import Cluster
from fedmesh.topology import Topology
from fedmesh.verify.command import examine
from fedmesh.verify.runner import failures

# `pulumi up` of a stack that is busy with a fault; it takes seconds otherwise.
UP_SECONDS = 400


class DrillError(Exception):
    """A drill cannot be played as asked."""


def every_cluster(topology: Topology, who: str) -> dict[str, Cluster]:
    """All clusters by name; raises DrillError, as `who`, when one does not answer."""
    clusters, unreachable = connect(topology.members)
    if unreachable:
        raise DrillError(f"{who} needs every cluster: {'; '.join(unreachable.values())}")
    return clusters


@dataclass(frozen=True)
class Means:
    """The stack that a drill plays on; `lab` tells whether the lab's own engine runs it."""

    topology: Topology
    project: Path
    lab: bool

    def up(self, **istio: str) -> float:
        """Run `pulumi up`, in the lab also with other values below `fedmesh:istio`; returns its seconds.

        Raises DrillError when it fails, with the end of what it said.
        """
        began = time.monotonic()
        done = subprocess.run(
            self._command(istio),
            cwd=self.project,
            capture_output=True,
            text=True,
            timeout=UP_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise DrillError(f"pulumi up failed: {(done.stdout + done.stderr).strip()[-600:]}")
        return time.monotonic() - began

    def complaints(self) -> list[str]:
        """What `fedmesh verify` finds wrong now."""
        found = failures(examine(self.topology))
        return [f"{result.cluster}: {result.name}: {result.detail}" for result in found]

    def _section(self) -> dict[str, str]:
        """The stack's own values of `fedmesh:istio`."""
        path = self.project / f"Pulumi.{self.topology.stack}.yaml"
        section = yaml.safe_load(path.read_text(encoding="utf-8"))["config"].get("fedmesh:istio") or {}
        return {key: value if isinstance(value, str) else json.dumps(value) for key, value in section.items()}

    def _command(self, istio: dict[str, str]) -> list[str]:
        # The engine takes the whole section from the command line as soon as one value of it is there.
        values = [
            part
            for key, value in (self._section() | istio if istio else {}).items()
            for part in ("--config", f"fedmesh:istio.{key}={value}")
        ]
        changed = ["--config-path", *values] if values else []
        if self.lab:
            engine = [
                sys.executable,
                "-m",
                "testbed.lab",
                "pulumi",
                "-q",
                "--stack",
                self.topology.stack,
                "up",
            ]
        else:
            engine = [
                "pulumi",
                "up",
                "--stack",
                self.topology.stack,
                "--yes",
                "--skip-preview",
                "--suppress-outputs",
            ]
        return [*engine, *changed]
