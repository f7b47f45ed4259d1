"""The table of verbs, the group that imports one only when it is typed, what its help shows."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import click

from torchinstall import __version__
from torchinstall.cli.verb import (
    GROUP_OPTIONS,
    eager_switch,
    global_options,
    session_of,
    write_sections,
)

Row = tuple[str, str]
"""Where the verb is (`.module:attribute`) and its one line of help."""

COMMANDS: dict[str, Row] = {
    "auto": (".auto:VERB", "Install the PyTorch that works on this machine, and verify it."),
    "plan": (".plan:VERB", "Show what auto would install, why, and why nothing else."),
    "probe": (".show:PROBE", "Show what this machine is; --json writes a machine file."),
    "doctor": (".doctor:VERB", "Check whether what is installed is right and computes."),
    "configure": (".configure:VERB", "Write PyTorch's index and a choice of builds into a project."),
    "sync": (".sync:SYNC", "Run uv sync with the extra or group that fits this machine."),
    "run": (".sync:RUN", "Run a command in the project, with the extra or group that fits."),
    "export": (".export:VERB", "Write the plan down for pip, Poetry, Docker and other tools."),
    "bundle": (".export:BUNDLE", "Fetch all that a machine without a network needs."),
    "inspect": (".show:INSPECT", "Say what a wheel contains, also one at a URL."),
    "fleet": (".fleet:VERB", "Plan for a fleet: the fewest builds that serve its machines."),
    "requires": (".requires:VERB", "Say what a machine must have for a lock to run."),
    "catalog": (".show:CATALOG", "Show, update or check what is known about builds."),
    "completion": (".show:COMPLETION", "Print the completion script for a shell."),
}
"""Every verb: a new one is its file and one row here."""


class NoSuchVerb(click.UsageError):  # as click's own NoSuchOption
    """There is no such verb as the first of `words`; `table`: those that there are."""

    def __init__(self, ctx: click.Context, words: Sequence[str], table: Sequence[str]) -> None:
        super().__init__(f"no verb {words[0]!r}", ctx)
        self.group, self.words, self.table = ctx, words, table


class LazyGroup(click.Group):
    """A group whose verbs are rows of text until one is asked for.

    Importing all verbs for `--help` would cost more than everything else it does; so the table carries
    their help lines.
    """

    def __init__(self, name: str, table: Mapping[str, Row], **extra: Any) -> None:
        super().__init__(name, add_help_option=False, **extra)
        self.table = table

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """The verbs in the order of the table."""
        return list(self.table)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb; None: there is no such verb."""
        row = self.table.get(cmd_name)
        if row is None:
            return None
        module, _, attribute = row[0].partition(":")
        command = copy.copy(getattr(importlib.import_module(module, "torchinstall.cli"), attribute))
        assert isinstance(command, click.Command)  # noqa: S101  # the table names no other
        command.help = "\n\n".join(filter(None, (row[1], command.help)))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb named by the first argument.

        Raises:
            NoSuchVerb: there is none.
        """
        name = args[0]
        if name == "help":
            if not args[1:]:
                session_of(ctx).console.out(ctx.get_help())
                ctx.exit()
            return self.resolve_command(ctx, [*args[1:], "--help"])
        if name not in self.table and not ctx.resilient_parsing:
            raise NoSuchVerb(ctx, args, tuple(self.table))
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Verbs first, of the table itself, so that nothing is imported; then the global flags."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, row[1]) for name, row in self.table.items()])
        write_sections(self.params, ctx, formatter)


def build(table: Mapping[str, Row] | None = None) -> LazyGroup:
    """The whole command line; `table` replaces the verbs."""
    version = eager_switch(["-V", "--version"], "Show the version.", _show_version)
    return LazyGroup(
        "torchinstall",
        COMMANDS if table is None else table,
        params=[*global_options(before_verb=True), version],
        help="Install the PyTorch build that really works on this machine.",
        epilog="Exit codes: 0 done; 1 uv failed; 2 wrong input; 3 no build fits; 4 no GPU that can be used; "
        "5 no uv; 6 no environment; 7 it does not compute; 8 no index or catalog; 70 a bug. `torchinstall "
        "VERB --help` shows flags and examples; `torchinstall doctor --explain TEXT` explains an error text.",
        **GROUP_OPTIONS,
    )


def _show_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        session_of(ctx).console.out(f"torchinstall {__version__}")
        ctx.exit()
