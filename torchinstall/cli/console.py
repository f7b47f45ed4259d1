"""What is written where: data on stdout, talk on stderr, colour by rule, and the two faces of an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TextIO

import click
from msgspec import Struct

from torchinstall.core.errors import TorchInstallError, UsageError
from torchinstall.core.messages import Message, json_text, printable, redact, redacted
from torchinstall.planning.context import Context

ENVELOPE_VERSION = 1


def wants_colour(stream: TextIO, choice: str, env: Mapping[str, str]) -> bool:
    """Whether to colour one stream.

    The flag decides first, then `NO_COLOR` (https://no-color.org: any non-empty value), then `FORCE_COLOR`,
    then whether the stream is a terminal that can show it. click knows none of the variables.
    """
    if choice != "auto":
        return choice == "always"
    if env.get("NO_COLOR"):
        return False
    if env.get("FORCE_COLOR"):
        return True
    return env.get("TERM") != "dumb" and stream.isatty()


class Console:
    """The two streams of one run, and how loud it is.

    Attributes:
        verbose: how often `-v` was given.
        quiet: how often `-q` was given.
        json: stdout carries one JSON object, also when the run fails.
        no_config: configuration files are not read.
        partial: keys that the JSON envelope of a failure carries besides the error.
    """

    def __init__(self, stdout: TextIO, stderr: TextIO, env: Mapping[str, str]) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self.env = env
        self.color = "auto"
        self.verbose = 0
        self.quiet = 0
        self.json = False
        self.no_config = False
        self.partial: dict[str, Any] = {}

    @property
    def stdout_colour(self) -> bool:
        """Whether stdout is coloured."""
        return wants_colour(self.stdout, self.color, self.env)

    @property
    def stderr_colour(self) -> bool:
        """Whether stderr is coloured."""
        return wants_colour(self.stderr, self.color, self.env)

    def out(self, text: str) -> None:
        """Write what a person or a program reads to stdout."""
        self._write(self.stdout, redact(text), colour=self.stdout_colour)

    def out_file(self, text: str) -> None:
        """Write the content of a file to stdout: as it is, but for what a terminal would obey."""
        self._write(self.stdout, text, colour=False)

    def out_json(self, data: Mapping[str, Any]) -> None:
        """Write the one JSON object of this run to stdout."""
        text = json_text(redacted(data), ascii_only=not _encoding(self.stdout).startswith("utf"))
        self._write(self.stdout, text, colour=False)

    def answer(self, data: Mapping[str, Any], text: str) -> None:
        """What the run came to, on stdout: as the one JSON object with `--json`, else as text."""
        if self.json:
            self.out_json(data)
        else:
            self.out(text)

    def say(self, text: str = "") -> None:
        """Tell a person what happens; `-q` silences it."""
        if not self.quiet:
            self._write(self.stderr, redact(text), colour=self.stderr_colour)

    def detail(self, text: str) -> None:
        """Tell a person who asked with `-v`."""
        if self.verbose:
            self._write(self.stderr, click.style(redact(text), dim=True), colour=self.stderr_colour)

    def warn(self, slug: str, message: str, *, always: bool = False) -> None:
        """Message on stderr; `-qq` silences it unless it must `always` be said."""
        if self.quiet < 2 or always:
            head = click.style(f"warning[{slug}]:", fg="yellow", bold=True)
            self._write(self.stderr, f"{head} {redact(message)}", colour=self.stderr_colour)

    def _write(self, stream: TextIO, text: str, *, colour: bool) -> None:
        """The one way out: without control characters, in the characters that the stream has.

        Raises:
            BrokenPipeError: whoever read has seen enough.
            UsageError: `cannot-write`: the stream is closed, or what it leads to is full.
        """
        encoding = _encoding(stream)
        shown = printable(text, colour=colour).encode(encoding, "backslashreplace").decode(encoding)
        try:
            click.echo(shown, file=stream, color=colour)
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            name = "stdout" if stream is self.stdout else "stderr"
            raise UsageError(
                "cannot-write",
                f"{name} cannot be written: {getattr(error, 'strerror', None) or error}",
                wanted="an open terminal, pipe or file with room",
                hints=("write to another place",),
            ) from error

    def warn_all(self, messages: Iterable[Message]) -> None:
        """Say each of these warnings."""
        for message in messages:
            self.warn(message.slug, message.message)

    def fail(self, error: TorchInstallError, exit_code: int | None = None) -> None:
        """Print an error on stderr and, with `--json`, its envelope on stdout."""
        self._write(self.stderr, redact(error_text(error)), colour=self.stderr_colour)
        if self.json:
            self.out_json(self.envelope({**error.to_json(), "exit_code": exit_code or error.exit_code}))

    def envelope(self, error: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON object of a run that failed."""
        if "candidates" in self.partial:  # the verb's data is a plan: its keys are the contract
            return {**self.partial, "error": dict(error)}
        return {
            "schema_version": ENVELOPE_VERSION,
            "status": "error",
            **self.partial,
            "error": dict(error),
        }


def _encoding(stream: TextIO) -> str:
    return (getattr(stream, "encoding", None) or "utf-8").lower()


def envelope(status: str, **parts: Any) -> dict[str, Any]:
    """The JSON object of a verb that has no contract of its own; `status` is one word."""
    return {"schema_version": ENVELOPE_VERSION, "status": status, **parts, "error": None}


class Session(Struct, frozen=True):
    """One run of the command line: its context, and its output."""

    context: Context
    console: Console


def error_text(error: TorchInstallError) -> str:
    """An error for a person: what happened, what was needed, what was found, and what to type."""
    lines = [click.style(f"error[{error.slug}]:", fg="red", bold=True) + f" {error.message}"]
    if error.wanted:
        lines.append(f"  needed: {_indented(error.wanted, 10)}")
    if error.found:
        lines.append(f"  found:  {_indented(error.found, 10)}")
    lines.extend(
        click.style("hint:", fg="cyan", bold=True) + f" {_indented(hint, 6)}" for hint in error.hints
    )
    return "\n".join(lines)


def _indented(text: str, width: int) -> str:
    return text.replace("\n", "\n" + " " * width)
