"""The parts of a wheel's file name, quickly: a page repeats a version for every Python and platform."""

from __future__ import annotations

import re
from functools import lru_cache

from msgspec import Struct

__all__ = ["WheelName", "parse_name"]

_PROJECT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._]*[A-Za-z0-9])?")
_TAG = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*")
_PYTHON = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_BUILD = re.compile(r"\d[A-Za-z0-9_.]*")
_NORMALISED = re.compile(r"[-_.]+")


class WheelName(Struct, frozen=True):
    """Project normalised, version as written and split at its `+`, `tag` such as `cp312-cp312`."""

    project: str
    version: str
    local: str
    build: str
    tag: str
    platform: str


def parse_name(filename: str) -> WheelName | None:
    """The parts of a wheel's name; None for what is no wheel, or follows no rule.

    It accepts what `packaging.utils.parse_wheel_filename` accepts (a test holds the two against each other)
    but for a space in the platform tag (a download that was renamed, `…_x86_64 (1).whl`) and a `+` in the
    build tag: there the local version slid into it (`torch-2.10.0-1+cu128-…`), so the name contradicts the
    wheel.
    """
    parts = filename[:-4].split("-") if filename.endswith(".whl") else []
    if len(parts) not in (5, 6):
        return None
    project, build = parts[0], parts[2] if len(parts) == 6 else ""
    python, abi, platform = parts[-3:]
    version = _version(parts[1])
    tags_fine = _PYTHON.fullmatch(python) and _TAG.fullmatch(abi) and _TAG.fullmatch(platform)
    if version is None or not tags_fine or not _PROJECT.fullmatch(project) or "__" in project:
        return None
    if build and not _BUILD.fullmatch(build):
        return None
    return WheelName(_normalise(project), *version, build, f"{python}-{abi}", platform)


@lru_cache(maxsize=4096)
def _version(text: str) -> tuple[str, str] | None:
    """Public and local part as written, None where it is no version."""
    from packaging.version import InvalidVersion, Version

    try:
        Version(text)
    except InvalidVersion:
        return None
    public, _, local = text.partition("+")
    return public, local


@lru_cache(maxsize=256)
def _normalise(name: str) -> str:
    return _NORMALISED.sub("-", name).lower()
