"""Options from files: `[tool.torchinstall]` of the nearest `pyproject.toml`, then the user's own file.

Strict: a key that no flag knows is an error, since a setting that is silently ignored is a wrong install.

    [tool.torchinstall]
    backend = "cu128"

    [tool.torchinstall.families]                        # packages that move with torch
    my-extension = { routed = true }                    # from the PyTorch index, if it is there
    torch-tb-profiler = { routed = false }              # never from there
    my-kernels = { routed = true, pairing = "torch" }   # the version is torch's own

A row of `families` replaces the shipped one of the same name (`families.json`).

A project may have been cloned: its file chooses builds, but neither where they come from nor which Python
is changed. `Flag.of_user` marks the keys that count only in the user's own file; `index-base` counts, and is
said.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from torchinstall.catalog.model import Family
from torchinstall.cli.flags import FLAGS, Flag
from torchinstall.core.errors import UsageError
from torchinstall.core.messages import Message
from torchinstall.core.request import DEFAULT_INDEX_BASE, canonical_name
from torchinstall.planning.context import read_toml
from torchinstall.planning.options import Options


class ConfigTable(Struct, frozen=True):
    """A file, its table, how a message names the place, and whether it is a project's."""

    path: Path
    table: dict[str, Any]
    where: str
    of_project: bool


ConfigTables = tuple[ConfigTable, ...]
"""The one that wins comes last."""

_TYPES: dict[str, Any] = {
    "text": str,
    "switch": bool,
    "number": int,
    "texts": str | tuple[str, ...],
    "paths": str | tuple[str, ...],
}
_KEYS = {flag.name.replace("_", "-"): flag for flag in FLAGS.values() if flag.config}
"""Every key that a file may hold."""


class ConfigValue(Struct, frozen=True, kw_only=True):
    """One value and the file that holds it."""

    value: Any
    source: str


def settings_in(tables: ConfigTables) -> dict[str, ConfigValue]:
    """The values of both files by the name of the flag (`index_base`); the project's win over the user's.

    Raises:
        UsageError: an unknown key, or a value of the wrong type.
    """
    found = {}
    for row in tables:
        for key, value in row.table.items():
            if key != "families":
                flag = _flag(key, row.path, row.where)
                typed = _typed(flag, key, value, row.path)
                if not (row.of_project and flag.of_user):
                    found[flag.name] = ConfigValue(value=typed, source=f"config {row.path.name}")
    return found


def of_project(tables: ConfigTables, env: Mapping[str, str], options: Options) -> tuple[Message, ...]:
    """What must be said of a project's settings before a verb uses them: those ignored, and its index.

    Args:
        tables: that `options` were filled from.
        env: as for `config_tables`.
        options: of the verb.
    """
    said = []
    for row in tables:
        for key, value in row.table.items() if row.of_project else ():
            flag = _KEYS.get(key)
            if flag is None or not hasattr(options, flag.name) or flag.name in options.omit:
                continue
            set_by = options.source(flag.name).partition(" ")[0]
            if flag.of_user and value and set_by not in ("flag", "environment"):
                flags = shlex.join(_as_flags(flag, _typed(flag, key, value, row.path)))
                message = (
                    f"{key} in {row.path} is ignored: a project's file may choose builds, but not "
                    f"{flag.of_user}; to accept it, type {flags}, or put it into {_user_file(env)}"
                )
                said.append(Message("project-setting-ignored", message))
            elif flag.name == "index_base" and set_by == "config" and value != DEFAULT_INDEX_BASE:
                message = (
                    f"builds come from {value}, because {row.path} says so (index-base); "
                    f"--index-base {DEFAULT_INDEX_BASE} takes PyTorch's own index instead"
                )
                said.append(Message("project-index-used", message))
    return tuple(said)


def _as_flags(flag: Flag, value: Any) -> list[str]:
    """A setting as it is typed."""
    if flag.kind == "switch":
        return [flag.spelling]
    return [
        part for item in (value if isinstance(value, tuple) else (value,)) for part in (flag.spelling, item)
    ]


def config_tables(cwd: Path, env: Mapping[str, str]) -> ConfigTables:
    """The user's table and then the project's, with their files and how a message names the place.

    Args:
        cwd: where the search for `pyproject.toml` starts.
        env: the environment, for the user's configuration folder.

    Raises:
        UsageError: a file that is not TOML, or `tool.torchinstall` that is no table.
    """
    found: list[ConfigTable] = []
    user = _user_file(env)
    if user is not None and user.is_file():
        found.append(ConfigTable(user, read_toml(user), "top level of", of_project=False))
    files = (folder / "pyproject.toml" for folder in (cwd, *cwd.parents))
    project = next((path for path in files if path.is_file()), None)
    if project is not None:
        tool = read_toml(project).get("tool")
        table = tool.get("torchinstall") if isinstance(tool, dict) else None
        if table is not None and not isinstance(table, dict):
            raise UsageError(
                "bad-config",
                f"tool.torchinstall in {project} is not a table",
                wanted="[tool.torchinstall]",
            )
        if table is not None:
            found.append(ConfigTable(project, table, "[tool.torchinstall] in", of_project=True))
    return tuple(found)


def _user_file(env: Mapping[str, str]) -> Path | None:
    """The user's own configuration file, whether or not it is there; None where there is no home."""
    if explicit := env.get("TORCHINSTALL_CONFIG_FILE"):
        return Path(explicit)
    base = env.get("XDG_CONFIG_HOME") or env.get("APPDATA")
    if base:
        return Path(base) / "torchinstall" / "torchinstall.toml"
    home = env.get("HOME") or env.get("USERPROFILE")
    return Path(home) / ".config" / "torchinstall" / "torchinstall.toml" if home else None


def _flag(key: str, path: Path, where: str) -> Flag:
    if key in _KEYS:
        return _KEYS[key]
    raise UsageError(
        "bad-config",
        f"unknown key {key!r} at the {where} {path}",
        wanted=", ".join(difflib.get_close_matches(key, _KEYS) or sorted(_KEYS)),
        found=key,
        hints=("correct the key, or ignore configuration files with --no-config",),
    )


def _typed(flag: Flag, key: str, value: object, path: Path) -> Any:
    typed = _convert(value, _TYPES[flag.kind], key, path)
    if flag.kind not in ("texts", "paths"):
        return typed
    items = (typed,) if isinstance(typed, str) else typed
    return tuple(str(path.parent / item) for item in items) if flag.kind == "paths" else items


def _convert(value: object, kind: Any, key: str, path: Path) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UsageError(
            "bad-config",
            f"{key} in {path} is invalid: {error}",
            found=repr(value)[:80],
            hints=("correct the file, or ignore it with --no-config",),
        ) from error


class _FamilyRow(Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    routed: bool = True
    pairing: Literal["free", "torch"] = "free"
    own_cuda: bool = False


def families_in(tables: ConfigTables) -> tuple[Family, ...]:
    """The packages of both files; the project's rows win over the user's.

    Raises:
        UsageError: a table that is not right.
    """
    found: dict[str, Family] = {}
    for path, table in ((row.path, row.table) for row in tables):
        for name, value in _convert(table.get("families", {}), dict[str, Any], "families", path).items():
            row = _convert(value, _FamilyRow, f"families.{name}", path)
            package = canonical_name(name)
            found[package] = Family(
                package=package,
                routed=row.routed,
                pairing=row.pairing,
                runtime_of=(),
                own_cuda=row.own_cuda,
                source=f"config {path.name}",
                confidence="high",
            )
    return tuple(found.values())
