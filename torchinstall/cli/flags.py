"""What a flag is: its spelling, its variables, where its value comes from.

A flag's value comes from the command line, else from `TORCHINSTALL_<NAME>` (then from other tools' variables
that mean the same), else from a configuration file, else from its default. An empty variable says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import click
from click.core import ParameterSource
from msgspec import Struct

from torchinstall.cli.config import ConfigValue, Kind
from torchinstall.cli.session import Session

__all__ = ["DECLARED", "SOURCES", "Declared", "Flag", "config_kinds", "declare"]

SOURCES = "torchinstall.sources"
CONFIG = "torchinstall.config"

Section = Literal["What to install", "Where", "Which build", "The machine", "Sources", "How", "Output"]


class Declared(Struct, frozen=True, kw_only=True):
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
            value = session.context.env.get(variable)
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
        return next(
            (name for name in self.declared.empty_counts if session.context.env.get(name) == ""), None
        )
