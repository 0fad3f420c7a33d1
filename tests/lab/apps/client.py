"""Calls that take long, all kinds at once: prints for each `host kind` who answered, or what went wrong, as JSON."""

import http.client
import json
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

PAUSE = float(sys.argv[1])
LIMIT = PAUSE * 2 + 30


def page(host: str, method: str, path: str, body: object = None, **headers: str) -> str:
    connection = http.client.HTTPConnection(host, 8080, timeout=LIMIT)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return f"{answer.status} {answer.read().decode()}"


def upload(host: str) -> str:
    """A body that takes long to send."""
    pieces = max(2, int(PAUSE))

    def body():
        for _ in range(pieces):
            yield b"x" * 20_000
            time.sleep(PAUSE / pieces)

    return page(host, "POST", "/answer", body(), **{"Content-Length": str(pieces * 20_000)})


def exchange(host: str, port: int, greeting: bytes = b"") -> str:
    """A connection that is silent between two questions."""
    with socket.create_connection((host, port), timeout=LIMIT) as connection:
        if greeting:
            connection.sendall(greeting)
            if b" 101 " not in connection.recv(4096):
                return "no upgrade"
        connection.sendall(b"one")
        first = connection.recv(4096)
        time.sleep(PAUSE)
        connection.sendall(b"two")
        second = connection.recv(4096)
    return (first + b" " + second).decode() or "closed"


def websocket(host: str) -> str:
    lines = ("GET /socket HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: websocket", "", "")
    return exchange(host, 8080, "\r\n".join(lines).encode())


def rpc(host: str, method: str) -> str:
    with grpc.insecure_channel(f"{host}:50051") as channel:
        seconds = str(PAUSE).encode()
        if method == "Unary":
            return channel.unary_unary("/app.App/Unary")(seconds, timeout=LIMIT).decode()
        return b" ".join(channel.unary_stream("/app.App/Stream")(seconds, timeout=LIMIT)).decode()


KINDS = {
    "GET": lambda host: page(host, "GET", f"/answer?pause={PAUSE}"),
    "POST": lambda host: page(host, "POST", f"/answer?pause={PAUSE}", b"order", Id=f"{host}-{PAUSE}"),
    "stream": lambda host: page(host, "GET", f"/pieces?pause={PAUSE}"),
    "upload": upload,
    "WebSocket": websocket,
    "TCP": lambda host: exchange(host, 9000),
    "gRPC": lambda host: rpc(host, "Unary"),
    "gRPC stream": lambda host: rpc(host, "Stream"),
}


def told(host: str, kind: str) -> str:
    try:
        return KINDS[kind](host)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


with ThreadPoolExecutor(max_workers=64) as pool:
    asked = {f"{host} {kind}": pool.submit(told, host, kind) for host in sys.argv[2:] for kind in KINDS}
    print(json.dumps({name: each.result() for name, each in asked.items()}))
