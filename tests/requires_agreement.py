"""The inverse plan against the forward planner: what `requires` writes down must hold exactly where plans do.

    python -m tests.requires_agreement --pairs 2000

Each pair is a random machine (real GPUs, drivers and systems, up to two GPUs, Jetsons, WSL, musl) and a
random build of the tables, alone or with companions. The planner is asked whether that build runs there; the
written needs are asked the same. Both must agree, whichever the answer is.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import structs

from tests.simulation.case import Case, System
from tests.simulation.hardware import (
    AMD,
    INTEL,
    JETSON,
    LINUX_DRIVERS,
    NVIDIA,
    NVIDIA_ARM,
    WINDOWS_DRIVERS,
    Part,
)
from torchinstall.catalog.catalog import Catalog, load_catalog
from torchinstall.core.machine import Gpu, Machine, capability_text
from torchinstall.core.target import Target
from torchinstall.core.versions import at_least, dotted
from torchinstall.fleet.requires import GpuNeed, PinnedBuild, PlatformNeed, needs_of, runs_on
from torchinstall.planner import builds
from torchinstall.planner.coverage import Hit, build_limits
from torchinstall.planner.situation import DriverFacts, make_situation

PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.13t", "3.14t")
COMPANIONS = ((), ("torchvision",), ("torchvision", "torchaudio"))
SYSTEMS = (
    *(System("linux", glibc=glibc) for glibc in ("2.17", "2.27", "2.28", "2.35", "2.39")),
    System("linux", musl="1.2"),
    System("linux", glibc="2.35", wsl=True),
    System("linux", arch="aarch64", glibc="2.35"),
    System("windows"),
    System("windows", arch="aarch64"),
    *(System("macos", arch="aarch64", macos=version) for version in ("11.0", "13.6", "14.5", "26.0")),
    System("macos", arch="x86_64", macos="12.0"),
    System("macos", arch="aarch64", macos="15.0", rosetta=True),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and both answers; None: it runs."""

    build: PinnedBuild
    case: Case
    forward: str | None
    inverse: str | None

    @property
    def agrees(self) -> bool:
        return (self.forward is None) == (self.inverse is None)


def some_builds(chance: random.Random, catalog: Catalog, count: int) -> list[PinnedBuild]:
    """Builds of the tables, of every kind of backend."""
    kinds: dict[str, set[tuple[str, str]]] = {}
    for row in catalog.tables.wheels:
        backend = catalog.backend(row.backend)
        if row.package == "torch" and row.channel == "stable" and backend is not None:
            kinds.setdefault(backend.kind.kind, set()).add((row.version, row.backend))
    rows = {kind: sorted(found) for kind, found in kinds.items()}
    shares = [*rows, *["cuda"] * 4]
    return [
        PinnedBuild(*chance.choice(rows[chance.choice(shares)]), packages=chance.choice(COMPANIONS))
        for _ in range(count)
    ]


def some_case(chance: random.Random, vendor: str | None, needs: Sequence[PlatformNeed]) -> Case:
    """A machine with an interpreter; often one that is not far from what a build needs."""
    system = chance.choice(SYSTEMS)
    python = chance.choice(PYTHONS)
    if needs and chance.random() < 0.7:
        platforms = {need.platform for need in needs}
        system = chance.choice([row for row in SYSTEMS if row.platform in platforms] or SYSTEMS)
        abis = {abi for need in needs for abi in need.systems}
        python = chance.choice([row for row in PYTHONS if f"cp{row.replace('.', '')}" in abis] or PYTHONS)
    if system.os == "macos":
        return Case("mac", system, python=python)
    if system.arch == "aarch64" and system.os == "linux" and chance.random() < 0.4:
        part, l4t, driver, glibc = chance.choice(JETSON)
        board = System("linux", arch="aarch64", glibc=glibc)
        return Case("jetson", board, (part,), python, driver=driver, l4t=l4t)
    nvidia = NVIDIA_ARM if system.arch == "aarch64" else NVIDIA
    vendors: tuple[Sequence[Part], ...] = (nvidia, nvidia, AMD, INTEL)
    vendors += (({"amd": AMD, "intel": INTEL}).get(vendor or "", nvidia),) * 6
    parts = tuple(chance.choice(chance.choice(vendors)) for _ in range(chance.choice((0, 1, 1, 1, 2))))
    outside = system.wsl or system.os == "windows"
    has_nvidia = any(part.vendor == "nvidia" for part in parts)
    driver = chance.choice(WINDOWS_DRIVERS if outside else LINUX_DRIVERS) if has_nvidia else None
    cuda = None
    if driver is not None and chance.random() < 0.15:
        # Only the CUDA version is known, or a compatibility package makes it another one.
        cuda = chance.choice(("11.4", "12.2", "12.8", "13.0", "13.4"))
        driver = driver if chance.random() < 0.5 else None
    bare = chance.random() < 0.1
    return Case("any", system, parts, python, driver=driver, cuda=cuda, bare=bare)


def agreement(pairs: int, *, seed: int = 15, builds: int = 0) -> list[Pair]:
    """Ask both about random pairs."""
    chance = random.Random(seed)  # noqa: S311  reproducible on purpose
    catalog = load_catalog()
    chosen = some_builds(chance, catalog, builds or max(4, pairs // 30))
    needs: dict[PinnedBuild, tuple[PlatformNeed, ...]] = {}
    found = []
    for number in range(pairs):
        build = chosen[number % len(chosen)]
        if build not in needs:
            needs[build] = needs_of(build, catalog)
        backend = catalog.backend(build.backend)
        vendor = None if backend is None else backend.kind.vendor
        case = some_case(chance, vendor, needs[build])
        machine, target = case.machine(), case.target()
        if machine.os == "linux" and chance.random() < 0.3:
            features = chance.choice((("fp", "asimd"), ("fp", "asimd", "atomics"), ("sse4_2", "avx2"), ()))
            kernel = chance.choice(
                ("5.15.0-101-generic", "6.8.0-40-generic", "6.14.0-1019-oem", "6.18.5", None)
            )
            machine = structs.replace(machine, cpu_features=features, kernel_version=kernel)
        error = runs_on(build, machine, target, catalog).error
        inverse = admits(needs[build], build, machine, target, catalog)
        found.append(Pair(build, case, None if error is None else error.slug, inverse))
    return found


def admits(
    needs: Sequence[PlatformNeed], build: PinnedBuild, machine: Machine, target: Target, catalog: Catalog
) -> str | None:
    """Whether the needs, as they are written, hold for a machine; None: they do, else what does not."""
    wsl = "wsl2" in machine.environment
    mine = [need for need in needs if need.platform == target.platform]
    need = next((need for need in mine if need.wsl == wsl), mine[0] if mine and not wsl else None)
    if need is None or target.implementation != "cpython" or machine.rosetta:
        return "platform"
    if target.abi not in need.systems:
        return "python"
    lowest = need.systems[target.abi]
    have = target.libc.version if target.os == "linux" and target.libc else target.os_version
    if target.os == "linux" and target.libc is not None and target.libc.family == "musl":
        return "libc"
    if target.os == "linux" and target.libc is None:
        have = None
    if lowest is not None and have is not None and not at_least(dotted(have), dotted(lowest)):
        return "system"
    if machine.cpu_features and not set(need.cpu) <= set(machine.cpu_features):
        return "cpu"
    if need.vendor is None:
        return None
    where = make_situation(build.request(), machine, target, catalog)
    if need.l4t is not None and machine.l4t and not at_least(dotted(machine.l4t), dotted(need.l4t)):
        return "l4t"
    driver = next((facts for vendor, facts in where.drivers.items() if vendor == need.vendor), None)
    backend = catalog.backend(build.backend)
    hits: tuple[Hit, ...] = ()
    if backend is not None:
        version = builds.version_key(build.torch)
        hits = build_limits(builds.Build(build.torch, version, backend, ()), where)
    crash = [hit.gpu for hit in hits if hit.blocks and hit.row.kernel]  # on this machine's own kernel
    gpus = [gpu for gpu in where.gpus if gpu.vendor == need.vendor and gpu not in crash]
    if not gpus:
        return "gpu"
    return None if any(_admits_gpu(row, gpu, driver, catalog) for row in need.gpus for gpu in gpus) else "gpu"


def _admits_gpu(need: GpuNeed, gpu: Gpu, driver: DriverFacts | None, catalog: Catalog) -> bool:
    code = gpu.gfx_target
    if gpu.compute_capability is not None:
        code = capability_text(gpu.compute_capability)
    elif gpu.vendor == "intel":
        fact = catalog.gpu_fact("intel", gpu.pci_id, gpu.name)
        code = fact.pci_id if fact is not None else None
    if code not in need.codes:
        return False
    if not need.drivers:
        return True
    if driver is None:
        return False
    spoken = driver.cuda
    if driver.version is None:
        return need.cuda_alone is None or spoken is None or at_least(spoken, dotted(need.cuda_alone))
    enough = need.cuda is None or (spoken is not None and at_least(spoken, dotted(need.cuda)))
    return enough and any(window.holds(driver.version) for window in need.drivers)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the counts and every pair that disagrees; 1 where there is one."""
    parser = argparse.ArgumentParser(prog="python -m tests.requires_agreement", description=__doc__)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=15)
    args = parser.parse_args(argv)
    found = agreement(args.pairs, seed=args.seed)
    wrong = [pair for pair in found if not pair.agrees]
    runs = Counter("runs" if pair.forward is None else "does not run" for pair in found)
    print(f"{len(found)} pairs of {len({pair.build for pair in found})} builds: {dict(runs)}")  # noqa: T201  a program prints its result
    print(f"{len(found) - len(wrong)} agree, {len(wrong)} do not")  # noqa: T201  a program prints its result
    for pair in wrong:
        print(f"{pair.build}: forward {pair.forward}, inverse {pair.inverse}: {pair.case}")  # noqa: T201  a program prints its result
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
