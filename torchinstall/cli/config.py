"""Options from files: `[tool.torchinstall]` of the nearest `pyproject.toml`, then the user's own file.

Strict: a key that no flag knows is an error, since a setting that is silently ignored is a wrong install.
Besides flags a file may hold `families`, rows for packages that move with torch: `docs/reference/catalog.md`.

A project may have been cloned: its file chooses builds, but neither where they come from nor which Python
is changed. `Flag.of_user` marks the keys that count only in the user's own file; `index-base` counts, and is
said.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from torchinstall.catalog.model import Family
from torchinstall.cli.flags import FLAGS, Flag
from torchinstall.core.decoding import convert
from torchinstall.core.errors import UsageError
from torchinstall.core.files import upward
from torchinstall.core.messages import Message, close_matches
from torchinstall.core.request import DEFAULT_INDEX_BASE, canonical_name
from torchinstall.planning.context import Options, read_toml

_TYPES: dict[str, Any] = {
    "text": str,
    "switch": bool,
    "number": int,
    "texts": str | tuple[str, ...],
    "paths": str | tuple[str, ...],
}
_KEYS = {flag.name.replace("_", "-"): flag for flag in FLAGS.values() if flag.config}
"""Every key that a file may hold."""

_IGNORE = "ignore configuration files with --no-config"


class ConfigValue(Struct, frozen=True):
    """One setting, the file that holds it, and whether that is a project's."""

    flag: Flag
    value: Any
    path: Path
    of_project: bool

    @property
    def source(self) -> str:
        """As a plan shows who set a value."""
        return f"config {self.path.name}"

    @property
    def counts(self) -> bool:
        """Whether whoever wrote the file may decide this."""
        return not (self.of_project and self.flag.of_user)

    def typed(self) -> str:
        """The setting as it is typed."""
        spelling, values = self.flag.spelling, self.value if isinstance(self.value, tuple) else (self.value,)
        switch = self.flag.kind == "switch"
        return spelling if switch else shlex.join(part for item in values for part in (spelling, item))


class Config(Struct, frozen=True):
    """What both files say, the user's first; of values for one flag the last that counts wins.

    Attributes:
        families: the packages that move with torch; the project's rows win over the user's.
        user_file: the user's own file, whether or not it is there; None where there is no home.
    """

    values: tuple[ConfigValue, ...] = ()
    families: tuple[Family, ...] = ()
    user_file: Path | None = None

    def get(self, name: str) -> ConfigValue | None:
        """The value for a flag, by the name of its field (`index_base`)."""
        mine = [row for row in self.values if row.flag.name == name and row.counts]
        return mine[-1] if mine else None

    def of_project(self, options: Options) -> Iterator[Message]:
        """What must be said of a project's settings before a verb uses them: those ignored, and its index."""
        for row in self.values:
            flag, key = row.flag, row.flag.name.replace("_", "-")
            if not row.of_project or not hasattr(options, flag.name) or flag.name in options.omit:
                continue
            set_by = options.source(flag.name).partition(" ")[0]
            if not row.counts and row.value and set_by not in ("flag", "environment"):
                yield Message(
                    "project-setting-ignored",
                    f"{key} in {row.path} is ignored: a project's file may choose builds, but not "
                    f"{flag.of_user}; to accept it, type {row.typed()}, or put it into {self.user_file}",
                )
            elif key == "index-base" and set_by == "config" and row.value != DEFAULT_INDEX_BASE:
                yield Message(
                    "project-index-used",
                    f"builds come from {row.value}, because {row.path} says so (index-base); "
                    f"--index-base {DEFAULT_INDEX_BASE} takes PyTorch's own index instead",
                )


def read_config(cwd: Path, env: Mapping[str, str], named: Path | None = None) -> Config:
    """Both files, checked; the search for `pyproject.toml` starts in `cwd`.

    `named`: the user's own file, instead of the usual one.

    Raises:
        UsageError: `bad-config`: it is not there, no TOML, an unknown key, a value of the wrong type.
    """
    home = env.get("HOME") or env.get("USERPROFILE")
    base = env.get("XDG_CONFIG_HOME") or env.get("APPDATA") or (home and f"{home}/.config")
    user_file = named or (Path(base) / "torchinstall" / "torchinstall.toml" if base else None)
    tables: list[tuple[Path, Any, bool]] = []
    if user_file is not None and (named or user_file.is_file()):
        tables.append((user_file, read_toml(user_file), False))
    if (project := next(upward(cwd, "pyproject.toml"), None)) is not None:
        tool = read_toml(project).get("tool")
        tables.append((project, tool.get("torchinstall", {}) if isinstance(tool, dict) else {}, True))
    values: list[ConfigValue] = []
    families: dict[str, Family] = {}
    for path, table, of_project in tables:
        if not isinstance(table, dict):
            raise UsageError(
                "bad-config", f"tool.torchinstall in {path} is not a table", wanted="[tool.torchinstall]"
            )
        families |= {row.package: row for row in _families(table.pop("families", {}), path)}
        for key, value in table.items():
            flag = _flag(key, f"{'[tool.torchinstall] in' if of_project else 'top level of'} {path}")
            values.append(ConfigValue(flag, _value(flag, key, value, path), path, of_project))
    return Config(tuple(values), tuple(families.values()), user_file)


def _flag(key: str, place: str) -> Flag:
    if key in _KEYS:
        return _KEYS[key]
    raise UsageError(
        "bad-config",
        f"unknown key {key!r} at the {place}",
        wanted=", ".join(close_matches(key, _KEYS) or sorted(_KEYS)),
        found=key,
        hints=(f"correct the key, or {_IGNORE}",),
    )


def _value(flag: Flag, key: str, value: object, path: Path) -> Any:
    typed = _convert(value, _TYPES[flag.kind], key, path)
    if flag.kind not in ("texts", "paths"):
        return typed
    items = (typed,) if isinstance(typed, str) else typed
    return tuple(str(path.parent / item) for item in items) if flag.kind == "paths" else items


def _convert(value: object, kind: Any, key: str, path: Path) -> Any:
    try:
        return convert(value, kind)
    except msgspec.ValidationError as error:
        raise UsageError(
            "bad-config",
            f"{key} in {path} is invalid: {error}",
            found=repr(value)[:80],
            hints=(f"correct the file, or {_IGNORE}",),
        ) from error


class _FamilyRow(Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    routed: bool = True
    pairing: Literal["free", "torch"] = "free"
    own_cuda: bool = False


def _families(table: object, path: Path) -> Iterator[Family]:
    for name, value in _convert(table, dict[str, Any], "families", path).items():
        row = _convert(value, _FamilyRow, f"families.{name}", path)
        yield Family(
            package=canonical_name(name),
            runtime_of=(),
            source=f"config {path.name}",
            confidence="high",
            **msgspec.structs.asdict(row),
        )
