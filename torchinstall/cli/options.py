"""Every flag, declared once: its spelling, its variables, what it says; verbs compose them by name.

A flag's value comes from the command line, else from `TORCHINSTALL_<NAME>` (then from other tools' variables
that mean the same), else from a configuration file, else from its default. An empty variable says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import click
from click.core import ParameterSource

from torchinstall.cli.config import ConfigValue, Kind
from torchinstall.cli.session import Session

__all__ = ["DECLARED", "SOURCES", "Declared", "Flag", "config_kinds", "declare"]

SOURCES = "torchinstall.sources"
CONFIG = "torchinstall.config"

Section = Literal["What to install", "Where", "Which build", "The machine", "Sources", "How", "Output"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One flag.

    Attributes:
        name: setting name, `index_base`; its variable is `TORCHINSTALL_INDEX_BASE`.
        decls: spellings for click.
        also: variables of other tools that are honoured with the same meaning.
        empty_counts: those among `also` whose empty value is a value.
        config: whether a configuration file may hold it.
    """

    name: str
    decls: tuple[str, ...]
    help: str
    section: Section
    kind: Kind = "text"
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    default: Any = None
    also: tuple[str, ...] = ()
    empty_counts: tuple[str, ...] = ()
    config: bool = True

    @property
    def variables(self) -> tuple[str, ...]:
        """Its own variable, then those of other tools."""
        return (f"TORCHINSTALL_{self.name.upper()}", *self.also)

    @property
    def flag(self) -> str:
        """The long spelling."""
        return next(decl for decl in self.decls if decl.startswith("--")).partition("/")[0]


DECLARED: dict[str, Declared] = {}
"""By setting name. A verb of its own may add rows with `declare`."""


def declare(*rows: Declared) -> None:
    """Add flags; each name once."""
    for row in rows:
        if row.name in DECLARED and DECLARED[row.name] != row:
            raise ValueError(f"flag {row.name} is declared twice")
        DECLARED[row.name] = row


def config_kinds() -> dict[str, Kind]:
    """What a configuration file may hold."""
    return {row.name: row.kind for row in DECLARED.values() if row.config}


class Flag(click.Option):
    """A click option that reads the run's own environment and configuration and remembers who won."""

    def __init__(self, declared: Declared) -> None:
        kind = declared.kind
        extra: dict[str, Any] = {"metavar": declared.metavar}
        if kind == "switch":
            extra = {"is_flag": True}
        elif kind == "number":
            extra["type"] = int
        elif declared.choices:
            extra["type"] = click.Choice(declared.choices)
        if kind in ("texts", "paths"):
            extra["multiple"] = True
        else:
            extra["default"] = False if kind == "switch" and declared.default is None else declared.default
        super().__init__(
            [*declared.decls, declared.name],
            help=declared.help + (f" [also: {', '.join(declared.also)}]" if declared.also else ""),
            envvar=list(declared.variables),
            show_default=bool(declared.default) and kind != "switch",
            **extra,
        )
        self.declared = declared

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """The first of its variables that says something, read from the run's environment."""
        found = self._variable(ctx)
        return None if found is None else found[1]

    def _variable(self, ctx: click.Context) -> tuple[str, str] | None:
        session = ctx.find_object(Session)
        if session is None:
            return None
        for variable in self.declared.variables:
            value = session.world.env.get(variable)
            if value:
                return variable, value
        return None

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """As click reads it, but several values are parted by commas: names of GPUs hold spaces."""
        if not self.multiple:
            return super().value_from_envvar(ctx)
        text = self.resolve_envvar_value(ctx)
        return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """Command line, environment, configuration, default; the winner's name is kept in `ctx.meta`."""
        value, source = super().consume_value(ctx, opts)
        sources: dict[str, str] = ctx.meta.setdefault(SOURCES, {})
        name = self.declared.name
        if source is ParameterSource.COMMANDLINE:
            sources[name] = f"flag {self.declared.flag}"
        elif source is ParameterSource.ENVIRONMENT:
            found = self._variable(ctx)
            sources[name] = f"environment {found[0]}" if found else "environment"
        elif (empty := self._empty_that_counts(ctx)) is not None:
            sources[name] = f"environment {empty}"
            return "", ParameterSource.ENVIRONMENT
        elif (configured := ctx.meta.get(CONFIG, {}).get(name)) is not None:
            assert isinstance(configured, ConfigValue)  # noqa: S101  # click's meta is untyped
            sources[name] = configured.source
            return configured.value, ParameterSource.DEFAULT_MAP
        return value, source

    def _empty_that_counts(self, ctx: click.Context) -> str | None:
        session = ctx.find_object(Session)
        if session is None:
            return None
        return next((name for name in self.declared.empty_counts if session.world.env.get(name) == ""), None)


declare(
    Declared(
        name="requirement",
        decls=("-r", "--requirement"),
        kind="paths",
        metavar="FILE",
        section="What to install",
        config=False,
        help="Install what a requirements file lists (repeatable).",
    ),
    Declared(
        name="constraint",
        decls=("-c", "--constraint"),
        kind="paths",
        metavar="FILE",
        section="What to install",
        help="Bound versions by a constraints file (repeatable).",
    ),
    Declared(
        name="upgrade",
        decls=("-U", "--upgrade"),
        kind="switch",
        section="What to install",
        help="Replace a build that is right already by a newer one.",
    ),
    Declared(
        name="python",
        decls=("-p", "--python"),
        metavar="PATH|3.12",
        section="Where",
        help="The interpreter or environment to install into.",
    ),
    Declared(
        name="venv",
        decls=("--venv",),
        metavar="DIR",
        section="Where",
        help="The virtual environment to install into; made where it is missing.",
    ),
    Declared(
        name="system",
        decls=("--system",),
        kind="switch",
        section="Where",
        help="Install into the system's interpreter.",
    ),
    Declared(
        name="python_version",
        decls=("--python-version",),
        metavar="3.12",
        section="Where",
        config=False,
        help="Plan for this Python, whether or not it is here.",
    ),
    Declared(
        name="backend",
        decls=("--backend",),
        metavar="auto|cpu|cu126|…",
        default="auto",
        also=("UV_TORCH_BACKEND",),
        section="Which build",
        help="The build line to install; it is obeyed.",
    ),
    Declared(
        name="channel",
        decls=("--channel",),
        choices=("stable", "test", "nightly"),
        default="stable",
        section="Which build",
        help="Which of PyTorch's indexes to choose from.",
    ),
    Declared(
        name="require_gpu",
        decls=("--require-gpu",),
        kind="switch",
        section="Which build",
        help="Fail (exit 4) rather than install a CPU build.",
    ),
    Declared(
        name="allow_cpu",
        decls=("--allow-cpu",),
        kind="switch",
        section="Which build",
        help="Accept a CPU build where pins or an unreadable GPU would stop.",
    ),
    Declared(
        name="prefer_gpu",
        decls=("--prefer-gpu",),
        kind="number",
        metavar="N",
        section="Which build",
        help="Serve GPU N first where no build covers all.",
    ),
    Declared(
        name="respect_visible_devices",
        decls=("--respect-visible-devices",),
        kind="switch",
        section="Which build",
        help="Plan only for the GPUs that CUDA_VISIBLE_DEVICES and its kin leave.",
    ),
    Declared(
        name="machine",
        decls=("--machine",),
        metavar="FILE",
        section="The machine",
        config=False,
        help="Plan for the machine in this file; - is stdin.",
    ),
    Declared(
        name="root",
        decls=("--root",),
        metavar="DIR",
        section="The machine",
        config=False,
        help="Read a captured machine folder instead of this machine.",
    ),
    Declared(
        name="target_driver",
        decls=("--target-driver",),
        metavar="580.95",
        also=("UV_CUDA_DRIVER_VERSION",),
        section="The machine",
        help="Plan for this NVIDIA driver version.",
    ),
    Declared(
        name="target_cuda",
        decls=("--target-cuda",),
        metavar="12.8",
        also=("CONDA_OVERRIDE_CUDA",),
        empty_counts=("CONDA_OVERRIDE_CUDA",),
        section="The machine",
        help="Plan for a driver that speaks this CUDA; empty CONDA_OVERRIDE_CUDA: no driver.",
    ),
    Declared(
        name="target_gpu",
        decls=("--target-gpu",),
        kind="texts",
        metavar="sm_90|gfx1100|NAME",
        also=("UV_AMD_GPU_ARCHITECTURE",),
        section="The machine",
        help="Plan for this GPU instead of those found (repeatable).",
    ),
    Declared(
        name="explain",
        decls=("--explain",),
        metavar="BACKEND",
        section="Output",
        config=False,
        help="Say in plain words what became of one backend.",
    ),
    Declared(
        name="why_not",
        decls=("--why-not",),
        metavar="BACKEND",
        section="Output",
        config=False,
        help="Say in plain words why one backend was not taken.",
    ),
    Declared(
        name="anonymous",
        decls=("--anonymous",),
        kind="switch",
        section="Output",
        help="Leave out what names this machine (UUIDs).",
    ),
    Declared(
        name="index_base",
        decls=("--index-base",),
        metavar="URL",
        default="https://download.pytorch.org/whl",
        section="Sources",
        help="A mirror of the PyTorch index, or a template with {backend}.",
    ),
    Declared(
        name="find_links",
        decls=("-f", "--find-links"),
        kind="paths",
        metavar="DIR",
        section="Sources",
        help="A folder of wheels to choose builds from (repeatable).",
    ),
    Declared(
        name="offline",
        decls=("--offline",),
        kind="switch",
        section="Sources",
        help="Ask no index; use the shipped catalog, folders and caches.",
    ),
    Declared(
        name="refresh",
        decls=("--refresh",),
        kind="switch",
        section="Sources",
        config=False,
        help="Read index pages again, however young the kept copies are.",
    ),
    Declared(
        name="allow_insecure_host",
        decls=("--allow-insecure-host",),
        kind="texts",
        metavar="HOST",
        section="Sources",
        help="Ask this host over http, or with a certificate that is not right (repeatable).",
    ),
    Declared(
        name="dry_run",
        decls=("-n", "--dry-run"),
        kind="switch",
        section="How",
        config=False,
        help="Say what would be done and change nothing.",
    ),
    Declared(
        name="verify",
        decls=("--verify/--no-verify",),
        kind="switch",
        default=True,
        section="How",
        help="Prove afterwards that the build computes (default: yes).",
    ),
    Declared(
        name="json",
        decls=("--json",),
        kind="switch",
        section="Output",
        config=False,
        help="Print one JSON object on stdout, also when it fails.",
    ),
)
