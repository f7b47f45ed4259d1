"""The script that reads an environment from inside; see `inventory.py`.

It is sent as text with `python -I -c`, so it must work on Python 3.7 and import nothing but the standard
library. Nothing is imported from the environment and nothing is written.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import re
import sys
import sysconfig
from pathlib import Path
from typing import Any

AT_MOST = 20


def text_of(path: Path) -> str:
    """A text file; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def entries(folder: Path) -> list[str]:
    """Names in a folder, sorted."""
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []


def damage(site: Path, info: str) -> tuple[list[str], list[str]]:
    """Files of a distribution that are gone, and files of another size than its list says."""
    missing = []
    altered = []
    for row in csv.reader(text_of(site / info / "RECORD").splitlines()):
        if not row or row[0].endswith((".pyc", "/RECORD")):
            continue
        try:
            size = (site / row[0]).stat().st_size
        except OSError:
            missing.append(row[0])
            continue
        if len(row) > 2 and row[2].isdigit() and int(row[2]) != size:
            altered.append(row[0])
    return missing[:AT_MOST], altered[:AT_MOST]


def built_for(site: Path, name: str, version: str) -> dict[str, str]:
    """What the binaries of an extension were made for, where the package says so in a file or its version."""
    found: dict[str, str] = {}
    if name == "xformers":
        try:
            said = json.loads(text_of(site / "xformers" / "cpp_lib.json"))["version"]
            found = {"torch": str(said.get("torch") or ""), "cuda": str(said.get("cuda") or "")}
        except (ValueError, KeyError, TypeError, AttributeError):
            found = {}
    elif name == "bitsandbytes":
        names = entries(site / "bitsandbytes")
        found = {"cuda": ",".join(sorted(set(re.findall(r"cuda(\d+)", " ".join(names)))))}
    else:
        match = re.search(r"\+(?:.*?cu(?P<cuda>\d+))?.*?(?:torch|pt)(?P<torch>\d+\.\d+)", version)
        if match:
            found = {key: value for key, value in match.groupdict().items() if value}
    return {key: value for key, value in found.items() if value}


def distributions(site: Path, watched: list[str]) -> list[dict[str, Any]]:
    """Every distribution in a folder; the files of the watched ones are counted."""
    rows = []
    for info in entries(site):
        match = re.match(r"(?P<name>[^~].*?)-(?P<version>[^-]+)\.dist-info$", info)
        if not match:
            continue
        head = text_of(site / info / "METADATA").split("\n\n", 1)[0]
        name = re.sub(r"[-_.]+", "-", match.group("name")).lower()
        requires = re.findall(r"^Requires-Dist:\s*(.+?)\s*$", head, re.MULTILINE)
        said = re.search(r"^Version:\s*(\S+)", head, re.MULTILINE)
        version = said.group(1) if said else match.group("version")
        missing: list[str] = []
        altered: list[str] = []
        if any(re.match(pattern, name) for pattern in watched):
            missing, altered = damage(site, info)
        rows.append(
            {
                "name": name,
                "version": version,
                "requires": requires,
                "site": str(site),
                "missing": missing,
                "altered": altered,
                "built_for": built_for(site, name, version),
            }
        )
    return rows


def user_torch() -> str | None:
    """A torch in the user's own site-packages, where this interpreter looks there (no environment does)."""
    if sys.prefix != sys.base_prefix:
        return None
    try:
        import site

        folder = Path(site.getusersitepackages()) / "torch"
    except (ImportError, AttributeError, RuntimeError):
        return None
    return str(folder) if (folder / "__init__.py").exists() else None


def markers() -> dict[str, str]:
    """The variables of PEP 508."""
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


def main() -> None:
    """Print everything at once."""
    watched, keep_prefix = json.loads(sys.argv[1])
    sites = []
    for key in ("purelib", "platlib"):
        folder = Path(sysconfig.get_path(key))
        if folder not in sites:
            sites.append(folder)
    answer = {
        "python": sys.executable,
        "prefix": sys.prefix,
        "sites": [str(site) for site in sites],
        "dists": [row for site in sites for row in distributions(site, watched)],
        "leftovers": [str(site / name) for site in sites for name in entries(site) if name.startswith("~")],
        "kept": [
            str(Path(sys.prefix) / name) for name in entries(Path(sys.prefix)) if name.startswith(keep_prefix)
        ],
        "user_torch": user_torch(),
        "markers": markers(),
    }
    sys.stdout.write("\n@torchinstall@" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
