"""The inverse plan: what a machine must have for a build to run.

Nothing is written down here: each bound is where the planner's own rules change their answer. They compare a
machine with a finite number of facts (floors and branches of drivers, tags of wheels, code of builds), so it
is enough to ask them at each of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from msgspec import Struct, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.model import BackendInfo
from torchinstall.core.machine import Driver, Gpu, Libc, Machine, Os, capability
from torchinstall.core.plan import Plan
from torchinstall.core.request import Request, requirement
from torchinstall.core.target import Target, foreign_target, glibc_floor, macos_floor
from torchinstall.core.versions import at_least, dotted, version_text
from torchinstall.planner.builds import builds
from torchinstall.planner.rules import evaluate
from torchinstall.planner.selection import plan
from torchinstall.planner.situation import make_situation


class Build(Struct, frozen=True):
    """One build of torch, and the packages that must be there for it.

    Attributes:
        packages: requirements of other packages that move with torch: `torchvision==0.24.1`.
        platforms: where a lock takes it; empty: wherever it is published.
    """

    torch: str
    backend: str
    channel: str = "stable"
    packages: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`2.9.1+cu128`."""
        return f"{self.torch}+{self.backend}"

    def request(self) -> Request:
        """Asks for this build and no other; a GPU that stays unused does not matter."""
        texts = (f"torch=={self.torch}", *self.packages)
        wanted = tuple(requirement(text) for text in texts)
        only = (self.torch, self.backend)
        return Request(requirements=wanted, only=only, allow_cpu=True, channel=self.channel)  # type: ignore[arg-type]  # a literal that comes as plain text


class Window(Struct, frozen=True):
    """Driver versions from `low` (None: any) up to, but not including, `below` (None: no end)."""

    low: str | None
    below: str | None

    def holds(self, version: tuple[int, ...]) -> bool:
        """Whether a driver is inside."""
        low = self.low is None or at_least(version, dotted(self.low))
        return low and (self.below is None or not at_least(version, dotted(self.below)))

    @property
    def text(self) -> str:
        """In words."""
        if self.below is None:
            return "any" if self.low is None else f"{self.low} or newer"
        return f"{'older than' if self.low is None else f'{self.low} or newer, older than'} {self.below}"


class GpuNeed(Struct, frozen=True):
    """GPUs on which the build runs, and the driver that they need.

    Attributes:
        codes: compute capabilities, gfx targets, or products (by PCI id) of Intel; empty: no GPU is needed.
        drivers: any of these windows; empty: no driver counts.
        cuda: the driver CUDA version that is also needed, where only PTX runs.
        cuda_alone: what is needed where only the driver CUDA version is known.
    """

    codes: tuple[str, ...]
    drivers: tuple[Window, ...] = ()
    cuda: str | None = None
    cuda_alone: str | None = None


class Fact(Struct, frozen=True):
    """The row of a table that sets a bound."""

    bound: str
    value: str
    table: str
    source: str
    confidence: str


class PlatformNeed(Struct, frozen=True):
    """What a machine of one platform needs.

    Attributes:
        wsl: under WSL 2, where the Windows driver counts.
        systems: ABI of a Python -> the lowest glibc or macOS for it; None: any.
        l4t: the lowest Jetson Linux, where older ones run only builds of their own.
        cpu: features that the processor must have, as in `/proc/cpuinfo`.
        facts: what sets the bounds.
    """

    os: Os
    arch: str
    platform: str
    wsl: bool
    vendor: str | None
    systems: dict[str, str | None]
    gpus: tuple[GpuNeed, ...]
    l4t: str | None
    cpu: tuple[str, ...]
    facts: tuple[Fact, ...]


_PLATFORMS: tuple[tuple[Os, str, bool], ...] = (
    ("linux", "x86_64", False),
    ("linux", "x86_64", True),
    ("linux", "aarch64", False),
    ("windows", "x86_64", False),
    ("windows", "aarch64", False),
    ("macos", "aarch64", False),
    ("macos", "x86_64", False),
)
_PYTHONS = (*(f"3.{minor}" for minor in range(6, 18)), *(f"3.{minor}t" for minor in range(13, 18)))
_NEWEST = "99.0"


def runs_on(build: Build, machine: Machine, target: Target, catalog: Catalog) -> Plan:
    """The planner's own answer: an impossible plan says why the build does not run."""
    return plan(build.request(), machine, target, catalog)


def needs_of(build: Build, catalog: Catalog) -> tuple[PlatformNeed, ...]:
    """What each platform needs on which the build exists; empty: it exists nowhere that is known."""
    backend = catalog.backend(build.backend)
    if backend is None:
        return ()
    found = (_Asking(build, backend, catalog, *row).need() for row in _PLATFORMS)
    return tuple(
        need
        for need in found
        if need is not None and (not build.platforms or need.platform in build.platforms)
    )


class _Asking:
    """Asks the rules about one build on one platform."""

    def __init__(
        self, build: Build, backend: BackendInfo, catalog: Catalog, os: Os, arch: str, wsl: bool
    ) -> None:
        self._request = build.request()
        self._backend = backend
        self._catalog = catalog
        self._base = Machine(
            os=os,
            arch=arch,
            os_version=_NEWEST,
            libc=Libc(family="glibc", version=_NEWEST) if os == "linux" else None,
            environment=("wsl2",) if wsl else (),
        )
        self._wsl = wsl
        self._python = ""
        platform = foreign_target(self._base, "3.12").platform
        rows = builds(catalog, foreign_target(self._base, "3.12"), self._request.channel)
        key = (build.torch, build.backend)
        self._build = next((row for row in rows if (row.torch, row.backend.name) == key), None)
        self._platform = platform

    def need(self) -> PlatformNeed | None:
        """What is needed; None: the build does not exist here, or runs on nothing."""
        gpus: tuple[GpuNeed, ...] = ()
        machine = self._base
        if self._build is None:
            return None
        for python in _PYTHONS:
            self._python = python
            if self._rule(self._base) not in ("python-not-published", "no-build"):
                break
        vendor = self._backend.kind.vendor
        if vendor is not None:
            floor = self._catalog.floor(self._backend)
            gpus = self._without_driver() if floor is None else self._with_drivers()
            if not gpus:
                return None
            machine = self._runs_somewhere(gpus[0])
        systems = {}
        for python in _PYTHONS:
            self._python = python
            if self._rule(machine) is None:
                target = foreign_target(machine, python)
                systems[target.abi] = self._lowest_system(machine)
        if not systems:
            return None
        self._python = next(python for python in _PYTHONS if foreign_target(machine, python).abi in systems)
        os, arch = self._base.os, self._base.arch
        l4t = self._l4t(machine)
        cpu = self._cpu(machine)
        facts = tuple(self._facts(gpus, l4t, cpu))
        return PlatformNeed(os, arch, self._platform, self._wsl, vendor, systems, gpus, l4t, cpu, facts)

    def _rule(self, machine: Machine) -> str | None:
        """The rule that rejects the build on a machine; None: it runs."""
        target = foreign_target(machine, self._python)
        found = evaluate(make_situation(self._request, machine, target, self._catalog))
        mine = (row for row in found if (row.build.torch, row.build.backend.name) == self._request.only)
        row = next(mine, None)
        if row is None:
            return "no-build"
        return None if row.rejection is None else row.rejection.rule

    def _with(self, gpu: Gpu, *, version: str | None = None, cuda: str | None = None) -> Machine:
        driver = Driver(vendor=gpu.vendor, version=version, cuda_version=cuda)
        return structs.replace(self._base, gpus=(gpu,), drivers=(driver,))

    def _without_driver(self) -> tuple[GpuNeed, ...]:
        """Codes of AMD, products of Intel: whatever the driver."""
        vendor = self._backend.kind.vendor
        rows = self._catalog.tables.gpus(vendor or "")
        if self._backend.kind.strategy == "gfx":
            built = (row.native for row in self._catalog.tables.code if row.backend == self._backend.name)
            known = {row.code for row in rows if row.code}.union(*built)
            gpus = {code: Gpu(vendor="amd", gfx_target=code) for code in sorted(known)}
        else:
            ids = [row.pci_id for row in rows if row.pci_id]
            gpus = {pci_id: Gpu(vendor=vendor, pci_id=pci_id) for pci_id in ids}  # type: ignore[arg-type]  # a literal that comes as plain text
        codes = [code for code, gpu in gpus.items() if self._rule(self._with(gpu)) is None]
        return (GpuNeed(tuple(codes)),) if codes else ()

    def _with_drivers(self) -> tuple[GpuNeed, ...]:
        """Compute capabilities, those with the same drivers together."""
        found: dict[GpuNeed, list[str]] = {}
        spots = [version_text(point) for point in self._points]
        last = {str(row.last_branch) for row in self._catalog.tables.gpu_service if row.last_branch}
        for code in _capabilities(self._catalog):
            gpu = Gpu(vendor="nvidia", compute_capability=capability(code))
            if all(self._rule(self._with(gpu, version=text, cuda=_NEWEST)) for text in (spots[-1], *last)):
                continue
            able = [self._rule(self._with(gpu, version=text, cuda=_NEWEST)) is None for text in spots]
            best = spots[len(able) - 1 - able[::-1].index(True)]
            windows = _windows(self._points, able, self._catalog)
            need = GpuNeed((), windows, self._lowest_cuda(gpu, best), self._lowest_cuda(gpu, None))
            found.setdefault(need, []).append(code)
        return tuple(structs.replace(need, codes=tuple(codes)) for need, codes in found.items())

    @cached_property
    def _points(self) -> list[tuple[int, ...]]:
        """Every driver version at which a rule can change its answer."""
        tables = self._catalog.tables
        rows = [row for row in tables.floors if row.kind == self._backend.kind.kind]
        floors = {dotted(text) for row in rows for text in (row.linux, row.windows)}
        return sorted({(0,), *floors, *((branch,) for branch in tables.branch_cuda)})

    def _lowest_cuda(self, gpu: Gpu, version: str | None) -> str | None:
        """The lowest driver CUDA version that will do with a driver (None: unknown); None: any."""
        spoken = {dotted(text) for text in self._catalog.tables.branch_cuda.values()}
        points = sorted({(1, 0), *spoken, self._backend.toolkit or (1, 0)})
        for point in points:
            if self._rule(self._with(gpu, version=version, cuda=version_text(point))) is None:
                return None if point == points[0] else version_text(point)
        return _NEWEST

    def _runs_somewhere(self, need: GpuNeed) -> Machine:
        """A machine with a GPU and a driver on which the build runs."""
        code, vendor = need.codes[0], self._backend.kind.vendor
        gpu = Gpu(
            vendor=vendor or "nvidia",
            compute_capability=capability(code) if self._backend.kind.strategy == "sm" else None,
            gfx_target=code if self._backend.kind.strategy == "gfx" else None,
            pci_id=code if self._backend.kind.strategy == "device" else None,
        )
        if not need.drivers:
            return self._with(gpu)
        return self._with(gpu, version=need.drivers[-1].low or "1", cuda=_NEWEST)

    def _lowest_system(self, machine: Machine) -> str | None:
        """The lowest glibc or macOS on which all files load; None: any."""
        packages = [family.package for family in self._catalog.families]
        rows = [row for package in packages for row in self._catalog.wheels(package, self._platform)]
        floor = glibc_floor if machine.os == "linux" else macos_floor
        points = sorted({point for row in rows if (point := floor(row.platform_tag)) is not None})
        for point in [(1, 0), *points] if machine.os != "windows" else []:
            text = version_text(point)
            libc = Libc(family="glibc", version=text) if machine.os == "linux" else None
            if self._rule(structs.replace(machine, libc=libc, os_version=text)) is None:
                return None if point == (1, 0) else text
        return None

    def _l4t(self, machine: Machine) -> str | None:
        floor = next((row.linux for row in self._catalog.tables.floors if row.kind == "l4t"), None)
        if floor is None or (machine.os, machine.arch) != ("linux", "aarch64"):
            return None
        return floor if self._rule(structs.replace(machine, l4t="1.0")) is not None else None

    def _cpu(self, machine: Machine) -> tuple[str, ...]:
        """Features without any one of which the build does not run."""
        known = sorted({name for row in self._catalog.tables.limits for name in row.cpu_lacks})
        without = {name: ("fpu", *(other for other in known if other != name)) for name in known}
        return tuple(
            name
            for name, features in without.items()
            if self._rule(structs.replace(machine, cpu_features=features)) is not None
        )

    def _facts(self, gpus: Sequence[GpuNeed], l4t: str | None, cpu: tuple[str, ...]) -> list[Fact]:
        tables, build = self._catalog.tables, self._build
        facts = []
        floor = self._catalog.floor(self._backend)
        if floor is not None:
            outside = self._base.os == "windows" or self._wsl
            value = floor.windows if outside else floor.linux
            facts.append(Fact("driver", value, "driver_floors.json", floor.source, floor.confidence))
        code = build and self._catalog.code(build.torch, self._backend, self._platform)
        if code and gpus:
            facts.append(Fact("gpu", " ".join(code.native), "code.json", code.source, code.confidence))
        codes = {code for need in gpus for code in need.codes if any(w.below for w in need.drivers)}
        for row in tables.gpu_service:
            if row.capability in codes and row.last_branch is not None:
                value = f"{row.capability}: R{row.last_branch} is the last"
                facts.append(Fact("driver", value, "driver_gpus.json", row.source, "high"))
        for wheels in build.wheels if build else ():
            value = f"{wheels.platform_tag}: {' '.join(sorted(wheels.tags))}"
            facts.append(Fact("system", value, "wheels.json", wheels.source, wheels.confidence))
        if l4t is not None:
            rows = (row for row in tables.floors if row.kind == "l4t")
            facts += [Fact("l4t", l4t, "driver_floors.json", row.source, row.confidence) for row in rows]
        for limit in tables.limits:
            if limit.severity != "blocks" or limit.kind != self._backend.kind.kind:
                continue
            if set(limit.cpu_lacks) & set(cpu):
                value = ", ".join(limit.cpu_lacks)
                facts.append(Fact("cpu", value, "limits.json", limit.source, limit.confidence))
            elif limit.kernel and {code for need in gpus for code in need.codes} & set(limit.gfx):
                value = f"{', '.join(limit.gfx)}: not on Linux {', '.join(text for text, _ in limit.kernel)}"
                facts.append(Fact("kernel", value, "limits.json", limit.source, limit.confidence))
        return facts


def _capabilities(catalog: Catalog) -> list[str]:
    """Every compute capability that any table knows."""
    tables = catalog.tables
    found = {row.capability for row in tables.gpu_service} | {row.capability for row in tables.code_rules}
    found |= {row.code for row in tables.gpus("nvidia") if row.code}
    found |= {code for row in tables.code for code in row.native if code[:1].isdigit() and "." in code}
    return sorted(found, key=capability)


def _windows(points: Sequence[tuple[int, ...]], able: Sequence[bool], catalog: Catalog) -> tuple[Window, ...]:
    """Runs of points at which the build runs; a version is written as its table writes it."""
    written = {dotted(text): text for row in catalog.tables.floors for text in (row.linux, row.windows)}
    texts = [written.get(point, version_text(point)) for point in points]
    found: list[Window] = []
    for place, yes in enumerate(able):
        if yes and (place == 0 or not able[place - 1]):
            found.append(Window(None if place == 0 else texts[place], None))
        elif not yes and place and able[place - 1]:
            found[-1] = structs.replace(found[-1], below=texts[place])
    return tuple(found)
