"""The environment in which the command runs. A test environment brings drills, stacks and an engine of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedmesh.topology import Topology

if TYPE_CHECKING:
    from fedmesh.drill.scene import Drill


def owns_nothing(_topology: Topology, _project: Path) -> bool:
    """No stack belongs to a test environment."""
    return False


def pulumi_up(stack: str) -> list[str]:
    """The command line of `pulumi up` on a stack, unattended."""
    return ["pulumi", "up", "--stack", stack, "--yes", "--skip-preview", "--suppress-outputs"]


@dataclass(frozen=True)
class Environment:
    """What the command can do besides talking to the clusters' API servers.

    Attributes:
        drills: drills that only this environment can run, such as the loss of a node's power.
        stack: the stack of commands that name none; "": the command looks for one.
        up: the command line of `pulumi up`, by the name of a stack that belongs to the environment.
        owns: whether a stack, of the project in a folder, belongs to the environment.
    """

    drills: tuple[Drill, ...] = ()
    stack: str = ""
    up: Callable[[str], list[str]] = pulumi_up
    owns: Callable[[Topology, Path], bool] = owns_nothing


ANY_CLUSTER = Environment()
