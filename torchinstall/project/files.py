"""Read, compare and replace project files so that there is always a whole one: the old or the new."""

from __future__ import annotations

import contextlib
import difflib
import os
import tempfile
from pathlib import Path

from torchinstall.core.errors import UsageError

__all__ = ["read_text", "unified_diff", "write_atomically"]


def read_text(path: Path) -> str:
    """A project file with its line ends as they are.

    Raises:
        UsageError: `no-pyproject`, or `bad-pyproject` where it is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        folder = isinstance(error, IsADirectoryError)
        raise UsageError(
            "no-pyproject",
            f"{path} is a folder" if folder else f"there is no {path.name} in {path.parent}",
            wanted="a project",
            found="a folder" if folder else f"no {path}",
            hints=("uv init", "run it in the project's folder, or name it with --project DIR"),
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(
            "bad-pyproject",
            f"{path.name} is not valid TOML: it is not UTF-8 (byte {error.start})",
            wanted="valid TOML, which is UTF-8",
            found=f"byte {error.object[error.start]:#04x} at offset {error.start}",
            hints=(f"save {path.name} as UTF-8; it was not changed",),
        ) from error


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's content; mode kept, a symbolic link followed, nothing half-written left behind.

    Interrupted or out of space, the old file is as it was.

    Raises:
        UsageError: `cannot-write`: the folder or the file cannot be written.
    """
    real = Path(os.path.realpath(path))
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{real.name}.", suffix=".tmp", dir=real.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(_mode(real))
        temporary.replace(real)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        if not isinstance(error, OSError):
            raise
        raise UsageError(
            "cannot-write",
            f"{path} could not be written: {error.strerror or error}",
            wanted="a folder and a file that this user may write, and room for them",
            found=str(error),
            hints=("the file is as it was; fix the cause and run configure again",),
        ) from error


def _mode(path: Path) -> int:
    """The mode of a file; where it is new, what the umask gives."""
    try:
        return path.stat().st_mode & 0o7777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def unified_diff(before: str, after: str, name: str) -> str:
    """What would change, as `diff -u`; empty where nothing would."""
    lines = difflib.unified_diff(
        before.replace("\r\n", "\n").splitlines(keepends=True),
        after.replace("\r\n", "\n").splitlines(keepends=True),
        f"a/{name}",
        f"b/{name}",
    )
    no_end = "\n\\ No newline at end of file\n"
    return "".join(line if line.endswith("\n") else line + no_end for line in lines)
