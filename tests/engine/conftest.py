"""The real engine and provider on two API servers without nodes: what needs no pod is really applied."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.fixtures import cloud
from testbed.lab import paths
from testbed.lab.apiserver import ApiServer, running
from testbed.lab.environment import engine_environment
from testbed.lab.stack import Stack

__all__ = ["cloud"]
PROJECT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
TOOLS = paths.cache() / "bin"
CHARTS = paths.cache() / "charts"
STACK = "engine"
NAMESPACES = ("spire", "istio-system", "cert-manager", "observability", "sleep", "helloworld")
TIMEOUT_SECONDS = 400


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engine)
            item.add_marker(pytest.mark.timeout(600))


@dataclass(frozen=True)
class Server:
    """An API server, and kubectl on it."""

    name: str
    kubeconfig: Path

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Runs kubectl, with `given` on its standard input. Raises AssertionError when it fails."""
        line = [str(TOOLS / "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(line, input=given, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object or a list of objects."""
        return dict(json.loads(self.kubectl("get", *arguments, "-o", "json")))

    def names(self, kind: str) -> set[str]:
        """The names of all objects of a kind."""
        return {item["metadata"]["name"] for item in self.get(kind, "--all-namespaces")["items"]}


def prepared(server: ApiServer) -> Server:
    """An API server with what the layers that need pods would have made."""
    made = Server(server.name, server.kubeconfig)
    for namespace in NAMESPACES:
        made.kubectl("create", "namespace", namespace)
    return made


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Two clusters as the program sees them, by name."""
    with ExitStack() as stack:
        names = ("cluster-1", "cluster-2")
        found = [stack.enter_context(running(name, TOOLS, tmp_path_factory.mktemp(name))) for name in names]
        yield {server.name: prepared(server) for server in found}


@dataclass(frozen=True)
class Answer:
    """How a command of the engine ended, and all that it said."""

    code: int
    output: str

    @property
    def went_well(self) -> bool:
        """Whether the exit code was 0."""
        return self.code == 0


class Checkout:
    """A project folder with a program, the project's components and manifests, and a stack config."""

    def __init__(self, folder: Path, program: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        for name in ("Pulumi.yaml", "components", "manifests", ".venv"):
            (folder / name).symlink_to(PROJECT / name)
        (folder / "__main__.py").symlink_to(program)
        self._environment = os.environ | engine_environment(folder)
        self._stack = Stack(STACK, folder)
        self.configure(config)

    def configure(self, config: dict[str, Any]) -> None:
        """Sets the stack's config, as a user's editor would."""
        (self.folder / f"Pulumi.{STACK}.yaml").write_text(yaml.safe_dump({"config": config}))
        self._stack.prepare(self._environment)

    def run(self, verb: str, *arguments: str, variables: Mapping[str, str] | None = None) -> Answer:
        """Runs `preview`, `up`, `refresh` or `destroy`, with some environment variables more."""
        sure = [] if verb == "preview" else ["--yes", "--skip-preview"]
        return self._run(self._stack.command(verb, *sure, "--suppress-progress", *arguments), variables)

    def state(self) -> dict[str, Any]:
        """The stack's state as the engine keeps it."""
        return dict(json.loads(self._run(["pulumi", "stack", "export", "--stack", STACK]).output))

    def resources(self) -> list[dict[str, Any]]:
        """What the engine holds of things in a cluster."""
        found = self.state()["deployment"].get("resources", [])
        return [each for each in found if each["type"].startswith("kubernetes:")]

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs."""
        line = ["pulumi", "stack", "output", "--stack", STACK, "--json", "--show-secrets"]
        return dict(json.loads(self._run(line).output))

    def _run(self, command: list[str], variables: Mapping[str, str] | None = None) -> Answer:
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self._environment, **(variables or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as engine:
            try:
                output, _ = engine.communicate(timeout=TIMEOUT_SECONDS)
            except BaseException:
                # its providers and programs too
                os.killpg(engine.pid, signal.SIGKILL)
                raise
            return Answer(engine.returncode, output)


def unreachable(folder: Path, server: Server) -> str:
    """The path of a kubeconfig like the server's, but for an address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    config = server.kubeconfig.read_text()
    address = next(line.split()[1] for line in config.splitlines() if "server:" in line)
    (folder / "unreachable").write_text(config.replace(address, f"https://127.0.0.1:{port}"))
    return str(folder / "unreachable")


def stack_config(servers: dict[str, Server]) -> dict[str, Any]:
    """The lab's config on these API servers, with charts from the cache."""
    config: dict[str, Any] = yaml.safe_load((PROJECT / "Pulumi.lab.yaml").read_text())["config"]
    for cluster in config["fedmesh:clusters"]:
        cluster["kubeconfig"] = {"path": str(servers[cluster["name"]].kubeconfig)}
    for chart in config["fedmesh:charts"].values():
        chart["path"] = str(CHARTS / Path(chart["path"]).name)
    return config
