"""Start a process that cannot outlive its time, and read what a library's child printed."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from torchinstall.probe.system import CommandResult, LibraryAnswer

__all__ = ["answer_of", "run"]

_MOST_CHARACTERS = 1 << 20
_LAST_WORDS_S = 0.1


def run(argv: Sequence[str], timeout: float, env: Mapping[str, str]) -> CommandResult:
    """Run `argv[0]` (an absolute path) and give up after `timeout` seconds, keeping what was printed.

    It runs in the root folder: an empty entry in a loader path means the current one, which must not matter.
    """
    import subprocess

    root = os.path.abspath(os.sep)  # noqa: PTH100 - `/`, or the drive that Windows calls current
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            cwd=root,
        )
    except (OSError, ValueError) as error:
        return CommandResult(returncode=None, problem=f"cannot start: {error}")
    try:
        out, err = process.communicate(timeout=timeout)
        problem = None
    except subprocess.TimeoutExpired:
        process.kill()
        problem = "timeout"
        try:
            out, err = process.communicate(timeout=_LAST_WORDS_S)
        except subprocess.TimeoutExpired as expired:
            # A grandchild holds the pipe, or the process is stuck inside the kernel: leave it behind.
            out, err = expired.output or b"", expired.stderr or b""
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_LAST_WORDS_S)
    return CommandResult(
        returncode=None if problem else process.returncode,
        stdout=_text(out),
        stderr=_text(err),
        problem=problem,
    )


def _text(data: bytes | str | None) -> str:
    if data is None:
        return ""
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    return text[:_MOST_CHARACTERS]


def answer_of(result: CommandResult) -> LibraryAnswer:
    """The rows that a child printed, and how it ended."""
    rows: list[Mapping[str, Any]] = []
    for line in result.stdout.splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    if result.problem:
        plain = "timeout" if result.problem == "timeout" else f"unavailable: {result.problem}"
        return LibraryAnswer(rows=tuple(rows), problem=plain)
    if result.returncode == 0:
        return LibraryAnswer(rows=tuple(rows))
    last = (result.stderr.strip().splitlines() or ["no message"])[-1]
    return LibraryAnswer(rows=tuple(rows), problem=f"crash: {_ending(result.returncode)} ({last[:120]})")


def _ending(code: int | None) -> str:
    """How a process ended: the signal's name where it was one."""
    import signal

    if code is not None and code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit status {code}"
