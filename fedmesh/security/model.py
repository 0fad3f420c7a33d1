"""What an attack is, on what it is made, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from fedmesh.drill.means import Means
from fedmesh.drill.undo import Undo
from fedmesh.probe import Janitor
from fedmesh.reading import Cluster


class Verdict(StrEnum):
    """What came of an attack."""

    REFUSED = "refused"
    THROUGH = "got through"
    # Nobody is asked there who he is, on purpose: the evidence tells why.
    BY_DESIGN = "open by design"
    UNJUDGED = "not judged"


# What is as it should be: the others make the drill fail.
GOOD = (Verdict.REFUSED, Verdict.BY_DESIGN)


@dataclass(frozen=True)
class Finding:
    """One attack on one target.

    Attributes:
        target: what was attacked, such as a pod's port.
        evidence: how it was refused: a TLS alert, a status, a line of a log.
        control: how the same way was open to somebody who may go it.
    """

    attack: str
    cluster: str
    target: str
    verdict: Verdict
    evidence: str
    control: str = ""


@dataclass(frozen=True)
class Raid:
    """One run of the drill; `undo` puts back what `janitor` cannot just delete."""

    clusters: dict[str, Cluster]
    janitor: Janitor
    means: Means
    undo: Undo = field(default_factory=Undo)

    def peers(self, cluster: Cluster) -> list[Cluster]:
        """Every cluster but one."""
        return [other for other in self.clusters.values() if other is not cluster]


# Made on one cluster: gives a finding per target. May raise KubeError or ValueError: then it is not judged.
Play = Callable[[Raid, Cluster], Iterable[Finding]]


@dataclass(frozen=True)
class Attack:
    """An attack by its number and what it tries.

    Attributes:
        prepare: changes the mesh first, so that nothing else may be tried meanwhile, and pushes the way back;
            gives False where there is nothing to change. None: it can be made without.
        alone: not beside other attacks, whose outcome it would change.
    """

    number: int
    title: str
    play: Play
    prepare: Callable[[Raid], bool] | None = None
    alone: bool = False
