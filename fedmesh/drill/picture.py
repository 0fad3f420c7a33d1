"""The timeline of a load as shapes: the cluster that answered, latencies and lost requests."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedmesh.drill.samples import NOBODY, Sample

WIDTH, HEIGHT = 960.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 12.0, 30.0, 66.0
# The latency axis is logarithmic: a local answer takes 1 ms, a retried one a thousand times as long.
FASTEST, SLOWEST = 0.0005, 10.0
TICKS = (0.001, 0.01, 0.1, 1.0, 10.0)
# Colours that colour-blind people can distinguish.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")
LOST = "#d00000"


@dataclass(frozen=True)
class Dots:
    """The requests that one cluster answered."""

    colour: str
    places: tuple[tuple[float, float], ...]

    @property
    def path(self) -> str:
        """One SVG path of zero-length lines, whose round caps are the dots."""
        return "".join(f"M{x:g} {y:g}h0" for x, y in self.places)


@dataclass(frozen=True)
class Bar:
    """The requests of half a second that one cluster answered, as a part of a stacked bar."""

    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True)
class Mark:
    """A labelled position on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Picture:
    """The shapes of a timeline, in pixels of a WIDTH x HEIGHT canvas."""

    dots: tuple[Dots, ...]
    crosses: tuple[float, ...]
    bars: tuple[Bar, ...]
    times: tuple[Mark, ...]
    latencies: tuple[Mark, ...]
    fault: tuple[float, float]
    legend: tuple[tuple[str, str], ...]
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    floor: float = HEIGHT - BOTTOM
    strip: float = HEIGHT - BOTTOM + 22.0


def draw(samples: Sequence[Sample], start: float, end: float, seconds: float) -> Picture:
    """Lays out a load of `seconds` with a fault between `start` and `end`."""

    def x(at: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * min(max(at, 0.0), seconds) / seconds, 1)

    def y(latency: float) -> float:
        share = math.log(min(max(latency, FASTEST), SLOWEST) / FASTEST) / math.log(SLOWEST / FASTEST)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    names = sorted({sample.by for sample in samples if not sample.lost})
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    colours[NOBODY] = LOST
    step = max(1, round(seconds / 12))
    return Picture(
        dots=tuple(
            Dots(
                colours[name],
                # Many requests have the same pixel.
                tuple(dict.fromkeys((x(s.at), y(s.latency)) for s in samples if s.by == name and not s.lost)),
            )
            for name in names
        ),
        crosses=tuple(x(sample.at) for sample in samples if sample.lost),
        bars=_bars(samples, seconds, colours, x),
        times=tuple(Mark(x(second), f"{second} s") for second in range(0, math.floor(seconds) + 1, step)),
        latencies=tuple(Mark(y(tick), _label(tick)) for tick in TICKS),
        fault=(x(start), x(end)),
        legend=tuple((name, colours[name]) for name in [*names, NOBODY]),
    )


def _label(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"


def _bars(
    samples: Sequence[Sample], seconds: float, colours: dict[str, str], x: Callable[[float], float]
) -> tuple[Bar, ...]:
    slices = max(1, math.ceil(seconds * 2))
    counts: list[dict[str, int]] = [{} for _ in range(slices)]
    for sample in samples:
        index = min(max(int(sample.at * 2), 0), slices - 1)
        who = NOBODY if sample.lost else sample.by
        counts[index][who] = counts[index].get(who, 0) + 1
    tallest = max((sum(count.values()) for count in counts), default=1) or 1
    full, bars = 26.0, list[Bar]()
    for index, count in enumerate(counts):
        base = HEIGHT - 14.0
        for who in sorted(count):
            height = full * count[who] / tallest
            width = x((index + 1) / 2) - x(index / 2)
            bars.append(
                Bar(x(index / 2), round(base - height, 1), round(width, 1), round(height, 1), colours[who])
            )
            base -= height
    return tuple(bars)
