"""Every build that exists for a case, and what of its GPUs each would use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tests.simulation.case import Case
from tests.simulation.facts import NO, PROVEN, Trust, facts, numbers
from tests.simulation.oracle import compiles, runs, toolkit_of
from tests.simulation.published import PYPI, companions_of, fits, offers

Files = tuple[str, str, str | None, str | None]
"""What decides which files a case can take: platform, interpreter, glibc, macOS version."""


@dataclass(frozen=True, slots=True)
class Option:
    """A build of torch with companions beside it; `trust` is that of the weakest file."""

    torch: str
    version: Version
    backend: str
    trust: Trust

    @property
    def minor(self) -> tuple[int, ...]:
        """`(2, 9)`."""
        return self.version.release[:2]


def abi_of(python: str) -> str:
    """`3.13t` -> `cp313-cp313t`."""
    number = "cp" + python.rstrip("t").replace(".", "")
    return f"{number}-{number}{'t' if python.endswith('t') else ''}"


def _trust(package: str, version: str, torch: str, backend: str, key: Files) -> Trust:
    platform, python, glibc, macos = key
    directory = PYPI if platform.startswith("macos") else backend
    return max(
        (
            min(offer.trust, fits(offer.platform_tag, torch, glibc, macos))
            for offer in offers(package, version, directory, platform, python)
        ),
        default=NO,
    )


@cache
def _with_set(key: Files, packages: tuple[str, ...], pins: tuple[str, ...]) -> tuple[Option, ...]:
    """Options for (platform, interpreter, glibc, macOS), newest torch first."""
    wanted: dict[str, list[SpecifierSet]] = {name: [] for name in packages}
    for pin in map(Requirement, pins):
        wanted.setdefault(pin.name, []).append(pin.specifier)
    found = []
    for release in facts().releases:
        if not all(release.torch in specifier for specifier in wanted.get("torch", [])):
            continue
        for backend in release.platforms.get(key[0], {}) or ({"cpu"} if key[0].startswith("macos") else ()):
            trust = _trust("torch", release.torch, release.torch, backend, key)
            for name, specifiers in wanted.items():
                if not trust or name == "torch":
                    continue
                trust = min(
                    trust,
                    max(
                        (
                            _trust(name, version, release.torch, backend, key)
                            for version in companions_of(release.torch, name)
                            if all(version in specifier for specifier in specifiers)
                        ),
                        default=NO,
                    ),
                )
            if trust:
                found.append(Option(release.torch, Version(release.torch), backend, trust))
    return tuple(found)


def build_offers(case: Case) -> Files:
    """What decides which files a case can take."""
    system = case.system
    return system.platform, abi_of(case.python), system.glibc, system.macos


def options(case: Case, *, pins: bool = True, packages: bool = True) -> tuple[Option, ...]:
    """The builds for a case, with its pins or as if there were none, with its packages or torch alone."""
    names = case.packages if packages else ("torch",)
    if packages and not pins:
        names = tuple(dict.fromkeys((*names, *(Requirement(pin).name for pin in case.pins))))
    found = _with_set(build_offers(case), names, case.pins if pins else ())
    return tuple(option for option in found if compiling(option, case)) if pins and case.need else found


def compiling(option: Option, case: Case) -> bool:
    """Whether torch.compile works on every NVIDIA GPU that the build uses (Linux)."""
    box = case.box()
    return all(
        compiles(option.minor, numbers(part.code), box)
        for part, (trust, _) in zip(case.parts, used(option, case), strict=True)
        if trust and part.vendor == "nvidia"
    )


def used(option: Option, case: Case) -> tuple[tuple[Trust, str], ...]:
    """For each GPU of the case, how surely the build uses it and through what."""
    box = case.box()
    return tuple(runs(option.backend, option.minor, part.device(), box) for part in case.parts)


_VENDORS = ("nvidia", "amd", "intel", "apple")


def rank_of_device(case: Case, position: int) -> tuple[int, ...]:
    """Which GPU of a machine matters most: the preferred, discrete, by vendor, then the most capable."""
    part = case.parts[position]
    preferred = False
    if case.prefer_gpu is not None:
        same = [index for index, other in enumerate(case.parts) if other.vendor == part.vendor]
        preferred = same.index(position) == case.prefer_gpu
    capability = tuple(int(number) for number in part.code.split(".")) if part.vendor == "nvidia" else (0, 0)
    return (preferred, part.discrete, -_VENDORS.index(part.vendor), *capability)


def best_device(case: Case, choices: tuple[Option, ...]) -> int | None:
    """The position of the most important GPU that one of the builds surely uses."""
    usable = {
        position
        for option in choices
        if option.trust == PROVEN
        for position, (trust, _) in enumerate(used(option, case))
        if trust == PROVEN
    }
    return max(usable, key=lambda position: rank_of_device(case, position), default=None)


def coverage(option: Option, case: Case, best: int) -> tuple[bool, bool]:
    """What comes before the newest torch: all discrete GPUs of the winning vendor, then the best GPU."""
    verdicts = used(option, case)
    vendor = case.parts[best].vendor
    rivals = [
        trust
        for part, (trust, _) in zip(case.parts, verdicts, strict=True)
        if part.vendor == vendor and part.discrete == case.parts[best].discrete
    ]
    return all(rivals) and bool(rivals), bool(verdicts[best][0])


def closeness(backend: str, speaks: str | None) -> tuple[int, ...]:
    """Among builds of one torch: the highest toolkit that the driver speaks, else the lowest above it."""
    toolkit = toolkit_of(backend) or ()
    if speaks is None or not backend.startswith("cu"):
        return (1, *toolkit)
    ceiling = tuple(int(part) for part in speaks.split("."))
    return (1, *toolkit) if toolkit <= ceiling else (0, *(-part for part in toolkit))
