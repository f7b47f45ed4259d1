"""The machines: exhaustive slices of what matters, and a seeded sample of everything crossed."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.simulation.case import Case, System
from tests.simulation.hardware import AMD, INTEL, LINUX_DRIVERS, NVIDIA, NVIDIA_ARM, WINDOWS_DRIVERS, Part
from tests.simulation.questions import GLIBCS, M3, MACS, PINS, PYTHONS, SETS, WINDOWS, driver_knows
from tests.simulation.slices import slices


def sampled(seed: int) -> Iterator[Case]:
    """Everything crossed with everything, without end; the same sequence for the same seed."""
    chance = random.Random(seed)  # noqa: S311  reproducible on purpose
    while True:
        system = _any_system(chance)
        parts = _any_parts(chance, system)
        driver = None
        if any(part.vendor == "nvidia" for part in parts):
            drivers = LINUX_DRIVERS if system.os == "linux" and not system.wsl else WINDOWS_DRIVERS
            shown = [
                item for item in drivers if all(driver_knows(p, item) for p in parts if p.vendor == "nvidia")
            ]
            if not shown:
                continue
            driver = chance.choice(shown)
        yield Case(
            "sampled",
            system,
            parts,
            chance.choice(PYTHONS),
            driver,
            packages=chance.choice(SETS),
            pins=chance.choice(PINS) if chance.random() < 0.4 else (),
            allow_cpu=chance.random() < 0.1,
            require_gpu=chance.random() < 0.05,
        )


def _any_system(chance: random.Random) -> System:
    roll = chance.random()
    if roll < 0.5:
        return System("linux", glibc=chance.choice(GLIBCS))
    if roll < 0.62:
        return System("linux", arch="aarch64", glibc=chance.choice(GLIBCS))
    if roll < 0.87:
        return WINDOWS
    if roll < 0.95:
        return System("linux", glibc=chance.choice(GLIBCS[5:]), wsl=True)
    return System("macos", "aarch64", macos=chance.choice(MACS))


def _any_parts(chance: random.Random, system: System) -> tuple[Part, ...]:
    if system.os == "macos":
        return (M3,)
    if system.arch == "aarch64":
        return (chance.choice(NVIDIA_ARM),)
    if system.wsl:
        return (chance.choice(NVIDIA),)
    pools = (NVIDIA, NVIDIA, NVIDIA, AMD, INTEL)
    parts = [chance.choice(chance.choice(pools))]
    if chance.random() < 0.35:
        same = chance.random() < 0.4
        parts.append(parts[0] if same else chance.choice(chance.choice(pools)))
    return tuple(parts)


def all_cases(count: int, seed: int) -> list[Case]:
    """The slices, then the sample up to `count` different cases."""
    found = dict.fromkeys(slices())
    for case in sampled(seed):
        if len(found) >= count:
            break
        found.setdefault(case)
    return list(found)
