"""The requests of a load, parsed from the output of vegeta."""

from __future__ import annotations

import base64
import binascii
import csv
from collections.abc import Iterable
from dataclasses import dataclass

NOBODY = "nobody"
# An answer that names no cluster, for example of an ingress gateway.
UNKNOWN = "not told"
# The callers' proxies add it to answers, with Istio's metadata of the endpoint that answered.
ANSWERED_BY = "x-fedmesh-drill-answered-by"
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
        """Whether the request failed: by HTTP without an answer below 400, by gRPC with another status than OK."""
        return not 200 <= self.status < 400


def parse(lines: Iterable[str], origin: float, *, grpc: bool = False) -> list[Sample]:
    """Requests in the order of sending, from `vegeta encode -to csv`; `origin` is the load's start in Unix seconds."""
    samples = [_sample(row, origin, grpc) for row in csv.reader(lines) if row]
    return sorted(samples, key=lambda sample: sample.at)


def cluster_of(workload: str) -> str:
    """The cluster in Istio's metadata of an endpoint: workload;namespace;name;revision;cluster."""
    return workload.rsplit(";", 1)[-1].strip().strip("-") or UNKNOWN


def _sample(row: list[str], origin: float, grpc: bool) -> Sample:
    timestamp, code, latency, _out, _in, error, body = row[:7]
    headers = _headers(row[11]) if len(row) > 11 else {}
    text, status = _text(body), int(code)
    if grpc and status == 200 and (headers.get("grpc-status", "0") != "0" or not body):
        # Envoy's own refusals are in the headers; an answer without a message has its status in the trailers.
        status = 0
        error = f"grpc-status {headers.get('grpc-status', 'unknown')}"
        text = headers.get("grpc-message", "")
    sample = Sample(int(timestamp) / _NANO - origin, int(latency) / _NANO, status, NOBODY, "")
    if sample.lost:
        # A proxy gives the reason of a refusal in the body.
        return Sample(sample.at, sample.latency, status, NOBODY, f"{error}: {text}" if text else error)
    return Sample(sample.at, sample.latency, status, cluster_of(headers.get(ANSWERED_BY, "")), "")


def _headers(encoded: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in _text(encoded).splitlines())
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _text(encoded: str) -> str:
    try:
        return base64.b64decode(encoded).decode("utf-8", "replace").strip()
    except binascii.Error:
        return ""
