"""The real Pulumi engine on a stack of this project, with the sandbox's plugins in the place of the cloud's."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from testbed.lab.builder import LANGUAGE_HOST
from testbed.lab.environment import engine_environment, file_backend
from testbed.sandbox.changes import with_callers
from testbed.sandbox.cluster_plugin import CLUSTERS_FOLDER
from testbed.sandbox.permissions import CALLS_FILE

PLUGINS = {"aws": "testbed.sandbox.aws_plugin", "eks": "testbed.sandbox.cluster_plugin"}
SALT = "encryptionsalt"
TIMEOUT_SECONDS = 600
UNTOUCHED = ("same", "read")


class EngineError(Exception):
    """The engine ended with an error; the text is what it said."""


@dataclass(frozen=True)
class Outcome:
    """What one command of the engine did: resources by operation (`create`, `update`, `same` ...), and seconds."""

    changes: Mapping[str, int]
    seconds: float
    output: str

    @property
    def changed(self) -> int:
        """How many resources the command touched."""
        return sum(count for operation, count in self.changes.items() if operation not in UNTOUCHED)

    def __str__(self) -> str:
        counted = [f"{count} {operation}" for operation, count in sorted(self.changes.items())]
        return f"{', '.join(counted) or 'nothing'} in {self.seconds:.1f} s"


class Engine:
    """One stack. Its state, passphrase, plugins and config are in `folder`; the work tree stays as it is.

    `program` is the folder with Pulumi.yaml where that is not the project's own.
    """

    def __init__(
        self,
        project: Path,
        folder: Path,
        stack: str,
        cloud: Mapping[str, str],
        program: Path | None = None,
    ) -> None:
        self._program = program or project
        self.project = project
        self._folder = folder
        self._stack = stack
        self.clusters = folder / "clusters"
        self.calls = folder / "calls"
        self._config = folder / f"Pulumi.{stack}.yaml"
        for each in (folder / "state", folder / "init", folder / "bin", self.clusters):
            each.mkdir(parents=True, exist_ok=True)
        self._environment = {**os.environ, **engine_environment(project), **cloud, **self._own(project)}
        self._salt = self._prepare()

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which the engine runs."""
        return dict(self._environment)

    def committed(self) -> dict[str, Any]:
        """The stack's config as it is in the work tree, with what a user must add, for the caller to change and give to
        `configure`."""
        document = yaml.safe_load((self._program / f"Pulumi.{self._stack}.yaml").read_text(encoding="utf-8"))
        return with_callers(dict(document["config"]))

    def configure(self, config: Mapping[str, Any]) -> None:
        """Sets the config of the commands to come."""
        text = yaml.safe_dump({"config": dict(config), SALT: self._salt}, sort_keys=False)
        self._config.write_text(text, encoding="utf-8")

    def run(self, verb: str, *arguments: str, variables: Mapping[str, str] | None = None) -> Outcome:
        """Runs `preview`, `up`, `refresh` or `destroy`, with some environment variables more.

        Raises:
            EngineError: the engine said no.
        """
        events = self._folder / "events.json"
        events.unlink(missing_ok=True)
        command = ["pulumi", verb, "--stack", self._stack, "--config-file", str(self._config)]
        command += ["--non-interactive", "--event-log", str(events), "--suppress-progress"]
        command += [] if verb == "preview" else ["--yes", "--skip-preview"]
        started = time.monotonic()
        done = self._call([*command, *arguments], self._program, variables)
        seconds = time.monotonic() - started
        if done.returncode != 0:
            changed = "".join(f"{each}\n" for each in changes(events))
            raise EngineError(_said(done.stdout)[-6000:] + changed + done.stderr[-2000:])
        return Outcome(_changes(events), seconds, done.stdout)

    def planned(self, *arguments: str) -> tuple[list[dict[str, Any]], Outcome]:
        """A preview's resources as they would be, secrets masked, and what it would do. Raises EngineError."""
        outcome = self.run("preview", "--json", "--show-sames", *arguments)
        steps = json.loads(outcome.output)["steps"]
        return [step["newState"] for step in steps if "newState" in step], outcome

    def resources(self) -> list[dict[str, Any]]:
        """The resources of the stack's state, secrets encrypted."""
        done = self._call(["pulumi", "stack", "export", "--stack", self._stack], self._folder / "init")
        return list(json.loads(done.stdout)["deployment"].get("resources", []))

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs, secrets opened."""
        command = ["pulumi", "stack", "output", "--json", "--show-secrets", "--stack", self._stack]
        return dict(json.loads(self._call(command, self._folder / "init").stdout))

    def _own(self, project: Path) -> dict[str, str]:
        for plugin, module in PLUGINS.items():
            script = self._folder / "bin" / f"pulumi-resource-{plugin}"
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n', encoding="utf-8")
            script.chmod(0o755)
        # This checkout's own language host: the cache may hold that of another, which may be older.
        shutil.copy(LANGUAGE_HOST, self._folder / "bin")
        passphrase = self._folder / "passphrase"
        if not passphrase.exists():
            passphrase.touch(mode=0o600)
            passphrase.write_text(secrets.token_urlsafe(32), encoding="utf-8")
        home = self._folder / "pulumi"
        home.mkdir(exist_ok=True)
        # A file where the engine would keep its debug logs: writing those takes 40 % of its processor time.
        (home / "logs").touch()
        # Found before the cloud's own plugins, which a machine may have.
        path = f"{self._folder}/bin:{engine_environment(project)['PATH']}"
        return {
            "PATH": path,
            "PULUMI_BACKEND_URL": file_backend(self._folder / "state"),
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase),
            "PULUMI_HOME": str(home),
            "PYTHONPATH": str(project),
            "PULUMI_IGNORE_AMBIENT_PLUGINS": "false",
            "NO_COLOR": "1",
            # Without it the engine does not know --event-log.
            "PULUMI_DEBUG_COMMANDS": "true",
            CLUSTERS_FOLDER: str(self.clusters),
            CALLS_FILE: str(self.calls),
        }

    def _prepare(self) -> str:
        """Makes the stack where it is missing, in a folder apart, and gives the salt of its secrets."""
        nursery = self._folder / "init"
        shutil.copy(self._program / "Pulumi.yaml", nursery)
        salted = nursery / f"Pulumi.{self._stack}.yaml"
        if not salted.exists():
            made = self._call(["pulumi", "stack", "init", self._stack, "--non-interactive"], nursery)
            if made.returncode != 0:
                raise EngineError(made.stderr)
        return str(yaml.safe_load(salted.read_text(encoding="utf-8"))[SALT])

    def _call(
        self, command: list[str], folder: Path, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=folder,
            env={**self._environment, **(variables or {})},
            check=False,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )


def _said(output: str) -> str:
    """What the engine said for people, where it was asked for JSON too."""
    try:
        return "".join(each["message"] for each in json.loads(output)["diagnostics"])
    except (ValueError, KeyError, TypeError):
        return output


def changes(events: Path) -> list[str]:
    """What a command did or would do, a line for each resource it does not leave as it is, from its event log."""
    found = []
    for line in events.read_text(encoding="utf-8").splitlines() if events.exists() else ():
        step = (json.loads(line).get("resourcePreEvent") or {}).get("metadata") or {}
        if step.get("op", "same") not in UNTOUCHED:
            properties = ", ".join(sorted(step.get("detailedDiff") or step.get("diffs") or ()))
            found.append(f"{step['op']} {step['urn'].split('::', 2)[2]}: {properties or 'the whole'}")
    return found


def _changes(events: Path) -> dict[str, int]:
    for line in reversed(events.read_text(encoding="utf-8").splitlines()):
        summary = json.loads(line).get("summaryEvent")
        if summary:
            return {name: count for name, count in summary["resourceChanges"].items() if count}
    return {}
