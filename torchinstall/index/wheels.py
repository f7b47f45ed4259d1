"""Wheels: what a file name says, and those in folders (`--find-links DIR`) as a source of builds.

Which backend a wheel was built for: its local version says so (`+cu128`); a torch without one (PyPI's own
wheels have none) is asked itself, since `torch/version.py` holds `cuda`, `hip` and `xpu`; any other package
without one follows the torch builds that lie beside it, with low confidence where these are several.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from msgspec import Struct, structs

from torchinstall.catalog.model import Confidence, Origin, Wheels
from torchinstall.core.errors import UsageError
from torchinstall.core.request import Channel
from torchinstall.core.versions import dotted_or_none
from torchinstall.index.urls import BACKEND_NAME

_PROJECT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._]*[A-Za-z0-9])?")
_TAG = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*")
_PYTHON = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_BUILD = re.compile(r"\d[A-Za-z0-9_.]*")
_NORMALISED = re.compile(r"[-_.]+")
_ASSIGNED = re.compile(r"^(cuda|hip|xpu)\b[^=\n]*=\s*(.+?)\s*$", re.MULTILINE)
_VERSION_FILE = "torch/version.py"
_MAX_VERSION_FILE = 100_000


class WheelName(Struct, frozen=True):
    """Project normalised, version as written and split at its `+`, `tag` such as `cp312-cp312`."""

    project: str
    version: str
    local: str
    build: str
    tag: str
    platform: str

    def row(
        self,
        backend: str,
        origin: Origin,
        source: str,
        confidence: Confidence,
        channel: Channel = "stable",
    ) -> Wheels:
        """The row of the catalog for this one wheel."""
        return Wheels(
            package=self.project,
            version=self.version,
            local=self.local,
            backend=backend,
            platform_tag=self.platform,
            tag_list=self.tag,
            origin=origin,
            channel=channel,
            build=self.build,
            confidence=confidence,
            source=source,
        )


def merged(rows: Iterable[Wheels]) -> tuple[Wheels, ...]:
    """Rows that differ in nothing but their tags, made one."""
    tags: dict[Wheels, set[str]] = {}
    for row in rows:
        tags.setdefault(structs.replace(row, tag_list=""), set()).add(row.tag_list)
    return tuple(structs.replace(row, tag_list=" ".join(sorted(found))) for row, found in tags.items())


def parse_name(filename: str) -> WheelName | None:
    """The parts of a wheel's name; None for what is no wheel, or follows no rule.

    It accepts what `packaging.utils.parse_wheel_filename` accepts (a test holds the two against each other)
    but for a space in the platform tag (a download that was renamed, `…_x86_64 (1).whl`) and a `+` in the
    build tag: there the local version slid into it (`torch-2.10.0-1+cu128-…`), so the name contradicts the
    wheel.
    """
    parts = filename[:-4].split("-") if filename.endswith(".whl") else []
    if len(parts) not in (5, 6):
        return None
    project, build = parts[0], parts[2] if len(parts) == 6 else ""
    python, abi, platform = parts[-3:]
    version = _version(parts[1])
    tags_fine = _PYTHON.fullmatch(python) and _TAG.fullmatch(abi) and _TAG.fullmatch(platform)
    if version is None or not tags_fine or not _PROJECT.fullmatch(project) or "__" in project:
        return None
    if build and not _BUILD.fullmatch(build):
        return None
    return WheelName(_normalise(project), *version, build, f"{python}-{abi}", platform)


@lru_cache(maxsize=4096)
def _version(text: str) -> tuple[str, str] | None:
    """Public and local part as written, None where it is no version."""
    from packaging.version import Version

    try:
        Version(text)
    except ValueError:  # InvalidVersion is one, and so is a number of 5,000 digits
        return None
    public, _, local = text.partition("+")
    return public, local


@lru_cache(maxsize=256)
def _normalise(name: str) -> str:
    return _NORMALISED.sub("-", name).lower()


class File(Struct, frozen=True, kw_only=True):
    """One file that will be installed.

    Attributes:
        url: where it is downloaded from, without credentials; `file:` for one that lies here.
        sha256: as the index says it, or as uv found it where the index says nothing.
        size: in bytes, where the index says it.
    """

    name: str
    version: str | None
    url: str
    sha256: str | None
    size: int | None = None

    @property
    def filename(self) -> str:
        """The last part of the URL."""
        return unquote(urlsplit(self.url).path).rpartition("/")[2]


class LocalWheels(NamedTuple):
    """Rows of the catalog, and what was omitted."""

    wheels: tuple[Wheels, ...]
    notes: tuple[str, ...]


def local_wheels(folders: Iterable[Path | str]) -> LocalWheels:
    """The wheels that lie in these folders (not below them), as `uv pip install --find-links` sees them.

    Returns:
        Rows with origin `find-links` and the folder as `source`. Nothing is hashed: wheels are large.

    Raises:
        UsageError: `find-links-not-a-folder`.
    """
    rows: list[Wheels] = []
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
            own = _of_local(name.local) or torch.get(file)
            backends = {own} if own else _beside(name, found, torch)
            confidence: Confidence = "low" if len(backends) > 1 and name.platform != "any" else "high"
            rows += (name.row(backend, "find-links", str(path), confidence) for backend in sorted(backends))
    return LocalWheels(merged(rows), tuple(notes))


def named_wheels(urls: Iterable[str]) -> LocalWheels:
    """What the wheels at these URLs are (`torch @ file:…`), with the URL as `source`.

    A file that lies here is looked into; of a file elsewhere only the name is known, so one whose local
    version names no backend gives no row.

    Raises:
        UsageError: `wheel-not-found`.
    """
    from urllib.request import url2pathname  # it brings in ssl

    rows: list[Wheels] = []
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
            rows.append(name.row(backend, "find-links", url, "high"))
    return LocalWheels(merged(rows), tuple(notes))


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
