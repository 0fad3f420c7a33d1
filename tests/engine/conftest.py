"""The real engine and provider on two API servers without nodes: what needs no pod is really applied."""

import json
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.engine import Engine, EngineError
from testbed.fixtures import cloud
from testbed.lab import paths
from testbed.lab.apiserver import ApiServer, running

__all__ = ["cloud"]
PROJECT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
TOOLS = paths.cache() / "bin"
CHARTS = paths.cache() / "charts"
GATEWAY_API = CHARTS / "gateway-api.yaml"
STACK = "engine"
NAMESPACES = (
    "spire",
    "istio-system",
    "istio-gateways",
    "istio-remote-access",
    "cert-manager",
    "observability",
    "sleep",
    "helloworld",
)
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
    """Whether a command of the engine succeeded, and its output."""

    went_well: bool
    output: str


class Checkout:
    """A project folder with a program, the project's components and manifests, and a stack config."""

    def __init__(self, folder: Path, program: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        for name in ("Pulumi.yaml", "components", "manifests", ".venv"):
            (folder / name).symlink_to(PROJECT / name)
        (folder / "__main__.py").symlink_to(program)
        self._engine = Engine(folder, STACK, folder / ".engine", timeout=TIMEOUT_SECONDS)
        self.configure(config)

    def configure(self, config: dict[str, Any]) -> None:
        """Sets the stack's config, as a user's editor would."""
        (self.folder / f"Pulumi.{STACK}.yaml").write_text(yaml.safe_dump({"config": config}))
        self._engine.configure(config)

    def run(self, verb: str, *flags: str, variables: Mapping[str, str] | None = None) -> Answer:
        """Runs `preview`, `up`, `refresh` or `destroy`, with flags such as `--expect-no-changes`."""
        options = {flag.removeprefix("--").replace("-", "_"): True for flag in flags}
        try:
            return Answer(True, self._engine.run(verb, variables=variables, **options).output)
        except EngineError as failed:
            return Answer(False, str(failed))

    def state(self) -> dict[str, Any]:
        """The stack's state as the engine keeps it."""
        return self._engine.state()

    def resources(self) -> list[dict[str, Any]]:
        """The resources in a cluster that the engine's state has."""
        return [each for each in self._engine.resources() if each["type"].startswith("kubernetes:")]

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs."""
        return self._engine.outputs()


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
    config["fedmesh:gatewayApi"]["path"] = str(GATEWAY_API)
    return config
