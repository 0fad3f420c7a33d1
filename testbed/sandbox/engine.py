"""The engine on a stack of this project, with the sandbox's plugins in the place of the cloud's."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testbed import engine
from testbed.lab import paths
from testbed.sandbox.changes import with_callers
from testbed.sandbox.cluster_plugin import CLUSTERS_FOLDER
from testbed.sandbox.permissions import CALLS_FILE

PLUGINS = {"aws": "testbed.sandbox.aws_plugin", "eks": "testbed.sandbox.cluster_plugin"}
TIMEOUT_SECONDS = 600.0


class SandboxEngine(engine.Engine):
    """One stack in a simulated AWS.

    Args:
        project: the checkout.
        folder: where everything is kept.
        stack: the stack's name.
        cloud: the environment variables that direct AWS clients to the simulated AWS.
        program: the folder with Pulumi.yaml where that is not the checkout.
    """

    def __init__(
        self,
        project: Path,
        folder: Path,
        stack: str,
        cloud: Mapping[str, str],
        program: Path | None = None,
    ) -> None:
        self.project = project
        self.clusters = folder / "clusters"
        self.calls = folder / "calls"
        self.clusters.mkdir(parents=True, exist_ok=True)
        variables = {
            **cloud,
            "PYTHONPATH": str(project),
            # the plugins are on PATH
            "PULUMI_IGNORE_AMBIENT_PLUGINS": "false",
            "NO_COLOR": "1",
            CLUSTERS_FOLDER: str(self.clusters),
            CALLS_FILE: str(self.calls),
        }
        scripts = {
            f"pulumi-resource-{plugin}": f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n'
            for plugin, module in PLUGINS.items()
        }
        super().__init__(
            program or project,
            stack,
            folder,
            variables=variables,
            executables=scripts,
            timeout=TIMEOUT_SECONDS,
        )

    def committed(self) -> dict[str, Any]:
        """The stack's configuration in the work tree, with what a user must add to it and no file of the internet."""
        config = with_callers(super().committed())
        return {**config, "fedmesh:gatewayApi": {"path": str(paths.cache() / "charts" / "gateway-api.yaml")}}
