"""What a verb is to click: flags out of the table, filled into the verb's typed options, and its help.

A flag's value comes from the command line, else from `TORCHINSTALL_<NAME>` (then from other tools' variables
that mean the same), else from a configuration file, else from the default of its field. An empty variable
says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from msgspec import Struct, structs

from torchinstall.cli.config import (
    ConfigTables,
    ConfigValue,
    config_tables,
    families_in,
    of_project,
    settings_in,
)
from torchinstall.cli.console import Session
from torchinstall.cli.flags import FLAGS, GLOBAL_FLAGS, SECTIONS, Flag
from torchinstall.core.errors import UsageError
from torchinstall.planning.options import Options

SOURCES = "torchinstall.sources"
CONFIG = "torchinstall.config"
TABLES = "torchinstall.tables"
REST = "torchinstall.rest"
"""Keys of click's meta: who set what, values of configuration files, their tables, what followed `--`."""

O = TypeVar("O", bound=Options)  # noqa: E741  # it stands for options


class FlagOption(click.Option):
    """A click option that reads the run's own environment and configuration and remembers who won."""

    def __init__(self, flag: Flag, default: Any = None, choices: Sequence[str] = ()) -> None:
        extra: dict[str, Any] = {"metavar": flag.metavar}
        if flag.kind == "switch":
            extra = {"is_flag": True, "default": bool(default)}
        elif flag.kind == "count":
            extra = {"count": True}
        elif flag.kind in ("texts", "paths"):
            extra["multiple"] = True
        else:
            extra["default"] = default
            if flag.kind == "number":
                extra["type"] = int
            elif choices or flag.choices:
                extra["type"] = click.Choice(choices or flag.choices)
        super().__init__(
            [*flag.declarations, flag.name],
            help=flag.help + (f" [also: {', '.join(flag.also)}]" if flag.also else ""),
            envvar=list(flag.variables),
            show_default=bool(default) and flag.kind != "switch",
            **extra,
        )
        self.flag = flag

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """The first of its variables that says something, read from the run's environment."""
        found = self._variable(ctx)
        return None if found is None else found[1]

    def _variable(self, ctx: click.Context) -> tuple[str, str] | None:
        session = ctx.find_object(Session)
        env = {} if session is None else session.context.env
        return next(((name, env[name]) for name in self.flag.variables if env.get(name)), None)

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """As click reads it, but several values are separated by commas: names of GPUs hold spaces."""
        if not self.multiple:
            return super().value_from_envvar(ctx)
        text = self.resolve_envvar_value(ctx)
        return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """Command line, environment, configuration, default; the winner's name is kept in `ctx.meta`."""
        value, source = super().consume_value(ctx, opts)
        sources: dict[str, str] = ctx.meta.setdefault(SOURCES, {})
        name = self.flag.name
        if source is ParameterSource.COMMANDLINE:
            sources[name] = f"flag {self.flag.spelling}"
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
        env = {} if session is None else session.context.env
        return next((name for name in self.flag.empty_counts if env.get(name) == ""), None)


class GlobalOption(FlagOption):
    """A flag that is accepted before and after the verb; only the place before reads the environment."""

    def __init__(self, flag: Flag, *, before_verb: bool) -> None:
        super().__init__(flag)
        self.before_verb = before_verb
        self.expose_value = False
        self.is_eager = True
        self.callback = _set_global

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


def _show_help(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        _session(ctx).console.out(ctx.get_help())
        ctx.exit()


def global_options(*, before_verb: bool) -> list[click.Parameter]:
    """The flags that every level accepts, `--help` among them, which writes where the run writes."""
    show_help = click.Option(
        ["-h", "--help"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        help="Show this help.",
        callback=_show_help,
    )
    return [*(GlobalOption(flag, before_verb=before_verb) for flag in GLOBAL_FLAGS), show_help]


@click.pass_context
def _no_verb(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        _session(ctx).console.say(ctx.get_help())
        raise UsageError("no-verb", "no verb was given", hints=(f"{ctx.command_path} --help",))


GROUP_OPTIONS: dict[str, Any] = {
    "no_args_is_help": False,
    "invoke_without_command": True,
    "callback": _no_verb,
    "subcommand_metavar": "VERB [ARGS]...",
    "context_settings": {"max_content_width": 80},
}
"""How every group of verbs behaves: without a verb it shows its help and fails."""


class Argument(Struct, frozen=True, kw_only=True):
    """A positional argument: its field in the options, how help shows it, and whether it repeats."""

    name: str
    metavar: str
    help: str
    many: bool = False
    required: bool = False
    choices: tuple[str, ...] = ()


REQS = Argument(
    name="reqs",
    metavar="[REQ]...",
    help="Requirements such as torch, 'torch>=2.6', torchaudio or any other package.",
    many=True,
)


class Verb(click.Command):
    """One verb.

    Args:
        name: as typed.
        run: what it does; returns the exit code.
        options: its typed options; the fields that the table of flags knows become its flags.
        summary: its first line of help (the table of verbs repeats it).
        arguments: positional arguments; each is a field of the options.
        examples: pairs of command and what it is for, three at least.
        passthrough: how help shows what may follow `--`; None: nothing may.
        more: paragraphs of help below the summary.
        choices: the values of flags whose choices are known only where the verb is imported.
        blank: keys that the JSON envelope has even where the run fails at once.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Session, O], int],
        *,
        options: type[O],
        summary: str,
        arguments: Sequence[Argument] = (),
        examples: Sequence[tuple[str, str]],
        passthrough: str | None = None,
        more: str = "",
        choices: Mapping[str, Sequence[str]] | None = None,
        blank: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        defaults = options()
        flags = (
            row for row in FLAGS.values() if hasattr(defaults, row.name) and row.name not in options.omit
        )
        params: list[click.Parameter] = [_argument(row) for row in arguments]
        params += [
            FlagOption(flag, getattr(defaults, flag.name), (choices or {}).get(flag.name, ()))
            for flag in flags
        ]
        params += global_options(before_verb=False)
        super().__init__(
            name,
            params=params,
            help=summary + ("\n\n" + more if more else ""),
            add_help_option=False,
            options_metavar="[OPTIONS]",
        )
        self.run: Callable[[Session, Any], int] = run
        self.options = options
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
        ctx.meta[REST] = rest
        session = ctx.find_object(Session)
        if session is not None and not ctx.resilient_parsing:
            console = session.console
            # Where the first word is a command, what follows it is not for us.
            ours = args if self.allow_interspersed_args else takewhile(lambda arg: arg[:1] == "-", args)
            flags = set(ours)
            console.json = console.json or "--json" in flags
            if console.json and self.blank is not None:
                console.partial.update(self.blank())
            if not (console.no_config or {"--no-config", "--help", "-h"} & flags):
                tables = config_tables(session.context.cwd, session.context.env)
                ctx.meta[CONFIG] = settings_in(tables)
                ctx.meta[TABLES] = tables
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> int:
        """Fill the options and run."""
        session = _session(ctx)
        options = self._filled(ctx)
        session.console.json = getattr(options, "json", False)
        tables: ConfigTables = ctx.meta.get(TABLES, ())
        for said in of_project(tables, session.context.env, options):
            session.console.warn(said.slug, said.message, always=True)
        if families := families_in(tables):
            session = structs.replace(session, context=structs.replace(session.context, families=families))
        return self.run(session, options)

    def _filled(self, ctx: click.Context) -> Options:
        sources = dict(ctx.meta.get(SOURCES, {}))
        for argument in self.arguments:
            if ctx.get_parameter_source(argument.name) is ParameterSource.COMMANDLINE:
                sources[argument.name] = "argument"
        for name, value in ctx.params.items():
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str) and name not in _LONG_TEXTS:
                    _check_length(name, text, sources.get(name, "default"))
        return self.options(**ctx.params, sources=sources, rest=ctx.meta[REST])

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


_MOST_LETTERS = 4000
_LONG_TEXTS = ("explain_text",)


def _check_length(name: str, text: str, source: str) -> None:
    """No path, URL or version is longer, or holds a NUL: whoever reads them need not doubt that."""
    if len(text) > _MOST_LETTERS or "\0" in text:
        raise UsageError(
            "bad-value",
            f"the value of {name.rstrip('_').replace('_', '-')} is no path, URL, name or version",
            wanted=f"at most {_MOST_LETTERS} letters, none of them NUL",
            found=f"{text[:40]!r}…, {len(text)} letters ({source})",
        )


def _session(ctx: click.Context) -> Session:
    session = ctx.find_object(Session)
    assert session is not None  # noqa: S101  # main sets it
    return session


def write_sections(
    params: Iterable[click.Parameter], ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write flags under their sections, the global ones last."""
    records: dict[str, list[tuple[str, str]]] = {title: [] for title in (*SECTIONS, "Global options")}
    titles = {flag.name: title for title, flags in SECTIONS.items() for flag in flags}
    for param in params:
        record = None if isinstance(param, click.Argument) else param.get_help_record(ctx)
        if record is not None:
            records[titles.get(str(param.name), "Global options")].append(record)
    for title, rows in records.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


def _argument(row: Argument) -> click.Argument:
    return click.Argument(
        [row.name],
        nargs=-1 if row.many else 1,
        required=row.required,
        metavar=row.metavar,
        type=click.Choice(row.choices) if row.choices else None,
    )
