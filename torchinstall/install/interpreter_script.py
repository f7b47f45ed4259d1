"""The one script that is run inside another interpreter, to say what it is and where its packages are.

It is sent as text with `python -I -c`, so it must work on Python 3.7 and import nothing but the standard
library. It imports nothing from the environment, writes nothing, and prints a marker and one Python literal;
what a `sitecustomize` prints before does no harm. The interpreter that runs torchinstall imports it instead.

Every plan waits for it: pathlib, json, re and platform would double its 30 ms.
"""

# ruff: noqa: PTH112, PTH113, PTH118, PTH120, PTH110  # as said above, pathlib is too slow here

from __future__ import annotations

import os
import sys
import sysconfig


def _abi() -> str:
    """The wheel ABI tag of this interpreter."""
    flags = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    flags += "d" if hasattr(sys, "gettotalrefcount") else ""
    flags += "m" if sys.hexversion < 0x03080000 else ""
    return f"cp{sys.version_info[0]}{sys.version_info[1]}{flags}"


def _libc() -> tuple[str, str | None] | None:
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


def _machine() -> str:
    """The processor, where the platform's name leaves it open (`macosx-11.0-universal2`)."""
    return os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "")


def _writable(folder: str) -> bool:
    """Whether files may be made there, or in the nearest folder above that exists."""
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return os.access(folder, os.W_OK)


def inspect() -> dict[str, object]:
    """What is asked of an interpreter."""
    sites = list(dict.fromkeys(sysconfig.get_path(key) for key in ("purelib", "platlib")))
    marker = os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
    system = str(sys.platform)
    return {
        "version": sys.version.split()[0].rstrip("+"),
        "implementation": sys.implementation.name,
        "abi": _abi(),
        "sys_platform": system,
        "platform": sysconfig.get_platform(),
        "machine": _machine(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "libc": _libc(),
        "macos": __import__("platform").mac_ver()[0] or None if system == "darwin" else None,
        "prefix": sys.prefix,
        "site_packages": sites,
        "writable": all(map(_writable, (sys.prefix, *sites))),
        "externally_managed": marker if sys.prefix == sys.base_prefix and os.path.isfile(marker) else None,
        "user_torch": _user_torch(),
    }


def _user_torch() -> str | None:
    """A torch in the user's own site-packages, where this interpreter looks there (no environment does)."""
    if sys.prefix != sys.base_prefix:
        return None
    try:
        folder = os.path.join(__import__("site").getusersitepackages(), "torch")
    except (AttributeError, RuntimeError):
        return None
    return folder if os.path.exists(os.path.join(folder, "__init__.py")) else None


if __name__ == "__main__":
    sys.stdout.write(f"\n@torchinstall@{inspect()!a}\n")
