"""What a check is and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fedmesh.probe import Janitor
from fedmesh.reading import LiveCluster
from fedmesh.topology import Topology


class Failed(Exception):  # noqa: N818 (a verdict, not an error)
    """A check's verdict that something is wrong. The hint says what to do about it."""

    def __init__(self, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint


@dataclass(frozen=True)
class Result:
    """One check's answer for one cluster; `duration` is in seconds."""

    name: str
    cluster: str
    ok: bool
    detail: str
    hint: str
    duration: float


@dataclass(frozen=True)
class Mesh:
    """The mesh under examination: every cluster's readings by cluster name."""

    topology: Topology
    clusters: dict[str, LiveCluster]
    janitor: Janitor
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def peers(self, cluster: LiveCluster) -> list[LiveCluster]:
        """Every cluster but one."""
        return [other for name, other in self.clusters.items() if name != cluster.name]


# Examines one cluster: returns what it found good in a few words, or raises Failed.
Examine = Callable[[Mesh, LiveCluster], str]


@dataclass(frozen=True)
class Check:
    """A named examination, run once per cluster. Those of samples run only where the samples are."""

    name: str
    examine: Examine
    hint: str
    samples: bool


def check(name: str, hint: str, samples: bool = False) -> Callable[[Examine], Check]:
    """Make a function a check, with the hint for failures that bring none of their own."""
    return lambda examine: Check(name, examine, hint, samples)


def refuse(faults: list[str], hint: str = "") -> None:
    """Raise Failed when there are faults, naming at most three of them."""
    if faults:
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise Failed("; ".join(faults[:3]) + more, hint)
