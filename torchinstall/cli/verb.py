"""What a verb is to the command line: its options, arguments, examples and the function that runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import click
from click.core import ParameterSource
from msgspec import Struct, structs

from torchinstall.cli.config import ConfigTables, config_tables, settings_in
from torchinstall.cli.everywhere import GLOBAL, GROUP_OPTIONS, HelpFlag, global_flags
from torchinstall.cli.options import CONFIG, DECLARED, SOURCES, Flag, config_kinds
from torchinstall.cli.session import Session
from torchinstall.cli.settings import Settings

FAMILIES = "torchinstall.families"
"""In click's meta: the configuration tables that name packages of their own."""

__all__ = ["GLOBAL", "GROUP_OPTIONS", "Argument", "HelpFlag", "Verb", "global_flags", "write_sections"]

Run = Callable[[Session, Settings], int]


class Argument(Struct, frozen=True, kw_only=True):
    """A positional argument: its name in `Settings`, how help shows it, and whether it repeats."""

    name: str
    metavar: str
    help: str
    many: bool = False
    required: bool = False
    choices: tuple[str, ...] = ()


class Verb(click.Command):
    """One verb.

    Args:
        name: as typed.
        run: what it does; returns the exit code.
        summary: its first line of help (the table of verbs repeats it).
        options: names out of `options.DECLARED`.
        arguments: positional arguments.
        examples: pairs of command and what it is for, three at least.
        passthrough: how help shows what may follow `--`; None: nothing may.
        more: paragraphs of help below the summary.
        blank: keys that the JSON envelope has even where the run fails at once.
    """

    def __init__(
        self,
        name: str,
        run: Run,
        *,
        summary: str,
        options: Sequence[str] = (),
        arguments: Sequence[Argument] = (),
        examples: Sequence[tuple[str, str]],
        passthrough: str | None = None,
        more: str = "",
        blank: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        params: list[click.Parameter] = [_argument(row) for row in arguments]
        params += [Flag(DECLARED[option]) for option in options]
        params += global_flags(before_verb=False)
        super().__init__(
            name,
            params=params,
            help=summary + ("\n\n" + more if more else ""),
            add_help_option=False,
            options_metavar="[OPTIONS]",
        )
        self.run = run
        self.arguments = tuple(arguments)
        self.examples = tuple(examples)
        self.passthrough = passthrough
        self.blank = blank

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set aside what follows `--`, and read the configuration before any flag asks for it."""
        rest: tuple[str, ...] = ()
        if self.passthrough is not None and "--" in args:
            cut = args.index("--")
            args, rest = args[:cut], tuple(args[cut + 1 :])
        ctx.meta["torchinstall.rest"] = rest
        session = ctx.find_object(Session)
        if session is not None and not ctx.resilient_parsing:
            session.console.json = session.console.json or "--json" in args
            if session.console.json and self.blank is not None:
                session.console.partial.update(self.blank())
            if not (session.console.no_config or "--no-config" in args) and not _asks_help(args):
                tables = config_tables(session.context.cwd, session.context.env)
                ctx.meta[CONFIG] = settings_in(tables, config_kinds())
                ctx.meta[FAMILIES] = tuple(row for row in tables if "families" in row[1])
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> int:
        """Make the settings and run."""
        session = ctx.find_object(Session)
        assert session is not None  # noqa: S101  # main sets it
        settings = self._settings(ctx)
        session.console.json = settings.on("json")
        session.console.verb = ctx.command_path
        if tables := ctx.meta.get(FAMILIES):
            session = _with_families(session, tables)
        return self.run(session, settings)

    def _settings(self, ctx: click.Context) -> Settings:
        flags = {param.declared.name: param.declared.flag for param in self.params if _is_setting(param)}
        sources = {name: source for name, source in ctx.meta.get(SOURCES, {}).items() if name in flags}
        for argument in self.arguments:
            if ctx.get_parameter_source(argument.name) is ParameterSource.COMMANDLINE:
                sources[argument.name] = "argument"
        return Settings(
            values=dict(ctx.params), sources=sources, flags=flags, rest=ctx.meta["torchinstall.rest"]
        )

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """The usage line, with what may follow `--`."""
        pieces = super().collect_usage_pieces(ctx)
        return [*pieces, f"[-- {self.passthrough}]"] if self.passthrough else pieces

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Arguments, flags by section, the global ones, examples."""
        rows = [(row.metavar, row.help) for row in self.arguments]
        if rows:
            with formatter.section("Arguments"):
                formatter.write_dl(rows)
        write_sections(self.params, ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text("Every flag also has a variable: --some-flag is TORCHINSTALL_SOME_FLAG.")
        with formatter.section("Examples"):
            for command, purpose in self.examples:
                formatter.write_text(f"# {purpose}")
                formatter.write(f"{'':>{formatter.current_indent}}{command}\n")


def _with_families(session: Session, tables: ConfigTables) -> Session:
    """The session whose catalog knows the packages that configuration files name."""
    from torchinstall.cli.families import families_in

    families = families_in(tables)
    return structs.replace(session, context=structs.replace(session.context, families=families))


def _asks_help(args: Sequence[str]) -> bool:
    return "--help" in args or "-h" in args


def _is_setting(param: click.Parameter) -> TypeGuard[Flag]:
    """A flag of the verb itself, not one of the global ones."""
    return isinstance(param, Flag) and param.expose_value


def write_sections(
    params: Sequence[click.Parameter], ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write flags under their sections, in the order in which the sections first appear."""
    sections: dict[str, list[tuple[str, str]]] = {}
    title: str
    ordered = [param for param in params if _is_setting(param)] + [
        param for param in params if not (_is_setting(param) or isinstance(param, click.Argument))
    ]
    for param in ordered:
        record = param.get_help_record(ctx)
        if record is not None:
            title = param.declared.section if _is_setting(param) else "Global options"
            sections.setdefault(title, []).append(record)
    for title, records in sections.items():
        with formatter.section(title):
            formatter.write_dl(records)


def _argument(row: Argument) -> click.Argument:
    return click.Argument(
        [row.name],
        nargs=-1 if row.many else 1,
        required=row.required,
        metavar=row.metavar,
        type=click.Choice(row.choices) if row.choices else None,
    )
