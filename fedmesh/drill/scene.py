"""What a drill is, and what it works on: the clusters, the calling cluster, the peer and the steps that undo it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fedmesh.drill.means import Means
from fedmesh.drill.target import Target
from fedmesh.drill.undo import Undo
from fedmesh.reading import LiveCluster


@dataclass(frozen=True)
class Scene:
    """The state of one drill while it runs.

    Attributes:
        client: the cluster whose pods send the load.
        peer: the cluster that takes over, or that fails.
        target: the service that is called, and whose local pods the drills on apps take away.
        remarks: observations for the report.
        situation: undone after the load has ended.
        taken: undone when the fault ends.
    """

    clusters: dict[str, LiveCluster]
    client: LiveCluster
    peer: LiveCluster
    means: Means
    target: Target
    remarks: list[str] = field(default_factory=list[str])
    situation: Undo = field(default_factory=Undo)
    taken: Undo = field(default_factory=Undo)


@dataclass(frozen=True)
class Objective:
    """The service level that a drill must keep besides losing no request; None: not judged.

    Attributes:
        p99: longest 99th percentile of the answers during the fault, in seconds.
        longest: longest answer during the fault, in seconds.
        takeover: longest time from the start of the fault to the first answer of another cluster, in seconds.
        steady: longest time from the start of the fault to the last lost or slow request, in seconds.
        recovery: longest time from the end of the fault to the last lost or slow request, in seconds.
        lossless: no call of any kind may be lost, also none that is under way when the fault begins.
        kept: no connection may end.
        ended: longest time from the start of the fault to the end of the last connection through what is lost, in
            seconds; new ones must be open REOPENED seconds later.
        goodput: not losses are judged but answers per second, beside the set-up of Istio's documents in the same run,
            and that no request is lost later than RECOVERY after the fault.
    """

    p99: float | None = None
    longest: float | None = None
    takeover: float | None = None
    steady: float | None = None
    recovery: float | None = None
    lossless: bool = False
    kept: bool = False
    ended: float | None = None
    goodput: bool = False


NOTHING_LOST = Objective()
# Seconds after a fault within which all is as before.
RECOVERY = 5.0
# Seconds in which a call that nobody declared safe to repeat may be lost: it was in flight, or on its way.
IN_FLIGHT = 3.0
# Seconds; longer than the longest back-off of a SPIRE agent.
HEALING = 240.0
# Seconds in which connections through what is lost end with an error, and in which new ones are open after that.
ENDED, REOPENED = 5.0, 1.0
# Nothing of what calls and connections pass through is lost.
UNNOTICED = Objective(lossless=True, kept=True)
# Pods that calls and connections pass through are lost.
RECONNECTED = Objective(ended=ENDED)
# Callers of an idempotent GET may notice the takeover as a short pause.
TAKEOVER = Objective(p99=1.5, steady=3.0, ended=ENDED)
# The same for an app that answers errors: its connections stay.
ERRORS = Objective(p99=1.5, steady=3.0, kept=True)
# An app that hangs is noticed again at each trial, as an answer that took two tries; all is steady after the fault.
TRIALS = Objective(p99=1.5, recovery=RECOVERY, kept=True)
# Where there is more to do than machines can, requests are lost whatever the mesh does.
GOODPUT = Objective(goodput=True)


def nothing(_scene: Scene) -> None:
    """The preparation of drills that need none."""


@dataclass(frozen=True)
class Drill:
    """A fault that can be injected and ended.

    Attributes:
        number: the drill's number on the command line; several drills may share one.
        name: the drill's name on the command line.
        title: the fault, in a few words.
        inject: injects the fault; it pushes the way back on `taken` before it changes anything.
        prepare: brings the mesh into the state in which the fault matters, before the load starts.
        seconds: duration of the fault unless the command line sets one.
        after: shortest load after a fault of that duration, in seconds.
        destructive: affects more than one app, so that it must be confirmed outside a test environment.
        contained: runs in a test environment only.
        degrades: `fedmesh verify` runs during the fault, and the report lists what it finds.
        heals: seconds after the fault within which `fedmesh verify` must pass again; 0: not judged.
        objective: what the drill must keep besides losing no request.
        clusters: the smallest number of clusters with which the fault leaves somebody to take over.
        hopeless: why calls that nobody declared safe to repeat are lost while the fault lasts; "": they are not.
        in_use: the peer is the cluster that answers most calls after the preparation.
        users: the peer is the cluster that users outside the mesh reach first; callers in the mesh are elsewhere.
        gradual: the fault takes one pod after the other, and is complete when `inject` returns: what may be lost
            afterwards is counted from then.
        times: the callers' rate is multiplied by it.
        everywhere: whether callers on all clusters send the load.
    """

    number: int
    name: str
    title: str
    inject: Callable[[Scene], None]
    prepare: Callable[[Scene], None] = nothing
    seconds: float = 20.0
    after: float = 0.0
    destructive: bool = False
    contained: bool = False
    degrades: bool = False
    heals: float = 0.0
    objective: Objective = NOTHING_LOST
    clusters: int = 2
    hopeless: str = ""
    in_use: bool = False
    users: bool = False
    gradual: bool = False
    times: int = 1
    everywhere: bool = False
