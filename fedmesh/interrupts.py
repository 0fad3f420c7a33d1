"""Ctrl-C, SIGTERM and a terminal that is closed: the first one stops a command, and none of them stops its clean-up."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

# SIGHUP: the terminal was closed, or the SSH session of the command has ended.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
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
    """Turns the first of SIGNALS into KeyboardInterrupt and later ones into a notice on standard error.

    The code that runs after the first one only cleans up, so that a second one must not stop it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = _install()
    _state.handled, _state.stopping, _state.pending = True, False, False
    try:
        yield
    finally:
        _state.handled = _state.stopping = False
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def shielded() -> Iterator[None]:
    """Runs a block to its end: one of SIGNALS raises KeyboardInterrupt after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    outermost = _state.shields == 0
    old = _install() if outermost else {}
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


def tell(text: str) -> None:
    """Prints a line on standard error, or nowhere when that is closed: clean-up goes on without its terminal."""
    with unread():
        print(text, file=sys.stderr, flush=True)


@contextmanager
def unread() -> Iterator[None]:
    """Runs a block that prints, and ends it when nobody can read it: the pipe or the terminal is closed.

    A signal's handler may also meet a print that is under way. Rich exits where the pipe is closed.
    """
    with suppress(OSError, ValueError, RuntimeError, SystemExit):
        yield


def _install() -> dict[signal.Signals, Any]:
    """Handles the signals, but for a SIGHUP that is ignored, as under nohup; returns the handlers of before."""
    taken = [
        number
        for number in SIGNALS
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    ]
    return {number: signal.signal(number, _handle) for number in taken}


def _handle(_number: int, _frame: FrameType | None) -> None:
    if _state.shields and not _state.stopping:
        _state.pending = True
    if _state.shields or _state.stopping:
        tell(NOTICE)
        return
    _state.stopping = True
    raise KeyboardInterrupt
