"""What an engine that was killed leaves behind, and how the next run takes it away.

A run that is stopped by Ctrl-C cleans up for itself. One that is killed (or a machine that is switched off) leaves
its lock on the stack, and Helm's record of a release as one that is still being installed, which Helm then refuses
to install again.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

PENDING = "owner=helm,status in (pending-install,pending-upgrade,pending-rollback,uninstalling)"


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
    command = ["pulumi", "cancel", "--stack", stack, "--yes", "--non-interactive"]
    subprocess.run(command, cwd=project, env=dict(environment), check=True, capture_output=True, text=True)


def forget_pending_releases(kubeconfigs: Iterable[Path], environment: Mapping[str, str]) -> None:
    """Deletes Helm's records of installations that nobody is at any more; what they made is taken over later."""
    for kubeconfig in kubeconfigs:
        command = ["kubectl", f"--kubeconfig={kubeconfig}", "--request-timeout=10s", "delete", "secret"]
        command += ["--all-namespaces", "--selector", PENDING, "--ignore-not-found"]
        subprocess.run(command, env=dict(environment), check=True, capture_output=True, text=True)
