"""An HTTP proxy that tunnels every host to one loopback port: a test server can so be any host of the world.

With a `TestAuthority` whose certificate names `download.pytorch.org`, `HTTPS_PROXY=proxy.url` and
`SSL_CERT_FILE=authority.bundle`, a client that asks for https://download.pytorch.org talks to the test.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from types import TracebackType
from typing import cast, final


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    owner: ConnectProxy

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


@final
class ConnectProxy:
    """Listen on 127.0.0.1 until the `with` block ends.

    Attributes:
        hosts: `host:port` of every tunnel asked for, in order.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.hosts: list[str] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> ConnectProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Handler(socketserver.BaseRequestHandler):
    request: socket.socket

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.request.recv(4096)
            if not piece:
                return
            head += piece
        method, host, _ = head.decode("latin-1").split(" ", 2)
        owner = cast("_Server", self.server).owner
        owner.hosts.append(host)
        if method != "CONNECT":
            self.request.sendall(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", owner.target), timeout=30) as upstream:
            self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(upstream, self.request), daemon=True)
            back.start()
            _pump(self.request, upstream)
            back.join(5)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
