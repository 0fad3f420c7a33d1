"""Analysis of a load: losses, latencies, takeover and failback."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fedmesh.drill.samples import NOBODY, Sample

# Seconds; a slower answer counts as slow.
SLOW = 0.5
# Seconds; the takeover window lasts at least as long.
WINDOW = 3.0
# Seconds until a fault that was ordered takes effect, at most.
EFFECT = 2.0


@dataclass(frozen=True)
class LoadPhase:
    """One phase of a drill. Latencies are of answered requests, in seconds; None without any."""

    name: str
    sent: int
    lost: int
    p50: float | None
    p99: float | None
    longest: float | None
    answered: dict[str, int]


@dataclass(frozen=True)
class Findings:
    """The findings of one load. Times are in seconds since the start of the fault, `failback` since its end.

    takeover: the first answer of another cluster; None without a takeover.
    failback: the first answer of the former cluster after the fault; None without a takeover.
    steady: the end of the last lost or slow request; 0 without one.
    window: the requests from the start of the fault until the load is steady, at least WINDOW seconds.
    switches: how often the answering cluster changed after the end of the fault; None where several share the load.
    """

    phases: tuple[LoadPhase, LoadPhase, LoadPhase]
    sent: int
    lost: int
    first_error: float | None
    last_error: float | None
    takeover: float | None
    failback: float | None
    steady: float
    errors: dict[str, int]
    window: LoadPhase
    switches: int | None


def analyse(samples: Sequence[Sample], start: float, end: float) -> Findings:
    """Analyses a load with a fault between `start` and `end`, in seconds since the start of the load."""
    before = [sample for sample in samples if sample.at < start]
    during = [sample for sample in samples if start <= sample.at < end]
    after = [sample for sample in samples if sample.at >= end]
    usual = usual_answerer(before)
    failed = [sample for sample in samples if sample.lost]
    taken = next((s.at + s.latency for s in during if s.by not in (usual, NOBODY)), None)
    back = next((s.at + s.latency for s in after if s.by == usual), None)
    rough = [s.at + s.latency for s in samples if s.at >= start and (s.lost or s.latency > SLOW)]
    steady = max(rough) - start if rough else 0.0
    last = start + max(steady, WINDOW)
    answered_after = [s.by for s in after if not s.lost]
    # A load that several clusters shared before the fault has no takeover and no failback.
    spread = usual is None
    return Findings(
        phases=(_phase("before", before), _phase("during", during), _phase("after", after)),
        sent=len(samples),
        lost=len(failed),
        first_error=failed[0].at - start if failed else None,
        last_error=failed[-1].at - start if failed else None,
        takeover=None if taken is None or spread else taken - start,
        failback=None if taken is None or back is None or spread else back - end,
        steady=steady,
        errors=dict(Counter(_kind(sample) for sample in failed).most_common(5)),
        window=_phase("takeover", [sample for sample in samples if start <= sample.at < last]),
        switches=None if spread else sum(a != b for a, b in pairwise(answered_after)),
    )


def lost_early(samples: Sequence[Sample], start: float) -> int:
    """The lost requests that had ended before the fault."""
    return sum(sample.lost and sample.at + sample.latency < start for sample in samples)


def lost_late(samples: Sequence[Sample], start: float, allowed: float, complete: float = 0.0) -> int:
    """The lost requests but for those that were under way in the first `allowed` seconds of the fault.

    A kubelet kills a pod up to EFFECT seconds after it was told to: the fault begins with the first loss until then,
    or when it was `complete`, if that is later.
    """
    losses = [sample.at for sample in samples if sample.lost and start <= sample.at]
    end = max(min([start + EFFECT, *losses]), complete) + allowed
    return sum(
        sample.lost and not (sample.at <= end and sample.at + sample.latency >= start and allowed)
        for sample in samples
    )


def usual_answerer(before: Sequence[Sample]) -> str | None:
    """The cluster that answered at least 95 % of the requests before the fault; None without one."""
    answered = Counter(sample.by for sample in before if not sample.lost)
    if not answered:
        return None
    name, count = answered.most_common(1)[0]
    return name if count >= 0.95 * answered.total() else None


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of the values do not exceed; None without values."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _phase(name: str, samples: Sequence[Sample]) -> LoadPhase:
    latencies = [sample.latency for sample in samples if not sample.lost]
    return LoadPhase(
        name=name,
        sent=len(samples),
        lost=sum(sample.lost for sample in samples),
        p50=percentile(latencies, 0.5),
        p99=percentile(latencies, 0.99),
        longest=max(latencies, default=None),
        answered=dict(Counter(sample.by for sample in samples if not sample.lost)),
    )


def _kind(sample: Sample) -> str:
    if sample.status:
        said = sample.error.partition(": ")[2]
        return f"HTTP {sample.status}" + (f" ({said[-90:]})" if said else "")
    # Errors of Go end with the cause, after the request and the addresses.
    return sample.error.rsplit(": ", 1)[-1][:80] or "no answer"
