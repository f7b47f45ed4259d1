"""What a verb is to click: flags out of the table, filled into the verb's typed options, and its help.

A flag's value comes from the command line, else from `TORCHINSTALL_<NAME>` (then from other tools' variables
that mean the same), else from a configuration file, else from the default of its field. An empty variable
says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from torchinstall.cli.config import Config, read_config
from torchinstall.cli.console import Session
from torchinstall.cli.flags import FLAGS, GLOBAL_FLAGS, SECTIONS, Flag
from torchinstall.core.errors import UsageError
from torchinstall.planning.context import Options

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_CONFIG = "torchinstall.config"
_REST = "torchinstall.rest"
_JSON = "torchinstall.json"
"""Keys of click's meta: the configuration, what followed `--`, whether JSON was asked for."""

O = TypeVar("O", bound=Options)  # noqa: E741  # it stands for options


class FlagOption(click.Option):
    """A click option that reads the run's own environment and configuration and remembers who won."""

    def __init__(
        self,
        flag: Flag,
        default: Any = None,
        choices: Sequence[str] = (),
        *,
        reads_variables: bool = True,
        **more: Any,
    ) -> None:
        choices = choices or flag.choices
        choice = click.Choice(choices, case_sensitive=False) if choices else None
        kinds: dict[str, dict[str, Any]] = {
            "switch": {"is_flag": True, "default": bool(default)},
            "count": {"count": True},
            "texts": {"multiple": True},
            "paths": {"multiple": True},
            "number": {"default": default, "type": int},
            "text": {"default": default, "type": choice},
        }
        super().__init__(
            [*flag.declarations, flag.name],
            help=flag.help + (f" [also: {', '.join(flag.also)}]" if flag.also else ""),
            show_default=bool(default) and flag.kind != "switch",
            metavar=flag.metavar,
            **kinds[flag.kind],
            **more,
        )
        self.flag, self.reads_variables = flag, reads_variables

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What the table of choices, the file system or the catalog has that begins so."""
        known = _beginning(ctx, self.flag.name, incomplete, self.flag.metavar)
        return known or super().shell_complete(ctx, incomplete)

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """The first of its variables that says something, read from the run's environment."""
        return next((text for _, text in self._variables(ctx)), None)

    def _variables(self, ctx: click.Context) -> list[tuple[str, str]]:
        """Its variables that say something, then those that are empty and count."""
        env = session_of(ctx).context.env if self.reads_variables else {}
        known = [(name, env[name]) for name in self.flag.variables if name in env]
        empty = [row for row in known if not row[1] and row[0] in self.flag.empty_counts]
        return [*(row for row in known if row[1]), *empty]

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """As click reads it, but several values are separated by commas: names of GPUs hold spaces."""
        if not self.multiple:
            return super().value_from_envvar(ctx)
        text = self.resolve_envvar_value(ctx)
        return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """Command line, environment, configuration, default."""
        value, source = super().consume_value(ctx, opts)
        decided = source in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT) or self.is_eager
        configured = None if decided else _config(ctx).get(self.flag.name)
        return (value, source) if configured is None else (configured.value, ParameterSource.DEFAULT_MAP)

    @property
    def values(self) -> str:
        """What it takes, in words."""
        if isinstance(self.type, click.Choice):
            return ", ".join(self.type.choices)
        words = {
            "switch": "1, true, yes or on; 0, false, no or off",
            "count": "0, 1 or 2",
            "number": "a number",
        }
        return words.get(self.flag.kind, self.flag.metavar or "a value")

    def set_by(self, ctx: click.Context) -> str:
        """Who decided its value, as `Options.sources` has it."""
        source = ctx.get_parameter_source(self.flag.name)
        if source is ParameterSource.COMMANDLINE:
            return f"flag {self.flag.spelling}"
        if source is ParameterSource.ENVIRONMENT:
            return f"environment {self._variables(ctx)[0][0]}"
        configured = _config(ctx).get(self.flag.name) if source is ParameterSource.DEFAULT_MAP else None
        return "default" if configured is None else configured.source


def _beginning(
    ctx: click.Context, name: str, incomplete: str, metavar: str | None = None
) -> list[CompletionItem]:
    from torchinstall.cli.words import beginning  # a shell asks, not a person

    return beginning(session_of(ctx).context, name, incomplete, metavar)


def _config(ctx: click.Context) -> Config:
    """The configuration files, read when the first flag asks for them: the global flags are known by then."""
    context, console = session_of(ctx).context, session_of(ctx).console
    if ctx.resilient_parsing or console.no_config:
        return Config()
    if _CONFIG not in ctx.meta:
        named = console.config_file
        ctx.meta[_CONFIG] = read_config(context.cwd, context.env, context.path(named) if named else None)
    config: Config = ctx.meta[_CONFIG]
    return config


def _set_global(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if not value:
        return
    session, name = session_of(ctx), str(param.name)
    console = session.console
    if name == "json":
        ctx.meta[_JSON] = True
    elif name == "log":
        console.log_to(session.context.path(value))
    elif name in ("verbose", "quiet"):
        console.loudness += value if name == "verbose" else -value
    else:
        setattr(console, name, value)
        ctx.color = console.colour(console.stdout)


def _show_help(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        session_of(ctx).console.out(ctx.get_help())
        ctx.exit()


def eager_switch(names: Sequence[str], help_: str, callback: Callable[..., None]) -> click.Option:
    """A switch that acts at once, whatever else was typed."""
    return click.Option(names, is_flag=True, is_eager=True, expose_value=False, help=help_, callback=callback)


def global_options(*, before_verb: bool) -> list[click.Parameter]:
    """The flags that every level accepts, `--help` among them, which writes where the run writes.

    Only those before the verb read their variables: once is enough.
    """
    how: dict[str, Any] = {"expose_value": False, "is_eager": True, "callback": _set_global}
    rows = [FlagOption(flag, reads_variables=before_verb, **how) for flag in GLOBAL_FLAGS]
    return [*rows, eager_switch(["-h", "--help"], "Show this help.", _show_help)]


@click.pass_context
def _no_verb(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        session_of(ctx).console.say(ctx.get_help())
        raise UsageError("no-verb", "no verb was given", hints=(f"{ctx.command_path} --help",))


GROUP_OPTIONS: dict[str, Any] = {
    "no_args_is_help": False,
    "invoke_without_command": True,
    "callback": _no_verb,
    "subcommand_metavar": "VERB [ARGS]...",
    "context_settings": {"max_content_width": 80},
}
"""How every group of verbs behaves: without a verb it shows its help and fails."""


class Argument(click.Argument):
    """A positional argument: a field of the options. `METAVAR...` repeats and need not be given."""

    def __init__(self, name: str, metavar: str, help_: str, choices: Sequence[str] = ()) -> None:
        many = metavar.endswith("...")
        kind = click.Choice(choices) if choices else None
        super().__init__([name], nargs=-1 if many else 1, required=not many, metavar=metavar, type=kind)
        self.row = (metavar, help_)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Packages, where they are asked for; else the choices."""
        return _beginning(ctx, str(self.name), incomplete) or super().shell_complete(ctx, incomplete)


REQS = Argument(
    "reqs", "[REQ]...", "Requirements such as torch, 'torch>=2.6', torchaudio or any other package."
)


class Verb(click.Command):
    """One verb.

    Args:
        name: as typed.
        run: what it does; returns the exit code.
        options: its typed options; the fields that the table of flags knows become its flags.
        arguments: positional arguments; each is a field of the options.
        examples: three lines at least: `command  # what it is for`.
        more: paragraphs of help below the first line, which the table of verbs has.
        passthrough: how help shows what may follow `--`; None: nothing may.
        choices: the values of flags whose choices are known only where the verb is imported.
        blank: keys that the JSON envelope has even where the run fails at once.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Session, O], int],
        options: type[O],
        *arguments: Argument,
        examples: str,
        more: str = "",
        passthrough: str | None = None,
        choices: Mapping[str, Sequence[str]] | None = None,
        blank: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        defaults, values = options(), choices or {}
        flags = [
            FlagOption(flag, getattr(defaults, flag.name), values.get(flag.name, ()))
            for flag in FLAGS.values()
            if hasattr(defaults, flag.name) and flag.name not in options.omit
        ]
        super().__init__(
            name,
            params=[*arguments, *flags, *global_options(before_verb=False)],
            help=more,
            add_help_option=False,
            options_metavar="[OPTIONS]",
        )
        self.run: Callable[[Session, Any], int] = run
        self.options = options
        self.arguments = arguments
        self.examples = [line.strip().split("  # ") for line in examples.strip().splitlines()]
        self.passthrough = passthrough
        self.blank = blank

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set aside what follows `--`."""
        ctx.meta[_REST] = ()
        if self.passthrough is not None and "--" in args:
            cut = args.index("--")
            args, ctx.meta[_REST] = args[:cut], tuple(args[cut + 1 :])
        session_of(ctx).console.partial.update(self.blank())
        try:
            self._check_values(ctx, args)
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # click's parser does not say which verb it read for
            raise

    def _check_values(self, ctx: click.Context, args: Sequence[str]) -> None:
        """Refuse a flag where the value of another one should be: click takes it for the value."""
        rows = [row for row in self.params if isinstance(row, click.Option)]
        flags = {text for row in rows for text in (*row.opts, *row.secondary_opts) if text[:2] == "--"}
        valued = {text for row in rows if not (row.is_flag or row.count) for text in row.opts}
        words = iter(args)
        for word in words:
            if word in valued and next(words, "").partition("=")[0] in flags:
                raise click.BadOptionUsage(word, f"Option {word!r} requires an argument", ctx)

    def invoke(self, ctx: click.Context) -> int:
        """Fill the options and run."""
        session, config = session_of(ctx), _config(ctx)
        options = self._filled(ctx)
        session.console.json = _JSON in ctx.meta
        for said in config.of_project(options):
            session.console.warn(said.slug, said.message, always=True)
        return self.run(session.configured(config.families), options)

    def _filled(self, ctx: click.Context) -> Options:
        sources = {str(row.name): "argument" for row in self.arguments if ctx.params[str(row.name)]}
        flags = [row for row in self.params if isinstance(row, FlagOption) and not row.is_eager]
        sources |= {row.flag.name: row.set_by(ctx) for row in flags}
        for name, value in ctx.params.items():
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str) and name not in _LONG_TEXTS:
                    _check_length(name, text, sources.get(name, "default"))
        return self.options(**ctx.params, sources=sources, rest=ctx.meta[_REST])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """The usage line, with what may follow `--`."""
        pieces = super().collect_usage_pieces(ctx)
        return [*pieces, f"[-- {self.passthrough}]"] if self.passthrough else pieces

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Arguments, flags by section, the global ones, examples."""
        if self.arguments:
            with formatter.section("Arguments"):
                formatter.write_dl([argument.row for argument in self.arguments])
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


def session_of(ctx: click.Context) -> Session:
    """The run that a context belongs to: `main` puts it there."""
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
        record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
        if record is not None:
            records[titles.get(str(param.name), "Global options")].append(record)
    for title, rows in records.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)
