"""What an engine that was killed leaves in the clusters, and how the next run removes it.

A run that is stopped by Ctrl-C cleans up for itself. One that is killed, or a machine that is switched off, leaves
its lock on the stack (`testbed.engine` removes it) and Helm's records of releases that the stack does not know, which
Helm then refuses to install again.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RELEASE = "kubernetes:helm.sh/v3:Release"


def forget_lost_releases(
    resources: Iterable[Mapping[str, Any]], kubeconfigs: Mapping[str, Path], variables: Mapping[str, str]
) -> None:
    """Deletes Helm's records of the releases that the engine was making when it was killed.

    Helm then installs them again and takes over the objects that exist.

    Args:
        resources: those of the stack's state; only releases that are not among them are forgotten.
        kubeconfigs: of the clusters, by the name of their provider.
        variables: the environment variables that lead to kubectl.

    Raises:
        subprocess.CalledProcessError: kubectl failed.
    """
    known = recorded_releases(resources)
    for cluster, kubeconfig in kubeconfigs.items():
        kubectl = ["kubectl", f"--kubeconfig={kubeconfig}", "--request-timeout=10s"]
        listed = _output([*kubectl, "get", "secret", "-A", "-l", "owner=helm", "-o", "json"], variables)
        for item in json.loads(listed)["items"]:
            metadata = item["metadata"]
            if (cluster, metadata["namespace"], metadata["labels"]["name"]) not in known:
                delete = ["delete", "secret", "-n", metadata["namespace"], metadata["name"]]
                _output([*kubectl, *delete], variables)


def recorded_releases(resources: Iterable[Mapping[str, Any]]) -> set[tuple[str, str, str]]:
    """(provider's name, namespace, release) of every Helm release in the resources of a stack's state."""
    return {
        (each["provider"].split("::")[-2], each["inputs"]["namespace"], each["inputs"]["name"])
        for each in resources
        if each["type"] == RELEASE
    }


def _output(command: list[str], variables: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, env={**os.environ, **variables}, check=True, capture_output=True, text=True
    )
    return done.stdout
