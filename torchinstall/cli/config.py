"""Options from files: `[tool.torchinstall]` of the nearest `pyproject.toml`, then the user's own file.

Strict: a key that no flag knows is an error, since a setting that is silently ignored is a wrong install.

    [tool.torchinstall]
    backend = "cu128"

    [tool.torchinstall.families]                        # packages that move with torch
    my-extension = { routed = true }                    # from the PyTorch index, if it is there
    torch-tb-profiler = { routed = false }              # never from there
    my-kernels = { routed = true, pairing = "torch" }   # the version is torch's own

A row of `families` replaces the shipped one of the same name (`families.json`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from torchinstall.catalog.model import Family
from torchinstall.cli.flags import FLAGS, Flag
from torchinstall.core.errors import UsageError
from torchinstall.core.request import canonical_name
from torchinstall.planning.context import read_toml

__all__ = ["ConfigTables", "ConfigValue", "config_tables", "families_in", "settings_in"]

ConfigTables = tuple[tuple[Path, dict[str, Any], str], ...]
"""File, its table, and how a message names the place; the one that wins comes last."""

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
    for path, table, where in tables:
        for key, value in table.items():
            if key != "families":
                flag = _flag(key, path, where)
                found[flag.name] = ConfigValue(
                    value=_typed(flag, key, value, path), source=f"config {path.name}"
                )
    return found


def config_tables(cwd: Path, env: Mapping[str, str]) -> ConfigTables:
    """The user's table and then the project's, with their files and how a message names the place.

    Args:
        cwd: where the search for `pyproject.toml` starts.
        env: the environment, for the user's configuration folder.

    Raises:
        UsageError: a file that is not TOML, or `tool.torchinstall` that is no table.
    """
    found: list[tuple[Path, dict[str, Any], str]] = []
    user = _user_file(env)
    if user is not None and user.is_file():
        found.append((user, read_toml(user), "top level of"))
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
            found.append((project, table, "[tool.torchinstall] in"))
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
    for path, table, _ in tables:
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
