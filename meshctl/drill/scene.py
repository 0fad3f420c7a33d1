"""Where a drill plays: the clusters, who calls, whose fault it is, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from meshctl.drill.undo import Undo
from meshctl.reading import Cluster


@dataclass(frozen=True)
class Scene:
    """The parts of a drill. `situation` is put back after the load, `taken` when the fault ends."""

    clusters: dict[str, Cluster]
    client: Cluster
    peer: Cluster
    situation: Undo = field(default_factory=Undo)
    taken: Undo = field(default_factory=Undo)


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
    """

    number: int
    name: str
    title: str
    inject: Callable[[Scene], None]
    prepare: Callable[[Scene], None] = nothing
    seconds: float = 20.0
    destructive: bool = False
    lab: bool = False
