"""Run the command line in this process, with streams and an environment of the test's own."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

from tests.support.hints import Follower, Refusal, Typed, error_of
from torchinstall.cli import main, process_context
from torchinstall.planning.context import Context


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as the one JSON object that it must be."""
        return json.loads(self.out)


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def context(
    folder: Path, env: Mapping[str, str] | None = None, stdin: str = "", *, terminal: bool = False
) -> Context:
    """A context whose environment, folder and streams are the test's; the rest is this process's."""
    kind = Terminal if terminal else io.TextIOWrapper
    return structs.replace(
        process_context(),
        env={"HOME": str(folder), "PATH": "", **(env or {})},
        cwd=folder,
        stdin=io.StringIO(stdin),
        stdout=kind(io.BytesIO(), encoding="utf-8"),
        stderr=kind(io.BytesIO(), encoding="utf-8"),
    )


def run(
    folder: Path,
    *argv: str,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    terminal: bool = False,
    doors: Mapping[str, Any] | None = None,
    table: Mapping[str, tuple[str, str]] | None = None,
) -> RunResult:
    """Run the command line as typed in `folder`; `doors` replaces fields of the context."""
    here = structs.replace(context(folder, env, stdin, terminal=terminal), **dict(doors or {}))
    code = main(argv, here, table)
    result = RunResult(code, _text(here.stdout), _text(here.stderr))
    if FOLLOWERS:
        more = {"stdin": stdin, "doors": doors, "table": table}
        typed = Typed(argv, folder, env or {}, more)
        FOLLOWERS[-1].after(typed, error_of(code, result.out, result.err))
    return result


FOLLOWERS: list[Follower] = []
"""Where one is, it follows the hints of every error that a test provokes."""


def follower() -> Follower:
    """What follows hints by running them as the test ran its command."""

    def again(typed: Typed) -> Refusal | None:
        said = run(typed.folder, *typed.argv, env=typed.env, **typed.more)
        return error_of(said.code, said.out, said.err)

    return Follower(again)


def _text(stream: Any) -> str:
    stream.flush()
    return str(stream.buffer.getvalue().decode())
