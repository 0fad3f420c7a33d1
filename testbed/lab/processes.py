"""Finds the lab's processes on this machine by their environment variables."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testbed.lab.config import Node
from testbed.waiting import wait_until

NODE_MARKER = "FEDMESH_LAB_NODE"
STATE_MARKER = "FEDMESH_LAB_STATE"
# the kernel releases an abstract address when the process that holds it ends
COMMAND_LOCK = "\0fedmesh-lab-command"


@dataclass(frozen=True)
class Process:
    """A process of a node: its ID on this machine, its node, and whether it is the node's first process."""

    number: int
    node: str
    state: str
    first: bool


def find() -> Iterator[Process]:
    """The processes of all nodes, except those in pods."""
    for number, variables in _variables():
        if NODE_MARKER not in variables:
            continue
        try:
            numbers = next(
                line.split()[1:]
                for line in Path(f"/proc/{number}/status").read_text().splitlines()
                if line.startswith("NSpid")
            )
        except (OSError, StopIteration):
            continue
        yield Process(
            number,
            variables[NODE_MARKER],
            variables.get(STATE_MARKER, ""),
            # process 1 of a PID namespace directly below this one
            first=len(numbers) == 2 and numbers[1] == "1",
        )


def with_variable(name: str, value: str) -> Iterator[int]:
    """The IDs of all other processes that were started with this value of an environment variable."""
    return (number for number, variables in _variables() if variables.get(name) == value)


def others() -> Iterator[int]:
    """The IDs of all processes except this one."""
    return (
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and int(entry.name) != os.getpid()
    )


def _variables() -> Iterator[tuple[int, dict[str, str]]]:
    """The initial environment of each other running process, by ID."""
    for number in others():
        with contextlib.suppress(OSError):
            items = Path(f"/proc/{number}/environ").read_bytes().decode(errors="replace").split("\0")
            yield number, dict(item.split("=", 1) for item in items if "=" in item)


def first(node: Node) -> int | None:
    """The ID of the node's first process on this machine, or None when the node is down."""
    return next((process.number for process in find() if process.first and process.node == node.name), None)


def programs(node: Node) -> dict[str, int]:
    """The process IDs of the programs that run on the node, by name."""
    parent = first(node)
    if parent is None:
        return {}
    found: dict[str, int] = {}
    for process in find():
        try:
            stat = Path(f"/proc/{process.number}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        line = arguments(process.number)
        if int(stat[1]) == parent and line:
            name = "lab-controller" if "testbed.lab.controller" in line else Path(line[0]).name
            found[name] = process.number
    return found


def arguments(number: int) -> list[str]:
    """A process's command line; empty when it has ended."""
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes().decode().split("\0")[:-1]
    except OSError:
        return []


def kill(number: int) -> None:
    """Kills a process that may have ended already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)


def kill_all(chosen: Callable[[Process], bool], patience: float = 10.0) -> None:
    """Kills the chosen processes and waits until they have ended; raises TimeoutError after `patience` seconds."""
    left: list[Process] = []

    def ended() -> bool:
        left[:] = [process for process in find() if chosen(process)]
        for process in left:
            kill(process.number)
        return not left

    wait_until(ended, patience, lambda: f"process {left[0].number} of {left[0].node} can't be killed", 0.05)


@contextmanager
def only_command(wait: Callable[[], None]) -> Iterator[None]:
    """Lets one command at a time change the lab; `wait` is called once if this one has to wait."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        told = False
        while True:
            try:
                lock.bind(COMMAND_LOCK)
                break
            except OSError as taken:
                if taken.errno != errno.EADDRINUSE:
                    raise
                if not told:
                    wait()
                    told = True
                time.sleep(0.2)
        yield
