"""Put a file in place of another so that there is always a whole one: the old or the new."""

from __future__ import annotations

import contextlib
import difflib
import fnmatch
import os
import tempfile
from pathlib import Path

from torchinstall.core.errors import UsageError
from torchinstall.project.toml import loads
from torchinstall.project.view import ProjectView

__all__ = ["read_text", "unified_diff", "workspace_root", "write_atomically"]


def read_text(path: Path) -> str:
    """A project file with its line ends as they are.

    Raises:
        UsageError: `no-pyproject`, or `bad-pyproject` where it is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            "no-pyproject",
            f"there is no {path.name} in {path.parent}",
            wanted="a project",
            found=f"no {path}",
            hints=("uv init", "run it in the project's folder, or name it with --project DIR"),
        ) from None
    except IsADirectoryError:
        raise UsageError(
            "no-pyproject", f"{path} is a folder", wanted="a file", found="a folder", hints=("uv init",)
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(
            "bad-pyproject",
            f"{path.name} is not valid TOML: it is not UTF-8 (byte {error.start})",
            wanted="valid TOML, which is UTF-8",
            found=f"byte {error.object[error.start]:#04x} at offset {error.start}",
            hints=(f"save {path.name} as UTF-8; it was not touched",),
        ) from error


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's content; mode kept, a symbolic link followed, nothing half-written left behind.

    Interrupted or out of space, the old file is as it was.

    Raises:
        UsageError: `cannot-write`: the folder or the file does not let itself be written.
    """
    real = Path(os.path.realpath(path))
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{real.name}.", suffix=".tmp", dir=real.parent)
    except OSError as error:
        raise _cannot(path, error) from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        _copy_mode(real, temporary)
        temporary.replace(real)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise _cannot(path, error) from error
        raise


def _copy_mode(real: Path, temporary: Path) -> None:
    try:
        temporary.chmod(real.stat().st_mode & 0o7777)
    except FileNotFoundError:
        temporary.chmod(0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _cannot(path: Path, error: OSError) -> UsageError:
    return UsageError(
        "cannot-write",
        f"{path} could not be written: {error.strerror or error}",
        wanted="a folder and a file that this user may write, and room for them",
        found=str(error),
        hints=("the file is as it was; mend the cause and run configure again",),
    )


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


def workspace_root(directory: Path) -> Path:
    """The folder of the workspace that a project is a member of; the project's own where it is in none."""
    own = directory.resolve()
    for parent in own.parents:
        try:
            text = (parent / "pyproject.toml").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        table = ProjectView(loads(text) or {}).uv.get("workspace")
        if not isinstance(table, dict):
            continue
        relative = own.relative_to(parent).as_posix()
        members, left_out = table.get("members", []), table.get("exclude", [])
        if _matches(relative, members) and not _matches(relative, left_out):
            return parent
    return own


def _matches(relative: str, patterns: object) -> bool:
    """As uv matches: a star stays within one folder name."""
    if not isinstance(patterns, list):
        return False
    parts = relative.split("/")
    return any(
        len(pieces := str(pattern).rstrip("/").removeprefix("./").split("/")) == len(parts)
        and all(fnmatch.fnmatchcase(part, piece) for part, piece in zip(parts, pieces, strict=True))
        for pattern in patterns
    )
