"""Does this file exist? From names that were seen, and from the release matrix where only that is known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from tests.simulation.facts import GUESS, NO, PROVEN, Release, Trust, facts, numbers

PYPI = "pypi"
"""Stands for the default index where a backend names a directory."""

_ALIASES = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
_ARM64_PYTHONS: dict[tuple[int, ...], tuple[str, ...]] = {(2, 7): ("cp312-cp312",)}
_ARM64_LATER = ("cp311-cp311", "cp312-cp312", "cp313-cp313")


@dataclass(frozen=True, slots=True)
class Offer:
    """A wheel that exists, or may; where its name was not seen, the tag is the usual one."""

    platform_tag: str
    trust: Trust
    seen: bool = False


def platform_of(tag: str) -> str:
    """`manylinux_2_28_x86_64` -> `linux_x86_64`, the matrix's name of a platform."""
    tag = tag.split(".")[0]
    if "linux" in tag:
        return "linux_aarch64" if tag.endswith("aarch64") else "linux_x86_64"
    if tag.startswith("macosx"):
        return "macos_arm64" if tag.endswith("arm64") else "macos_x86_64"
    return tag


@cache
def release_of(torch: str) -> Release | None:
    """The release of a public torch version."""
    return next((release for release in facts().releases if release.torch == torch), None)


@cache
def companions_of(torch: str, package: str) -> tuple[str, ...]:
    """Versions of torchvision or torchaudio that go with a torch release, the right one first."""
    release = release_of(torch)
    if release is None:
        return ()
    if package == "torchvision":
        own = (release.vision,) if release.vision else ()
        # 0.29.1 and later ask for torch>=2.14.0 instead of one release.
        later = tuple(version for version in ("0.29.2", "0.29.1") if release.minor >= (2, 14))
        return own + tuple(version for version in later if version not in own)
    if package == "torchaudio":
        # 2.11.0 is the last one, has no torch pin, and is what later torch is used with.
        return (release.audio,) if release.audio else (("2.11.0",) if release.minor > (2, 11) else ())
    raise KeyError(package)


def _owners(package: str, version: str) -> tuple[Release, ...]:
    """The torch releases that a version was published with."""
    attribute = {"torch": "torch", "torchvision": "vision", "torchaudio": "audio"}[package]
    return tuple(release for release in facts().releases if getattr(release, attribute) == version)


def _takes(tags: frozenset[str], python: str) -> bool:
    """Whether an interpreter `cp312-cp312` takes one of a file's tags."""
    own = python.split("-")[0]
    return bool(tags & {python, f"{own}-none", "py3-none"})


@cache
def offers(package: str, version: str, backend: str, platform: str, python: str) -> tuple[Offer, ...]:
    """Wheels of a package version in a backend's directory for a platform and interpreter.

    Args:
        package: `torch`, `torchvision` or `torchaudio`.
        version: public version.
        backend: `cu128`, or `PYPI`.
        platform: `linux_x86_64` and so on.
        python: `cp312-cp312`, `cp313-cp313t`.
    """
    seen = [
        Offer(tag, PROVEN, seen=True)
        for full, tag, pythons in facts().files.get((package, backend), ())
        if full.partition("+")[0] == version and platform_of(tag) == platform and _takes(pythons, python)
    ]
    if seen or backend == PYPI:
        return tuple(seen)
    found: list[Offer] = []
    for owner in _owners(package, version):
        trust = owner.platforms.get(platform, {}).get(backend, NO)
        if trust:
            found += _likely(package, version, owner, backend, platform, python, trust)
    if not found and (package, version, backend) == ("torchaudio", "2.11.0", "cu132"):
        # The build is said to be copied from cu130, and said to be missing: contradictory reports.
        copied = offers(package, version, "cu130", platform, python)
        return tuple(Offer(offer.platform_tag, GUESS) for offer in copied)
    return tuple(found)


def _likely(
    package: str, version: str, owner: Release, backend: str, platform: str, python: str, trust: Trust
) -> list[Offer]:
    if platform == "win_arm64":
        known = _ARM64_PYTHONS.get(owner.minor, _ARM64_LATER)
        sure = trust if package == "torch" else GUESS
        return [Offer("win_arm64", sure)] if python in known else []
    rows = [
        (tag, pythons)
        for full, tag, pythons in facts().files.get((package, PYPI), ())
        if full == version and platform_of(tag) == platform
    ]
    matching = [tag for tag, pythons in rows if _takes(pythons, python)]
    if platform.startswith("macos"):
        return [Offer(tag, trust) for tag in matching]
    tag = _usual_tag(owner, backend, platform)
    if matching:
        return [Offer(tag, trust)]
    return [Offer(tag, GUESS)] if _elsewhere(package, version, owner, python) else []


def _elsewhere(package: str, version: str, owner: Release, python: str) -> bool:
    """Whether another directory or platform has this version for this interpreter."""
    if python.split("-")[1] in owner.index_only and package == "torch":
        return True
    return any(
        full.partition("+")[0] == version and python in pythons
        for (name, _), rows in facts().files.items()
        if name == package
        for full, _, pythons in rows
    )


def _usual_tag(owner: Release, backend: str, platform: str) -> str:
    """The platform tag that the index used at the time."""
    minor = owner.minor
    if platform == "linux_x86_64":
        plain = (
            minor <= (2, 5)
            or (minor == (2, 6) and backend in ("cpu", "cu118", "cu124"))
            or (backend == "xpu" and minor <= (2, 9))
        )
        return "linux_x86_64" if plain else "manylinux_2_28_x86_64"
    if platform == "linux_aarch64":
        if minor <= (2, 5):
            return "manylinux2014_aarch64"
        return "linux_aarch64" if (minor, backend) == ((2, 6), "cu126") else "manylinux_2_28_aarch64"
    return platform


@cache
def fits(platform_tag: str, torch: str, glibc: str | None, macos: str | None) -> Trust:
    """Whether a wheel of the right platform runs on this system's version.

    A plain `linux_*` tag names no glibc; of those from 2.6 on only the x86-64 ones that PyPI had as
    manylinux1 are known to run on anything below 2.28.
    """
    if platform_tag.startswith("macosx"):
        match = re.match(r"macosx_(\d+)_(\d+)", platform_tag)
        if match is None or macos is None:
            return NO
        return PROVEN if (*numbers(macos), 0)[:2] >= (int(match[1]), int(match[2])) else NO
    if "linux" not in platform_tag or platform_tag == "any":
        return PROVEN
    if glibc is None:
        return NO
    found = numbers(glibc)[:2]
    floors = [
        (int(match[1]), int(match[2])) for match in re.finditer(r"manylinux_(\d+)_(\d+)", platform_tag)
    ] + [floor for name, floor in _ALIASES.items() if name + "_" in platform_tag]
    if floors:
        return PROVEN if found >= min(floors) else NO
    newest_old = (2, 6) if platform_tag.endswith("x86_64") else (2, 5)
    return GUESS if numbers(torch)[:2] > newest_old and found < (2, 28) else PROVEN
