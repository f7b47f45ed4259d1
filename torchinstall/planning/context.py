"""What a run is given: what it may touch, and what a verb was asked for.

The context is built once in `main`; a test builds its own and hands it in, so that nothing needs to be
patched. The options are one frozen value with a typed field for each flag, named as the flag and with its
default, and who set each of them. How a flag is spelled and described is the affair of `cli/flags.py`.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TextIO

from msgspec import Struct, structs

from torchinstall.core.errors import UsageError
from torchinstall.core.files import cache_dir, parse_toml, read_named, user_path
from torchinstall.core.messages import redact
from torchinstall.core.request import DEFAULT_INDEX_BASE, Channel, CompanionSource, Setting

if TYPE_CHECKING:
    from typing_extensions import Self

    from torchinstall.catalog.model import Family
    from torchinstall.install.uv import Uv
    from torchinstall.probe.system import System


class Context(Struct, frozen=True, kw_only=True):
    """Everything a run may touch that is not its arguments.

    Attributes:
        env: the environment, never written.
        cwd: where relative paths start.
        system: gives the probe access to this machine.
        find_uv: finds the uv that installs.
        now: seconds since 1970, for the age of what is known.
        python_version: of the interpreter that runs torchinstall, where no other is named.
        families: packages that move with torch by configuration.
        working: told what begins and may take a while.
        detail: told what is read and passed over, for `-v`.
    """

    env: Mapping[str, str]
    cwd: Path
    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    system: Callable[[Mapping[str, str]], System]
    find_uv: Callable[[Mapping[str, str]], Uv]
    now: Callable[[], float]
    python_version: str
    families: tuple[Family, ...] = ()
    working: Callable[[str], object] = str
    detail: Callable[[str], None] = lambda _: None

    def today(self) -> dt.date:
        """The date in UTC."""
        return dt.datetime.fromtimestamp(self.now(), tz=dt.timezone.utc).date()

    def moment(self) -> str:
        """This moment in UTC, to the second (ISO 8601)."""
        return dt.datetime.fromtimestamp(self.now(), tz=dt.timezone.utc).isoformat(timespec="seconds")

    def path(self, text: str) -> Path:
        """A path that the user typed."""
        return user_path(self.cwd, text)

    @property
    def cache_dir(self) -> Path | None:
        """Where this user's cache is."""
        return cache_dir(self.env, sys.platform)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UsageError: it cannot be read or is not TOML.
    """
    otherwise = "or ignore it with --no-config"
    hint = f"correct its encoding or its permissions, {otherwise}"
    text = read_named(path, "bad-config", str(path), "TOML in UTF-8", hint)
    try:
        return parse_toml(text)
    except ValueError as error:
        hint = f"correct the file, {otherwise}"
        raise UsageError("bad-config", f"{path} is not valid TOML: {error}", hints=(hint,)) from error


class Options(Struct, frozen=True, kw_only=True):
    """The options of any verb.

    Attributes:
        omit: fields that are no flags of this verb: they keep their defaults.
        sources: who set a field: `flag --backend`, `environment TORCHINSTALL_BACKEND`, `config
            pyproject.toml`, `argument`; a field that is missing here has its default.
        rest: what followed `--`.
    """

    omit: ClassVar[frozenset[str]] = frozenset()
    sources: Mapping[str, str] = {}
    rest: tuple[str, ...] = ()

    def is_set(self, name: str) -> bool:
        """Whether anything but the default decided this field."""
        return self.source(name) != "default"

    def source(self, name: str) -> str:
        """Who set this field.

        Raises:
            AttributeError: there is no such field.
        """
        getattr(self, name)
        return self.sources.get(name, "default")

    def of_project(self, name: str) -> bool:
        """Whether a project's file set this field."""
        return self.source(name) == "config pyproject.toml"


class MachineOptions(Options, frozen=True, kw_only=True):
    """Which machine is planned for, and how far its GPUs must be used."""

    machine: tuple[str, ...] = ()
    root: str | None = None
    target_driver: str | None = None
    target_cuda: str | None = None
    target_gpu: tuple[str, ...] = ()
    backend: str = "auto"
    require_gpu: bool = False
    allow_cpu: bool = False
    prefer_gpu: int | None = None
    respect_visible_devices: bool = False
    need: Literal["compile"] | None = None


class PlanOptions(MachineOptions, frozen=True, kw_only=True):
    """Everything that a plan is made from."""

    reqs: tuple[str, ...] = ()
    requirement: tuple[str, ...] = ()
    constraint: tuple[str, ...] = ()
    upgrade: bool = False
    allow_build: tuple[str, ...] = ()
    companion_source: CompanionSource = "trusted"
    python: str | None = None
    venv: str | None = None
    system: bool = False
    python_version: str | None = None
    channel: Channel = "stable"
    index_base: str = DEFAULT_INDEX_BASE
    vendor_index: bool = False
    fallback: bool = True
    find_links: tuple[str, ...] = ()
    offline: bool = False
    refresh: bool = False
    allow_insecure_host: tuple[str, ...] = ()
    dry_run: bool = False

    @classmethod
    def of(cls, options: Options, **changes: Any) -> Self:
        """The fields that another verb's options share with a plan's; `changes` replace some of them."""
        shared = {name: getattr(options, name) for name in cls.__struct_fields__ if hasattr(options, name)}
        return cls(**{**shared, **changes})

    def listing(self) -> tuple[Setting, ...]:
        """Every flag that has a value, for the plan; credentials in URLs are left out."""
        rows = []
        for name, value in structs.asdict(self).items():
            if name in _NO_FLAGS or name in self.omit or value is None or value == ():
                continue
            rows.append(Setting(name=name, value=redact(_text(value)), source=self.source(name)))
        return tuple(rows)


_NO_FLAGS = frozenset({"sources", "rest", "reqs"})


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
