"""Settings from files: `[tool.torchinstall]` of the nearest `pyproject.toml`, then the user's own file.

Strict: a key that no flag knows is an error, since a setting that is silently ignored is a wrong install.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from torchinstall.core.errors import UsageError

__all__ = [
    "RESERVED_TABLES",
    "ConfigTables",
    "ConfigValue",
    "Kind",
    "config_tables",
    "nearest_pyproject",
    "read_toml",
    "settings_in",
    "user_config_path",
]

Kind = Literal["text", "texts", "number", "switch", "paths"]
"""What a setting holds; `paths` are texts that start at the file's own folder when relative."""

ConfigTables = tuple[tuple[Path, dict[str, Any], str], ...]
"""File, its table, and how a message names the place; the one that wins comes last."""

RESERVED_TABLES: frozenset[str] = frozenset({"families"})
"""Tables below `[tool.torchinstall]` that verbs read themselves; they are not settings."""


class ConfigValue(Struct, frozen=True, kw_only=True):
    """One value and the file that holds it."""

    value: Any
    source: str


def settings_in(tables: ConfigTables, kinds: Mapping[str, Kind]) -> dict[str, ConfigValue]:
    """The settings of both files by setting name (`index_base`); the project's win over the user's.

    Args:
        tables: of `config_tables`.
        kinds: every setting that a file may hold.

    Raises:
        UsageError: an unknown key, or a value of the wrong type.
    """
    merged: dict[str, ConfigValue] = {}
    for path, table, where in tables:
        merged.update(_checked(table, path, kinds, where))
    return merged


def config_tables(cwd: Path, env: Mapping[str, str]) -> ConfigTables:
    """The user's table and then the project's, with their files and how a message names the place.

    Args:
        cwd: where the search for `pyproject.toml` starts.
        env: the environment, for the user's configuration folder.

    Raises:
        UsageError: a file that is not TOML, or `tool.torchinstall` that is no table.
    """
    found: list[tuple[Path, dict[str, Any], str]] = []
    user = user_config_path(env)
    if user is not None and user.is_file():
        found.append((user, read_toml(user), "top level of"))
    project = nearest_pyproject(cwd)
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


def nearest_pyproject(cwd: Path) -> Path | None:
    """The `pyproject.toml` of this folder or the nearest one above."""
    for folder in (cwd, *cwd.parents):
        candidate = folder / "pyproject.toml"
        if candidate.is_file():
            return candidate
    return None


def user_config_path(env: Mapping[str, str]) -> Path | None:
    """The user's own configuration file, whether or not it is there; None where there is no home."""
    if explicit := env.get("TORCHINSTALL_CONFIG_FILE"):
        return Path(explicit)
    base = env.get("XDG_CONFIG_HOME") or env.get("APPDATA")
    if base:
        return Path(base) / "torchinstall" / "torchinstall.toml"
    home = env.get("HOME") or env.get("USERPROFILE")
    return Path(home) / ".config" / "torchinstall" / "torchinstall.toml" if home else None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UsageError: it cannot be read or is not TOML.
    """
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with path.open("rb") as file:
            table: dict[str, Any] = tomllib.load(file)
            return table
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            "bad-config",
            f"{path} is not valid TOML: {error}",
            hints=("correct the file, or ignore it with --no-config",),
        ) from error
    except OSError as error:
        raise UsageError(
            "bad-config",
            f"{path} cannot be read: {error.strerror}",
            hints=("correct its permissions, or ignore it with --no-config",),
        ) from error


def _checked(
    table: Mapping[str, Any], path: Path, kinds: Mapping[str, Kind], where: str
) -> dict[str, ConfigValue]:
    known = {name.replace("_", "-"): name for name in kinds}
    values: dict[str, ConfigValue] = {}
    for key, value in table.items():
        if key in RESERVED_TABLES:
            continue
        name = known.get(key)
        if name is None:
            import difflib

            close = difflib.get_close_matches(key, known, n=3)
            raise UsageError(
                "bad-config",
                f"unknown key {key!r} at the {where} {path}",
                wanted=", ".join(close) if close else ", ".join(sorted(known)),
                found=key,
                hints=("correct the key, or ignore configuration files with --no-config",),
            )
        values[name] = ConfigValue(value=_typed(key, value, kinds[name], path), source=f"config {path.name}")
    return values


def _typed(key: str, value: object, kind: Kind, path: Path) -> Any:
    texts: list[Any] = value if isinstance(value, list) else [value]
    if kind == "text" and isinstance(value, str):
        return value
    if kind == "switch" and isinstance(value, bool):
        return value
    if kind == "number" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind in ("texts", "paths") and all(isinstance(item, str) for item in texts):
        return tuple(str(path.parent / item) if kind == "paths" else item for item in texts)
    wanted = {
        "text": "text in quotes",
        "switch": "true or false",
        "number": "an integer",
        "texts": "a list of texts",
        "paths": "a list of paths",
    }[kind]
    raise UsageError("bad-config", f"{key} in {path} is not right", wanted=wanted, found=repr(value)[:80])
