"""Waiting for a condition, in one place."""

import socket
import time
from collections.abc import Callable


def wait_until(
    done: Callable[[], bool], seconds: float, complaint: Callable[[], str], pause: float = 0.1
) -> None:
    """Calls `done` until it returns true, at least once. Raises TimeoutError with the complaint after `seconds`."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(complaint())
        time.sleep(pause)


def listens(address: tuple[str, int]) -> bool:
    """Whether a TCP connection to an address can be made."""
    with socket.socket() as probe:
        return probe.connect_ex(address) == 0
