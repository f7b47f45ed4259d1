"""The one script that is run inside another interpreter, to say what it is and what is installed in it.

It is sent as text with `python -I -c`, so it must work on Python 3.7 and import nothing but the standard
library. It imports nothing from the environment, writes nothing, and prints a marker and one Python literal;
what a `sitecustomize` prints before does no harm. The interpreter that runs torchinstall imports it instead.

Every plan waits for it: pathlib, json, re and platform would double its 30 ms.
"""

# ruff: noqa: PTH112, PTH113, PTH118, PTH119, PTH120, PTH123, PTH202, PTH110, PTH208

from __future__ import annotations

import os
import sys
import sysconfig

_FILES_AT_MOST = 20


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


def _text(path: str, most: int = -1) -> str | None:
    """A text file, or its beginning; None where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(most)
    except OSError:
        return None


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _site_packages() -> list[str]:
    return list(dict.fromkeys(sysconfig.get_path(key) for key in ("purelib", "platlib")))


def _dist_infos(site: str) -> list[tuple[str, str, str]]:
    """Name, version and metadata folder of each distribution; a name with `~` is a half-removed one."""
    found = []
    for entry in _names(site):
        if entry.endswith(".dist-info") and not entry.startswith("~"):
            name, _, version = entry[: -len(".dist-info")].partition("-")
            normalised = name.lower().replace("_", "-").replace(".", "-")
            found.append((normalised, version, os.path.join(site, entry)))
    return found


def _metadata(folder: str, key: str) -> list[str]:
    """Every value of one key of the metadata."""
    values = []
    for line in (_text(os.path.join(folder, "METADATA")) or "").splitlines():
        if not line.strip():
            break
        name, _, value = line.partition(":")
        if name.lower() == key:
            values.append(value.strip())
    return values


def _writable(folder: str) -> bool:
    """Whether files may be made there, or in the nearest folder above that exists."""
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return os.access(folder, os.W_OK)


def inspect(family: list[str]) -> dict[str, object]:
    """What a plan needs; of the packages in `family`: name, version and the beginning of `version.py`."""
    sites = _site_packages()
    marker = os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
    system = str(sys.platform)
    rows: list[tuple[str, str, str | None, str | None]] = []
    found = [(site, *row) for site in sites for row in _dist_infos(site) if row[0] in family]
    # Beside a whole one, what lost its list is a remainder.
    listed = {name for _, name, _, info in found if os.path.exists(os.path.join(info, "RECORD"))}
    for site, name, version, info in found:
        if name not in listed or os.path.exists(os.path.join(info, "RECORD")):
            code = _text(os.path.join(site, name.replace("-", "_"), "version.py"), 8192)
            variant = _text(os.path.join(info, "variant.json"))
            rows.append((name, (_metadata(info, "version") or [version])[0], code, variant))
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
        "writable": all(_writable(site) for site in sites),
        "externally_managed": marker if sys.prefix == sys.base_prefix and os.path.isfile(marker) else None,
        "installed": rows,
    }


def take_inventory(family: list[str], prefixes: list[str]) -> dict[str, object]:
    """What a doctor needs.

    Args:
        family: names of packages whose files are compared with their list.
        prefixes: beginnings of further such names.
    """
    sites = _site_packages()
    dists = []
    for site in sites:
        for name, version, info in _dist_infos(site):
            watched = name in family or any(name.startswith(prefix) for prefix in prefixes)
            missing, altered = _damage(site, info) if watched else ([], [])
            dists.append(
                {
                    "name": name,
                    "version": (_metadata(info, "version") or [version])[0],
                    "requires": _metadata(info, "requires-dist"),
                    "site": site,
                    "missing": missing,
                    "altered": altered,
                    "clue": _clue(site, name),
                }
            )
    left = [os.path.join(site, name) for site in sites for name in _names(site) if name.startswith("~")]
    return {
        "dists": dists,
        "leftovers": left,
        "user_torch": _user_torch(),
        "markers": _markers(),
    }


def _damage(site: str, info: str) -> tuple[list[str], list[str]]:
    """Files of a distribution that are gone, and files of another size than its list says.

    Installers write `INSTALLER` and then their own list as the last of all.
    """
    missing, altered = [], []
    text = _text(os.path.join(info, "RECORD"))
    own = os.path.basename(info) + "/"
    if text is None and (_text(os.path.join(info, "INSTALLER")) or "").strip() in ("uv", "pip"):
        missing.append(own + "RECORD")
    elif text is not None and own + "INSTALLER," not in text:
        missing.append(own + "INSTALLER")
    for line in (text or "").splitlines():
        name, _, size = [*line.rsplit(",", 2), "", ""][:3]
        name = name[1:-1].replace('""', '"') if name.startswith('"') else name
        if not name or name.endswith((".pyc", "/RECORD")):
            continue
        try:
            found = os.path.getsize(os.path.join(site, name))
        except OSError:
            missing.append(name)
            continue
        if size.isdigit() and int(size) != found:
            altered.append(name)
    return missing[:_FILES_AT_MOST], altered[:_FILES_AT_MOST]


def _clue(site: str, name: str) -> str:
    """Where an extension says what its binaries were made for, other than in its version."""
    if name == "xformers":
        return _text(os.path.join(site, "xformers", "cpp_lib.json")) or ""
    return " ".join(_names(os.path.join(site, name))) if name == "bitsandbytes" else ""


def _user_torch() -> str | None:
    """A torch in the user's own site-packages, where this interpreter looks there (no environment does)."""
    if sys.prefix != sys.base_prefix:
        return None
    try:
        folder = os.path.join(__import__("site").getusersitepackages(), "torch")
    except (AttributeError, RuntimeError):
        return None
    return folder if os.path.exists(os.path.join(folder, "__init__.py")) else None


def _markers() -> dict[str, str]:
    """The variables of PEP 508."""
    platform = __import__("platform")
    return {
        "implementation_name": sys.implementation.name,
        "implementation_version": platform.python_version(),
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    }


if __name__ == "__main__":
    lists = [text.split(",") for text in sys.argv[1:3]]
    found = take_inventory(lists[0], lists[1]) if len(lists) > 1 else inspect(lists[0])
    sys.stdout.write(f"\n@torchinstall@{found!a}\n")
