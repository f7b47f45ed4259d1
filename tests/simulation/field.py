"""A field of machines that two installers are sent to, and whether what each chooses runs there."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from packaging.version import Version

from tests.simulation.case import Case, System
from tests.simulation.facts import PROVEN
from tests.simulation.hardware import AMD, JETSON, LINUX_DRIVERS, NVIDIA, NVIDIA_ARM, WINDOWS_DRIVERS, Part
from tests.simulation.options import Option, best_device, coverage, options, used
from tests.simulation.questions import SETS, driver_knows

_GLIBCS = ("2.28", "2.31", "2.34", "2.35", "2.39")
_PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
_MACS = ("14.5", "15.3", "26.1")


@dataclass(frozen=True, slots=True)
class Choice:
    """What an installer chose: torch's public version and the backend it was built for."""

    torch: str
    backend: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a choice runs on a machine, and if not, what goes wrong.

    Attributes:
        runs: it uses the best GPU that any published build can use here; where none can, it is a CPU build.
        newest: and no newer torch would have run too, on as many of the GPUs.
        why: `nothing chosen`, `uses no GPU`, `GPU lost to a CPU build`, `a lesser GPU`; empty where it runs.
    """

    runs: bool
    newest: bool
    why: str = ""


def verdict(case: Case, choice: Choice | None) -> Verdict:
    """Judge a choice for a machine without pins; None: the installer gave up."""
    sure = [option for option in options(case) if option.trust == PROVEN]
    if choice is None:
        return Verdict(not sure, not sure, "" if not sure else "nothing chosen")
    chosen = Option(choice.torch, Version(choice.torch), choice.backend, PROVEN)
    best = best_device(case, tuple(sure))
    if best is None:
        if case.parts and choice.backend != "cpu":
            return Verdict(runs=False, newest=False, why="uses no GPU")
        if any(trust for trust, _ in used(chosen, case)):
            return Verdict(runs=True, newest=True)  # nobody knows whether that GPU is served
        newer = any(option.version > chosen.version for option in sure if option.backend == "cpu")
        return Verdict(runs=True, newest=not newer)
    verdicts = used(chosen, case)
    if not verdicts[best][0]:
        if choice.backend == "cpu":
            return Verdict(runs=False, newest=False, why="GPU lost to a CPU build")
        lesser = any(trust for trust, _ in verdicts)
        return Verdict(runs=False, newest=False, why="a lesser GPU" if lesser else "uses no GPU")
    mine = coverage(chosen, case, best)
    newer = any(
        option.version > chosen.version
        and used(option, case)[best][0] == PROVEN
        and coverage(option, case, best) >= mine
        for option in sure
    )
    return Verdict(runs=True, newest=not newer)


def _nvidia(
    group: str, system: Callable[[random.Random], System], parts: tuple[Part, ...], drivers: tuple[str, ...]
) -> Callable[[random.Random], Case]:
    def pick(chance: random.Random) -> Case:
        part = chance.choice(parts)
        shown = [driver for driver in drivers if driver_knows(part, driver)]
        # A machine that nobody touched for years is rarer than one with a driver of the last few years.
        driver = chance.choice(shown[-12:])
        return Case(group, system(chance), (part,), chance.choice(_PYTHONS), driver, packages=_set(chance))

    return pick


def _set(chance: random.Random) -> tuple[str, ...]:
    return chance.choice((SETS[1], SETS[1], SETS[1], SETS[3]))


def _linux(chance: random.Random) -> System:
    return System("linux", glibc=chance.choice(_GLIBCS))


def _wsl(chance: random.Random) -> System:
    return System("linux", glibc=chance.choice(_GLIBCS), wsl=True)


def _arm(chance: random.Random) -> System:
    return System("linux", arch="aarch64", glibc=chance.choice(_GLIBCS))


def _windows(_: random.Random) -> System:
    return System("windows")


def _amd(group: str, system: Callable[[random.Random], System]) -> Callable[[random.Random], Case]:
    def pick(chance: random.Random) -> Case:
        part = chance.choice(AMD)
        return Case(group, system(chance), (part,), chance.choice(_PYTHONS), packages=_set(chance))

    return pick


def _jetson(chance: random.Random) -> Case:
    part, l4t, driver, glibc = chance.choice([row for row in JETSON if row[2] is not None])
    system = System("linux", arch="aarch64", glibc=glibc)
    return Case("NVIDIA Jetson", system, (part,), chance.choice(_PYTHONS), driver, l4t=l4t)


def _mac(chance: random.Random) -> Case:
    arch = chance.choice(("aarch64", "aarch64", "aarch64", "x86_64"))
    parts = (Part("apple", "Apple M3", "apple", discrete=False),) if arch == "aarch64" else ()
    system = System("macos", arch, macos=chance.choice(_MACS))
    return Case("Mac", system, parts, chance.choice(_PYTHONS[:4]), packages=_set(chance))


def _two(chance: random.Random) -> Case:
    while True:
        parts = (chance.choice(NVIDIA), chance.choice(NVIDIA))
        system, drivers = chance.choice(
            ((_linux(chance), LINUX_DRIVERS), (System("windows"), WINDOWS_DRIVERS))
        )
        shown = [driver for driver in drivers if all(driver_knows(part, driver) for part in parts)]
        if parts[0].code != parts[1].code and shown:
            driver = chance.choice(shown[-12:])
            return Case("two NVIDIA generations", system, parts, chance.choice(_PYTHONS), driver)


def _none(chance: random.Random) -> Case:
    system = chance.choice((_linux, _arm, _windows))(chance)
    return Case("no GPU", system, (), chance.choice(_PYTHONS), packages=_set(chance))


def _makers() -> Iterator[tuple[Callable[[random.Random], Case], int]]:
    yield _nvidia("NVIDIA, Linux", _linux, NVIDIA, LINUX_DRIVERS), 5
    yield _nvidia("NVIDIA, Windows", _windows, NVIDIA, WINDOWS_DRIVERS), 5
    geforce = tuple(part for part in NVIDIA if "GeForce" in part.name)
    yield _nvidia("NVIDIA, WSL 2", _wsl, geforce, WINDOWS_DRIVERS), 2
    yield _nvidia("NVIDIA, Arm server", _arm, NVIDIA_ARM, LINUX_DRIVERS), 2
    yield _jetson, 1
    yield _two, 2
    yield _amd("AMD, Linux", _linux), 3
    yield _amd("AMD, Windows", _windows), 1
    yield _mac, 1
    yield _none, 2


def field(size: int, seed: int) -> list[Case]:
    """At least `size` different machines, the same for the same seed, in groups of fixed shares."""
    chance = random.Random(seed)  # noqa: S311  reproducible on purpose
    makers = list(_makers())
    shares = sum(share for _, share in makers)
    found: dict[Case, None] = {}
    for maker, share in makers:
        wanted = -(-size * share // shares)
        mine: dict[Case, None] = {}
        for attempt in count():
            if len(mine) >= wanted or attempt > 50 * wanted:
                break
            mine.setdefault(maker(chance))
        found |= mine
    return list(found)
