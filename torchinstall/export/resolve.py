"""Everything that a plan will install: uv resolves it, and its answer (PEP 751) becomes a list of files."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs
from packaging.tags import compatible_tags, cpython_tags, parse_tag

from torchinstall.core.errors import NoCompatibleBuildError
from torchinstall.core.files import real_path
from torchinstall.core.plan import Package
from torchinstall.core.request import requirement
from torchinstall.core.target import Target
from torchinstall.core.versions import dotted_or_none
from torchinstall.export.inputs import LockedProject, not_exportable
from torchinstall.index.urls import file_name, without_credentials
from torchinstall.index.wheels import File, parse_name, version_at
from torchinstall.install.command import project_text, shared_options, values_of
from torchinstall.install.uv import Uv, install_failure, run_uv
from torchinstall.planning.context import Context
from torchinstall.planning.inputs import Prepared
from torchinstall.project.files import loads
from torchinstall.project.model import holds

if TYPE_CHECKING:
    from torchinstall.index.client import Client

_GLIBC = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)
"""The minor versions of glibc that uv has a platform name for (`uv pip compile --help`)."""


def resolve(context: Context, prepared: Prepared, uv: Uv, *, only_wheels: bool = False) -> str:
    """Ask uv what a plan installs (not an impossible one); its answer as PEP 751 text.

    `only_wheels`: nothing may have to be built.

    Raises:
        InstallFailedError: there is no solution, or an index cannot be reached.
        ToolMissingError: `uv-broken`: uv does not start.
    """
    plan, binary = prepared.plan, ("--only-binary", ":all:") if only_wheels else ()
    lock = ("--format", "pylock.toml", *binary)
    named = {item.name: item for item in plan.packages if item.variant is not None}
    if not named:
        return _compile(context, prepared, uv, lock)
    # uv writes no lock of wheel variants: it pins everything and locks the rest, and they are added.
    pinned = _compile(context, prepared, uv, binary).splitlines()
    others = tuple(line for line in pinned if line[:1].isalnum() and requirement(line).name not in named)
    packages = tuple(item for item in plan.packages if item.name not in named)
    rest = structs.replace(prepared, plan=structs.replace(plan, packages=packages, requirements=others))
    text = _compile(context, rest, uv, (*lock, "--no-deps"))
    return text + "".join(_archive(item) for item in named.values())


def client_of(context: Context, prepared: Prepared) -> Client:
    """Who asks for the files of a plan: with the hosts that uv may trust, and passwords of its indexes."""
    from torchinstall.index.client import Client  # it loads httpx

    hosts = values_of("--allow-insecure-host", prepared.uv_args)
    indexes = [item.index_url or "" for item in prepared.plan.packages]
    return Client(context.env, hosts, (*indexes, *prepared.uv_args))


def export_lock(lock: LockedProject, uv: Uv, env: Mapping[str, str], folder: Path) -> str:
    """What a project's lock installs, for every platform, as PEP 751 text.

    Raises:
        InstallFailedError: uv cannot read the lock.
    """
    itself = "--no-emit-workspace" if lock.workspace else "--no-emit-project"
    argv = [uv.path, "export", "--frozen", "--format", "pylock.toml", "--no-header", "--no-dev", itself]
    done = run_uv([*argv, *lock.flags], env=env, project=True, cwd=folder)
    if done.returncode != 0:
        raise install_failure(done, "read the project's lock")
    return done.stdout


def _archive(package: Package) -> str:
    """The entry of a file that is named by its URL; JSON strings are TOML strings."""
    hashes = f", hashes = {{ sha256 = {json.dumps(package.sha256)} }}" if package.sha256 else ""
    return (
        f"\n[[packages]]\nname = {json.dumps(package.name)}\nversion = {json.dumps(package.version)}\n"
        f"archive = {{ url = {json.dumps(package.url)}{hashes} }}\n"
    )


def _compile(context: Context, prepared: Prepared, uv: Uv, options: tuple[str, ...]) -> str:
    plan, target = prepared.plan, prepared.target
    macos = (("MACOSX_DEPLOYMENT_TARGET", target.os_version),) if target.os == "macos" else ()
    routed = [item.name for item in plan.packages if item.routed]
    with tempfile.TemporaryDirectory(prefix="torchinstall-") as folder:
        path = Path(folder, "pyproject.toml")
        path.write_text(project_text(plan), encoding="utf-8")
        # No torch is installed here: what may be built says in isolation what it needs.
        argv = [uv.path, "pip", "compile", str(path), *options, "--no-header", "--no-annotate"]
        argv += _target_options(target)
        argv += shared_options(plan, prepared.constraint_files, offline=prepared.request.offline)
        argv += prepared.uv_args
        done = run_uv(argv, env=context.env, changes=(*plan.env, *macos), cwd=context.cwd)
    if done.returncode != 0:
        raise install_failure(done, f"resolve what torch {plan.torch} needs", routed)
    return done.stdout


def _target_options(target: Target) -> list[str]:
    if target.python is not None and Path(target.python).exists():  # of one that is yet to be created, not
        return ["--python", target.python]
    python = f"{target.python_version}t" if target.abi.endswith("t") else sys.executable
    system = {"windows": "pc-windows-msvc", "macos": "apple-darwin"}.get(target.os, "unknown-linux-gnu")
    glibc = dotted_or_none(target.libc.version) if target.libc is not None else None
    if glibc is not None and len(glibc) > 1:
        system = f"manylinux_2_{max((minor for minor in _GLIBC if minor <= glibc[1]), default=17)}"
    platform = f"{target.arch}-{system}"
    return ["--python", python, "--python-version", target.python_version, "--python-platform", platform]


def files_of(text: str, target: Target, *, every: bool = True) -> tuple[File, ...]:
    """The file that the target takes of each package in PEP 751 text: its tags decide between wheels.

    Without `every`, packages that come from a folder or a repository are left out.

    Raises:
        NoCompatibleBuildError: `no-file-for-target`: uv's answer has no file that fits.
        UsageError: `not-exportable`: a package comes from a folder or a repository.
    """
    version = tuple(int(part) for part in target.python_version.split(".")[:2])
    platforms = list(target.platform_tags)
    tags = (
        *cpython_tags(version, [target.abi], platforms),
        *compatible_tags(version, f"cp{version[0]}{version[1]}", platforms),
    )
    ranks = {str(tag): rank for rank, tag in enumerate(tags)}
    rows = (loads(text) or {}).get("packages", ())
    environment = target.marker_environment()
    mine = [row for row in rows if holds(row.get("marker", ""), environment)]
    return tuple(_file(row, ranks, target) for row in mine if every or not _place(row))


def _place(row: Mapping[str, Any]) -> str:
    """The folder or repository that a package comes from; empty where it is a file."""
    place = row.get("directory") or row.get("vcs") or {}
    return str(place.get("url") or place.get("path") or "")


def _file(row: dict[str, Any], ranks: Mapping[str, int], target: Target) -> File:
    """The wheel with the most specific tag, else the source archive."""
    if place := _place(row):
        what, hint = f"{row['name']} from {place}: it has no file yet", "torchinstall export --format pylock"
        raise not_exportable(what, "a list of files", hint)
    entries = [row["archive"]] if "archive" in row else row.get("wheels", ())
    wheels = [_entry(row, entry) for entry in entries]
    fitting = [(rank, file) for file in wheels if (rank := _rank(file.filename, ranks)) is not None]
    if fitting:
        return min(fitting, key=lambda pair: pair[0])[1]
    if "sdist" in row:
        return _entry(row, row["sdist"])
    package = " ".join(str(row[key]) for key in ("name", "version") if key in row)
    raise NoCompatibleBuildError(
        "no-file-for-target",
        f"{package} has no file for {target.platform}",
        wanted=f"a wheel for CPython {target.python_version} on {target.platform}",
        found=", ".join(file.filename for file in wheels) or "neither a wheel nor a source archive",
        hints=(f"add a bound that picks another version of {row.get('name')}",),
    )


def _entry(row: dict[str, Any], entry: dict[str, Any]) -> File:
    place = entry.get("url") or real_path(Path(str(entry.get("path", "")))).as_uri()
    url = without_credentials(str(place))
    return File(
        file_name(url),
        url,
        name=str(row["name"]),
        version=row.get("version") or version_at(url),
        sha256=entry.get("hashes", {}).get("sha256"),
        size=entry.get("size"),
    )


def _rank(filename: str, ranks: Mapping[str, int]) -> tuple[int, int, str] | None:
    """The rank of a wheel's best tag, then a higher build number first; None where it does not fit."""
    row = parse_name(filename, variants=True)
    if row is None:
        return None
    tags = map(str, parse_tag(f"{row.tag_list}-{row.platform_tag}"))
    fitting = [ranks[tag] for tag in tags if tag in ranks]
    number = re.sub(r"\D.*", "", row.build)
    return (min(fitting), -int(number or 0), row.build) if fitting else None
