"""Finds programs on the machine whose versions fit those that the lab would build."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.lab.gomods import COREDNS, KUBERNETES, PULUMI, PULUMI_KUBERNETES

ANSWER_TIME = 20.0  # seconds that a program may take to print its version
KUBE_PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
)


@dataclass(frozen=True)
class Wanted:
    """Programs that are used together: all of them if all are on PATH in a fitting version, else none."""

    programs: Sequence[str]
    arguments: Sequence[str]
    version: re.Pattern[str]
    companions: Sequence[str] = ()  # programs that must exist, whose version is not checked


def _minor(version: str) -> str:
    return re.escape(version.rsplit(".", 1)[0])


WANTED = {
    "kube": Wanted(
        KUBE_PROGRAMS[:-1],
        ["--version"],
        re.compile(rf"Kubernetes {_minor(KUBERNETES)}\."),
        companions=["kubectl"],
    ),
    "coredns": Wanted(["coredns"], ["-version"], re.compile(rf"CoreDNS-{_minor(COREDNS.lstrip('v'))}\.")),
    "pulumi": Wanted(
        ["pulumi"], ["version"], re.compile(rf"v?{_minor(PULUMI)}\."), companions=["pulumi-language-python"]
    ),
}


def find(name: str, own: Path) -> dict[str, Path]:
    """The programs for build target `name` on PATH, or nothing; not those in `own`, the lab's bin folder."""
    if name == "pulumi-resource-kubernetes":
        return _provider()
    wanted = WANTED.get(name)
    if wanted is None:
        return {}
    search = os.pathsep.join(
        folder for folder in os.get_exec_path() if Path(folder).resolve() != own.resolve()
    )
    paths = {
        program: shutil.which(program, path=search) for program in (*wanted.programs, *wanted.companions)
    }
    found = {program: Path(path) for program, path in paths.items() if path is not None}
    if len(found) < len(paths):
        return {}
    fits = all(
        wanted.version.search(_answer(found[program], wanted.arguments)) for program in wanted.programs
    )
    return found if fits else {}


def _provider() -> dict[str, Path]:
    home = Path(os.environ.get("PULUMI_HOME", Path.home() / ".pulumi"))
    program = home / "plugins" / f"resource-kubernetes-v{PULUMI_KUBERNETES}" / "pulumi-resource-kubernetes"
    return {program.name: program} if program.is_file() and not program.is_symlink() else {}


def _answer(program: Path, arguments: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            [str(program), *arguments], capture_output=True, text=True, timeout=ANSWER_TIME, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr
