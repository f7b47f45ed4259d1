"""Try one made-up input on the verbs that read its kind, and judge how the run ended."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from hypothesis import strategies as st

from tests.cli.support import run
from tests.fuzz import inputs
from torchinstall.core.messages import printable

MOST_SECONDS = 2.0
PLAN = ("--offline", "--python-version", "3.12", "--no-config")
HOST = ("--target-gpu", "sm_90", "--target-driver", "580", "--root", ".")
EXIT_CODES = (0, 2, 3, 4, 5, 6, 8)

Try = Callable[[str], None]


def check(folder: Path, *argv: str, stdin: str = "", env: dict[str, str] | None = None) -> None:
    """Run the command line; time is that of this process, so that other programs do not count."""
    before = time.process_time()
    result = run(folder, *argv, stdin=stdin, env=env)
    spent = time.process_time() - before
    assert result.code in EXIT_CODES, (argv, result.err)
    assert (result.code == 0) == ("error[" not in result.err), result.err
    assert result.err.count("error[") <= 1, result.err
    assert printable(result.err) == result.err
    assert spent < MOST_SECONDS, f"{spent:.1f} s: {argv}"


def encoded(text: str) -> bytes:
    """As bytes; half characters as Python writes them, which is no UTF-8."""
    return text.encode("utf-8", "surrogatepass")


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder of its own, and gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def try_machine(text: str) -> None:
    """A machine file, from a file and with both faces of the answer."""
    with folder() as here:
        (here / "m.json").write_bytes(encoded(text))
        check(here, "plan", "torch", *PLAN, "--machine", "m.json", "--json")
        check(here, "plan", "torch", *PLAN, "--machine", "-", stdin=text)


def try_requirement(text: str) -> None:
    """One requirement, typed and in a file."""
    with folder() as here:
        check(here, "plan", *PLAN, *HOST, *(() if text.startswith("-") else (text,)))
        (here / "r.txt").write_bytes(encoded(text))
        check(here, "plan", *PLAN, *HOST, "-r", "r.txt", "--json")


def try_requirements(text: str) -> None:
    """A requirements file, and the same as constraints."""
    with folder() as here:
        (here / "self.txt").write_bytes(encoded(text))
        check(here, "plan", *PLAN, *HOST, "-r", "self.txt")
        check(here, "plan", *PLAN, *HOST, "torch", "-c", "self.txt")


def try_toml(text: str) -> None:
    """A project file, as configuration, as a list of requirements and as a project to change."""
    with folder() as here:
        (here / "pyproject.toml").write_bytes(encoded(text))
        check(here, "plan", "torch", *PLAN[:-1], *HOST)
        check(here, "plan", *PLAN, *HOST, "-r", "pyproject.toml")
        check(here, "configure", "--dry-run", "--no-lock", *PLAN, *HOST)
        (here / "uv.lock").write_bytes(encoded(text))
        check(here, "export", "--format", "dockerfile", *PLAN, *HOST)


class _Page(BaseHTTPRequestHandler):
    content = b""

    def do_GET(self) -> None:
        """Every page is the same."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def try_page(text: str) -> None:
    """An index whose every page is this one."""
    handler = type("Page", (_Page,), {"content": encoded(text)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        with folder() as here:
            base = f"http://127.0.0.1:{server.server_address[1]}/whl"
            check(here, "plan", "torch", "--python-version", "3.12", "--index-base", base, *HOST)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


KINDS: dict[str, tuple[st.SearchStrategy[str], Try, int, int]] = {
    "machine": (inputs.machines, try_machine, 3000, 25),
    "requirement": (inputs.requirements, try_requirement, 2000, 25),
    "requirements file": (inputs.requirement_files, try_requirements, 500, 15),
    "page": (inputs.pages, try_page, 500, 15),
    "toml": (inputs.tomls, try_toml, 500, 15),
}
"""Kind -> its inputs, how one is tried, how many are tried by `--all`, and how many in the suite."""
