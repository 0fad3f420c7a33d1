"""Checks what the lab needs of the machine, and installs missing Debian packages."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.lab import network, paths
from testbed.lab.config import Lab, ranges
from testbed.lab.node import OVERLAID
from testbed.lab.programs import CNI_FOLDERS

MEMORY_GIB = 7.5  # for two clusters
MORE_GIB = 2.0  # for each cluster more
DISK_GIB = 30
MIN_GO = (1, 26)
# command -> Debian package
COMMANDS = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "conntrack": "conntrack",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "mmdebstrap": "mmdebstrap",
    "gcc": "gcc",
    "git": "git",
}
CNI_PACKAGE = "containernetworking-plugins"
ROOT = "root privileges, to make namespaces, mounts and cgroups (for example: sudo -E)"


@dataclass(frozen=True)
class Lack:
    """One thing that the machine lacks, and the Debian package that provides it where there is one."""

    what: str
    package: str | None = None

    def __str__(self) -> str:
        return f"{self.what} (Debian: apt-get install {self.package})" if self.package else self.what


class PreflightError(Exception):
    """The machine lacks something that the lab needs; the message lists all of it."""

    def __init__(self, found: Sequence[Lack]) -> None:
        super().__init__("\n  - ".join(["the machine lacks:", *map(str, found)]))


def require(lab: Lab, cache: Path, install_packages: bool, say: Callable[[str], None]) -> None:
    """Returns when the machine has everything that the lab needs.

    `install_packages` installs missing Debian packages, but only where these are all that is missing: a machine that
    can't run the lab stays as it is. Raises PreflightError, or CalledProcessError when apt-get fails.
    """
    found = list(lacks(lab, cache))
    packages = sorted({lack.package for lack in found if lack.package})
    if install_packages and packages and all(lack.package for lack in found) and shutil.which("apt-get"):
        say(f"installing {', '.join(packages)}")
        install(packages)
        found = list(lacks(lab, cache))
    if found:
        raise PreflightError(found)


def require_root() -> None:
    """Raises PreflightError when this process does not run as root."""
    if os.geteuid() != 0:
        raise PreflightError([Lack(ROOT)])


def lacks(lab: Lab, cache: Path) -> Iterator[Lack]:
    """Everything that stands in the way of the lab on this machine; changes nothing."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        yield Lack(f"Linux on x86_64 (this is {platform.system()} on {platform.machine()})")
        return
    if os.geteuid() != 0:
        yield Lack(ROOT)
    place = paths.project()
    if any(place.is_relative_to(folder) for folder in OVERLAID):
        yield Lack(f"a checkout outside of {', '.join(OVERLAID)}, which nodes cover ({place})")
    if "overlay" not in Path("/proc/filesystems").read_text():
        yield Lack("overlayfs in the kernel (`modprobe overlay`)")
    if not any(Path("/sys/fs/cgroup").iterdir()):
        yield Lack("cgroups mounted at /sys/fs/cgroup")
    yield from _sizes(lab, cache)
    for command, package in COMMANDS.items():
        if shutil.which(command) is None:
            yield Lack(f"the command {command}", package)
    if not any(Path(folder, "ptp").exists() for folder in CNI_FOLDERS):
        yield Lack(f"CNI's ptp plugin in one of {', '.join(CNI_FOLDERS)}", CNI_PACKAGE)
    if not _static_libc():
        yield Lack("the C library's static form (libc.a)", "libc6-dev")
    if not _go():
        yield Lack(f"Go {'.'.join(map(str, MIN_GO))} or newer on PATH (https://go.dev/doc/install)")
    if shutil.which("ip"):
        yield from _clashes(lab)


def _sizes(lab: Lab, cache: Path) -> Iterator[Lack]:
    needs = MEMORY_GIB + MORE_GIB * max(len(lab.clusters) - 2, 0)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    if memory < needs:
        yield Lack(f"{needs} GiB of memory (there are {memory:.1f})")
    place = next(folder for folder in [cache, *cache.parents] if folder.exists())
    needed = 2 if (cache / "charts").exists() else DISK_GIB
    free = shutil.disk_usage(place).free / 2**30
    if free < needed:
        yield Lack(f"{needed} GiB of free disk for {cache} (there are {free:.1f})")


def _static_libc() -> bool:
    if shutil.which("gcc") is None:
        return False
    command = ["gcc", "-print-file-name=libc.a"]
    return Path(
        subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
    ).is_absolute()


def _go() -> bool:
    if shutil.which("go") is None:
        return False
    answer = subprocess.run(["go", "env", "GOVERSION"], check=False, capture_output=True, text=True).stdout
    numbers = answer.strip().removeprefix("go").split(".")[:2]
    return (
        len(numbers) == len(MIN_GO) and tuple(int(number) for number in numbers if number.isdigit()) >= MIN_GO
    )


def _clashes(lab: Lab) -> Iterator[Lack]:
    for route, device in network.routes():
        for own in ranges(lab):
            if device != lab.bridge and route.overlaps(own):
                yield Lack(
                    f"the range {own} of lab.yaml for itself: the machine's route {route} on {device} overlaps it"
                )


def install(packages: list[str]) -> None:
    """Installs Debian packages without starting the services in them; raises CalledProcessError."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        # the one way that Debian's packages are told not to start their services
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            subprocess.run(
                ["apt-get", "-qq", *command], check=True, env=environment, stdout=subprocess.DEVNULL
            )
    finally:
        if ours:
            policy.unlink()
