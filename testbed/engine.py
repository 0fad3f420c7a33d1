"""The Pulumi engine on one stack, by way of Pulumi's Automation API: the only place that runs it.

All that the engine keeps for a stack is in a folder of its own, and the work tree stays as it is. `pulumi stack init`
writes the salt of the stack's passphrase into Pulumi.<stack>.yaml, so the stack is made in the subfolder `init`, and
the engine reads a copy of the configuration that holds the salt.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pulumi.automation import CommandError, EngineEvent, LocalWorkspace, PulumiCommand, Stack
from semver import VersionInfo

from testbed.lab import paths, processes
from testbed.lab.gomods import PULUMI, TOOLS
from testbed.waiting import wait_until

SALT_KEY = "encryptionsalt"
LANGUAGE_HOST = TOOLS / "pulumi-language-python"
# Every process below the engine has this variable, with the engine's folder.
FOLDER_MARKER = "FEDMESH_ENGINE"
UNTOUCHED = ("same", "read")
KILL_SECONDS = 10.0

Say = Callable[[str], None]


class EngineError(Exception):
    """The engine ended with an error; the message is what it printed, and the changes that it had begun."""


@dataclass(frozen=True)
class Outcome:
    """The result of one command: resources by operation (`create`, `update`, `same` ...), seconds, and the output."""

    changes: Mapping[str, int]
    seconds: float
    output: str

    @property
    def changed(self) -> int:
        """The number of resources that the command changed."""
        return sum(count for operation, count in self.changes.items() if operation not in UNTOUCHED)

    def __str__(self) -> str:
        counted = [f"{count} {operation}" for operation, count in sorted(self.changes.items())]
        return f"{', '.join(counted) or 'nothing'} in {self.seconds:.1f} s"


def environment(folder: Path, project: Path) -> dict[str, str]:
    """The variables that lead the engine to its state in `folder`, with the lab's tools first on PATH."""
    python = project / ".venv" / "bin"
    return {
        "PATH": f"{paths.cache() / 'bin'}:{python}:{os.environ.get('PATH', '/usr/bin:/bin')}",
        # An engine that is killed while it writes a file of attributes leaves a state that it can't read.
        "PULUMI_BACKEND_URL": f"file://{folder / 'state'}?metadata=skip",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(folder / "passphrase"),
        "PULUMI_HOME": str(folder / "pulumi"),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        # The engine writes its whole state at every step: by default, a quarter of its time is collecting garbage.
        "GOGC": "400",
        # Compiled Python is kept even where the environment forbids it: programs start seconds faster.
        "PYTHONDONTWRITEBYTECODE": "",
        # The providers are in the plugin folder. Looking for newer ones would wait for a network.
        "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }


def kill(folder: Path) -> None:
    """Kills the engines that work on the state in `folder`, with their programs and providers.

    Raises TimeoutError when a process is still there after ten seconds.
    """

    def ended() -> bool:
        left = list(processes.with_variable(FOLDER_MARKER, str(folder)))
        for number in left:
            processes.kill(number)
        return not left

    wait_until(ended, KILL_SECONDS, lambda: f"the engine on {folder} can't be killed", 0.05)


class Engine:
    """One stack.

    Args:
        program: the folder with Pulumi.yaml and the stack's committed configuration.
        stack: the stack's name.
        folder: where state, passphrase, plugins and configuration are kept.
        variables: environment variables that differ from `environment`.
        executables: scripts that come first on PATH, by name; they may replace a provider.
        timeout: seconds after which a command is killed and raises TimeoutError.
    """

    def __init__(
        self,
        program: Path,
        stack: str,
        folder: Path,
        *,
        variables: Mapping[str, str] | None = None,
        executables: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> None:
        self.program = program
        self.stack = stack
        self.folder = folder
        self.environment = {**environment(folder, paths.project()), **(variables or {})}
        self.environment["PATH"] = f"{folder / 'bin'}:{self.environment['PATH']}"
        self._executables = executables or {}
        self._timeout = timeout
        self._prepared: Stack | None = None
        self._configured = False

    @property
    def config_file(self) -> Path:
        """The configuration that the engine reads: the committed one, or what `configure` was given, and the salt."""
        return self.folder / f"Pulumi.{self.stack}.yaml"

    def committed(self) -> dict[str, Any]:
        """The stack's configuration in the work tree, for the caller to change and give to `configure`."""
        text = (self.program / f"Pulumi.{self.stack}.yaml").read_text(encoding="utf-8")
        return dict(yaml.safe_load(text)["config"])

    def configure(self, config: Mapping[str, Any]) -> None:
        """Sets the configuration of the commands to come."""
        self.prepare()
        salt = yaml.safe_load(self._salted.read_text(encoding="utf-8"))[SALT_KEY]
        text = yaml.safe_dump({"config": dict(config), SALT_KEY: salt}, sort_keys=False)
        self.config_file.write_text(text, encoding="utf-8")
        self._configured = True

    def prepare(self) -> Stack:
        """Makes what is missing of folder, passphrase and stack. Raises EngineError."""
        if self._prepared is not None:
            return self._prepared
        self._make_folder()
        nursery = self.folder / "init"
        shutil.copy(self.program / "Pulumi.yaml", nursery)
        try:
            workspace = self._workspace(nursery)
            if not self._salted.exists():
                # A stack without its salt is one whose making was interrupted. Pulumi refuses unless it is empty.
                with contextlib.suppress(CommandError):
                    workspace.remove_stack(self.stack)
                workspace.create_stack(self.stack)
            selected = Stack.select(self.stack, self._workspace(self.program))
            if locked_by_the_dead(self.folder / "state"):
                selected.cancel()
                self.after_interruption(self._exported())
        except CommandError as failed:
            raise EngineError(str(failed)) from failed
        self._prepared = selected
        return selected

    def after_interruption(self, deployment: Mapping[str, Any]) -> None:
        """Called after the lock of an engine that was killed has been removed, with the state that it left."""

    def run(
        self,
        verb: str,
        say: Say | None = None,
        variables: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Outcome:
        """Runs `preview`, `up`, `refresh` or `destroy` without asking.

        The engine gets a folder for temporary files of its own, since providers leave kubeconfigs there.

        Args:
            verb: the command.
            say: gets every line of output as it comes.
            variables: environment variables for this command.
            options: the options of the Automation API's method, such as `expect_no_changes=True`.

        Raises:
            EngineError: the engine refused or failed.
        """
        stack = self.prepare()
        if not self._configured:
            self.configure(self.committed())
        lines: list[str] = []
        events: list[EngineEvent] = []

        def note(line: str) -> None:
            lines.append(line)
            if say:
                say(line)

        with self._temporary_folder() as temporary:
            own = self._variables() | {"TMPDIR": str(temporary)} | dict(variables or {})
            stack.workspace.env_vars = own
            settings = {"config_file": str(self.config_file), "suppress_progress": True, **options}
            if verb != "preview":
                settings["show_secrets"] = False  # those of the history, which nobody reads here
            method = getattr(stack, verb)
            started = time.monotonic()
            try:
                self._finish(
                    lambda: method(on_output=note, on_error=note, on_event=events.append, **settings)
                )
            except CommandError as failed:
                said = "\n".join([_messages(lines), *changes(events)])
                raise EngineError(said) from failed
        return Outcome(_counted(events), time.monotonic() - started, "\n".join(lines))

    def planned(self, **options: Any) -> tuple[list[dict[str, Any]], Outcome]:
        """The resources that a preview would create or change, secrets masked, and its outcome. Raises EngineError."""
        outcome = self.run("preview", json=True, **options)
        # the engine's warnings may stand before the document
        steps = json.loads(outcome.output[outcome.output.index("{\n") :])["steps"]
        return [step["newState"] for step in steps if "newState" in step], outcome

    def state(self) -> dict[str, Any]:
        """The stack's deployment as the engine keeps it, secrets encrypted."""
        self.prepare()
        return self._exported()

    def resources(self) -> list[dict[str, Any]]:
        """The resources of the stack's state, secrets encrypted."""
        return list(self.state().get("resources") or [])

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs, secrets decrypted."""
        return {name: output.value for name, output in self.prepare().outputs().items()}

    @property
    def _salted(self) -> Path:
        return self.folder / "init" / f"Pulumi.{self.stack}.yaml"

    def _exported(self) -> dict[str, Any]:
        # Stack.export_stack would decrypt the secrets
        export = ["stack", "export", "--stack", self.stack]
        done = _Command(self.folder).run(export, str(self.folder / "init"), self._variables())
        return dict(json.loads(done.stdout).get("deployment") or {})

    def _make_folder(self) -> None:
        for name in ("state", "init", "bin", "pulumi"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        passphrase = self.folder / "passphrase"
        if not passphrase.exists():
            passphrase.touch(mode=0o600)
            passphrase.write_text(secrets.token_urlsafe(32), encoding="utf-8")
        home = self.folder / "pulumi"
        # A file where the engine would keep its debug logs: writing those takes 40 % of its processor time.
        (home / "logs").touch()
        _link(home / "plugins", paths.cache() / "plugins")
        binaries = self.folder / "bin"
        _link(binaries / "pulumi", paths.cache() / "bin" / "pulumi")
        # This checkout's own: the cache may hold the language host of another one, which may be older.
        shutil.copy(LANGUAGE_HOST, binaries)
        for name, text in self._executables.items():
            (binaries / name).write_text(text, encoding="utf-8")
            (binaries / name).chmod(0o755)

    def _variables(self) -> dict[str, str]:
        return {**self.environment, FOLDER_MARKER: str(self.folder)}

    def _workspace(self, folder: Path) -> LocalWorkspace:
        return LocalWorkspace(
            work_dir=str(folder), env_vars=self._variables(), pulumi_command=_Command(self.folder)
        )

    @contextmanager
    def _temporary_folder(self) -> Iterator[Path]:
        """A folder that only this user may enter; it is removed, and with it those that killed processes left."""
        parent = self.folder / "tmp"
        parent.mkdir(mode=0o700, exist_ok=True)
        for left in parent.iterdir():
            if not Path(f"/proc/{left.name.split('-')[0]}").exists():
                shutil.rmtree(left, ignore_errors=True)
        made = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def _finish(self, command: Callable[[], object]) -> None:
        """Runs a command to its end.

        Ctrl-C reaches the engine as well, which then stops in good order: this waits for it. On every other
        exception, such as a test's time limit, the engine is killed.
        """
        with ThreadPoolExecutor(max_workers=1) as pool:
            running: Future[object] = pool.submit(command)
            deadline = None if self._timeout is None else time.monotonic() + self._timeout
            interrupted = False
            try:
                while True:
                    try:
                        running.result(None if deadline is None else max(0.0, deadline - time.monotonic()))
                        break
                    except KeyboardInterrupt:
                        interrupted = True
            except CommandError:
                if not interrupted:
                    raise
            except BaseException:
                kill(self.folder)
                raise
            if interrupted:
                raise KeyboardInterrupt


class _Command(PulumiCommand):
    """The engine that the lab has built or found; its version is pinned, so it is not asked for each time."""

    def __init__(self, root: Path) -> None:
        self.command = str(root / "bin" / "pulumi")
        self.version = VersionInfo.parse(PULUMI)


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


def _link(place: Path, target: Path) -> None:
    if not place.is_symlink():
        place.symlink_to(target)


def _messages(lines: list[str]) -> str:
    """The messages for people, where the engine was asked for JSON too."""
    text = "\n".join(lines)
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return "".join(each["message"] for each in json.loads(text)["diagnostics"])
    return text


def changes(events: list[EngineEvent]) -> list[str]:
    """What a command did or would do: a line for each resource that it does not leave as it is."""
    steps = [event.resource_pre_event.metadata for event in events if event.resource_pre_event]
    found = []
    for step in steps:
        if step.op.value not in UNTOUCHED:
            properties = ", ".join(sorted(step.detailed_diff or step.diffs or ()))
            found.append(f"{step.op.value} {step.urn.split('::', 2)[2]}: {properties or 'the whole'}")
    return found


def _counted(events: list[EngineEvent]) -> dict[str, int]:
    for event in reversed(events):
        if event.summary_event:
            return {str(name): count for name, count in event.summary_event.resource_changes.items() if count}
    return {}
