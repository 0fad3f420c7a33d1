"""The Go modules of testbed/lab/tools and how their programs are built.

The programs of one module share the versions of their dependencies, so that each dependency is compiled once.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from testbed.lab.catalogue import CERT_MANAGER, ISTIO, LOAD_BALANCER_CONTROLLER, PROMETHEUS, SPIRE
from testbed.lab.store import content_key

TOOLS = Path(__file__).parent / "tools"
KUBERNETES = "v1.34.4"
COREDNS = "v1.13.1"
# Kubernetes needs 3.5.13 or newer: older servers can't report watch progress, and streamed lists fail after 3 s
ETCD = "3.6.5"
PULUMI = "3.259.0"
PULUMI_KUBERNETES = "4.25.0"
PROVIDER_MODULE = "github.com/pulumi/pulumi-kubernetes/provider/v4"
# Compiling without debug information saves time, and memory while linking.
COMPILE_FLAGS = ("-trimpath", "-buildvcs=false")
TAGS = ("netgo", "osusergo", "sqlite_omit_load_extension")
WITHOUT_DEBUG = "-gcflags=all=-dwarf=false"
LINK_FLAGS = "-s -w -extldflags=-static"
MEMORY_PER_COMPILER = 3 << 30  # bytes; most compiler processes end before their heap is this large

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class GoModule:
    """One folder of testbed/lab/tools: its programs (name -> package) and the versions that are linked into them."""

    name: str
    programs: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()
    on_demand: bool = False  # built only where it is named

    @property
    def folder(self) -> Path:
        return TOOLS / self.name

    def key(self, program: str, compiler: str) -> str:
        """A hash of everything that the program is built from; `compiler` is the output of `go version`."""
        package = self.programs[program]
        own = sorted((self.folder / package).rglob("*.go")) if package.startswith("./") else []
        files = [self.folder / "go.mod", self.folder / "go.sum", *own]
        contents = [part for file in files for part in (file.name, file.read_bytes())]
        return content_key([compiler, package, *self.compile_flags, self.link_flags, *contents])

    @property
    def tag_flags(self) -> tuple[str, str]:
        return ("-tags", ",".join([*TAGS, *self.tags]))

    @property
    def compile_flags(self) -> tuple[str, ...]:
        return (*COMPILE_FLAGS, *self.tag_flags, WITHOUT_DEBUG)

    @property
    def link_flags(self) -> str:
        return " ".join([LINK_FLAGS, *(f"-X {name}={value}" for name, value in self.variables.items())])

    def dependency(self, path: str) -> Path:
        """The folder of a module that this one depends on, downloaded if necessary."""
        answer = self._go("mod", "download", "-json", path)
        return Path(json.loads(answer)["Dir"])

    def version(self, path: str) -> str:
        """The version of a module that this one depends on, from its go.mod."""
        found = re.search(
            rf"^\s*(?:require )?{re.escape(path)} (\S+)", (self.folder / "go.mod").read_text(), re.M
        )
        if found is None:
            raise LookupError(f"{self.folder.name}/go.mod does not name {path}")
        return found.group(1)

    def build(self, programs: Collection[str], target: Path, progress: Progress) -> None:
        """Builds programs into `target`; `progress` gets the numbers of compiled and of all packages.

        Go's build cache keeps compiled packages, so an interrupted build continues where it was.
        """
        packages = {program: self.programs[program] for program in programs}
        total = len(self._go("list", "-deps", *self.tag_flags, *packages.values()).splitlines())
        # the kernel kills the compiler when this process ends
        command = ["setpriv", "--pdeathsig", "KILL", "--", "go", "build", "-v"]
        command += [*self.compile_flags, "-ldflags", self.link_flags]
        command += ["-o", f"{target}/", *packages.values()]
        _run_counting(command, self.folder, lambda done: progress(done, total))
        for program, package in packages.items():
            (target / _binary(package)).rename(target / program)

    def _go(self, *arguments: str) -> str:
        command = ["go", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=go_environment(), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise BuildError(command, self.folder, done.stderr.splitlines())
        return done.stdout


class BuildError(Exception):
    """A Go command failed; the message contains the last lines of its output."""

    def __init__(self, command: Sequence[str], folder: Path, lines: Sequence[str]) -> None:
        last = "\n  ".join(lines[-20:])
        super().__init__(
            f"`{' '.join(command)[:60]} ...` failed in testbed/lab/tools/{folder.name}:\n  {last}"
        )


def go_environment() -> dict[str, str]:
    """The environment of Go: go.sum is not changed, and garbage is collected only when memory is short."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = min(MEMORY_PER_COMPILER, memory // (2 * (os.cpu_count() or 1)))
    return {
        **os.environ,
        "GOFLAGS": "-mod=readonly",
        "GOWORK": "off",
        "GOGC": "off",
        "GOMEMLIMIT": str(limit),
    }


def compiler() -> str:
    """The output of `go version`; raises FileNotFoundError where Go is missing."""
    return subprocess.run(
        ["go", "version"], cwd=TOOLS, capture_output=True, text=True, check=True
    ).stdout.strip()


def place_provider_schema(module: GoModule) -> None:
    """Writes the schema and the mapping that the provider embeds beside its main package, as its release does."""
    source = module.dependency(PROVIDER_MODULE) / "cmd/pulumi-resource-kubernetes"
    schema = json.loads((source / "schema.json").read_text())
    documents = {
        "schema.json": json.dumps({**schema, "version": PULUMI_KUBERNETES}, separators=(",", ":")),
        "terraform-mapping.json": (source / "terraform-mapping.json").read_text(),
    }
    for name, text in documents.items():
        place = module.folder / "cmd/pulumi-resource-kubernetes" / name
        fresh = place.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(place)


def _run_counting(command: Sequence[str], folder: Path, count: Callable[[int], None]) -> None:
    lines: list[str] = []
    done = 0
    with subprocess.Popen(
        command,
        cwd=folder,
        env=go_environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stderr is not None  # noqa: S101 (PIPE above)
        for line in process.stderr:
            lines.append(line.rstrip())
            if not line.startswith(("go: ", "#", "/", "\t", " ")):
                done += 1
                count(done)
    if process.returncode != 0:
        raise BuildError(command, folder, lines)


def _binary(package: str) -> str:
    """Go's name for the program of a package: the last element of its path that is not a major version."""
    *rest, last = package.split("/")
    return rest[-1] if rest and re.fullmatch(r"v\d+", last) else last


_KUBERNETES_VERSION = {
    f"{package}.{name}": value
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    for name, value in {
        "gitVersion": KUBERNETES,
        "gitMajor": KUBERNETES.lstrip("v").split(".")[0],
        "gitMinor": KUBERNETES.split(".")[1],
        "gitTreeState": "clean",
    }.items()
}
CLUSTER = GoModule(
    "cluster",
    {
        "kube": "./cmd/kube",
        "coredns": "./cmd/coredns",
        "csi-registrar": "./cmd/csi-registrar",
        "etcd": "./cmd/etcd",
        "helloworld": "./cmd/helloworld",
        "drill-target": "./cmd/drill-target",
        "spiffe-csi-driver": "github.com/spiffe/spiffe-csi/cmd/spiffe-csi-driver",
    },
    _KUBERNETES_VERSION,
)
ENGINE = GoModule(
    "engine",
    {"pulumi": "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"},
    {"github.com/pulumi/pulumi/sdk/v3/go/common/version.Version": f"v{PULUMI}"},
)
PROVIDER = GoModule(
    "provider",
    {"pulumi-resource-kubernetes": "./cmd/pulumi-resource-kubernetes"},
    {f"{PROVIDER_MODULE}/pkg/version.Version": PULUMI_KUBERNETES},
)
MESH = GoModule(
    "mesh",
    {
        "pilot-discovery": "istio.io/istio/pilot/cmd/pilot-discovery",
        "pilot-agent": "istio.io/istio/pilot/cmd/pilot-agent",
        "istio-cni": "istio.io/istio/cni/cmd/istio-cni",
        "install-cni": "istio.io/istio/cni/cmd/install-cni",
        "spire-server": "github.com/spiffe/spire/cmd/spire-server",
        "spire-agent": "github.com/spiffe/spire/cmd/spire-agent",
        "spire-controller-manager": "github.com/spiffe/spire-controller-manager/cmd",
        "controller": "./cmd/controller",
        "webhook": "./cmd/webhook",
        "cainjector": "./cmd/cainjector",
    },
    {
        "istio.io/istio/pkg/version.buildVersion": ISTIO,
        "istio.io/istio/pkg/version.buildTag": ISTIO,
        "istio.io/istio/pkg/version.buildStatus": "Clean",
        "istio.io/istio/pkg/version.buildHub": "docker.io/istio",
        "github.com/cert-manager/cert-manager/pkg/util.AppVersion": CERT_MANAGER,
        "github.com/spiffe/spire/pkg/common/version.gittag": SPIRE,
    },
)
LOAD = GoModule("load", {"vegeta": "github.com/tsenart/vegeta/v12"})
OBSERVE = GoModule(
    "observe",
    {"prometheus": "github.com/prometheus/prometheus/cmd/prometheus"},
    {"github.com/prometheus/common/version.Version": PROMETHEUS.removeprefix("v")},
    # only the service discovery that the mesh uses
    ("remove_all_sd", "enable_kubernetes_sd"),
)
# Built where a test asks for it alone.
OIDC = GoModule(
    "oidc",
    {"oidc-discovery-provider": "github.com/spiffe/spire/support/oidc-discovery-provider"},
    {"github.com/spiffe/spire/pkg/common/version.gittag": SPIRE},
)
AWS = GoModule(
    "aws",
    {"aws-load-balancer-controller": "sigs.k8s.io/aws-load-balancer-controller"},
    {"sigs.k8s.io/aws-load-balancer-controller/pkg/version.GitVersion": LOAD_BALANCER_CONTROLLER},
    on_demand=True,
)
MODULES = (CLUSTER, ENGINE, PROVIDER, MESH, LOAD, OBSERVE, AWS)
