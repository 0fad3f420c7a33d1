"""The requests of a load, parsed from the output of vegeta."""

from __future__ import annotations

import base64
import binascii
import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

NOBODY = "nobody"
_NANO = 1e9


@dataclass(frozen=True)
class Sample:
    """One request: time (seconds since the start of the load), latency (seconds), and the cluster that answered."""

    at: float
    latency: float
    status: int
    by: str
    error: str

    @property
    def lost(self) -> bool:
        """True unless the request was answered with 200."""
        return self.status != 200


def parse(lines: Iterable[str], origin: float, answerers: Mapping[str, str]) -> list[Sample]:
    """Requests in the order of sending, from `vegeta encode -to csv`.

    `origin` is the start of the load in Unix seconds; `answerers` maps versions of helloworld to clusters.
    """
    samples = [_sample(row, origin, answerers) for row in csv.reader(lines) if row]
    return sorted(samples, key=lambda sample: sample.at)


def _sample(row: list[str], origin: float, answerers: Mapping[str, str]) -> Sample:
    timestamp, status, latency, _out, _in, error, body = row[:7]
    answered = int(status) == 200
    text = _text(body)
    return Sample(
        at=int(timestamp) / _NANO - origin,
        latency=int(latency) / _NANO,
        status=int(status),
        by=_answerer(text, answerers) if answered else NOBODY,
        # A proxy gives the reason of a refusal in the body.
        error="" if answered else f"{error}: {text}" if text else error,
    )


def _text(body: str) -> str:
    try:
        return base64.b64decode(body).decode("utf-8", "replace").strip()
    except binascii.Error:
        return ""


def _answerer(text: str, answerers: Mapping[str, str]) -> str:
    version = text.partition("version: ")[2].partition(",")[0].strip()
    return answerers.get(version, version or NOBODY)
