"""What every level of the command line has: how loud, how coloured, help, and what a bare group does."""

from __future__ import annotations

from typing import Any

import click

from torchinstall.cli.flags import Declared, Flag
from torchinstall.cli.session import Session
from torchinstall.core.errors import UsageError

__all__ = ["GLOBAL", "GROUP_OPTIONS", "GlobalFlag", "HelpFlag", "global_flags"]

GLOBAL = (
    Declared(
        name="verbose",
        decls=("-v", "--verbose"),
        section="Output",
        help="Say more; -vv also shows tracebacks.",
        config=False,
    ),
    Declared(
        name="quiet",
        decls=("-q", "--quiet"),
        section="Output",
        help="Say less; -qq silences warnings too.",
        config=False,
    ),
    Declared(
        name="color",
        decls=("--color",),
        choices=("auto", "always", "never"),
        section="Output",
        help="When to colour; NO_COLOR and FORCE_COLOR are honoured.",
        config=False,
    ),
    Declared(
        name="no_config",
        decls=("--no-config",),
        kind="switch",
        section="Output",
        help="Read no configuration file.",
        config=False,
    ),
)


@click.pass_context
def _no_verb(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        session = ctx.find_object(Session)
        assert session is not None  # noqa: S101  # main sets it
        session.console.say(ctx.get_help())
        raise UsageError("no-verb", "no verb was given", hints=(f"{ctx.command_path} --help",))


GROUP_OPTIONS: dict[str, Any] = {
    "no_args_is_help": False,
    "invoke_without_command": True,
    "callback": _no_verb,
    "subcommand_metavar": "VERB [ARGS]...",
    "context_settings": {"max_content_width": 80},
}
"""How every group of verbs behaves: without a verb it shows its help and fails."""


class HelpFlag(click.Option):
    """`-h/--help`, written where the run writes."""

    def __init__(self) -> None:
        super().__init__(
            ["-h", "--help"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            help="Show this help.",
            callback=_show_help,
        )


def _show_help(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.find_object(Session).console.out(ctx.get_help())  # type: ignore[union-attr]  # main sets it
        ctx.exit()


class GlobalFlag(Flag):
    """A flag that is accepted before and after the verb; only the place before reads the environment."""

    def __init__(self, declared: Declared, *, before_verb: bool) -> None:
        super().__init__(declared)
        self.before_verb = before_verb
        self.expose_value = False
        self.is_eager = True
        self.callback = _set_global
        if declared.name in ("verbose", "quiet"):
            self.count = True
            self.is_flag = False
            self.type = click.IntRange(min=0)
            self.default = 0

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """As every flag, but once per run."""
        return super().resolve_envvar_value(ctx) if self.before_verb else None


def _set_global(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    session = ctx.find_object(Session)
    if session is None or not value:
        return
    console = session.console
    if param.name == "verbose":
        console.verbose += value
    elif param.name == "quiet":
        console.quiet += value
    elif param.name == "color":
        console.color = value
        ctx.color = console.stdout_colour
    elif param.name == "no_config":
        console.no_config = True


def global_flags(*, before_verb: bool) -> list[click.Parameter]:
    """The flags that every level accepts."""
    return [*(GlobalFlag(row, before_verb=before_verb) for row in GLOBAL), HelpFlag()]
