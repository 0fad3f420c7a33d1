"""The environment in which the command runs. A test environment brings drills, stacks and an engine of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fedmesh.topology import Topology

if TYPE_CHECKING:
    from fedmesh.drill.load import Load, Running
    from fedmesh.drill.scene import Drill
    from fedmesh.drill.target import Target
    from fedmesh.kube import Json
    from fedmesh.probe import Janitor
    from fedmesh.reading import LiveCluster


class Stage(Protocol):
    """An app of the environment on every cluster, and users outside the clusters who call it.

    Attributes:
        target: the app's service.
        loads: the kinds of calls from inside the mesh.
        retries: those that the app's owner has written, as in a VirtualService.
    """

    target: Target
    loads: tuple[Load, ...]
    retries: Json

    def users(self, first: str) -> list[Running]:
        """The loads of users, whose edges prefer the cluster `first`."""
        ...

    def doubled(self, tag: str) -> int:
        """The requests of a load that the app executed more than once."""
        ...

    def halt(self) -> None:
        """Ends the loads of users that still run."""
        ...

    def close(self) -> None:
        """Ends what runs outside the clusters."""
        ...


def owns_nothing(_topology: Topology, _project: Path) -> bool:
    """No stack belongs to a test environment."""
    return False


def any_node(_cluster: str) -> Sequence[str]:
    """No node of a cluster is better for load pods than another."""
    return ()


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
        load_nodes: the nodes of a cluster, by its name, that load pods run on if they can: its drills let them run.
        stage: brings an app into the clusters, which the janitor removes; None: there is none.
    """

    drills: tuple[Drill, ...] = ()
    stack: str = ""
    up: Callable[[str], list[str]] = pulumi_up
    owns: Callable[[Topology, Path], bool] = owns_nothing
    load_nodes: Callable[[str], Sequence[str]] = any_node
    stage: Callable[[Janitor, Mapping[str, LiveCluster]], Stage] | None = None


ANY_CLUSTER = Environment()
