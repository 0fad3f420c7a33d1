"""From single requests to what callers noticed of a fault."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fedmesh.drill.samples import NOBODY, Sample

# An answer later than this is one that a caller notices.
SLOW = 0.5


@dataclass(frozen=True)
class Phase:
    """One stretch of a drill. Latencies in seconds, of answered requests; None where there were none."""

    name: str
    sent: int
    lost: int
    p50: float | None
    p99: float | None
    longest: float | None
    answered: dict[str, int]


@dataclass(frozen=True)
class Findings:
    """What one load noticed. Times in seconds since the fault began, `failback` since it ended.

    takeover: the first answer of somebody who did not answer before; None when nobody had to.
    failback: the first answer of the one that answered before, after the fault's end; None without takeover.
    steady: the end of the last request that was lost or slow; 0 when there was none.
    """

    phases: tuple[Phase, Phase, Phase]
    sent: int
    lost: int
    first_error: float | None
    last_error: float | None
    takeover: float | None
    failback: float | None
    steady: float
    errors: dict[str, int]


def analyse(samples: Sequence[Sample], start: float, end: float) -> Findings:
    """Find what a load noticed of a fault between two times, in seconds since the load's start."""
    before = [sample for sample in samples if sample.at < start]
    during = [sample for sample in samples if start <= sample.at < end]
    after = [sample for sample in samples if sample.at >= end]
    usual = usual_answerer(before)
    failed = [sample for sample in samples if sample.lost]
    taken = next((s.at + s.latency for s in during if s.by not in (usual, NOBODY)), None)
    back = next((s.at + s.latency for s in after if s.by == usual), None)
    rough = [s.at + s.latency for s in samples if s.at >= start and (s.lost or s.latency > SLOW)]
    # A service that was spread over both clusters before has nothing to take over and nothing to fail back.
    spread = usual is None
    return Findings(
        phases=(_phase("before", before), _phase("during", during), _phase("after", after)),
        sent=len(samples),
        lost=len(failed),
        first_error=failed[0].at - start if failed else None,
        last_error=failed[-1].at - start if failed else None,
        takeover=None if taken is None or spread else taken - start,
        failback=None if taken is None or back is None or spread else back - end,
        steady=max(rough) - start if rough else 0.0,
        errors=dict(Counter(_kind(sample) for sample in failed).most_common(5)),
    )


def usual_answerer(before: Sequence[Sample]) -> str | None:
    """Who answered all but a few of the requests before the fault; None when several shared them."""
    answered = Counter(sample.by for sample in before if not sample.lost)
    if not answered:
        return None
    name, count = answered.most_common(1)[0]
    return name if count >= 0.95 * answered.total() else None


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of the values do not exceed; None of no values."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _phase(name: str, samples: Sequence[Sample]) -> Phase:
    latencies = [sample.latency for sample in samples if not sample.lost]
    return Phase(
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
    # Go's errors name the request and the addresses first; what went wrong is at the end.
    return sample.error.rsplit(": ", 1)[-1][:80] or "no answer"
