"""An attack, the run that it belongs to, and its findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from fedmesh.drill.means import Means
from fedmesh.drill.undo import Undo
from fedmesh.probe import Janitor
from fedmesh.reading import LiveCluster


class Verdict(StrEnum):
    """The outcome of an attack on one target."""

    REFUSED = "refused"
    THROUGH = "got through"
    # The target needs no credentials on purpose; the evidence gives the reason.
    BY_DESIGN = "open by design"
    UNJUDGED = "not judged"


# Every other verdict makes the command fail.
GOOD = (Verdict.REFUSED, Verdict.BY_DESIGN)


@dataclass(frozen=True)
class AttackResult:
    """The outcome of one attack on one target.

    Attributes:
        target: the target, such as a pod's port.
        evidence: how the target refused: a TLS alert, an HTTP status, a line of a log.
        control: how the same target answered an authorized request.
    """

    attack: str
    cluster: str
    target: str
    verdict: Verdict
    evidence: str
    control: str = ""


@dataclass(frozen=True)
class AttackSession:
    """One run of `fedmesh attack`; `undo` reverts the changes that deleting the `janitor`'s objects does not."""

    clusters: dict[str, LiveCluster]
    janitor: Janitor
    means: Means
    undo: Undo = field(default_factory=Undo)

    def peers(self, cluster: LiveCluster) -> list[LiveCluster]:
        """Every other cluster."""
        return [other for other in self.clusters.values() if other is not cluster]


# Runs on one cluster and returns a finding per target. May raise KubeError or ValueError: then it is not judged.
Run = Callable[[AttackSession, LiveCluster], Iterable[AttackResult]]


@dataclass(frozen=True)
class Attack:
    """An attack.

    Attributes:
        number: its number in the documents.
        title: what it tries.
        prepare: changes the mesh before the attack and pushes the way back on the session's `undo`; returns False
            where nothing is to be changed. None: the attack needs no change.
        exclusive: cannot run beside other attacks, whose outcome it would change.
    """

    number: int
    title: str
    run: Run
    prepare: Callable[[AttackSession], bool] | None = None
    exclusive: bool = False
