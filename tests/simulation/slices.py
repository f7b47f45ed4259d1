"""What must never be left to chance: whole slices of the machines, exhaustively."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from tests.simulation.case import Case, System
from tests.simulation.hardware import AMD, INTEL, JETSON, LINUX_DRIVERS, NVIDIA, NVIDIA_ARM, WINDOWS_DRIVERS
from tests.simulation.questions import (
    ARM,
    GLIBCS,
    LINUX,
    M3,
    MACS,
    PINS,
    PYTHONS,
    SETS,
    WINDOWS,
    WSL,
    driver_knows,
)


def slices() -> Iterator[Case]:
    """What must never be left to chance."""
    yield from _drivers()
    yield from _pythons_and_pins()
    yield from _glibc()
    yield from _amd()
    yield from _intel()
    yield from _macs()
    yield from _arm()
    yield from _mixed()
    yield from _asked()
    yield from _odd()
    yield from _limits()


def _drivers() -> Iterator[Case]:
    """Every GPU under every driver, on Linux, Windows and WSL, for the usual packages and for all three."""
    for part, packages in product(NVIDIA, (SETS[1], SETS[3])):
        for system, drivers in ((LINUX, LINUX_DRIVERS), (WINDOWS, WINDOWS_DRIVERS), (WSL, WINDOWS_DRIVERS)):
            if system is WSL and (packages != SETS[1] or not part.name.startswith("NVIDIA GeForce")):
                continue
            for driver in drivers:
                if driver_knows(part, driver):
                    yield Case("drivers", system, (part,), driver=driver, packages=packages)


_ONE_OF_EACH = tuple({part.code: part for part in NVIDIA}.values())
_USUAL = {"linux": ("470.256.02", "550.163.01", "580.126.09"), "windows": ("472.12", "552.44", "581.42")}


def _pythons_and_pins() -> Iterator[Case]:
    for part, system in product(_ONE_OF_EACH, (LINUX, WINDOWS)):
        known = [driver for driver in _USUAL[system.os] if driver_knows(part, driver)]
        for driver, python in product(known, PYTHONS):
            yield Case("pythons", system, (part,), python, driver)
        if known:
            for python, packages in product(PYTHONS, SETS):
                yield Case("pythons", system, (part,), python, known[-1], packages=packages)
        for driver, pins in product(known, PINS):
            yield Case("pins", system, (part,), "3.10", driver, pins=pins)
        for pins in PINS[::3] if known else ():
            yield Case("pins", system, (part,), "3.12", known[-1], packages=("torch",), pins=pins)
            yield Case("pins", system, (part,), "3.10", known[-1], pins=pins, allow_cpu=True)


def _glibc() -> Iterator[Case]:
    parts = [part for part in _ONE_OF_EACH if part.code in ("3.7", "6.1", "7.0", "8.6", "9.0", "12.0")]
    for glibc, python in product(GLIBCS, ("3.9", "3.12", "3.14")):
        system = System("linux", glibc=glibc)
        yield Case("glibc", system, (), python)
        yield Case("glibc", System("linux", arch="aarch64", glibc=glibc), (), python)
        for part in parts:
            for driver in _USUAL["linux"]:
                if driver_knows(part, driver):
                    yield Case("glibc", system, (part,), python, driver)
        for amd in AMD[::4]:
            yield Case("glibc", system, (amd,), python)
    for arch, version, python in product(("x86_64", "aarch64"), ("1.1.24", "1.2.5"), PYTHONS):
        system = System("linux", arch=arch, musl=version)
        yield Case("musl", system, (), python)
        if arch == "x86_64":
            yield Case("musl", system, (NVIDIA[20],), python, "580.126.09")


def _amd() -> Iterator[Case]:
    for part, python in product(AMD, PYTHONS):
        for packages in SETS[1::2]:
            yield Case("amd", LINUX, (part,), python, packages=packages)
        yield Case("amd", WINDOWS, (part,), python)
    for part, pins in product(AMD, PINS):
        yield Case("amd pins", LINUX, (part,), "3.10", pins=pins)


def _intel() -> Iterator[Case]:
    for part, system in product(INTEL, (LINUX, WINDOWS)):
        yield Case("intel", system, (part,))
    for part, system, python, packages in product(INTEL[::18], (LINUX, WINDOWS), PYTHONS, SETS[1::2]):
        yield Case("intel", system, (part,), python, packages=packages)
    for part, system, pins in product(INTEL[::20], (LINUX, WINDOWS), PINS):
        yield Case("intel", system, (part,), "3.10", pins=pins)


def _macs() -> Iterator[Case]:
    for version, python, packages in product(MACS, PYTHONS, SETS):
        yield Case("macs", System("macos", "aarch64", macos=version), (M3,), python, packages=packages)
        yield Case("macs", System("macos", macos=version), (), python, packages=packages)
    for version, python in product(MACS, PYTHONS):
        yield Case("rosetta", System("macos", "aarch64", macos=version, rosetta=True), (M3,), python)
    for pins in PINS:
        yield Case("macs", System("macos", "aarch64", macos="14.5"), (M3,), "3.10", pins=pins)
        yield Case("macs", System("macos", macos="13.6"), (), "3.10", pins=pins)


def _arm() -> Iterator[Case]:
    for part, driver, packages in product(NVIDIA_ARM, LINUX_DRIVERS, (SETS[1], SETS[3])):
        if driver_knows(part, driver):
            yield Case("arm servers", ARM, (part,), driver=driver, packages=packages)
    for part, python in product(NVIDIA_ARM, PYTHONS):
        yield Case("arm servers", ARM, (part,), python, "580.126.09")
    for part, pins in product(NVIDIA_ARM, PINS):
        yield Case("arm servers", ARM, (part,), "3.12", "595.45.04", pins=pins)
    for (part, l4t, shown, glibc), python, packages in product(JETSON, PYTHONS, SETS):
        system = System("linux", arch="aarch64", glibc=glibc)
        yield Case("jetson", system, (part,), python, shown, l4t=l4t, packages=packages)
    for python, packages in product(PYTHONS, SETS):
        yield Case("windows on arm", System("windows", "aarch64"), (), python, packages=packages)
        yield Case("no gpu", LINUX, (), python, packages=packages)
        yield Case("no gpu", WINDOWS, (), python, packages=packages)
        yield Case("no gpu", ARM, (), python, packages=packages)


def _mixed() -> Iterator[Case]:
    by_code = {part.code: part for part in (*NVIDIA, *AMD)}
    pairs = [("6.1", "12.0"), ("7.0", "12.0"), ("3.7", "8.6"), ("5.2", "8.6"), ("7.5", "9.0"), ("7.0", "8.0")]
    pairs += [("6.1", "8.9"), ("8.6", "8.9"), ("12.0", "9.0"), ("5.0", "7.5")]
    for (left, right), system in product(pairs, (LINUX, WINDOWS)):
        for shown in LINUX_DRIVERS if system is LINUX else WINDOWS_DRIVERS:
            parts = (by_code[left], by_code[right])
            if not all(driver_knows(part, shown) for part in parts):
                continue
            for prefer in (None, 0, 1):
                yield Case("mixed nvidia", system, parts, "3.11", shown, prefer_gpu=prefer)
            for pin in ("torch==2.8.0", "torch==2.5.1"):
                yield Case("mixed nvidia", system, parts, "3.11", shown, pins=(pin,))
    uhd = next(part for part in INTEL if part.code == "8086:4680")
    arc = next(part for part in INTEL if part.code == "8086:e20b")
    vendors = [(uhd, "8.6"), (arc, "8.6"), (uhd, "gfx1100"), (arc, "gfx1100"), (arc, "3.0"), (arc, "gfx803")]
    vendors += [(by_code["gfx1036"], "8.9"), (by_code["gfx1036"], "gfx1100"), (by_code["gfx1151"], "6.1")]
    vendors += [(by_code["gfx1100"], "8.6"), (by_code["gfx1201"], "3.0"), (by_code["gfx906"], "gfx942")]
    for (first, second), system, python in product(vendors, (LINUX, WINDOWS), ("3.10", "3.12", "3.14")):
        part = by_code[second]
        driver: str | None = None
        if part.vendor == "nvidia":
            driver = next(item for item in reversed(_USUAL[system.os]) if driver_knows(part, item))
        for pins in ((), ("torch==2.5.1",), ("torch==2.8.0",)):
            yield Case("mixed vendors", system, (first, part), python, driver, pins=pins)


def _asked() -> Iterator[Case]:
    backends = ("cpu", "cu118", "cu126", "cu128", "cu130", "cu132", "rocm6.4", "rocm7.2", "xpu")
    for part, backend, system in product((*_ONE_OF_EACH[::3], *AMD[::6]), backends, (LINUX, WINDOWS)):
        driver: str | None = None
        if part.vendor == "nvidia":
            known = [item for item in _USUAL[system.os] if driver_knows(part, item)]
            if not known:
                continue
            driver = known[-1]
        yield Case("backend named", system, (part,), "3.11", driver, backend=backend)
    declared = (*_ONE_OF_EACH, *(part for part in AMD if part.discrete))
    for part, system, python in product(declared, (LINUX, WINDOWS), ("3.10", "3.12")):
        yield Case("declared", system, (part,), python, declared=True)
        if part.vendor == "nvidia":
            for shown in (LINUX_DRIVERS if system is LINUX else WINDOWS_DRIVERS)[::3]:
                if driver_knows(part, shown):
                    yield Case("declared", system, (part,), python, shown, declared=True)


def _limits() -> Iterator[Case]:
    """What libraries, kernels and assemblers beside torch cannot do, with and without asking for it."""
    for part, shown in product(_ONE_OF_EACH, LINUX_DRIVERS):
        if driver_knows(part, shown):
            yield Case("compile needed", LINUX, (part,), "3.11", shown, need="compile")
    for part, shown in product((NVIDIA_ARM[0], NVIDIA_ARM[-1]), LINUX_DRIVERS):
        if driver_knows(part, shown):
            yield Case("compile needed", ARM, (part,), "3.12", shown, need="compile")
    strix = next(part for part in AMD if part.code == "gfx1151")
    kernels = ("6.8.0", "6.14.0", "6.17.8", "6.17.9", "6.18.3", "6.18.4", "6.19.0", "7.0.1")
    for kernel, python, pins in product(kernels, ("3.10", "3.12"), ((), *PINS)):
        yield Case("kernels", LINUX, (strix,), python, pins=pins, kernel=kernel)


def _odd() -> Iterator[Case]:
    for part, system in product(_ONE_OF_EACH, (LINUX, WINDOWS)):
        drivers = LINUX_DRIVERS if system is LINUX else WINDOWS_DRIVERS
        yield Case("no driver", system, (part,))
        yield Case("no driver", system, (part,), allow_cpu=True)
        for cuda in ("11.4", "12.2", "12.8", "13.0", "13.2"):
            yield Case("driver by cuda", system, (part,), cuda=cuda)
        for driver in drivers[::4]:
            if driver_knows(part, driver):
                if part.pci_id:
                    yield Case("by pci id", system, (part,), "3.11", driver, bare=True)
                yield Case("gpu required", system, (part,), "3.14", driver, require_gpu=True)
            else:
                yield Case("driver without gpu", system, (part,), driver=driver)
        yield Case("unreadable", system, (), unreadable="driver-library-mismatch")
        yield Case("unreadable", system, (), unreadable="driver-library-mismatch", allow_cpu=True)
    for part in AMD:
        yield Case("gpu required", LINUX, (part,), "3.11", require_gpu=True)
