"""Stands before an API server of the sandbox and lets in the callers that would reach it in AWS, as AWS is now."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

from testbed.sandbox.reach import UnreachableError

CHUNK = 65536


class Door(ThreadingTCPServer):
    """Relays TCP connections to `target`, unless `judge` raises UnreachableError; `refused` keeps the reasons."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, target: tuple[str, int], judge: Callable[[], None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.judge = judge
        self.refused: list[str] = []

    @property
    def port(self) -> int:
        """The port on the loopback interface."""
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are the callers' to notice."""


class _Handler(BaseRequestHandler):
    def handle(self) -> None:
        door = self.server
        assert isinstance(door, Door)  # noqa: S101 - the type of socketserver says less
        try:
            door.judge()
        except UnreachableError as error:
            if str(error) not in door.refused:
                door.refused.append(str(error))
            return
        with socket.create_connection(door.target, timeout=10) as inside:
            inside.settimeout(None)
            back = threading.Thread(target=_pump, args=(inside, self.request), daemon=True)
            back.start()
            _pump(self.request, inside)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            target.sendall(data)
    for end, how in ((target, socket.SHUT_WR), (source, socket.SHUT_RD)):
        with contextlib.suppress(OSError):
            end.shutdown(how)


@contextmanager
def opened(target: tuple[str, int], judge: Callable[[], None]) -> Iterator[Door]:
    """Serves a door until the block ends."""
    with Door(target, judge) as door:
        thread = threading.Thread(target=door.serve_forever, daemon=True)
        thread.start()
        try:
            yield door
        finally:
            door.shutdown()
