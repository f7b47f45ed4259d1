"""Build the web page: the planner in the browser, as a folder of files that any web server can serve.

    python -m scripts.build_site                                       # into build/site
    python -m http.server --directory build/site --bind 127.0.0.1      # look at it

The sources are in `site/`. `site/packages.json` pins what comes besides: Pyodide from npm, the few packages
that planning needs from PyPI, each with its hash. npm, pip and uv fetch them; nothing that was fetched is
committed, and the finished page fetches nothing from anywhere else.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from filelock import FileLock

from torchinstall.install.uv import find_uv

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "site"
FETCHED = ROOT / "build" / "fetched"
OUTPUT = ROOT / "build" / "site"
MOST_BYTES = 8_000_000
"""The whole page as a server sends it with gzip."""

_RUNTIME = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm")
_PAGE = ("index.html", "page.css", "start.js", "page.js", "planner.js", "worker.js", "icon.svg")
_UNUSED = ("*.pyi", "*.dist-info/RECORD", "*.dist-info/WHEEL", "*/py.typed", "torchinstall/probe/*")
"""Of the wheels: nothing in a browser reads them."""

_TIME = (1980, 1, 1, 0, 0, 0)
"""Of every file in an archive, so that the same sources make the same bytes."""


def pins() -> dict[str, Any]:
    """`site/packages.json`."""
    found: dict[str, Any] = json.loads((SOURCES / "packages.json").read_text(encoding="utf-8"))
    return found


def npm_package(name: str, pin: dict[str, str]) -> Path:
    """The folder of a package of npm, fetched once and checked against its hash; none of its scripts runs.

    Raises:
        SystemExit: npm cannot fetch it, or it is another file than the one that was pinned.
    """
    folder = FETCHED / f"{name}-{pin['version']}"
    with _lock():
        if folder.exists():
            return folder
        words = (_program("npm"), "pack", "--silent", "--ignore-scripts", "--pack-destination", str(FETCHED))
        _run(*words, f"{name}@{pin['version']}")
        archive = FETCHED / f"{name}-{pin['version']}.tgz"
        found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != pin["integrity"]:
            sys.exit(f"{archive.name} is not the file that was pinned: {found}")
        unpacked = folder.with_suffix(".part")
        shutil.rmtree(unpacked, ignore_errors=True)
        with tarfile.open(archive) as tar:
            tar.extractall(unpacked, filter="data")
        (unpacked / "package").rename(folder)
        shutil.rmtree(unpacked)
    return folder


def _lock() -> FileLock:
    """Nobody else fetches meanwhile: tests build the page in several processes."""
    FETCHED.mkdir(parents=True, exist_ok=True)
    return FileLock(FETCHED / "lock")


def _wheels(pinned: dict[str, Any]) -> list[Path]:
    """The wheels of `packages.json`, fetched once and checked against their hashes, and our own."""
    folder = FETCHED / "wheels"
    lines = [
        f"{name}=={row['version']} --hash=sha256:{row['sha256']}" for name, row in pinned["pypi"].items()
    ]
    listed = FETCHED / "requirements.txt"
    text = "\n".join(lines) + "\n"
    if not listed.exists() or listed.read_text(encoding="utf-8") != text:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        asked = FETCHED / "asked.txt"
        asked.write_text(text, encoding="utf-8")
        words = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--dest", str(folder)]
        words += ["--platform", pinned["platform"], "--python-version", pinned["python"]]
        _run(sys.executable, "-m", "pip", "download", "--quiet", *words, "--requirement", str(asked))
        asked.rename(listed)
    own = FETCHED / "own"
    shutil.rmtree(own, ignore_errors=True)
    _run(find_uv({}).path, "build", "--quiet", "--wheel", "--out-dir", str(own), str(ROOT))
    return [*sorted(folder.glob("*.whl")), *own.glob("*.whl")]


def _program(name: str) -> str:
    found = shutil.which(name)
    return found or sys.exit(f"{name} is needed to build the page: install Node.js 20 or newer")


def _run(*argv: str) -> None:
    done = subprocess.run(
        argv, cwd=ROOT, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(argv)} failed:\n{done.stdout}")


def _files(archive: Path, left_out: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """What an archive holds, without what nobody reads."""
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            if not name.endswith("/") and not any(fnmatch(name, pattern) for pattern in left_out):
                yield name, opened.read(name)


def _write_archive(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _TIME), content, zipfile.ZIP_DEFLATED, 9)


def build(output: Path = OUTPUT, docs: str | None = None) -> Path:
    """Build the page; the folder is replaced.

    Args:
        output: the folder.
        docs: where the built documentation is, seen from the page; None: the page links to none.

    Raises:
        SystemExit: something cannot be fetched, is not what was pinned, or the page is too large.
    """
    pinned = pins()
    pyodide = npm_package("pyodide", pinned["npm"]["pyodide"])
    with _lock():
        installed = [pair for wheel in _wheels(pinned) for pair in _files(wheel, _UNUSED)]
    shutil.rmtree(output, ignore_errors=True)
    runtime = output / "pyodide"
    runtime.mkdir(parents=True)
    for name in _PAGE:
        shutil.copy(SOURCES / name, output / name)
    if docs is not None:
        page = (output / "index.html").read_text(encoding="utf-8")
        page = page.replace('<html lang="en">', f'<html lang="en" data-docs="{docs}">')
        (output / "index.html").write_text(page, encoding="utf-8")
    for name in _RUNTIME:
        shutil.copy(pyodide / name, runtime / name)
    info = json.loads((pyodide / "pyodide-lock.json").read_text(encoding="utf-8"))["info"]
    # Pyodide asks it for packages; ours come in one archive.
    (runtime / "pyodide-lock.json").write_text(json.dumps({"info": info, "packages": {}}), encoding="utf-8")
    library = _files(pyodide / "python_stdlib.zip", pinned["left_out_of_stdlib"])
    _write_archive(runtime / "python_stdlib.zip", library)
    entry = {
        "torchinstall_site.py": (SOURCES / "entry.py").read_bytes(),
        "torchinstall_site.json": json.dumps({"uv": find_uv({}).version}).encode(),
    }
    _write_archive(output / "packages.zip", [*installed, *entry.items()])
    _run(_program("node"), str(Path(__file__).with_name("compile_site.mjs")), str(output))
    total = sum(size for _, _, size in sizes(output))
    if total > MOST_BYTES:
        sys.exit(f"the page has {total:,} bytes compressed, more than {MOST_BYTES:,}")
    return output


def sizes(folder: Path) -> list[tuple[str, int, int]]:
    """Each file's path, its bytes, and its bytes with gzip."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [
        (path.relative_to(folder).as_posix(), path.stat().st_size, len(gzip.compress(path.read_bytes(), 9)))
        for path in files
    ]


def main(argv: list[str] | None = None) -> int:
    """Build and say what was built."""
    parser = argparse.ArgumentParser(prog="python -m scripts.build_site", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, help="a folder, replaced (default: %(default)s)"
    )
    parser.add_argument("--docs", help="where the built documentation is, seen from the page, such as ../")
    arguments = parser.parse_args(argv)
    folder = build(arguments.output, arguments.docs)
    rows = sizes(folder)
    for name, size, compressed in rows:
        print(f"{name:28} {size:>12,} {compressed:>12,}")
    print(f"{'together, compressed':28} {'':>12} {sum(row[2] for row in rows):>12,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
