"""One cgroup below /fedmesh for each node, in every hierarchy of the machine (cgroup version 1 or 2)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from testbed.lab.processes import kill
from testbed.waiting import wait_until

ROOT = Path("/sys/fs/cgroup")
PARENT = "fedmesh"


def cgroup_of(node: str) -> str:
    """A node's cgroup, in the form of the kubelet's cgroupRoot."""
    return f"/{PARENT}/{node}"


def unified() -> bool:
    """Whether the machine has cgroup version 2 only."""
    return (ROOT / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    """The folder of each hierarchy; a hierarchy with several names is returned once."""
    if unified():
        return [ROOT]
    folders = {folder.resolve() for folder in ROOT.iterdir() if (folder / "cgroup.procs").exists()}
    return sorted(folders)


def prepare(cgroup: str) -> None:
    """Creates `cgroup` in every hierarchy, with its controllers enabled for children."""
    for hierarchy in hierarchies():
        folder = hierarchy
        for part in cgroup.strip("/").split("/"):
            if unified():
                controllers = (folder / "cgroup.controllers").read_text().split()
                (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
            parent, folder = folder, folder / part
            folder.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                # these are empty at first in version 1, which refuses processes until they are set
                if not unified() and (folder / name).exists() and not (folder / name).read_text().strip():
                    (folder / name).write_text((parent / name).read_text())


def favour_pods() -> None:
    """Gives pods ten times the share of processor time that is usual, before API servers and the engine.

    Those have cores of their own in a real mesh; here, calls would wait for them.
    """
    for hierarchy in hierarchies():
        for file, value in (("cpu.shares", "10240"), ("cpu.weight", "1000")):
            if (hierarchy / PARENT / file).exists():
                (hierarchy / PARENT / file).write_text(value)


def processes(node: str = "") -> Iterator[int]:
    """The processes in the lab's cgroups, or in those of one node."""
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
    """Kills the processes in the lab's cgroups, or in those of one node, and removes the cgroups.

    Raises TimeoutError after `patience` seconds.
    """

    def removed() -> bool:
        tops = [top for hierarchy in hierarchies() if (top := hierarchy / PARENT / node).exists()]
        for process in processes(node) if tops else ():
            if process != os.getpid():
                kill(process)
        for top in tops:
            for folder in _folders(top):
                _rmdir(folder)
        return not tops

    wait_until(removed, patience, lambda: f"cgroups below {PARENT} are still in use", 0.05)


def _folders(top: Path) -> Iterator[Path]:
    """`top` and all folders below it, the deepest first; folders that vanish meanwhile are skipped."""
    return (Path(folder) for folder, _, _ in os.walk(top, topdown=False))


def _rmdir(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
