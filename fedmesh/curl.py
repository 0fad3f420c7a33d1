"""curl in a container: the one client that every cluster's probe image has, driven and read as data."""

from __future__ import annotations

import json
from dataclasses import dataclass

from fedmesh.kube import Output

_MARK = "\n---fedmesh---\n"
# A key comes by standard input into a file of memory, so that it is in no request, log or disk.
# Each call has a file of its own: several may run in one pod at a time.
_WITH_IDENTITY = 'umask 077; f=$(mktemp); head -c "$1" > $f; shift; curl --cert $f "$@"; e=$?; rm $f; exit $e'


@dataclass(frozen=True)
class Answer:
    """What curl got. `status` is 0 when no HTTP answer came; then `code` and `error` are curl's own.

    `secured`: whether a TLS handshake was completed.
    """

    status: int
    body: str
    headers: dict[str, str]
    code: int
    error: str
    seconds: float
    secured: bool = False


def command(url: str, *options: str, timeout: float = 3.0) -> list[str]:
    """Command line of one request whose output `parse` understands."""
    write = f"{_MARK}%{{json}}{_MARK}%{{header_json}}"
    return ["curl", *_options(url, write, timeout, options)]


def command_with_identity(url: str, pem: str, *options: str, timeout: float = 3.0) -> list[str]:
    """Like `command`, presenting the certificate and key that are sent as `pem` to standard input."""
    write = f"{_MARK}%{{json}}{_MARK}%{{header_json}}"
    size = str(len(pem.encode()))
    return ["sh", "-c", _WITH_IDENTITY, "sh", size, *_options(url, write, timeout, options)]


def parse(output: Output) -> Answer:
    """Read what a command made by this module wrote. Raises ValueError when curl did not even start."""
    parts = output.stdout.split(_MARK)
    if len(parts) != 3:
        raise ValueError(f"curl wrote nothing usable (exit {output.code}): {output.stderr.strip()[-200:]}")
    body, facts = parts[0], json.loads(parts[1])
    headers = {name: values[-1] for name, values in json.loads(parts[2] or "{}").items() if values}
    return Answer(
        status=int(facts.get("response_code", 0)),
        body=body,
        headers=headers,
        code=int(facts.get("exitcode", output.code)),
        error=str(facts.get("errormsg") or output.stderr.strip()),
        seconds=float(facts.get("time_total", 0)),
        secured=float(facts.get("time_appconnect", 0)) > 0,
    )


def _options(url: str, write: str, timeout: float, options: list[str] | tuple[str, ...]) -> list[str]:
    return ["-sS", "--max-time", f"{timeout:g}", "-o", "-", "-w", write, *options, url]
