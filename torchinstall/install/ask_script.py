"""The one script that is run inside the interpreter installed into; see `ask.py`.

It is sent as text with `python -I -c`, so it must work on Python 3.7 and import nothing but the standard
library. It prints a marker and one JSON object; what a `sitecustomize` prints before does no harm.
"""

from __future__ import annotations

import json
import os
import platform
import struct
import sys
import sysconfig
from pathlib import Path


def abi() -> str:
    """The wheel ABI tag of this interpreter."""
    flags = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    flags += "d" if hasattr(sys, "gettotalrefcount") else ""
    flags += "m" if sys.hexversion < 0x03080000 else ""
    return f"cp{sys.version_info[0]}{sys.version_info[1]}{flags}"


def libc() -> list[str | None] | None:
    """Family and version of the C library; None where that has no meaning or cannot be read."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, OSError, ValueError):
        name, version = "", ""
    if name == "glibc":
        return ["glibc", version]
    triple = f"{sysconfig.get_config_var('HOST_GNU_TYPE')} {sysconfig.get_config_var('SOABI')}"
    return ["musl", None] if "musl" in triple else None


def distributions(folders: list[Path], wanted: list[str]) -> list[list[str | None]]:
    """Name, version and `version.py` of each installed distribution; files are read for `wanted` only."""
    rows: list[list[str | None]] = []
    for folder in folders:
        try:
            entries = sorted(entry.name for entry in folder.iterdir())
        except OSError:
            continue
        for entry in entries:
            if not entry.endswith(".dist-info"):
                continue
            name, _, version = entry[: -len(".dist-info")].partition("-")
            name = name.lower().replace("_", "-").replace(".", "-")
            if name in wanted:
                code = text_of(folder / name.replace("-", "_") / "version.py")
                rows.append([name, metadata_version(folder / entry) or version, code])
            else:
                rows.append([name, version, None])
    return rows


def metadata_version(folder: Path) -> str | None:
    """The version that the metadata names."""
    for line in (text_of(folder / "METADATA") or "").splitlines():
        key, _, value = line.partition(":")
        if not line.strip():
            break
        if key.lower() == "version":
            return value.strip()
    return None


def text_of(path: Path) -> str | None:
    """The beginning of a text file."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(8192)
    except OSError:
        return None


def writable(folder: Path) -> bool:
    """Whether files may be made there, or in the nearest folder above that exists."""
    while not folder.is_dir() and folder.parent != folder:
        folder = folder.parent
    return os.access(folder, os.W_OK)


def main() -> None:
    """Print everything at once."""
    folders = []
    for key in ("purelib", "platlib"):
        folder = Path(sysconfig.get_path(key))
        if folder not in folders:
            folders.append(folder)
    marker = Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED"
    answer = {
        "version": platform.python_version(),
        "implementation": sys.implementation.name,
        "abi": abi(),
        "sys_platform": sys.platform,
        "platform": sysconfig.get_platform(),
        "machine": platform.machine(),
        "bits": struct.calcsize("P") * 8,
        "libc": libc(),
        "macos": platform.mac_ver()[0] or None,
        "prefix": sys.prefix,
        "virtual": sys.prefix != sys.base_prefix,
        "site_packages": [str(folder) for folder in folders],
        "writable": all(writable(folder) for folder in folders),
        "externally_managed": str(marker) if sys.prefix == sys.base_prefix and marker.is_file() else None,
        "distributions": distributions(folders, json.loads(sys.argv[1])),
    }
    sys.stdout.write("\n@torchinstall@" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
