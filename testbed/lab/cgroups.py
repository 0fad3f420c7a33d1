"""The nodes' cgroups: one below /fedmesh for each, in every hierarchy that the machine has (version 1 or 2)."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from testbed.lab.processes import kill

ROOT = Path("/sys/fs/cgroup")
PARENT = "fedmesh"


def cgroup_of(node: str) -> str:
    """A node's cgroup, as the kubelet is told it."""
    return f"/{PARENT}/{node}"


def unified() -> bool:
    """Whether the machine has cgroup version 2 alone."""
    return (ROOT / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    """Folders of all hierarchies, each once though some have several names."""
    if unified():
        return [ROOT]
    folders = {folder.resolve() for folder in ROOT.iterdir() if (folder / "cgroup.procs").exists()}
    return sorted(folders)


def prepare(cgroup: str) -> None:
    """Makes `cgroup` in every hierarchy, ready to have children."""
    for hierarchy in hierarchies():
        folder = hierarchy
        for part in cgroup.strip("/").split("/"):
            if unified():
                controllers = (folder / "cgroup.controllers").read_text().split()
                (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
            parent, folder = folder, folder / part
            folder.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                # version 1 starts these empty, and refuses processes until they are set
                if not unified() and (folder / name).exists() and not (folder / name).read_text().strip():
                    (folder / name).write_text((parent / name).read_text())


def processes(node: str = "") -> Iterator[int]:
    """Every process in one of the lab's cgroups, or in those of one node."""
    seen: set[int] = set()
    for hierarchy in hierarchies():
        for folder in _folders(hierarchy / PARENT / node):
            try:
                found = {int(line) for line in (folder / "cgroup.procs").read_text().split()} - seen
            except OSError:
                continue
            seen |= found
            yield from found


def remove(node: str = "", patience: float = 10.0) -> None:
    """Kills what is left in the lab's cgroups, or in those of one node, and removes them.

    Raises TimeoutError after `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while tops := [top for hierarchy in hierarchies() if (top := hierarchy / PARENT / node).exists()]:
        for process in processes(node):
            if process != os.getpid():
                kill(process)
        for top in tops:
            for folder in _folders(top):
                _rmdir(folder)
        if time.monotonic() > deadline:
            raise TimeoutError(f"cgroups below {PARENT} are still in use")
        time.sleep(0.05)


def _folders(top: Path) -> Iterator[Path]:
    """`top` and all below it, the deepest first; what vanishes meanwhile is passed over."""
    return (Path(folder) for folder, _, _ in os.walk(top, topdown=False))


def _rmdir(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
