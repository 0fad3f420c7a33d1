"""Version 0.1 on the lab: its program and the programs and charts that it installs, from the project's history."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from testbed.engine import Engine
from testbed.lab import gomods, paths, processes
from testbed.lab.config import Lab
from testbed.lab.store import Store, content_key

COMMIT = "5858a088d9c9b3d112b824b14f6f5ca8d5f5262f"
# What version 0.1 installs in other versions than today's, made by its own test bed in the folder of the argument.
BUILD = """
import sys
from pathlib import Path
from lab import catalogue, charts, images
from lab.gomods import CLUSTER, MESH
made = Path(sys.argv[1])
CLUSTER.build(["spire-server", "spire-agent", "spire-controller-manager"], made, lambda done, total: None)
for image in catalogue.images(made.joinpath, made):
    if image.reference.startswith("ghcr.io/spiffe/spire-"):
        images.write_archive(image, made / image.file_name)
modules = {"github.com/spiffe/spire-controller-manager": CLUSTER}
charts.write_charts(made / "charts", lambda path: modules.get(path, MESH).dependency(path))
"""


def program(state: Path) -> Path:
    """The folder with the program of version 0.1, below the lab's own."""
    folder = state / "former"
    if not folder.exists():
        fresh = state / "former.new"
        fresh.mkdir(exist_ok=True)
        archive = subprocess.run(
            ["git", "archive", COMMIT], cwd=paths.project(), check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", fresh], input=archive.stdout, check=True)
        fresh.rename(folder)
    return folder


def build(folder: Path) -> Path:
    """The folder of images and charts in the cache. Making it takes minutes, of which Go's cache spares most."""

    def fill(made: Path) -> None:
        variables = {**os.environ, "PYTHONPATH": str(folder)}
        subprocess.run([sys.executable, "-c", BUILD, made], cwd=folder, env=variables, check=True)

    key = content_key([COMMIT, BUILD, gomods.compiler()])
    return Store(paths.cache()).ensure("former", key, fill)


def put_images(made: Path, lab: Lab) -> None:
    """Imports the images into the running nodes. Raises LookupError for one that is down."""
    for _, node in lab.nodes():
        number = processes.first(node)
        if number is None:
            raise LookupError(f"{node.name} is down")
        inside = ["nsenter", f"--target={number}", "--mount", "ctr", "-n", "k8s.io"]
        for image in sorted(made.glob("*.tar")):
            subprocess.run([*inside, "images", "import", image], check=True, capture_output=True)


def engine(stack: str, state: Path, folder: Path, made: Path) -> Engine:
    """The engine with the program of version 0.1 on the lab's stack."""
    own = Engine(folder, stack, state)
    config: dict[str, Any] = own.committed()
    for cluster in config["fedmesh:clusters"]:
        cluster["kubeconfig"]["path"] = str(state.parent / cluster["kubeconfig"]["path"])
    for chart in config["fedmesh:charts"].values():
        chart["path"] = str(made / "charts" / Path(chart["path"]).name)
    own.configure(config)
    return own
