"""A Pulumi stack of the project on the lab's local file backend, without a trace in the work tree.

`pulumi stack init` writes the salt of the stack's passphrase into Pulumi.<stack>.yaml. That file is the user's,
so the stack is made in a folder of its own, and the engine is given a copy of the config that holds the salt.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from testbed.lab import paths
from testbed.lab.interrupted import forget_lost_releases, locked_by_the_dead, unlock

SALT_KEY = "encryptionsalt"


@dataclass(frozen=True)
class Stack:
    """Stack `name` of the project in folder `project`; its state, passphrase and config copy are in `project`/.lab."""

    name: str
    project: Path

    @property
    def state(self) -> Path:
        """Folder of all that the lab keeps for this checkout."""
        return self.project / ".lab"

    @property
    def config(self) -> Path:
        """The stack config that the engine reads: the committed one and the salt."""
        return self.state / f"Pulumi.{self.name}.yaml"

    def prepare(self, environment: Mapping[str, str]) -> None:
        """Makes backend folder, passphrase, stack and config copy where they are missing.

        Raises subprocess.CalledProcessError when the engine can't make the stack.
        """
        (self.state / "state").mkdir(parents=True, exist_ok=True)
        self._make_engine_home()
        passphrase = self.state / "passphrase"
        if not passphrase.exists():
            passphrase.touch(mode=0o600)
            passphrase.write_text(secrets.token_urlsafe(32))
        nursery = self.state / "init"
        nursery.mkdir(exist_ok=True)
        shutil.copy(self.project / "Pulumi.yaml", nursery)
        salted = nursery / f"Pulumi.{self.name}.yaml"
        if not salted.exists():
            # a stack without its salt is one whose making was interrupted; the engine refuses unless it is empty
            self._in(nursery, environment, "rm", "--yes", self.name, check=False)
            self._in(nursery, environment, "init", self.name)
        self._in(nursery, environment, "select", self.name)
        if locked_by_the_dead(self.state / "state"):
            unlock(self.name, self.project, environment)
            kubeconfigs = {file.parent.name: file for file in self.state.glob("clusters/*/admin.kubeconfig")}
            forget_lost_releases(self.name, self.project, kubeconfigs, environment)
        salt = next(line for line in salted.read_text().splitlines() if line.startswith(SALT_KEY))
        committed = (self.project / f"Pulumi.{self.name}.yaml").read_text().splitlines()
        kept = [line for line in committed if not line.startswith(SALT_KEY)]
        self.config.write_text("\n".join([*kept, salt, ""]))

    def command(self, verb: str, *arguments: str) -> list[str]:
        """The engine's command line for `verb` (up, preview, refresh, destroy) on this stack."""
        return [
            "pulumi",
            verb,
            "--stack",
            self.name,
            "--config-file",
            str(self.config),
            "--non-interactive",
            *arguments,
        ]

    def up(self) -> list[str]:
        """The command that brings the stack to its config, without a preview first."""
        return self._change("up")

    def unchanged(self) -> list[str]:
        """The command that fails when `up` would change anything."""
        return self._change("up", "--expect-no-changes")

    def destroy(self) -> list[str]:
        """The command that removes all that the stack made."""
        return self._change("destroy")

    def _change(self, verb: str, *arguments: str) -> list[str]:
        unasked = ("--yes", "--skip-preview", "--suppress-outputs", "--suppress-progress")
        return self.command(verb, *unasked, *arguments)

    def _make_engine_home(self) -> None:
        home = self.state / "pulumi"
        home.mkdir(exist_ok=True)
        plugins = home / "plugins"
        if not plugins.is_symlink():
            plugins.symlink_to(paths.cache() / "plugins")
        # a file where the engine would keep its debug logs: writing those takes 40 % of its processor time
        if not (home / "logs").exists():
            (home / "logs").touch()

    @staticmethod
    def _in(folder: Path, environment: Mapping[str, str], *arguments: str, check: bool = True) -> None:
        subprocess.run(
            ["pulumi", "stack", *arguments, "--non-interactive"],
            cwd=folder,
            env=dict(environment),
            check=check,
            capture_output=True,
            text=True,
        )
