"""The one script that is run inside the interpreter installed into; see `ask.py`.

It is sent as text with `python -I -c`, so it must work on Python 3.7 and import nothing but the standard
library. It prints a marker and one Python literal; what a `sitecustomize` prints before does no harm.
The interpreter that runs torchinstall imports it instead.

Every plan waits for it: pathlib, json, re and platform would double its 30 ms.
"""

# ruff: noqa: PTH112, PTH113, PTH118, PTH120, PTH123, PTH208

from __future__ import annotations

import os
import sys
import sysconfig


def abi() -> str:
    """The wheel ABI tag of this interpreter."""
    flags = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    flags += "d" if hasattr(sys, "gettotalrefcount") else ""
    flags += "m" if sys.hexversion < 0x03080000 else ""
    return f"cp{sys.version_info[0]}{sys.version_info[1]}{flags}"


def libc() -> tuple[str, str | None] | None:
    """Family and version of the C library; None where that has no meaning or cannot be read."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, OSError, ValueError):
        name, version = "", ""
    if name == "glibc":
        return "glibc", version
    triple = f"{sysconfig.get_config_var('HOST_GNU_TYPE')} {sysconfig.get_config_var('SOABI')}"
    return ("musl", None) if "musl" in triple else None


def machine() -> str:
    """The processor, where the platform's name leaves it open (`macosx-11.0-universal2`)."""
    return os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "")


def macos() -> str | None:
    """The product version of macOS."""
    system = str(sys.platform)
    if system != "darwin":
        return None
    import platform

    return platform.mac_ver()[0] or None


def distributions(folders: list[str], wanted: list[str]) -> list[tuple[str, str, str | None]]:
    """Name, version and `version.py` of each installed distribution; files are read for `wanted` only."""
    rows: list[tuple[str, str, str | None]] = []
    for folder in folders:
        try:
            entries = sorted(os.listdir(folder))
        except OSError:
            continue
        for entry in entries:
            if not entry.endswith(".dist-info"):
                continue
            name, _, version = entry[: -len(".dist-info")].partition("-")
            name = name.lower().replace("_", "-").replace(".", "-")
            if name in wanted:
                code = text_of(os.path.join(folder, name.replace("-", "_"), "version.py"))
                rows.append((name, metadata_version(os.path.join(folder, entry)) or version, code))
            else:
                rows.append((name, version, None))
    return rows


def metadata_version(folder: str) -> str | None:
    """The version that the metadata names."""
    for line in (text_of(os.path.join(folder, "METADATA")) or "").splitlines():
        key, _, value = line.partition(":")
        if not line.strip():
            break
        if key.lower() == "version":
            return value.strip()
    return None


def text_of(path: str) -> str | None:
    """The beginning of a text file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(8192)
    except OSError:
        return None


def writable(folder: str) -> bool:
    """Whether files may be made there, or in the nearest folder above that exists."""
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return os.access(folder, os.W_OK)


def answer(wanted: list[str]) -> dict[str, object]:
    """Everything that is asked; `wanted` names the packages that are looked into."""
    folders: list[str] = []
    for key in ("purelib", "platlib"):
        folder = sysconfig.get_path(key)
        if folder not in folders:
            folders.append(folder)
    marker = os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
    return {
        "version": sys.version.split()[0].rstrip("+"),
        "implementation": sys.implementation.name,
        "abi": abi(),
        "sys_platform": sys.platform,
        "platform": sysconfig.get_platform(),
        "machine": machine(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "libc": libc(),
        "macos": macos(),
        "prefix": sys.prefix,
        "virtual": sys.prefix != sys.base_prefix,
        "site_packages": folders,
        "writable": all(writable(folder) for folder in folders),
        "externally_managed": marker if sys.prefix == sys.base_prefix and os.path.isfile(marker) else None,
        "distributions": distributions(folders, wanted),
    }


def main() -> None:
    """Print everything at once."""
    sys.stdout.write(f"\n@torchinstall@{answer(sys.argv[1].split(','))!a}\n")


if __name__ == "__main__":
    main()
