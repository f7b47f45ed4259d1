"""Wheels in folders (`--find-links DIR`) or named by URL as a source of builds.

Which backend a wheel was built for: its local version says so (`+cu128`); a torch without one (PyPI's own
wheels have none) is asked itself, since `torch/version.py` holds `cuda`, `hip` and `xpu`; any other package
without one follows the torch builds that lie beside it, with low confidence where these are several.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from torchinstall.catalog.model import Confidence, Wheels
from torchinstall.core.errors import UsageError
from torchinstall.core.versions import dotted_or_none
from torchinstall.index.pages import WheelName, parse_name
from torchinstall.index.urls import BACKEND_NAME

__all__ = ["LocalWheels", "local_wheels", "named_wheels"]

_ASSIGNED = re.compile(r"^(cuda|hip|xpu)\b[^=\n]*=\s*(.+?)\s*$", re.MULTILINE)
_VERSION_FILE = "torch/version.py"
_MAX_VERSION_FILE = 100_000


class LocalWheels(NamedTuple):
    """Rows of the catalog, and what was left out."""

    wheels: tuple[Wheels, ...]
    notes: tuple[str, ...]


class _Row(NamedTuple):
    package: str
    version: str
    local: str
    backend: str
    platform: str
    build: str


def local_wheels(folders: Iterable[Path | str]) -> LocalWheels:
    """The wheels that lie in these folders (not below them), as `uv pip install --find-links` sees them.

    Returns:
        Rows with origin `find-links` and the folder as `source`. Nothing is hashed: wheels are large.

    Raises:
        UsageError: `find-links-not-a-folder`.
    """
    rows: dict[tuple[_Row, str, Confidence], set[str]] = {}
    notes: list[str] = []
    for folder in folders:
        path = _folder(folder)
        found: list[tuple[Path, WheelName]] = []
        for file in sorted(path.glob("*.whl")):
            name = parse_name(file.name)
            if name is None:
                notes.append(f"{file}: the name follows no rule")
            else:
                found.append((file, name))
        torch = _torch_backends(found, notes)
        for file, name in found:
            said = _of_local(name.local) or torch.get(file)
            backends = {said} if said else _beside(name, found, torch)
            confidence: Confidence = "low" if len(backends) > 1 and name.platform != "any" else "high"
            for backend in sorted(backends):
                row = _Row(name.project, name.version, name.local, backend, name.platform, name.build)
                rows.setdefault((row, str(path), confidence), set()).add(name.tag)
    return LocalWheels(_wheels(rows), tuple(notes))


def named_wheels(urls: Iterable[str]) -> LocalWheels:
    """What the wheels at these URLs are (`torch @ file:…`), with the URL as `source`.

    A file that lies here is looked into; of a file elsewhere only the name is known, so one whose local
    version names no backend gives no row.

    Raises:
        UsageError: `wheel-not-found`.
    """
    from urllib.request import url2pathname  # it brings in ssl

    rows: dict[tuple[_Row, str, Confidence], set[str]] = {}
    notes: list[str] = []
    for url in urls:
        parts = urlsplit(url)
        path = Path(url2pathname(parts.path))
        name = parse_name(unquote(parts.path).rpartition("/")[2])
        if name is None:
            continue  # a source archive, a repository: nobody knows before it is built
        backend = _of_local(name.local)
        if parts.scheme == "file":
            if not path.is_file():
                raise UsageError(
                    "wheel-not-found",
                    f"the wheel {path} is not there",
                    wanted="a file that exists",
                    found=url,
                    hints=(f"ls {path.parent}",),
                )
            backend = backend or _torch_backends([(path, name)], notes).get(path) or "cpu"
        if backend is not None:
            row = _Row(name.project, name.version, name.local, backend, name.platform, name.build)
            rows.setdefault((row, url, "high"), set()).add(name.tag)
    return LocalWheels(_wheels(rows), tuple(notes))


def _wheels(rows: Mapping[tuple[_Row, str, Confidence], set[str]]) -> tuple[Wheels, ...]:
    return tuple(
        Wheels(
            package=row.package,
            version=row.version,
            local=row.local,
            backend=row.backend,
            platform_tag=row.platform,
            tag_list=" ".join(sorted(tags)),
            origin="find-links",
            source=source,
            confidence=confidence,
            build=row.build,
        )
        for (row, source, confidence), tags in rows.items()
    )


def _folder(folder: Path | str) -> Path:
    text = str(folder)
    path = Path(text.removeprefix("file://"))
    if re.match(r"https?:/", text) or not path.is_dir():
        web = text.startswith("http")
        raise UsageError(
            "find-links-not-a-folder",
            "--find-links takes a folder of wheels",
            wanted="a folder that exists",
            found="a web page" if web else text,
            hints=("--index-base URL takes an index on the web",) if web else (f"mkdir -p {text}",),
        )
    return path


def _of_local(local: str) -> str | None:
    """`cu128` -> `cu128`, `cpu.cxx11.abi` -> `cpu`; None where the local version names no backend."""
    if BACKEND_NAME.fullmatch(local):
        return local
    return "cpu" if local.startswith("cpu.") else None


def _torch_backends(found: list[tuple[Path, WheelName]], notes: list[str]) -> dict[Path, str]:
    """What torch wheels without a telling local version were built for, from inside."""
    backends: dict[Path, str] = {}
    for file, name in found:
        if name.project != "torch" or _of_local(name.local):
            continue
        text = _version_file(file)
        if text is None:
            notes.append(f"{file}: {_VERSION_FILE} cannot be read, so it counts as a CPU build")
        backends[file] = _backend_of_source(text or "")
    return backends


def _version_file(file: Path) -> str | None:
    import zipfile

    try:
        with zipfile.ZipFile(file) as archive, archive.open(_VERSION_FILE) as member:
            return member.read(_MAX_VERSION_FILE).decode("utf-8", "replace")
    except (OSError, KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return None


def _backend_of_source(text: str) -> str:
    """`cuda = '12.8'` -> `cu128`, `hip = '6.4.43483-…'` -> `rocm6.4`; nothing set: `cpu`."""
    values: dict[str, str] = {}
    for name, literal in _ASSIGNED.findall(text):
        try:
            value = ast.literal_eval(literal)
        except (ValueError, SyntaxError):
            continue
        if isinstance(value, str) and value:
            values[name] = value
    cuda, hip = dotted_or_none(values.get("cuda")), dotted_or_none(values.get("hip"))
    if cuda is not None and len(cuda) > 1:
        return f"cu{cuda[0]}{cuda[1]}"
    if hip is not None and len(hip) > 1:
        return f"rocm{hip[0]}.{hip[1]}"
    return "xpu" if "xpu" in values else "cpu"


def _beside(name: WheelName, found: list[tuple[Path, WheelName]], torch: dict[Path, str]) -> set[str]:
    """The backends of the torch wheels beside a package that does not say what it was built for."""
    backends = {
        _of_local(other.local) or torch[file]
        for file, other in found
        if other.project == "torch" and (other.platform == name.platform or name.platform == "any")
    }
    return backends or {"cpu"}
