"""Runs the simulated AWS as a child process."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.waiting import listens, wait_until

START_SECONDS = 60.0
POLL_SECONDS = 0.1
POLICY_FILE = "FEDMESH_SANDBOX_POLICY"


@contextmanager
def running(log: Path, policy: Path | None = None) -> Iterator[dict[str, str]]:
    """Runs the simulated AWS on a free loopback port; yields the environment that directs AWS clients to it.

    With `policy`, the user with this environment may do what that IAM policy document allows, and nothing else.
    Raises TimeoutError, with the end of its log, when it does not answer within a minute.
    """
    port = _free_port()
    # The kernel kills the server when this process ends.
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "testbed.sandbox.cloud", str(port)]
    root = Path(__file__).parents[3]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=root,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **({POLICY_FILE: str(policy)} if policy else {})},
        )
    try:
        _wait_for(port, log)
        yield environment(port)
    finally:
        process.terminate()
        process.wait()


def environment(port: int, key: str = "sandbox") -> dict[str, str]:
    """The endpoint for AWS clients, and credentials: the key id says who calls (see `authorization`)."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": "sandbox",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, log: Path) -> None:
    def complaint() -> str:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        return f"the simulated AWS does not answer: {end}"

    wait_until(lambda: listens(("127.0.0.1", port)), START_SECONDS, complaint, POLL_SECONDS)
