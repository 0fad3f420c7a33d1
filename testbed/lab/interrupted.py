"""What an engine that was killed leaves behind, and how the next run takes it away.

A run that is stopped by Ctrl-C cleans up for itself. One that is killed (or a machine that is switched off) leaves
its lock on the stack, and Helm's records of releases that the stack does not know, which Helm then refuses to install
again.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RELEASE = "kubernetes:helm.sh/v3:Release"


def locked_by_the_dead(backend: Path) -> bool:
    """Whether a lock in the file backend `backend` belongs to a process of this machine that has ended."""
    return any(_dead(lock) for lock in (backend / ".pulumi" / "locks").rglob("*.json"))


def _dead(lock: Path) -> bool:
    try:
        owner = json.loads(lock.read_text())
    except (OSError, ValueError):
        return False
    if owner.get("hostname") != os.uname().nodename:
        return False
    return not Path(f"/proc/{owner.get('pid')}").exists()


def unlock(stack: str, project: Path, environment: Mapping[str, str]) -> None:
    """Takes the stack's lock away; raises CalledProcessError when the engine refuses."""
    _output(["pulumi", "cancel", "--stack", stack, "--yes", "--non-interactive"], project, environment)


def forget_lost_releases(
    stack: str, project: Path, kubeconfigs: Mapping[str, Path], env: Mapping[str, str]
) -> None:
    """Deletes Helm's records of the releases that the engine was making when it was killed.

    Helm then installs them again and takes over what is there. `kubeconfigs` has the clusters by the name of their
    provider; only releases that the stack does not know are forgotten. Raises CalledProcessError.
    """
    export = ["pulumi", "stack", "export", "--stack", stack, "--non-interactive"]
    state = json.loads(_output(export, project, env)).get("deployment", {})
    known = recorded_releases(state.get("resources") or [])
    for cluster, kubeconfig in kubeconfigs.items():
        kubectl = ["kubectl", f"--kubeconfig={kubeconfig}", "--request-timeout=10s"]
        listed = _output([*kubectl, "get", "secret", "-A", "-l", "owner=helm", "-o", "json"], project, env)
        for item in json.loads(listed)["items"]:
            metadata = item["metadata"]
            if (cluster, metadata["namespace"], metadata["labels"]["name"]) not in known:
                _output(
                    [*kubectl, "delete", "secret", "-n", metadata["namespace"], metadata["name"]],
                    project,
                    env,
                )


def recorded_releases(resources: Iterable[Mapping[str, Any]]) -> set[tuple[str, str, str]]:
    """(provider's name, namespace, release) of every Helm release in the resources of a stack's state."""
    return {
        (each["provider"].split("::")[-2], each["inputs"]["namespace"], each["inputs"]["name"])
        for each in resources
        if each["type"] == RELEASE
    }


def _output(command: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=dict(environment), check=True, capture_output=True, text=True
    )
    return done.stdout
