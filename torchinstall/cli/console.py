"""What is written where: data on stdout, talk on stderr, colour by rule, progress, errors."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

import click
from msgspec import Struct, structs

from torchinstall.core.errors import TorchInstallError
from torchinstall.core.files import cannot_write
from torchinstall.core.messages import Message, json_text, printable, redact, redacted
from torchinstall.planning.context import Context

if TYPE_CHECKING:
    from torchinstall.catalog.model import Family

_PATIENCE = 1.0
"""Seconds after which a person wants to see that something happens."""


class _Step:
    """What is happening, drawn on a terminal once it takes longer than a second, until it is over."""

    def __init__(self, text: str, total: int | None, stream: TextIO, *, colour: bool) -> None:
        self.text, self.total, self.stream, self.colour = text, total, stream, colour
        self.arrived: dict[str, int] = {}
        self._over = False
        self._bar: Any = None
        self._lock = threading.RLock()
        self._timer = threading.Timer(_PATIENCE, self._draw)
        self._timer.daemon = True
        self._timer.start()

    def _draw(self) -> None:
        from rich import progress  # it takes longer than most steps
        from rich.console import Console as Terminal

        parts = [progress.SpinnerColumn("line"), progress.TextColumn("{task.description}", markup=False)]
        if self.total != 0:
            parts += [progress.BarColumn(), progress.DownloadColumn(), progress.TransferSpeedColumn()]
        terminal = Terminal(file=self.stream, no_color=not self.colour, highlight=False)
        bar = progress.Progress(
            *parts,
            progress.TimeElapsedColumn(),
            console=terminal,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        bar.add_task(printable(self.text), total=self.total, completed=sum(self.arrived.values()))
        with self._lock:
            if not self._over:
                self._bar = bar
                bar.start()

    def show(self, name: str, size: int) -> None:
        """So many bytes of a file are here."""
        with self._lock:
            self.arrived[name] = size
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], completed=sum(self.arrived.values()))

    def end(self) -> None:
        """Leave the terminal as if nothing had been drawn."""
        self._timer.cancel()
        with self._lock:
            self._over = True
            if self._bar is not None:
                self._bar.stop()


class Console:
    """The two streams of one run, and how loud it is; the global flags are attributes.

    Attributes:
        loudness: as many times `-v` as was asked for, less the times of `-q`, as in pip.
        json: stdout carries one JSON object, also when the run fails.
        partial: keys that the JSON envelope of a failure carries besides the error.
        copy: the file of `--log`, which gets everything that is said, also what `-q` hides.
    """

    def __init__(self, stdout: TextIO, stderr: TextIO, env: Mapping[str, str]) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self.env = env
        self.color = "auto"
        self.loudness = 0
        self.json = False
        self.no_progress = False
        self.no_config = False
        self.config_file = ""
        self.cache_dir = ""
        self.copy: TextIO | None = None
        self.partial: dict[str, Any] = {}
        self._step: _Step | None = None
        self._said = ""

    def colour(self, stream: TextIO) -> bool:
        """Whether to colour one of the two streams; click knows none of the variables.

        The flag decides first, then `NO_COLOR` (https://no-color.org: any non-empty value), then
        `FORCE_COLOR` and `CLICOLOR_FORCE` (https://bixense.com/clicolors: anything but 0), then whether the
        stream is a terminal that can show it.
        """
        env = self.env
        if self.color != "auto":
            return self.color == "always"
        if env.get("NO_COLOR"):
            return False
        if env.get("FORCE_COLOR") or env.get("CLICOLOR_FORCE", "0") not in ("", "0"):
            return True
        return env.get("TERM") != "dumb" and stream.isatty()

    def out(self, text: str) -> None:
        """Write what a person or a program reads to stdout."""
        self._note(redact(text))
        self._write(self.stdout, redact(text))

    def out_file(self, text: str) -> None:
        """Write the content of a file to stdout: as it is, but for what a terminal would obey."""
        self._write(self.stdout, text, plain=True)

    def out_json(self, data: Mapping[str, Any]) -> None:
        """Write the one JSON object of this run to stdout."""
        text = json_text(redacted(data), ascii_only=not _encoding(self.stdout).startswith("utf"))
        self._write(self.stdout, text, plain=True)

    def answer(self, data: dict[str, Any], text: str, error: TorchInstallError | None = None) -> None:
        """What the run came to, on stdout: as the one JSON object with `--json`, else as text.

        An `error` that is part of the answer is raised after it; its JSON brings the data along.
        """
        self.partial = data
        if not self.json:
            self.out(text)
        elif error is None:
            self.out_json(data)
        if error is not None:
            raise error

    def say(self, text: str = "") -> None:
        """Tell a person what happens; `-q` silences it."""
        self._talk(redact(text), heard=self.loudness >= 0)

    def detail(self, text: str) -> None:
        """Tell a person who asked with `-v`."""
        self._talk(click.style(redact(text), dim=True), heard=self.loudness > 0)

    def warn(self, slug: str, message: str, *, always: bool = False) -> None:
        """Message on stderr; `-qq` silences it unless it must `always` be said."""
        head = click.style(f"warning[{slug}]:", fg="yellow", bold=True)
        self._talk(f"{head} {redact(message)}", heard=self.loudness > -2 or always)

    def _talk(self, text: str, *, heard: bool) -> None:
        self._note(text)
        if heard:
            self._write(self.stderr, text)

    def _note(self, text: str) -> None:
        copy, self.copy = self.copy, None  # nothing more goes into a log that is full
        if copy is not None:
            try:
                copy.write(f"{printable(text)}\n")
            except OSError as error:
                with contextlib.suppress(OSError):
                    copy.close()
                raise cannot_write("the log", error, "write to another file with --log") from error
            self.copy = copy

    def working(self, text: str, total: int | None = 0) -> bool:
        """Say what begins and may take a while: a line, or on a terminal what `_Step` draws.

        Whatever is written next ends it. `total`: the bytes that `arrived` will count, None: nobody knows how
        many. Returns whether somebody watches a terminal.
        """
        watched = self.loudness >= 0 and not self.no_progress and self.env.get("TERM") != "dumb"
        watched = watched and self.stderr.isatty()
        self.idle()
        if watched:
            self._note(redact(text))
            self._step = _Step(redact(text), total, self.stderr, colour=self.colour(self.stderr))
        elif text != self._said:
            self.say(text)
        self._said = text
        return watched

    def arrived(self, name: str, size: int) -> None:
        """So many bytes of a file are here, of those that `working` promised."""
        if (step := self._step) is not None:
            step.show(name, size)

    def log_to(self, path: Path) -> None:
        """Append everything that is said, also what only `-v` shows, to a file.

        Raises:
            UsageError: `cannot-write`.
        """
        try:
            self.copy = path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
        except OSError as error:
            raise cannot_write(f"the log {path}", error, "write to another file with --log") from error

    def uv_flags(self) -> tuple[str, ...]:
        """As loud, as coloured and with as much progress as we are ourselves, for uv."""
        colour = ("--color", self.color) if self.color != "auto" else ()
        loud = ("--quiet",) if self.loudness < 0 else ("--verbose",) if self.loudness > 1 else ()
        return (*colour, *loud, *(("--no-progress",) if self.no_progress else ()))

    def close(self) -> None:
        """The run is over."""
        self.idle()
        if self.copy is not None:
            self.copy.close()

    def idle(self) -> None:
        """Nothing is going on any more, or somebody else needs the terminal."""
        step, self._step = self._step, None
        if step is not None:
            step.end()

    def _write(self, stream: TextIO, text: str, *, plain: bool = False) -> None:
        """The one way out: without control characters, in the characters that the stream has."""
        self.idle()
        encoding, colour = _encoding(stream), not plain and self.colour(stream)
        shown = printable(text, colour=colour)
        try:
            shown.encode(encoding)
        except UnicodeEncodeError:
            spelled = shown.replace("\N{HORIZONTAL ELLIPSIS}", "...")
            shown = spelled.encode(encoding, "backslashreplace").decode(encoding)
        try:
            click.echo(shown, file=stream, color=colour)
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            name = "stdout" if stream is self.stdout else "stderr"
            raise cannot_write(name, error, "write to another place") from error

    def warn_all(self, messages: Iterable[Message]) -> None:
        """Say each of these warnings."""
        for message in messages:
            self.warn(message.slug, message.message)

    def fail(self, error: TorchInstallError, exit_code: int | None = None) -> None:
        """Print an error on stderr and, with `--json`, its envelope on stdout."""
        self._talk(redact(error_text(error)), heard=True)
        if self.json:
            shown = {**error.to_json(), "exit_code": exit_code or error.exit_code}
            self.out_json({**envelope("error"), **self.partial, "error": shown})


def _encoding(stream: TextIO) -> str:
    return (getattr(stream, "encoding", None) or "utf-8").lower()


def envelope(status: str, **parts: Any) -> dict[str, Any]:
    """The JSON object of a verb that has no contract of its own; `status` is one word."""
    return {"schema_version": 1, "status": status, **parts, "error": None}


class Session(Struct, frozen=True):
    """One run of the command line: its context, and its output."""

    context: Context
    console: Console

    def configured(self, families: tuple[Family, ...]) -> Session:
        """The session of a verb, whose flags and configuration are read."""
        context, console, env = self.context, self.console, self.context.env
        if console.cache_dir:
            folder = str(context.path(console.cache_dir))
            env = {"UV_CACHE_DIR": os.path.join(folder, "uv"), **env, "TORCHINSTALL_CACHE_DIR": folder}  # noqa: PTH118  a variable
        context = structs.replace(
            context, env=env, families=families, working=console.working, detail=console.detail
        )
        return Session(context, console)

    def sink(self) -> BinaryIO:
        """Stderr for a child whose words are copied there as they come, and into the log."""
        self.console.idle()
        copy, stderr = self.console.copy, getattr(self.context.stderr, "buffer", sys.stderr.buffer)
        return stderr if copy is None else cast("BinaryIO", _Tee(stderr, copy))


class _Tee:
    """A stream whose words go into the log too."""

    def __init__(self, stream: BinaryIO, log: TextIO) -> None:
        self._stream, self._log = stream, log

    def write(self, data: bytes) -> int:
        with contextlib.suppress(OSError, ValueError):  # a full log does not stop the child
            self._log.write(printable(data.decode(errors="replace")))
        return self._stream.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def error_text(error: TorchInstallError) -> str:
    """An error for a person: what happened, what was needed, what was found, and what to type."""
    lines = [click.style(f"error[{error.slug}]:", fg="red", bold=True) + f" {error.message}"]
    if error.wanted:
        lines.append(f"  needed: {_indented(error.wanted, 10)}")
    if error.found:
        lines.append(f"  found:  {_indented(error.found, 10)}")
    head = click.style("hint:", fg="cyan", bold=True)
    lines += [f"{head} {_indented(hint, 6)}" for hint in error.hints]
    return "\n".join(lines)


def _indented(text: str, width: int) -> str:
    return text.replace("\n", "\n" + " " * width)
