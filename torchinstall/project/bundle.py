"""A folder that installs a plan on a machine without a network: wheels, hashes, pins, an installer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from torchinstall import __version__
from torchinstall.core.decoding import load
from torchinstall.core.errors import UsageError
from torchinstall.core.files import disk_of, write_file
from torchinstall.core.messages import size_text
from torchinstall.core.plan import Plan
from torchinstall.export.inputs import title_of
from torchinstall.export.requirements import requirement_lines
from torchinstall.index.wheels import File

MANIFEST = "bundle.json"
"""Written last: a folder with it is complete."""

_PIP = '-m pip install --no-index --find-links "{here}{dot}" --require-hashes -r "{here}requirements.txt"'
_OUTSIDE = (
    "pip keeps no backup: if this is interrupted, run it again. "
    "Where torchinstall is installed, this keeps one: torchinstall auto --offline --find-links"
)
_SHELL = f"""\
#!/bin/sh
echo "{_OUTSIDE} $(dirname "$0")" >&2
exec "${{PYTHON:-python3}}" {_PIP.format(here='$(dirname "$0")/', dot="")} "$@"
"""
_CMD = f"""\
@echo off
echo {_OUTSIDE} "%~dp0." >&2
python {_PIP.format(here="%~dp0", dot=".")} %*
"""


class _Manifest(Struct, frozen=True, kw_only=True):
    """What a bundle says of itself."""

    schema_version: int = 1
    title: str
    made_by: str
    made_at: str
    target: dict[str, str | None]
    backend: str | None
    torch: str | None
    catalog: str
    files: tuple[File, ...]


def check_room(files: tuple[File, ...], folder: Path) -> None:
    """Refuse a folder that has no room, as far as sizes are known.

    Raises:
        UsageError: `no-room`.
    """
    missing = sum(file.size or 0 for file in files if not (folder / file.filename).is_file())
    free = disk_of(folder).free_bytes
    if missing > free:
        raise UsageError(
            "no-room",
            f"the disk of {folder} is too full for the bundle",
            wanted=size_text(missing),
            found=f"{size_text(free)} free",
            hints=("name another folder with -o",),
        )


def foreign_wheels(files: tuple[File, ...], folder: Path) -> tuple[str, ...]:
    """Wheels in the folder that no bundle put there: the installation might take them."""
    known = {file.filename for file in files} | _earlier_files(folder)
    return tuple(sorted(path.name for path in folder.glob("*.whl") if path.name not in known))


def write_bundle(
    folder: Path,
    files: tuple[File, ...],
    plan: Plan,
    *,
    made_at: str,
    fetch: Callable[[tuple[File, ...]], tuple[File, ...]],
) -> tuple[File, ...]:
    """Fill a folder, which exists; files of an earlier bundle that this one does not need are removed.

    `fetch` brings the wheels of the plan there, and returns them as they are there.

    Raises:
        InstallFailedError: a file could not be brought.
        UsageError: `cannot-write`.
    """
    earlier = _earlier_files(folder)
    (folder / MANIFEST).unlink(missing_ok=True)
    rows = fetch(files)
    for name in earlier - {file.filename for file in files}:
        (folder / name).unlink(missing_ok=True)
    title, made_by = title_of(plan), f"torchinstall {__version__}"
    head = [f"# {title}.", f"# Written by {made_by}."]
    pins = [f"{row.name}=={row.version}" for row in rows]
    requirements = requirement_lines(files, set())
    write_file(folder / "requirements.txt", "\n".join([*head, *requirements]) + "\n")
    write_file(folder / "constraints.txt", "\n".join([*head, *pins]) + "\n")
    write_file(folder / "install.sh", _SHELL)
    (folder / "install.sh").chmod(0o755)
    write_file(folder / "install.cmd", _CMD.replace("\n", "\r\n"))
    target = plan.target
    manifest = _Manifest(
        title=title,
        made_by=made_by,
        made_at=made_at,
        target={"python_version": target.python_version, "abi": target.abi, "platform": target.platform},
        backend=plan.backend,
        torch=plan.torch,
        catalog=plan.catalog.snapshot,
        files=rows,
    )
    write_file(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    return rows


def _earlier_files(folder: Path) -> set[str]:
    """The files of the bundle that is in the folder already; names only, nothing outside of it."""
    manifest = load(folder / MANIFEST, _Manifest)
    names = {row.filename for row in manifest.files} if manifest is not None else set()
    return {name for name in names if name.endswith(".whl") and Path(name).name == name}
