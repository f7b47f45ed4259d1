"""A loopback index that mimics download.pytorch.org (and, beside it, a small default index at `/simple`).

::

    tree = IndexTree({"cu128": [torch_wheel("2.9.1+cu128", "cp312-cp312-linux_x86_64")], "cpu": [...]})
    with IndexServer(tree, default=IndexTree({"": [wheel("filelock", "3.20.0")]}, kind="pypi")) as server:
        ...  # --index-base server.index_base, UV_DEFAULT_INDEX=server.default_index
        assert ("GET", "/whl/cu128/torch/") in server.log
"""

from __future__ import annotations

import hashlib
import re
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast, final

from tests.support.faults import Answer, Fault
from tests.support.index_tree import IndexTree

if TYPE_CHECKING:
    import trustme

_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


class TestAuthority:
    """A throw-away certificate authority; `bundle` is what SSL_CERT_FILE may point to."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        import trustme

        self.authority: trustme.CA = trustme.CA()
        self.bundle = folder / "test-ca.pem"
        self.authority.cert_pem.write_to_path(str(self.bundle))

    def context(self, *names: str) -> ssl.SSLContext:
        """A server context for these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*names).configure_cert(context)
        return context


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    owner: IndexServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


@final
class IndexServer:
    """Serve trees on 127.0.0.1 until the `with` block ends.

    Args:
        tree: the PyTorch index, at its `root` (`/whl`).
        default: the default index, at `/simple`.
        latency: seconds before each answer.
        authority: serve https with a certificate of it, for `tls_names`.
        json_pages: answer PEP 691 JSON to clients that ask for it.
        dated: files carry `Last-Modified`, as those of download.pytorch.org do; clients may then keep them
            for a while.

    Attributes:
        log: (method, path) of every request so far, query and all, in order of arrival.
        statuses: (path, status) in the order of the answers.
    """

    def __init__(
        self,
        tree: IndexTree | None = None,
        *,
        default: IndexTree | None = None,
        latency: float = 0.0,
        authority: TestAuthority | None = None,
        tls_names: tuple[str, ...] = ("127.0.0.1", "localhost", "download.pytorch.org"),
        json_pages: bool = False,
        dated: bool = False,
    ) -> None:
        self.tree = tree if tree is not None else IndexTree()
        self.default = default if default is not None else IndexTree(kind="pypi")
        self.latency = latency
        self.json_pages = json_pages
        self.dated = dated
        self.log: list[tuple[str, str]] = []
        self.statuses: list[tuple[str, int]] = []
        self.sent_bytes = 0
        self._headers: list[tuple[str, dict[str, str]]] = []
        self.stopped = threading.Event()
        self._faults: dict[str, Fault] = {}
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        if authority is not None:
            self._server.socket = authority.context(*tls_names).wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if authority is None else "https"
        self.port = int(self._server.server_address[1])
        self.origin = f"{scheme}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def index_base(self) -> str:
        """What `--index-base` takes."""
        return f"{self.origin}{self.tree.root}"

    @property
    def default_index(self) -> str:
        """What UV_DEFAULT_INDEX takes."""
        return f"{self.origin}{self.default.root}"

    def fault(self, path: str, fault: Fault | None) -> None:
        """Misbehave on this path (`*`: on every one); None: behave again."""
        if fault is None:
            self._faults.pop(path, None)
        else:
            self._faults[path] = fault

    def paths(self, method: str = "GET") -> list[str]:
        """The paths asked for, in order."""
        return [path for asked, path in self.log if asked == method]

    def sent_headers(self, path: str) -> list[dict[str, str]]:
        """The headers of each request for a path, in order."""
        return [headers for asked, headers in self._headers if asked == path]

    def record(self, method: str, path: str, headers: dict[str, str]) -> None:
        """Remember a request."""
        self.log.append((method, path))
        self._headers.append((path, headers))

    def __enter__(self) -> IndexServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def answer(self, target: str, accept: str) -> Answer:
        """The answer to a request, faults included."""
        path = urllib.parse.unquote(target.partition("?")[0])
        right = self._right_answer(path, accept)
        fault = self._faults.get(path) or self._faults.get("*")
        return fault(right) if fault is not None else right

    def _right_answer(self, path: str, accept: str) -> Answer:
        tree = self.default if path.startswith((f"{self.default.root}/", "/packages/")) else self.tree
        if (content := tree.file(path)) is not None:
            kind = "text/plain" if path.endswith(".metadata") else "binary/octet-stream"
            headers = {"Content-Type": kind, "Accept-Ranges": "bytes"}
            if self.dated:
                headers["Last-Modified"] = "Sun, 01 Nov 2026 00:00:00 GMT"
            return Answer(headers=headers, body=content)
        page_path = path.removesuffix("index.html")
        if page_path.endswith("/"):
            if self.json_pages and "application/vnd.pypi.simple.v1+json" in accept:
                text = tree.json_page(page_path, self.origin)
                if text is not None:
                    return self._page(text, "application/vnd.pypi.simple.v1+json")
            text = tree.page(page_path, self.origin)
            if text is not None:
                return self._page(text, "text/html")
        if tree.page(f"{path}/", self.origin) is not None:
            return Answer(status=301, headers={"Location": f"{path}/"})
        return Answer(status=tree.missing_status, body=b"<Error><Code>AccessDenied</Code></Error>")

    def _page(self, text: str, kind: str) -> Answer:
        body = text.encode()
        etag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        headers = {
            "Content-Type": kind,
            "ETag": etag,
            "Cache-Control": "max-age=600, public, must-revalidate",
        }
        return Answer(headers=headers, body=body)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    @property
    def owner(self) -> IndexServer:
        return cast("_Server", self.server).owner

    def do_GET(self) -> None:
        self._serve(body=True)

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
        """The log is a list, not a stream."""

    def _serve(self, *, body: bool) -> None:
        owner = self.owner
        owner.record(self.command, self.path, dict(self.headers.items()))
        if owner.latency:
            time.sleep(owner.latency)
        answer = owner.answer(self.path, self.headers.get("Accept", ""))
        if answer.wait and owner.stopped.wait(answer.wait):
            self.close_connection = True
            return
        owner.statuses.append((self.path, answer.status))
        if answer.hang_up:
            self.close_connection = True
            return
        self._send(answer, body=body)

    def _send(self, answer: Answer, *, body: bool) -> None:
        headers, content, status = dict(answer.headers), answer.body, answer.status
        tag = headers.get("ETag")
        if status == HTTPStatus.OK and tag is not None and self.headers.get("If-None-Match") == tag:
            status, content = HTTPStatus.NOT_MODIFIED, b""
        elif status == HTTPStatus.OK and "Accept-Ranges" in headers:
            status, content = self._ranged(content, headers)
        self.send_response(status)
        if answer.declare_length and status != HTTPStatus.NOT_MODIFIED:
            headers["Content-Length"] = str(len(content))
        elif not answer.declare_length:
            self.close_connection = True
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if body and answer.stream is not None:
            self._stream(answer.stream)
        elif body:
            self.close_connection = self.close_connection or answer.send_only is not None
            self.owner.sent_bytes += self.wfile.write(content[: answer.send_only])

    def _stream(self, pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            if self.owner.stopped.is_set():
                return
            self.wfile.write(piece)
            self.wfile.flush()

    def _ranged(self, content: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        match = _RANGE.match(self.headers.get("Range", ""))
        if match is None or match[0] == "bytes=-":
            return HTTPStatus.OK, content
        size = len(content)
        if match[1]:
            start, end = int(match[1]), min(int(match[2] or size - 1), size - 1)
        else:
            start, end = max(size - int(match[2]), 0), size - 1
        if start >= size:
            headers["Content-Range"] = f"bytes */{size}"
            return HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b""
        headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        return HTTPStatus.PARTIAL_CONTENT, content[start : end + 1]
