"""Packages that a configuration file says move with torch: `[tool.torchinstall.families]`.

    [tool.torchinstall.families]
    my-extension = { routed = true }                    # from the PyTorch index, where it is there
    torch-tb-profiler = { routed = false }              # never from there
    my-kernels = { routed = true, pairing = "torch" }   # the version is torch's own

A row replaces the shipped one of the same name (`families.json`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchinstall.catalog.model import Family
from torchinstall.core.errors import UsageError
from torchinstall.core.request import canonical_name

if TYPE_CHECKING:
    from pathlib import Path

    from torchinstall.cli.config import ConfigTables

__all__ = ["families_in"]

_KEYS = {"routed": (True, False), "pairing": ("free", "torch"), "own-cuda": (True, False)}


def families_in(tables: ConfigTables) -> tuple[Family, ...]:
    """The packages of both files; the project's rows win over the user's.

    Raises:
        UsageError: a table that is not right.
    """
    found: dict[str, Family] = {}
    for path, table, _ in tables:
        rows = table.get("families", {})
        if not isinstance(rows, dict):
            raise _bad(path, "families", "a table of packages", rows)
        for name, row in rows.items():
            found[canonical_name(name)] = _family(path, name, row)
    return tuple(found.values())


def _family(path: Path, name: str, row: object) -> Family:
    if not isinstance(row, dict):
        raise _bad(path, f"families.{name}", "{ routed = true }", row)
    for key, value in row.items():
        if key not in _KEYS:
            raise _bad(path, f"families.{name}.{key}", "one of " + ", ".join(_KEYS), key)
        if value not in _KEYS[key] or isinstance(value, bool) != isinstance(_KEYS[key][0], bool):
            raise _bad(
                path, f"families.{name}.{key}", " or ".join(str(item).lower() for item in _KEYS[key]), value
            )
    return Family(
        package=canonical_name(name),
        routed=row.get("routed", True),
        pairing=row.get("pairing", "free"),
        runtime_of=(),
        own_cuda=row.get("own-cuda", False),
        source=f"config {path.name}",
        confidence="high",
    )


def _bad(path: Path, key: str, wanted: str, found: Any) -> UsageError:
    return UsageError(
        "bad-config",
        f"{key} in {path} is not right",
        wanted=wanted,
        found=repr(found)[:80],
        hints=("correct the file, or ignore it with --no-config",),
    )
