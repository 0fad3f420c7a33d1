"""A node's first process: makes the node's own mounts, then keeps the node's programs running.

Started by lab.clusters inside the node's network, mount, UTS and PID namespaces. As process 1 of its PID namespace
it takes everything on the node with it when it ends, however it ends.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from testbed.lab import config
from testbed.lab.cgroups import cgroup_of, prepare, remove
from testbed.lab.paths import State
from testbed.lab.programs import CNI_BIN, CNI_FOLDERS, NodeContext, Program, programs, write_configs

# folders that a node has to itself; the overlay keeps their making off the machine's own file system
OVERLAID = ("/etc", "/opt", "/var/lib", "/var/log")
OWN = ("/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni", "/var/log/pods", "/var/log/containers")
LONGEST_PAUSE = 5.0
POLL = 0.1


def mount_own(context: NodeContext) -> None:
    """Mounts the node's own /etc, /opt, /var/lib, /var/log and /run; the machine's stay as they are."""
    _run("mount", "--make-rprivate", "/")
    for folder in OVERLAID:
        upper, work = (
            context.folder / "overlay" / part / folder.strip("/").replace("/", "-")
            for part in ("upper", "work")
        )
        upper.mkdir(parents=True, exist_ok=True)
        work.mkdir(parents=True, exist_ok=True)
        _run(
            "mount",
            "-t",
            "overlay",
            "overlay",
            "-o",
            f"lowerdir={folder},upperdir={upper},workdir={work}",
            folder,
        )
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    volumes = context.state.volumes(context.cluster.name, context.node.name)
    places = {folder: context.folder / "root" / folder.strip("/") for folder in OWN}
    for place, source in {**places, "/var/lib/fedmesh-volumes": volumes}.items():
        source.mkdir(parents=True, exist_ok=True)
        Path(place).mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", str(source), place)
    # CSI drivers mount in their pod what the kubelet must see
    _run("mount", "--make-rshared", "/")
    network = Path("/etc/cni/net.d")
    network.mkdir(parents=True, exist_ok=True)
    for file in network.iterdir():
        file.unlink()
    (network / "10-lab.conflist").write_bytes((context.folder / "10-lab.conflist").read_bytes())
    link_plugins(Path(CNI_BIN), [Path(folder) for folder in CNI_FOLDERS])


def link_plugins(target: Path, sources: list[Path]) -> None:
    """Links the CNI plugins of the machine into `target`; what is there already stays."""
    target.mkdir(parents=True, exist_ok=True)
    for plugin in [plugin for source in sources if source.is_dir() for plugin in source.iterdir()]:
        place = target / plugin.name
        if not place.exists():
            place.unlink(missing_ok=True)
            place.symlink_to(plugin)


def lock(context: NodeContext) -> int | None:
    """Makes this the node's only first process, for as long as it lives; None when there is one already."""
    context.folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(context.state.lock(context.cluster.name, context.node.name), os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    # when this file was changed tells since when the node runs
    os.utime(handle)
    return handle


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def listening(address: tuple[str, int]) -> bool:
    """Whether something accepts TCP connections at `address`."""
    try:
        with socket.create_connection(address, timeout=0.5):
            return True
    except OSError:
        return False


@dataclass
class Keeper:
    """Keeps one program running; after each quick end it waits twice as long, up to five seconds."""

    program: Program
    log: Path
    process: subprocess.Popen[bytes] | None = None
    pause: float = 0.2
    not_before: float = 0.0
    started: float = field(default=0.0)

    def tend(self) -> None:
        """Starts the program when it should run and does not."""
        now = time.monotonic()
        if self.process is not None:
            if self.process.poll() is None:
                return
            held = now - self.started > 2 * LONGEST_PAUSE
            self.pause = 0.2 if held else min(self.pause * 2, LONGEST_PAUSE)
            self.process, self.not_before = None, now + self.pause
        if now < self.not_before or (self.program.after and not listening(self.program.after)):
            return
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.program.command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self.program.environment},
            )
        self.started = now


def reap(keepers: list[Keeper]) -> None:
    """Collects processes that were handed to process 1; the keepers' own are left to them."""
    own = {keeper.process.pid for keeper in keepers if keeper.process}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in own:
            continue
        try:
            state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            if state == "Z" and parent == "1":
                os.waitpid(int(entry.name), os.WNOHANG)
        except (OSError, ValueError):
            continue


def main() -> int:
    """Runs until it is told to stop by SIGTERM; the kernel then ends everything in the PID namespace."""
    parser = argparse.ArgumentParser(prog="python -m testbed.lab.node")
    parser.add_argument("--cluster", required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--tools", type=Path, required=True)
    options = parser.parse_args()
    cluster = config.load().cluster(options.cluster)
    node = next(node for node in cluster.nodes if node.name == options.node)
    context = NodeContext(cluster, node, State(options.state), options.tools, cgroup_of(node.name))
    if lock(context) is None:
        print(f"{node.name} runs already", file=sys.stderr)
        return 1
    logs = context.state.logs(cluster.name, node.name)
    logs.mkdir(parents=True, exist_ok=True)
    # of an earlier life: the kubelet would wait seconds for each container that it finds there
    remove(node.name)
    prepare(context.cgroup)
    write_configs(context)
    mount_own(context)
    socket.sethostname(node.name)
    keepers = [Keeper(program, logs / f"{program.name}.log") for program in programs(context, sys.executable)]

    def stop(_signal: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    rounds = 0
    while True:
        for keeper in keepers:
            keeper.tend()
        rounds += 1
        if rounds % 50 == 0:
            reap(keepers)
        time.sleep(POLL)


if __name__ == "__main__":
    sys.exit(main())
