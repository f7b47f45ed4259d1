"""A folder that installs a plan on a machine without a network: wheels, hashes, pins, an installer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from torchinstall.core.errors import UsageError
from torchinstall.export.requirements import requirement_lines
from torchinstall.project.files import write_atomically

if TYPE_CHECKING:
    from torchinstall.core.plan import Plan
    from torchinstall.core.target import Target
    from torchinstall.export.resolve import File

__all__ = ["MANIFEST", "Bundle", "check_room", "strangers", "write_bundle"]

MANIFEST = "bundle.json"
"""Written last: a folder with it is complete."""

SCHEMA_VERSION = 1

_PIP = '-m pip install --no-index --find-links "{here}{dot}" --require-hashes -r "{here}requirements.txt"'
_SHELL = f"""\
#!/bin/sh
exec "${{PYTHON:-python3}}" {_PIP.format(here='$(dirname "$0")/', dot="")} "$@"
"""
_CMD = f"""\
@echo off
python {_PIP.format(here="%~dp0", dot=".")} %*
"""


class Bundle(Struct, frozen=True, kw_only=True):
    """What a bundle holds; `rows` are the files of its manifest."""

    folder: Path
    rows: tuple[Mapping[str, Any], ...]

    @property
    def bytes(self) -> int:
        """How much it is."""
        return sum(int(row["size"]) for row in self.rows)


def check_room(files: tuple[File, ...], folder: Path) -> None:
    """Refuse a folder that has no room, as far as sizes are known.

    Raises:
        UsageError: `no-room`.
    """
    missing = sum(file.size or 0 for file in files if not (folder / file.filename).is_file())
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise UsageError(
            "no-room",
            f"{folder} has no room for the bundle",
            wanted=f"{missing / 1e9:.1f} GB",
            found=f"{free / 1e9:.1f} GB free",
            hints=("name another folder with -o",),
        )


def strangers(files: tuple[File, ...], folder: Path) -> tuple[str, ...]:
    """Wheels in the folder that an earlier bundle did not put there: an installation might take them."""
    known = {file.filename for file in files} | _earlier(folder)
    return tuple(sorted(path.name for path in folder.glob("*.whl") if path.name not in known))


def write_bundle(
    folder: Path,
    files: tuple[File, ...],
    plan: Plan,
    target: Target,
    *,
    title: str,
    made_by: str,
    made_at: str,
    fetch: Callable[[tuple[File, ...]], Mapping[str, str]],
) -> Bundle:
    """Fill the folder; what an earlier bundle left there and this one does not need is removed.

    Args:
        folder: exists.
        files: to install, each a wheel.
        plan: that they carry out.
        target: that they are for.
        title: what it is for, one line.
        made_by: name and version of this program.
        made_at: ISO date and time.
        fetch: brings the files into the folder; file name -> sha256.

    Raises:
        InstallFailedError: a file could not be brought.
        UsageError: `cannot-write`.
    """
    earlier = _earlier(folder)
    (folder / MANIFEST).unlink(missing_ok=True)
    hashes = fetch(files)
    for name in earlier - {file.filename for file in files}:
        (folder / name).unlink(missing_ok=True)
    rows = tuple(
        {
            "name": file.name,
            "version": file.version,
            "file": file.filename,
            "sha256": hashes[file.filename],
            "size": (folder / file.filename).stat().st_size,
            "url": file.url,
        }
        for file in files
    )
    head = [f"# {title}.", f"# Written by {made_by}."]
    pins = [f"{row['name']}=={row['version']}" for row in rows]
    lines = requirement_lines(files, set())
    write_atomically(folder / "requirements.txt", "\n".join([*head, *lines]) + "\n")
    write_atomically(folder / "constraints.txt", "\n".join([*head, *pins]) + "\n")
    write_atomically(folder / "install.sh", _SHELL)
    (folder / "install.sh").chmod(0o755)
    write_atomically(folder / "install.cmd", _CMD.replace("\n", "\r\n"))
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "title": title,
        "made_by": made_by,
        "made_at": made_at,
        "target": {
            "python_version": target.python_version,
            "abi": target.abi,
            "platform": target.platform,
        },
        "backend": plan.backend,
        "torch": plan.torch,
        "catalog": plan.catalog.snapshot,
        "files": rows,
    }
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return Bundle(folder=folder, rows=rows)


def _earlier(folder: Path) -> set[str]:
    """The files of the bundle that is in the folder already; names only, nothing outside of it."""
    try:
        rows = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        names = {str(row["file"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {name for name in names if name.endswith(".whl") and Path(name).name == name}
