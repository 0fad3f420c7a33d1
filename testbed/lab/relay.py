"""Slow and lossy links without netem, which not every kernel has: moves frames between two interfaces.

`python -m testbed.lab.relay NODE_SIDE BRIDGE_SIDE --delay 0.1 --loss 0.05` delays and drops frames from the node;
frames to the node pass at once. The relay ends when one of the interfaces is removed.
"""

from __future__ import annotations

import argparse
import random
import select
import socket
import sys
import time
from collections import deque

from testbed.lab import network

ALL_PROTOCOLS = 0x0003
# linux/if_packet.h; frames keep the kernel's notes on checksums and segments, so that offloads go on working
SOL_PACKET = 263
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23
LARGEST = 1 << 17
BUFFER = 8 << 20
# netem's own default: packets beyond it are dropped
QUEUE = 1000


def tap(interface: str) -> socket.socket:
    """A socket that receives every frame that arrives at the interface, and sends frames unchanged."""
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
    raw.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    raw.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    raw.bind((interface, 0))
    raw.setblocking(False)
    return raw


class Line:
    """The delayed frames, in order of arrival."""

    def __init__(self, delay: float, loss: float) -> None:
        self.delay = delay
        self.loss = loss
        self.frames: deque[tuple[float, bytes]] = deque()

    def take(self, frame: bytes, now: float) -> None:
        """Takes a frame, unless it is dropped."""
        if len(self.frames) < QUEUE and random.random() >= self.loss:  # noqa: S311 (no secret)
            self.frames.append((now + self.delay, frame))

    def due(self, now: float) -> list[bytes]:
        """The frames that are due now."""
        arrived: list[bytes] = []
        while self.frames and self.frames[0][0] <= now:
            arrived.append(self.frames.popleft()[1])
        return arrived

    def pause(self, now: float) -> float | None:
        """Seconds until the next frame is due; None when there is none."""
        return max(0.0, self.frames[0][0] - now) if self.frames else None


def relay(node: socket.socket, bridge: socket.socket, line: Line) -> None:
    """Moves frames until an interface is removed, which raises OSError."""
    while True:
        ready, _, _ = select.select([node, bridge], [], [], line.pause(time.monotonic()))
        if bridge in ready:
            for frame in _received(bridge):
                _send(node, frame)
        if node in ready:
            now = time.monotonic()
            for frame in _received(node):
                line.take(frame, now)
        for frame in line.due(time.monotonic()):
            _send(bridge, frame)


def _received(tapped: socket.socket) -> list[bytes]:
    frames: list[bytes] = []
    # a bounded number, so that one side can't starve the other
    while len(frames) < 64:
        try:
            frames.append(tapped.recv(LARGEST))
        except BlockingIOError:
            break
    return frames


def _send(tapped: socket.socket, frame: bytes) -> None:
    try:
        tapped.send(frame)
    except BlockingIOError:
        return  # a full link drops frames


def main() -> int:
    """Detaches the node's link from the bridge once the relay is ready."""
    parser = argparse.ArgumentParser(prog="python -m testbed.lab.relay")
    parser.add_argument("node_side")
    parser.add_argument("bridge_side")
    parser.add_argument("--delay", type=float, required=True, help="seconds")
    parser.add_argument("--loss", type=float, required=True, help="fraction of frames to drop, 0 to 1")
    options = parser.parse_args()
    node, bridge = tap(options.node_side), tap(options.bridge_side)
    network.ip("link", "set", options.node_side, "nomaster")
    try:
        relay(node, bridge, Line(options.delay, options.loss))
    except OSError as gone:
        print(f"the relay of {options.node_side} ends: {gone}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
