"""An app as teams have them: HTTP, WebSocket, TCP, own TLS and gRPC, slow and silent as its callers ask."""

import http.server
import os
import socketserver
import ssl
import threading
import time
from concurrent import futures
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import grpc

NAME = os.environ["NAME"]
POSTS: list[str] = []


class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Keep the log short."""

    def respond(self, status: int, text: str, **headers: str) -> None:
        body = text.encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        url = urlparse(self.path)
        asked = {key: values[0] for key, values in parse_qs(url.query).items()}
        pause = float(asked.get("pause", 0))
        match url.path:
            case "/answer":  # after a pause
                time.sleep(pause)
                self.respond(int(asked.get("status", 200)), NAME)
            case "/pieces":  # silent between the first piece and the last
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"5\r\nfirst\r\n")
                self.wfile.flush()
                time.sleep(pause)
                self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(NAME), NAME.encode()))
            case "/header":
                self.respond(200, NAME, Long="x" * int(asked["size"]))
            case "/metrics":
                self.respond(200, "# TYPE app_up gauge\napp_up 1\n", **{"Content-Type": "text/plain"})
            case "/posts":
                self.respond(200, "\n".join(POSTS))
            case "/socket":
                self.send_response(101)
                self.send_header("Upgrade", "websocket")
                self.send_header("Connection", "Upgrade")
                self.end_headers()
                self.close_connection = True
                while data := self.connection.recv(4096):
                    self.connection.sendall(NAME.encode() + b" " + data)
            case _:
                self.respond(404, "no such page")

    def do_POST(self) -> None:
        left = int(self.headers["Content-Length"])
        while left and (read := self.rfile.read1(min(left, 65536))):
            left -= len(read)
        POSTS.append(self.headers.get("Id", ""))
        self.do_GET()


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(4096):
            self.request.sendall(NAME.encode() + b" " + data)


class Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


def unary(request: bytes, _: object) -> bytes:
    time.sleep(float(request))
    return NAME.encode()


def stream(request: bytes, _: object):
    time.sleep(float(request))
    yield NAME.encode()
    time.sleep(float(request))
    yield b"last"


def serve(server: socketserver.BaseServer) -> None:
    threading.Thread(target=server.serve_forever, daemon=True).start()


serve(http.server.ThreadingHTTPServer(("", 8080), Web))
serve(Tcp(("", 9000), Echo))
if Path("/tls/tls.crt").exists():
    own = http.server.ThreadingHTTPServer(("", 8443), Web)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
    own.socket = context.wrap_socket(own.socket, server_side=True)
    serve(own)
calls = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Stream": grpc.unary_stream_rpc_method_handler(stream),
}
calls.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("app.App", handlers),))
calls.add_insecure_port("0.0.0.0:50051")
calls.start()
threading.Event().wait()
