"""Ctrl-C and SIGTERM: the first one stops a command, and none of them stops its clean-up."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOTICE = (
    "fedmesh: cleaning up, please wait (Ctrl-\\ ends the command at once and leaves its changes in place)"
)


class _State:
    handled = False
    stopping = False
    shields = 0
    pending = False


_state = _State()


@contextmanager
def handled() -> Iterator[None]:
    """Turns the first SIGINT or SIGTERM into KeyboardInterrupt and later ones into a notice on standard error.

    The code that runs after the first one only cleans up, so that a second one must not stop it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.signal(number, _handle) for number in SIGNALS}
    _state.handled, _state.stopping, _state.pending = True, False, False
    try:
        yield
    finally:
        _state.handled = _state.stopping = False
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def shielded() -> Iterator[None]:
    """Runs a block to its end: a SIGINT or SIGTERM raises KeyboardInterrupt after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    outermost = _state.shields == 0
    old = {number: signal.signal(number, _handle) for number in SIGNALS} if outermost else {}
    _state.shields += 1
    try:
        yield
    finally:
        _state.shields -= 1
        for number, handler in old.items():
            signal.signal(number, handler)
        if outermost and _state.pending:
            _state.pending, _state.stopping = False, _state.handled
            raise KeyboardInterrupt


def _handle(_number: int, _frame: FrameType | None) -> None:
    if _state.shields and not _state.stopping:
        _state.pending = True
    if _state.shields or _state.stopping:
        print(NOTICE, file=sys.stderr, flush=True)
        return
    _state.stopping = True
    raise KeyboardInterrupt
