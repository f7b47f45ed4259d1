"""Everything that a plan will install: uv resolves it, and its answer (PEP 751) becomes a list of files."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from msgspec import Struct
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from torchinstall.core.errors import NoCompatibleBuildError
from torchinstall.core.versions import dotted_or_none
from torchinstall.index.urls import without_credentials
from torchinstall.install.command import project_text
from torchinstall.install.uv import install_failure, run_uv
from torchinstall.project.toml import loads

if TYPE_CHECKING:
    from torchinstall.core.target import Target
    from torchinstall.planning.assemble import Line

__all__ = ["File", "compile_argv", "files_of", "platform_name", "resolve"]

_GLIBC = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)
"""The minor versions of glibc that uv has a platform name for (`uv pip compile --help`)."""


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


def platform_name(target: Target) -> str:
    """What uv calls the platform of a target: `x86_64-manylinux_2_28`."""
    if target.os == "windows":
        return f"{target.arch}-pc-windows-msvc"
    if target.os == "macos":
        return f"{target.arch}-apple-darwin"
    glibc = dotted_or_none(target.libc.version) if target.libc else None
    if target.libc is not None and target.libc.family == "musl":
        return f"{target.arch}-unknown-linux-musl"
    if glibc is None or len(glibc) < 2:
        return f"{target.arch}-unknown-linux-gnu"
    return f"{target.arch}-manylinux_2_{max((m for m in _GLIBC if m <= glibc[1]), default=17)}"


def compile_argv(line: Line, uv: str, project_file: str, *, only_wheels: bool) -> tuple[str, ...]:
    """The arguments of uv.

    Args:
        line: with a plan.
        uv: path of uv.
        project_file: holds the plan's requirements.
        only_wheels: nothing may have to be built.
    """
    plan, target, request = line.plan, line.target, line.order.request
    argv = [uv, "pip", "compile", project_file, "--format", "pylock.toml", "--no-header", "--no-annotate"]
    if target.python is not None:
        argv += ["--python", target.python]
    else:
        argv += ["--python", f"{target.python_version}t" if target.abi.endswith("t") else sys.executable]
        argv += ["--python-version", target.python_version, "--python-platform", platform_name(target)]
    argv += ["--only-binary", ":all:"] if only_wheels else []
    argv += [word for path in line.order.constraint_files for word in ("-c", path)]
    argv += [word for folder in plan.find_links for word in ("--find-links", folder)]
    if plan.channel != "stable":
        routed = (item.name for item in plan.packages if item.routed)
        argv += [word for name in routed for word in ("--prerelease-package", f"{name}=allow")]
    argv += ["--offline"] if request.offline else []
    return (*argv, *line.order.uv_args)


def resolve(line: Line, uv: str, env: Mapping[str, str], cwd: Path, *, only_wheels: bool = False) -> str:
    """Ask uv; its answer as PEP 751 text.

    Args:
        line: with a plan that is not impossible.
        uv: path of uv.
        env: of the user.
        cwd: folder that uv finds the user's configuration from.
        only_wheels: nothing may have to be built.

    Raises:
        InstallFailedError: there is no solution, or an index cannot be reached.
        ToolMissingError: `uv-broken`: uv does not start.
    """
    with tempfile.TemporaryDirectory(prefix="torchinstall-") as folder:
        path = Path(folder, "pyproject.toml")
        path.write_text(project_text(line.plan), encoding="utf-8")
        argv = compile_argv(line, uv, str(path), only_wheels=only_wheels)
        done = run_uv(argv, env=env, changes=_changes(line), cwd=cwd)
    if done.returncode != 0:
        routed = (item.name for item in line.plan.packages if item.routed)
        raise install_failure(done, f"resolve what torch {line.plan.torch} needs", routed)
    return done.stdout


def _changes(line: Line) -> tuple[tuple[str, str | None], ...]:
    """What the plan sets and unsets, and the target's macOS."""
    if line.target.os == "macos" and line.target.os_version:
        return (*line.plan.env, ("MACOSX_DEPLOYMENT_TARGET", line.target.os_version))
    return line.plan.env


def files_of(text: str, target: Target) -> tuple[File, ...]:
    """The file that the target takes of each package, by name.

    Args:
        text: PEP 751, as `resolve` returns it.
        target: whose tags decide between several wheels of one package.

    Raises:
        NoCompatibleBuildError: `no-file-for-target`: uv's answer has no file that fits.
    """
    rank = {tag: place for place, tag in enumerate(_tags(target))}
    rows: Iterable[dict[str, Any]] = (loads(text) or {}).get("packages", ())
    return tuple(_file(row, rank, target) for row in rows)


def _file(row: dict[str, Any], rank: Mapping[str, int], target: Target) -> File:
    wheels = [_entry(row, entry) for entry in row.get("wheels", ())]
    if "archive" in row:
        wheels = [_entry(row, row["archive"])]
    ranked = [(found, file) for file in wheels if (found := _rank(file, rank)) is not None]
    if ranked:
        return min(ranked, key=lambda pair: pair[0])[1]
    if "sdist" in row:
        return _entry(row, row["sdist"])
    raise NoCompatibleBuildError(
        "no-file-for-target",
        f"{row.get('name')} {row.get('version', '')} has no file for {target.platform}".replace("  ", " "),
        wanted=f"a wheel for CPython {target.python_version} on {target.platform}",
        found=", ".join(file.filename for file in wheels) or "neither a wheel nor a source archive",
        hints=(f"add a bound that picks another version of {row.get('name')}",),
    )


def _entry(row: dict[str, Any], entry: dict[str, Any]) -> File:
    url = entry.get("url") or Path(str(entry.get("path", ""))).resolve().as_uri()
    return File(
        name=str(row["name"]),
        version=row.get("version"),
        url=without_credentials(str(url)),
        sha256=entry.get("hashes", {}).get("sha256"),
        size=entry.get("size"),
    )


def _rank(file: File, rank: Mapping[str, int]) -> tuple[int, tuple[int, str]] | None:
    """How well a wheel fits: its best tag, a higher build first; None where it does not fit."""
    try:
        _, _, build, tags = parse_wheel_filename(file.filename)
    except InvalidWheelFilename:
        return None
    places = [rank[str(tag)] for tag in tags if str(tag) in rank]
    number, text = build or (0, "")
    return (min(places), (-number, text)) if places else None


def _tags(target: Target) -> list[str]:
    """Every wheel tag that the target takes, the most specific first."""
    version = tuple(int(part) for part in target.python_version.split(".")[:2])
    platforms = list(target.platform_tags)
    own = cpython_tags(version, [target.abi], platforms)
    shared = compatible_tags(version, f"cp{version[0]}{version[1]}", platforms)
    return [str(tag) for tag in (*own, *shared)]
