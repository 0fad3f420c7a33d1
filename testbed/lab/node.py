"""A node's first process: sets up the node's mounts, then keeps the node's programs running.

Started by lab.clusters inside the node's network, mount, UTS and PID namespaces. It is process 1 of its PID
namespace, so the kernel kills all other processes of the node when it ends.
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

# folders that a node has of its own, as overlays over the machine's
OVERLAID = ("/etc", "/opt", "/var/lib", "/var/log")
OWN = ("/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni", "/var/log/pods", "/var/log/containers")
LONGEST_PAUSE = 5.0
POLL = 0.1


def mount_own(context: NodeContext) -> None:
    """Mounts the node's own /etc, /opt, /var/lib, /var/log and /run over the machine's, which are not changed."""
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
    # mounts that CSI drivers make in their pods must propagate to the kubelet
    _run("mount", "--make-rshared", "/")
    network = Path("/etc/cni/net.d")
    network.mkdir(parents=True, exist_ok=True)
    for file in network.iterdir():
        file.unlink()
    (network / "10-lab.conflist").write_bytes((context.folder / "10-lab.conflist").read_bytes())
    link_plugins(Path(CNI_BIN), [Path(folder) for folder in CNI_FOLDERS])


def link_plugins(target: Path, sources: list[Path]) -> None:
    """Links the machine's CNI plugins into `target`; existing files stay."""
    target.mkdir(parents=True, exist_ok=True)
    for plugin in [plugin for source in sources if source.is_dir() for plugin in source.iterdir()]:
        place = target / plugin.name
        if not place.exists():
            place.unlink(missing_ok=True)
            place.symlink_to(plugin)


def lock(context: NodeContext) -> int | None:
    """Takes the node's lock for the lifetime of this process; returns None when another process holds it."""
    context.folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(context.state.lock(context.cluster.name, context.node.name), os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    # the file's modification time is the node's start time
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
    """Keeps one program running; the pause before a restart doubles after each quick end, up to five seconds."""

    program: Program
    log: Path
    process: subprocess.Popen[bytes] | None = None
    pause: float = 0.2
    not_before: float = 0.0
    started: float = field(default=0.0)

    def tend(self) -> None:
        """Starts the program if it is due and not running."""
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
    """Reaps orphaned processes, except those of the keepers."""
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
    """Runs until it receives SIGTERM; the kernel then kills everything in the PID namespace."""
    parser = argparse.ArgumentParser(prog="python -m testbed.lab.node")
    parser.add_argument("--cluster", required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--tools", type=Path, required=True)
    options = parser.parse_args()
    cluster = config.current(options.state).cluster(options.cluster)
    node = next(node for node in cluster.nodes if node.name == options.node)
    context = NodeContext(cluster, node, State(options.state), options.tools, cgroup_of(node.name))
    if lock(context) is None:
        print(f"{node.name} is already running", file=sys.stderr)
        return 1
    logs = context.state.logs(cluster.name, node.name)
    logs.mkdir(parents=True, exist_ok=True)
    # of an earlier run: the kubelet would wait seconds for each container that it finds there
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
