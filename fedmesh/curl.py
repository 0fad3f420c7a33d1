"""curl in a container: command lines, and their output as data."""

from __future__ import annotations

import json
from dataclasses import dataclass

from fedmesh.kube import Output

_MARK = "\n---fedmesh---\n"
# The key is sent to standard input and kept in a file in memory, so that no request, log or disk holds it. Each call
# has its own file because calls may run concurrently in one pod.
_WITH_IDENTITY = 'umask 077; f=$(mktemp); head -c "$1" > $f; shift; curl --cert $f "$@"; e=$?; rm $f; exit $e'


@dataclass(frozen=True)
class Answer:
    """The result of one request. `status` is 0 without an HTTP answer; `code` and `error` are those of curl.

    `secured`: whether the TLS handshake was completed.
    """

    status: int
    body: str
    headers: dict[str, str]
    code: int
    error: str
    seconds: float
    secured: bool = False


def command(url: str, *options: str, timeout: float = 3.0) -> list[str]:
    """The command line of one request, for `parse`."""
    write = f"{_MARK}%{{json}}{_MARK}%{{header_json}}"
    return ["curl", *_options(url, write, timeout, options)]


def command_with_identity(url: str, pem: str, *options: str, timeout: float = 3.0) -> list[str]:
    """The command line of one request with a client certificate; standard input must be `pem`."""
    write = f"{_MARK}%{{json}}{_MARK}%{{header_json}}"
    size = str(len(pem.encode()))
    return ["sh", "-c", _WITH_IDENTITY, "sh", size, *_options(url, write, timeout, options)]


def parse(output: Output) -> Answer:
    """Parses the output of a command of this module. Raises ValueError when curl did not start."""
    parts = output.stdout.split(_MARK)
    if len(parts) != 3:
        raise ValueError(f"curl did not run (exit {output.code}): {output.stderr.strip()[-200:]}")
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
