"""The command line: `main` is the only place that turns what went wrong into an exit code."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchinstall.cli.app import NoSuchVerb, build
from torchinstall.cli.console import Console, Session
from torchinstall.cli.verb import FlagOption
from torchinstall.core.errors import TorchInstallError, UsageError
from torchinstall.core.files import cannot_write, real_path
from torchinstall.core.messages import close_matches, is_on
from torchinstall.install.signals import leave_on_signals
from torchinstall.planning.context import Context

if TYPE_CHECKING:
    from torchinstall.install.uv import Uv
    from torchinstall.probe.system import System

SIGNALLED = 128
"""Plus the number of the signal that ended us, as a shell reports it."""
INTERRUPTED = 130
BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell reports it


def main(
    argv: Sequence[str] | None = None,
    context: Context | None = None,
    table: Mapping[str, tuple[str, str]] | None = None,
) -> int:
    """Run the command line; the exit code (`docs/reference/exit-codes.md`).

    Without arguments, context or table those of this process are taken, and `app.COMMANDS`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    ours = context is None
    if context is None:
        # The process is ours and ends soon: looking for cycles of garbage costs more than they do.
        gc.disable()
        context = process_context()
    console = Console(context.stdout, context.stderr, context.env)
    # A failure before any flag was read must speak JSON too.
    before_rest = arguments[: arguments.index("--")] if "--" in arguments else arguments
    console.json = "--json" in before_rest or is_on(context.env.get("TORCHINSTALL_JSON"))
    try:
        # A signal asks us to leave, and on the way out everything is put right.
        with leave_on_signals():
            try:
                return _dispatch(arguments, Session(context, console), table)
            except BrokenPipeError:
                raise
            except Exception as error:  # noqa: BLE001  # this is the place where every error ends
                return _failed(error, console)
    except BrokenPipeError:
        return _discard_output(BROKEN_PIPE)  # whoever read our output has seen enough
    except TorchInstallError as error:
        return _discard_output(error.exit_code)  # there is no place to say what went wrong
    except KeyboardInterrupt:
        return _stopped(console, INTERRUPTED)
    except SystemExit as error:
        if not isinstance(error.code, int) or error.code <= SIGNALLED:
            raise
        return _stopped(console, error.code)
    finally:
        console.close()
        if ours:
            gc.freeze()  # nor for those that an interpreter would look for when it ends


def _discard_output(code: int) -> int:
    """Lead the streams of this process nowhere: the interpreter would complain when it flushes at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
            continue
        with contextlib.suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    return code


def _stopped(console: Console, code: int) -> int:
    """Say what ended us, where somebody still listens."""
    name = signal.Signals(code - SIGNALLED).name
    what = "stopped by Ctrl-C" if code == INTERRUPTED else f"stopped by {name}"
    with contextlib.suppress(OSError, ValueError, TorchInstallError):
        console.fail(TorchInstallError("interrupted", what), exit_code=code)
    return _discard_output(code)


def process_context() -> Context:
    """The context as this process sees it."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # whoever reads it says what is wrong with a text
    return Context(
        env=dict(os.environ),
        cwd=Path.cwd(),
        # A stream that was closed before the start is None.
        stdin=sys.stdin or io.StringIO(),
        stdout=sys.stdout or io.TextIOWrapper(io.BytesIO()),
        stderr=sys.stderr or io.TextIOWrapper(io.BytesIO()),
        system=_this_machine,
        find_uv=_find_uv,
        now=time.time,
        python_version=".".join(map(str, sys.version_info[:3])),
    )


def _this_machine(env: Mapping[str, str]) -> System:
    from torchinstall.probe.real import real_system  # `--version` needs neither this nor uv

    return real_system(env)


def _find_uv(env: Mapping[str, str]) -> Uv:
    from torchinstall.install.uv import find_uv

    return find_uv(env)


def _dispatch(arguments: list[str], session: Session, table: Mapping[str, tuple[str, str]] | None) -> int:
    app, instruction = build(table), session.context.env.get("_TORCHINSTALL_COMPLETE")
    wrong: click.NoSuchOption | NoSuchVerb | None = None
    try:
        if not instruction:
            colour = session.console.colour(session.console.stdout)
            with app.make_context("torchinstall", [*arguments], obj=session, color=colour) as ctx:
                result = app.invoke(ctx)
                return result if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except (click.NoSuchOption, NoSuchVerb) as error:
        wrong = error
    except click.UsageError as error:
        raise _usage_error(error) from error
    from torchinstall.cli import words  # only for shells that ask, and for who mistypes

    if wrong is None:
        return words.answer_shell(app, session, instruction or "")
    if isinstance(wrong, NoSuchVerb):
        raise words.unknown_verb(wrong.group, wrong.words, wrong.table) from wrong
    raise words.unknown_flag(wrong, arguments, app.table) from wrong


def _usage_error(error: click.UsageError) -> UsageError:
    """Put click's complaint about the command line into our shape."""
    command = error.ctx.command_path if error.ctx is not None else "torchinstall"
    slug, message, wanted, found = "bad-usage", error.format_message().rstrip("."), None, None
    hints: list[str] = []
    param = error.param if isinstance(error, click.BadParameter) else None
    choices = tuple(param.type.choices) if param is not None and isinstance(param.type, click.Choice) else ()
    if isinstance(error, click.MissingParameter) and param is not None and error.ctx is not None:
        slug, message = "missing-argument", f"{param.make_metavar(error.ctx)} is missing"
        wanted = ", ".join(choices) or None
    elif isinstance(param, FlagOption) and error.ctx is not None:
        slug, wanted, source = "bad-value", param.values, param.set_by(error.ctx)
        # What click wants it says in words of its own.
        typed = getattr(error, "message", "").partition(" is not ")[0].strip("'")
        message, found = f"{typed!r} is no value of {param.flag.spelling}", f"{typed} ({source})"
        by, _, name = source.partition(" ")
        hints += [f"unset {name}"] * (by == "environment")
        hints += [f"{param.flag.spelling} {name}" for name in close_matches(typed, choices, most=1)]
    elif param is not None:
        slug = "bad-value"
    return UsageError(slug, message, wanted=wanted, found=found, hints=(*hints, f"{command} --help"))


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What an operating system says of a disk, which no program can mend."""


def _failed(error: Exception, console: Console) -> int:
    expected = isinstance(error, TorchInstallError)
    if console.loudness > int(expected):
        import traceback  # only for who asks for it

        console.say("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        hint = "make room, or name another place; then run the same command again"
        error = cannot_write(error.filename or "a file", error, hint)
    if isinstance(error, PermissionError) and error.filename:
        error = UsageError(
            "no-permission",
            f"this user may not use {error.filename}",
            wanted=f"the right to use {real_path(error.filename)}, and to enter the folders that lead there",
            found=str(error),
            hints=("change the owner or the mode of what is in the way, or name another place",),
        )
    if not isinstance(error, TorchInstallError):
        hint = "run the same command with -v for the traceback, and report both"
        if console.loudness > 0:
            hint = "report the traceback above with the output of `torchinstall probe --json --anonymous`"
        message = f"torchinstall itself failed: {type(error).__name__}: {error}"
        error = TorchInstallError("internal-error", message, hints=(hint,))
    console.fail(error)
    return error.exit_code
