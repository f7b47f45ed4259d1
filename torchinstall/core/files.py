"""Files of the user: read within bounds, replaced whole, and TOML that cannot run away."""

from __future__ import annotations

import codecs
import contextlib
import errno
import json
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from torchinstall.core.errors import UsageError

if sys.platform == "win32":
    import shutil

_MOST_BYTES = 256 * 1024
"""Of a file that a person writes; the largest known ones have a third of it."""

MOST_BYTES_OF_TOOLS = 16 * 1024 * 1024
"""Of a file that a tool writes: a lock, a machine file."""

_KEY = r"(?:[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*')"
_MOST_PARTS = 64
_LONG_KEY = rf"(?<![A-Za-z0-9_-]){_KEY}(?:[ \t]*\.[ \t]*{_KEY}){{{_MOST_PARTS}}}"
"""A key of many parts: parsers of TOML need time and memory by the square of their number."""


def user_path(cwd: Path, text: str) -> Path:
    """A path that somebody wrote, from `cwd`; a `~` that names nobody stays as it is."""
    return cwd / os.path.expanduser(text)  # noqa: PTH111  Path's raises for a user who is not there


def real_path(path: Path | str) -> Path:
    """An absolute path without symbolic links; of links in a circle, as far as they lead."""
    return Path(os.path.realpath(path))


def upward(folder: Path, *names: str) -> Iterator[Path]:
    """The files with these names in a folder and those above it, the nearest first."""
    return (at / name for at in (folder, *folder.parents) for name in names if (at / name).is_file())


def read_text(path: Path, most: int = _MOST_BYTES) -> str:
    """A text file, without the mark that some editors put at its start; TOML is never in UTF-16.

    Raises:
        OSError: it cannot be read, or is larger than `most` bytes.
        ValueError: it is not UTF-8, or no path can be like that (NUL).
    """
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most // 1024} KiB")
    return data.decode("utf-8-sig" if path.suffix == ".toml" else encoding_of(data))


def encoding_of(start: bytes) -> str:
    """UTF-16 where its mark is at the start, as PowerShell's `>` puts it there; else UTF-8."""
    return "utf-16" if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def text_in(path: Path, most: int = MOST_BYTES_OF_TOOLS, *, errors: str = "surrogateescape") -> str:
    """A text file of somebody else, or its beginning; empty where there is none that can be read."""
    try:
        with path.open("rb") as file:
            encoding = encoding_of(file.read(2))
        with path.open(encoding=encoding, errors=errors) as file:
            return file.read(most)
    except (OSError, ValueError):
        return ""


class Disk(Struct, frozen=True, kw_only=True):
    """A file system: free bytes for this user, and a number that tells one file system from another."""

    free_bytes: int
    device: int


def disk_of(path: Path) -> Disk:
    """The file system of a folder, or of the nearest one above it that is there."""
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if sys.platform == "win32":
        free = shutil.disk_usage(there).free
    else:
        volume = os.statvfs(there)
        free = volume.f_bavail * volume.f_frsize
    return Disk(free_bytes=free, device=there.stat().st_dev)


def names_in(folder: Path) -> tuple[str, ...]:
    """What lies in a folder, sorted; nothing where it cannot be read."""
    try:
        return tuple(sorted(entry.name for entry in os.scandir(folder)))
    except (OSError, ValueError):
        return ()


def venv_settings(prefix: Path) -> dict[str, str]:
    """What the `pyvenv.cfg` of a virtual environment says, by key in lower case; empty where it is none."""
    pairs = (line.partition("=") for line in text_in(prefix / "pyvenv.cfg").splitlines())
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def venv_python(prefix: Path) -> str:
    """The version of Python, such as `3.12`, that a virtual environment has; empty where nothing says it."""
    settings = venv_settings(prefix)
    match = re.match(r"\d+\.\d+", settings.get("version_info") or settings.get("version", ""))
    return match.group() if match else ""


def sha256(content: bytes) -> str:
    """In hex."""
    import hashlib  # it loads OpenSSL, for which a plan without a cache has no use

    return hashlib.sha256(content).hexdigest()


def parse_toml(text: str) -> dict[str, Any]:
    """Plain values of a TOML text.

    Raises:
        ValueError: not TOML, or nested deeper than any file that a person writes.
    """
    if sys.version_info >= (3, 11):
        import tomllib  # most runs read no TOML
    else:
        import tomli as tomllib
    dotted = (line for line in text.split("\n") if line.count(".") >= _MOST_PARTS)
    if any(re.search(_LONG_KEY, line) for line in dotted):  # the pattern is slow to compile
        raise ValueError(f"a key has more than {_MOST_PARTS} parts")
    try:
        table: dict[str, Any] = tomllib.loads(text)
    except RecursionError:
        raise ValueError("values are nested too deeply") from None
    return table


def reason(error: Exception) -> str:
    """Why a file could not be read or written, without its name."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 (byte {error.start})"
    return getattr(error, "strerror", None) or str(error)


def read_named(path: Path, slug: str, what: str, wanted: str, *hints: str, most: int = _MOST_BYTES) -> str:
    """The text in a file that a person named.

    Raises:
        UsageError: it is not there, is no text in UTF-8, or too large.
    """
    try:
        return read_text(path, most)
    except (OSError, ValueError) as error:
        found = reason(error)
        raise UsageError(slug, f"{what} cannot be read", wanted=wanted, found=found, hints=hints) from error


def cannot_write(what: Path | str, error: Exception, *hints: str) -> UsageError:
    """The refusal of a place that nothing can be written to."""
    return UsageError(
        "cannot-write",
        f"{what} cannot be written: {reason(error)}",
        wanted="a file with room, in a folder that this user may write to",
        hints=hints,
    )


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, where they are missing.

    Raises:
        UsageError: `cannot-write`.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error, "name another place") from error


def quoted(text: str) -> str:
    """A string of TOML, which is one of JSON but for a character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def write_file(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Replace a file's content: whole or not at all. Its folder is made, its mode kept, a link followed.

    Text is written in UTF-8, with the mark of it that the file had. `durable`: it must outlast a power cut.

    Raises:
        UsageError: `cannot-write`: it is a folder, a device or a pipe, or there is no right or room to write.
    """
    temporary: Path | None = None
    try:
        real = real_path(path)
        mode, place = _mode(real), real.parent / f".{real.name[:60]}.{os.urandom(6).hex()}.tmp"
        data = content if isinstance(content, bytes) else _encoded(content, real)
        real.parent.mkdir(parents=True, exist_ok=True)
        with open(place, "xb", opener=_for_us_alone) as file:
            temporary = place
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(real)
        if durable and os.name == "posix":
            _sync_folder(real.parent)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        if not isinstance(error, OSError | ValueError):
            raise
        hint = "what was there is as it was; fix the cause, or name another place"
        raise cannot_write(path, error, hint) from error


def _encoded(text: str, path: Path) -> bytes:
    """A text for a file; the mark of UTF-8 that an editor put there stays."""
    marked = False
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        marked = file.read(3) == codecs.BOM_UTF8
    return text.encode("utf-8-sig" if marked else "utf-8", "surrogateescape")


def _sync_folder(path: Path) -> None:
    """Bring the names in a folder to disk, where its file system can."""
    number = os.open(path, os.O_RDONLY)
    with contextlib.suppress(OSError):
        os.fsync(number)
    os.close(number)


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _mode(path: Path) -> int:
    """The mode of a file; where it is new, what the umask gives.

    Raises:
        OSError: it is no file, or a link that leads back to itself.
    """
    try:
        found = path.stat().st_mode
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
    if stat.S_ISREG(found):
        return stat.S_IMODE(found)
    kind = "a folder" if stat.S_ISDIR(found) else "a device, a pipe or a socket"
    raise OSError(errno.EINVAL, f"it is {kind}, not a file")


def cache_dir(env: Mapping[str, str], platform: str) -> Path | None:
    """Where everything is kept that may go: `TORCHINSTALL_CACHE_DIR`, else the platform's folder for caches.

    None where nothing names a home. The rules of `platformdirs`, by hand: it reads the environment of the
    process instead of the one that was handed in, and to import it costs a tenth of an offline plan.
    """
    if explicit := env.get("TORCHINSTALL_CACHE_DIR"):
        return Path(explicit)
    home = env.get("HOME")
    if platform == "win32":
        local = env.get("LOCALAPPDATA")
        return Path(local) / "torchinstall" / "cache" if local else None
    if platform == "darwin":
        return Path(home) / "Library" / "Caches" / "torchinstall" if home else None
    if (xdg := env.get("XDG_CACHE_HOME", "")).startswith("/"):
        return Path(xdg) / "torchinstall"
    return Path(home) / ".cache" / "torchinstall" if home else None
