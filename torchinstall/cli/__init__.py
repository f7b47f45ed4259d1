"""The command line: `main` is the only place that turns what went wrong into an exit code."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torchinstall.core.errors import TorchInstallError, UsageError

if TYPE_CHECKING:
    import click

    from torchinstall.cli.console import Console, Session
    from torchinstall.planning.context import Context

__all__ = ["main"]

INTERRUPTED = 130
BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell reports it


def main(
    argv: Sequence[str] | None = None,
    context: Context | None = None,
    table: Mapping[str, tuple[str, str]] | None = None,
) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; None: those of this process.
        context: the doors of the run; None: those of this process.
        table: the verbs; None: `app.COMMANDS`.

    Returns:
        The exit code (`docs/reference/exit-codes.md`).
    """
    from torchinstall.cli.console import Console, Session
    from torchinstall.planning.context import process_context

    arguments = list(sys.argv[1:] if argv is None else argv)
    if context is None:
        # The process is ours and ends soon: looking for cycles of garbage costs more than they do.
        gc.disable()
        context = process_context()
    console = Console(context.stdout, context.stderr, context.env)
    console.json = _wants_json(arguments, context.env.get("TORCHINSTALL_JSON", ""))
    try:
        try:
            code = _dispatch(arguments, Session(context, console), table)
        except (KeyboardInterrupt, BrokenPipeError):
            raise
        except BaseException as error:  # noqa: BLE001  # this is the place where every error ends
            code = _failed(error, console)
        console.flush()
    except KeyboardInterrupt:
        code = _interrupted(console)
    except BrokenPipeError:
        # Whoever read our output has seen enough. The interpreter would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = BROKEN_PIPE
    return code


def _dispatch(arguments: list[str], session: Session, table: Mapping[str, tuple[str, str]] | None) -> int:
    import click

    from torchinstall.cli.app import build

    app = build(table)
    if instruction := session.context.env.get("_TORCHINSTALL_COMPLETE"):
        from click.shell_completion import shell_complete

        return shell_complete(app, {"obj": session}, "torchinstall", "_TORCHINSTALL_COMPLETE", instruction)
    try:
        with app.make_context(
            "torchinstall", arguments, obj=session, color=session.console.stdout_colour
        ) as ctx:
            result = app.invoke(ctx)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        raise _usage_error(error) from error
    return result if isinstance(result, int) else 0


def _usage_error(error: click.UsageError) -> UsageError:
    """Put click's complaint about the command line into our shape."""
    import click

    command = error.ctx.command_path if error.ctx is not None else "torchinstall"
    message = error.format_message().rstrip(".")
    hints = (f"{command} --help",)
    if isinstance(error, click.NoSuchOption):
        wanted = ", ".join(error.possibilities or ()) or None
        return UsageError(
            "unknown-option", f"{command} has no option {error.option_name}", wanted=wanted, hints=hints
        )
    if isinstance(error, click.MissingParameter):
        return UsageError("missing-argument", message, hints=hints)
    if isinstance(error, click.BadParameter):
        return UsageError("bad-value", message, found=_whose(error), hints=hints)
    return UsageError("bad-usage", message, hints=hints)


def _whose(error: click.BadParameter) -> str | None:
    """Who gave a value that is not right, where that was not the command line."""
    from torchinstall.cli.verb import SOURCES

    name = error.param.name if error.param is not None else None
    source: str = error.ctx.meta.get(SOURCES, {}).get(name, "") if error.ctx is not None else ""
    return f"a value from the {source}" if source and not source.startswith("flag") else None


def _failed(error: BaseException, console: Console) -> int:
    if isinstance(error, SystemExit):
        raise error
    if not isinstance(error, TorchInstallError):
        if console.verbose:
            import traceback

            console.say("".join(traceback.format_exception(error)).rstrip())
        error = TorchInstallError(
            "internal-error",
            f"torchinstall itself failed: {type(error).__name__}: {error}",
            hints=(
                "run the same command with -v for the traceback, and report both"
                if not console.verbose
                else "report the traceback above with the output of `torchinstall probe --json --anonymous`",
            ),
        )
    elif console.verbose > 1:
        import traceback

        console.say("".join(traceback.format_exception(error)).rstrip())
    console.fail(error)
    return error.exit_code


def _interrupted(console: Console) -> int:
    error = TorchInstallError("interrupted", "stopped by Ctrl-C")
    console.fail(error, exit_code=INTERRUPTED)
    return INTERRUPTED


def _wants_json(arguments: Sequence[str], variable: str) -> bool:
    """Whether a failure before any flag was read must speak JSON too."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return "--json" in arguments[:end] or variable.lower() in ("1", "true", "t", "yes", "y", "on")
