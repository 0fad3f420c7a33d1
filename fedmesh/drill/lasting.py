"""Connections that last for a whole drill: streams of HTTP and gRPC, WebSockets and plain TCP."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fedmesh.drill.samples import ANSWERED_BY, cluster_of

if TYPE_CHECKING:
    from fedmesh.drill.load import Load

PARALLEL = 4
# curl's exit code at the end of the time that it was given, and of its patience with a silent connection.
TIME_IS_UP = 28
# Seconds before the end of a load in which the last connections may end: they last for whole seconds.
END = 2.0
# Seconds between the end of a connection and the next one.
PAUSE = 0.1
# Seconds by which a client and its proxy differ on the start of a connection, at most.
NEAR = 1.0
# A line of a proxy's log at the end of a connection: its start in Unix seconds, the Envoy cluster, Istio's metadata.
LOG_MARK = "fedmesh-drill"
LOG_LINE = f"{LOG_MARK} %START_TIME(%s.%3f)% %UPSTREAM_CLUSTER% %UPSTREAM_METADATA(istio:workload)%\n"
_FIGURES = "%{exitcode},%{http_code},%{size_download}"
_WEBSOCKET = (
    "-H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' "
    "-H 'Sec-WebSocket-Key: ZmVkbWVzaC1kcmlsbC1rZXk='"
)


@dataclass(frozen=True)
class Connection:
    """One connection: its start and end in seconds since the start of the load, and curl's exit code at its end.

    `received`: bytes of the answer; `by`: the cluster that answered, as far as the proxy tells.
    """

    at: float
    until: float
    received: int
    by: str
    code: int


@dataclass(frozen=True)
class ConnectionFindings:
    """The findings of one lasting load. Times are in seconds since the start of the fault.

    Attributes:
        opened: connections over which something was received.
        broken: those of them that ended before the drill did.
        hung: those of the broken ones that ended since nothing came any more, without an error.
        refused: attempts to connect over which nothing was received.
        last_break: when the last connection broke; None without one.
        restored: when the first connection after the last break was opened that stayed; None without one.
        answered: kept connections by cluster.
    """

    opened: int
    broken: int
    hung: int
    refused: int
    last_break: float | None
    restored: float | None
    answered: dict[str, int]


def script(load: Load, seconds: float, output: str) -> str:
    """A shell script that keeps connections open for some seconds, and opens another where one ends."""
    grpc = f"--http2-prior-knowledge -H 'content-type: application/grpc' -H 'te: trailers' --data-binary @{output}.call"
    # Gopher is plain TCP: curl sends the path and reads to the end.
    options = {"websocket": _WEBSOCKET, "grpc": grpc}.get(load.protocol, "")
    url = load.url.replace("tcp://", "gopher://")
    silence = f"--speed-limit 1 --speed-time {load.silence:.0f}" if load.silence else ""
    return f"""
rm -f {output}*; touch {output}; printf '\\0\\0\\0\\0\\0' > {output}.call
end=$(( $(date +%s) + {seconds:.0f} ))
for n in $(seq {PARALLEL}); do ( touch {output}.$n
  while left=$(( end - $(date +%s) )); [ $left -gt 0 ]; do
    start=$(date +%s.%N)
    figures=$(curl -sN --max-time $left {silence} -D {output}.$n -o /dev/null -w '{_FIGURES}' {options} '{url}')
    until=$(date +%s.%N) by=
    while read -r name value; do [ "$name" = {ANSWERED_BY}: ] && by=$value; done < {output}.$n
    echo "$start,$until,$figures,$by" >> {output}
    sleep {PAUSE}
  done
) & done
wait
"""


def parse_connections(lines: Iterable[str], origin: float) -> list[Connection]:
    """Connections in the order of their start; `origin` is the load's start in Unix seconds."""
    found: list[Connection] = []
    for line in lines:
        fields = line.strip().split(",", 5)
        if len(fields) < 6 or not fields[2].isdigit():
            continue
        start, end, code, _status, received, by = fields
        found.append(
            Connection(float(start) - origin, float(end) - origin, int(received), cluster_of(by), int(code))
        )
    return sorted(found, key=lambda connection: connection.at)


def named(
    connections: Sequence[Connection], log: Iterable[str], upstream: str, origin: float
) -> list[Connection]:
    """Connections of plain TCP with the clusters that answered, by the lines of a proxy's log that began with them."""
    rows = [line.split() for line in log if line.startswith(LOG_MARK)]
    # Istio ends the name of the Envoy cluster with a semicolon.
    starts = [
        (float(row[1]) - origin, cluster_of(row[3]))
        for row in rows
        if len(row) > 3 and row[2].rstrip(";") == upstream
    ]
    found: list[Connection] = []
    for each in connections:
        near = min(starts, key=lambda row: abs(row[0] - each.at), default=None)
        if near is not None and abs(near[0] - each.at) < NEAR:
            starts.remove(near)
            each = replace(each, by=near[1])  # noqa: PLW2901
        found.append(each)
    return found


def analyse_connections(
    connections: Sequence[Connection], start: float, seconds: float
) -> ConnectionFindings:
    """Analyses a lasting load of `seconds` with a fault at `start`, both since the start of the load."""
    opened = [each for each in connections if each.received]
    broken = [each for each in opened if each.until < seconds - END]
    kept = [each for each in opened if each not in broken]
    last = max((each.until for each in broken), default=None)
    after = [each.at for each in kept if last is not None and each.at >= min(e.until for e in broken)]
    return ConnectionFindings(
        opened=len(opened),
        broken=len(broken),
        hung=sum(each.code == TIME_IS_UP for each in broken),
        refused=len(connections) - len(opened),
        last_break=None if last is None else last - start,
        restored=None if last is None or not after else max(after) - start,
        answered={name: sum(e.by == name for e in kept) for name in sorted({e.by for e in kept})},
    )
