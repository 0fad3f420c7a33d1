"""Where a drill plays: the clusters, who calls, whose fault it is, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fedmesh.drill.means import Means
from fedmesh.drill.undo import Undo
from fedmesh.reading import Cluster


@dataclass(frozen=True)
class Scene:
    """The parts of a drill. `situation` is put back after the load, `taken` when the fault ends.

    `remarks` is what went on besides, for the report.
    """

    clusters: dict[str, Cluster]
    client: Cluster
    peer: Cluster
    means: Means
    remarks: list[str] = field(default_factory=list[str])
    situation: Undo = field(default_factory=Undo)
    taken: Undo = field(default_factory=Undo)


@dataclass(frozen=True)
class Bar:
    """What a drill must reach besides losing nothing: seconds, None where nothing is asked.

    p99: of the answers while the fault lasts. steady: until no request is lost or slow any more.
    """

    p99: float | None = None
    steady: float | None = None


LOSSLESS = Bar()
# Longer than a crashed agent's longest pause.
HEALING = 240.0
# A takeover that callers of an idempotent GET may notice as a pause, not more.
TAKEOVER = Bar(p99=1.5, steady=3.0)


def nothing(_scene: Scene) -> None:
    """The situation of faults that need none."""


@dataclass(frozen=True)
class Fault:
    """A fault that can be made and ended.

    Attributes:
        number: the drill's number, as on the command line.
        title: what happens, in a few words.
        inject: makes the fault; pushes the way back on `taken` before it takes anything away.
        prepare: makes the situation in which the fault is worth making, before the load starts.
        seconds: how long it lasts when the command line does not say.
        destructive: whether it takes more than one app away, so that outside the lab it must be confirmed.
        lab: whether it needs the lab's own means.
        degrades: whether the mesh is examined while it lasts, so that the report can name what is worse.
        heals: seconds after it in which the mesh must be found whole without a hand, 0 where nobody looks.
        bar: what it must reach besides losing nothing.
    """

    number: int
    name: str
    title: str
    inject: Callable[[Scene], None]
    prepare: Callable[[Scene], None] = nothing
    seconds: float = 20.0
    destructive: bool = False
    lab: bool = False
    degrades: bool = False
    heals: float = 0.0
    bar: Bar = LOSSLESS
