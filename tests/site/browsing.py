"""The page in a real browser: its server on the loopback interface, and the report of `browser.mjs`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scripts.build_site import npm_package, pins

HERE = Path(__file__).parent
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)


def chromium() -> str:
    """A browser of the Chromium family; where there is none, the test is skipped, which fails in CI."""
    found = os.environ.get("CHROME") or next(filter(None, map(shutil.which, _BROWSERS)), None)
    found = found or next((place for place in _PLACES if Path(place).exists()), None)
    return found or pytest.skip("no Chromium here: apt-get install chromium")


class _Quiet(SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012  # as the base class declares it
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name of the base class
        """Say nothing."""


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The URL of the page, served as it lies there."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def browsed(site: Path, pictures: Path | None = None) -> Any:
    """What a person met who used the page; with screenshots where a folder is named.

    Raises:
        AssertionError: the browser did not come to the end of it.
    """
    node = shutil.which("node")
    assert node is not None, "Node.js is needed to drive the browser"
    of_tests = pins()["npm_of_tests"]
    tools = [str(npm_package(name, of_tests[name])) for name in ("playwright-core", "axe-core")]
    with served(site) as url:
        argv = [
            node,
            str(HERE / "browser.mjs"),
            *tools,
            chromium(),
            url,
            *([str(pictures)] if pictures else []),
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)
