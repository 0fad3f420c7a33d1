"""A containerd store with all images unpacked, of which every node gets a copy made of hard links.

Importing takes a minute of two cores for four nodes; linking takes a second. Blobs and unpacked layers never change,
so they can be shared; the two databases change, so they are copied.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from testbed.lab import processes
from testbed.lab.config import Node
from testbed.lab.store import Store, content_key
from testbed.waiting import wait_until

DATABASES = ("io.containerd.metadata.v1.bolt/meta.db", "io.containerd.snapshotter.v1.overlayfs/metadata.db")
START_SECONDS = 20.0


def key(images: Sequence[Path]) -> str:
    """A hash of the images' content, which their real names in the cache contain."""
    return content_key(sorted(str(image.resolve()) for image in images))


def ensure(cache: Path, images: Sequence[Path]) -> Path:
    """The cache's containerd root with exactly these images; raises CalledProcessError when an import fails."""
    return Store(cache).ensure("containerd", key(images), lambda folder: _import(folder, images))


def seed(source: Path, target: Path) -> None:
    """Creates the containerd root `target` from `source`, atomically; an existing one is not changed."""
    if (target / DATABASES[0]).exists():
        return
    fresh = target.with_name(f"{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.parent.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["cp", "-al", source, fresh], check=False, capture_output=True).returncode != 0:
        # the cache may be on another file system
        shutil.rmtree(fresh, ignore_errors=True)
        subprocess.run(["cp", "-a", source, fresh], check=True)
    for database in DATABASES:
        (fresh / database).unlink()
        shutil.copy2(source / database, fresh / database)
    if target.is_dir():
        target.rmdir()
    _origin(target).write_text(source.name)
    fresh.rename(target)


def is_made_from(source: Path, target: Path) -> bool:
    """Whether the containerd root `target` does not exist yet, or has the images of `source`."""
    return not _origin(target).exists() or _origin(target).read_text() == source.name


def put(archive: Path, node: Node) -> None:
    """Imports one more image into a running node. Raises LookupError for one that is down."""
    number = processes.first(node)
    if number is None:
        raise LookupError(f"{node.name} is down")
    inside = ["nsenter", f"--target={number}", "--mount", "ctr", "-n", "k8s.io"]
    subprocess.run([*inside, "images", "import", str(archive)], check=True, capture_output=True)


def _origin(target: Path) -> Path:
    return target.with_name(f"{target.name}.origin")


def _import(folder: Path, images: Sequence[Path]) -> None:
    socket = folder / "run" / "containerd.sock"
    config = folder / "containerd.toml"
    root = folder / "root"
    socket.parent.mkdir()
    config.write_text(
        f'version = 2\nroot = "{root}"\nstate = "{folder}/run/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{socket}"\n[ttrpc]\naddress = "{socket}.ttrpc"\n'
    )
    # mounts made while unpacking vanish with this mount namespace
    daemon = subprocess.Popen(
        ["unshare", "--mount", "containerd", "-c", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    client = ["ctr", "-a", str(socket), "-n", "k8s.io"]
    try:
        wait_until(
            lambda: subprocess.run([*client, "version"], check=False, capture_output=True).returncode == 0,
            START_SECONDS,
            lambda: f"containerd did not start in {START_SECONDS:.0f} s ({config})",
        )
        for image in images:
            subprocess.run(
                [*client, "images", "import", str(image)], check=True, capture_output=True, text=True
            )
    finally:
        daemon.terminate()
        daemon.wait()
    shutil.rmtree(socket.parent)
    config.unlink()
    for part in root.iterdir():
        part.rename(folder / part.name)
    root.rmdir()
