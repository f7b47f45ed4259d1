"""The inverse plan: what a machine must have for a build to run.

Nothing is written down here: the planner says which drivers would do, and every other bound is where its
rules change their answer. They compare a machine with a finite number of facts (tags of wheels, features of
processors), so it is enough to ask them at each of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.model import BackendInfo, Floor
from torchinstall.core.machine import Driver, Gpu, Libc, Machine, Os, capability
from torchinstall.core.plan import Plan
from torchinstall.core.request import Request, requirement
from torchinstall.core.target import Target, foreign_target, oldest_system
from torchinstall.core.versions import version_text
from torchinstall.planner.builds import Build, builds
from torchinstall.planner.drivers import Window, drivers_for
from torchinstall.planner.rules import evaluate
from torchinstall.planner.selection import plan
from torchinstall.planner.situation import make_situation
from torchinstall.planning.gpus import gpu_codes


class PinnedBuild(Struct, frozen=True):
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
        return f"{self.torch}+{self.backend}" if self.backend else self.torch

    def request(self) -> Request:
        """Asks for this build and no other; a GPU that stays unused does not matter."""
        texts = (f"torch=={self.torch}", *self.packages)
        wanted = tuple(requirement(text) for text in texts)
        only = (self.torch, self.backend)
        return Request(requirements=wanted, only=only, allow_cpu=True, channel=self.channel)  # type: ignore[arg-type]  # a literal that comes as plain text


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


class BoundSource(Struct, frozen=True):
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
    facts: tuple[BoundSource, ...]


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
_NO_WHEEL = ("python-not-published", "no-build")
_NEWEST = "99.0"


def runs_on(build: PinnedBuild, machine: Machine, target: Target, catalog: Catalog) -> Plan:
    """The planner's own answer: an impossible plan says why the build does not run."""
    return plan(build.request(), machine, target, catalog)


def needs_of(build: PinnedBuild, catalog: Catalog) -> tuple[PlatformNeed, ...]:
    """What each platform needs on which the build exists; empty: it exists nowhere that is known."""
    backend = catalog.backend(build.backend)
    if backend is None:
        return ()
    found = (_Asking(build, backend, catalog, *row).need() for row in _PLATFORMS)
    return tuple(need for need in found if need and need.platform in (build.platforms or (need.platform,)))


class _Asking:
    """Asks the rules about one build on one platform."""

    def __init__(
        self, build: PinnedBuild, backend: BackendInfo, catalog: Catalog, os: Os, arch: str, wsl: bool
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
        target = foreign_target(self._base, "3.12")
        rows = builds(catalog, target, self._request.channel)
        self._build = next((row for row in rows if (row.torch, row.backend.name) == self._request.only), None)
        self._platform = target.platform
        asked = (name for name in _PYTHONS if self._rule(self._base, name) not in _NO_WHEEL)
        self._python = next(asked, _PYTHONS[-1])

    def need(self) -> PlatformNeed | None:
        """What is needed; None: the build does not exist here, or runs on nothing."""
        vendor = self._backend.kind.vendor
        gpus = self._gpus(self._build) if self._build is not None and vendor is not None else ()
        if self._build is None or (vendor is not None and not gpus):
            return None
        machine = self._base
        if gpus and gpus[0].drivers:
            machine = self._with(gpus[0].codes[0], version=gpus[0].drivers[-1].low or "1", cuda=_NEWEST)
        elif gpus:
            machine = self._with(gpus[0].codes[0])
        pythons = [python for python in _PYTHONS if self._rule(machine, python) is None]
        if not pythons:
            return None
        self._python = pythons[0]
        systems = {
            foreign_target(machine, python).abi: self._lowest_system(machine, python) for python in pythons
        }
        os, arch, jetson, cpu = machine.os, machine.arch, self._jetson(machine), self._cpu(machine)
        l4t, facts = jetson.linux if jetson else None, tuple(self._facts(self._build, gpus, jetson, cpu))
        return PlatformNeed(os, arch, self._platform, self._wsl, vendor, systems, gpus, l4t, cpu, facts)

    def _rule(self, machine: Machine, python: str | None = None) -> str | None:
        """The rule that rejects the build on a machine; None: it runs."""
        target = foreign_target(machine, python or self._python)
        found = evaluate(make_situation(self._request, machine, target, self._catalog))
        row = next((row for row in found if row.key == self._request.only), None)
        if row is None:
            return "no-build"
        return None if row.rejection is None else row.rejection.rule

    def _with(self, code: str, *, version: str | None = None, cuda: str | None = None) -> Machine:
        """A machine with a GPU of this code, and a driver."""
        kind = self._backend.kind
        gpu = Gpu(
            vendor=kind.vendor or "nvidia",
            compute_capability=capability(code) if kind.strategy == "sm" else None,
            gfx_target=code if kind.strategy == "gfx" else None,
            pci_id=code if kind.strategy == "device" else None,
        )
        driver = Driver(vendor=gpu.vendor, version=version, cuda_version=cuda)
        return structs.replace(self._base, gpus=(gpu,), drivers=(driver,))

    def _gpus(self, build: Build) -> tuple[GpuNeed, ...]:
        """The GPUs on which the build runs, those that need the same drivers together."""
        needs: dict[GpuNeed, list[str]] = {}
        floor = self._catalog.floor(self._backend)
        for code in self._codes():
            machine, need = self._with(code), GpuNeed(())
            if self._backend.kind.strategy == "sm":
                target = foreign_target(machine, self._python)
                situation = make_situation(self._request, machine, target, self._catalog)
                if (found := drivers_for(build, machine.gpus[0], situation)) is None:
                    continue
                window, cuda = found
                machine = self._with(code, version=window.low or "1", cuda=_NEWEST)
                # Within a major version each CUDA runs on the drivers of the first.
                first = f"{self._backend.toolkit[0]}.0" if floor and self._backend.toolkit else None
                need = GpuNeed((), (window,), cuda, cuda or first)
            if self._rule(machine) is None:
                needs.setdefault(need, []).append(code)
        return tuple(structs.replace(need, codes=tuple(codes)) for need, codes in needs.items())

    def _codes(self) -> list[str]:
        """Every GPU that any table knows, as the backend tells them apart."""
        kind = self._backend.kind
        if kind.strategy == "device":
            return [row.pci_id for row in self._catalog.tables.gpus(kind.vendor or "") if row.pci_id]
        codes = gpu_codes(self._catalog)
        return [code for code in codes if code.startswith("gfx") == (kind.strategy == "gfx")]

    def _lowest_system(self, machine: Machine, python: str) -> str | None:
        """The lowest glibc or macOS on which all files load."""
        if machine.os == "windows":
            return None
        packages = [family.package for family in self._catalog.families]
        rows = [row for package in packages for row in self._catalog.wheels(package, self._platform)]

        def older(text: str) -> Machine:
            libc = Libc(family="glibc", version=text) if machine.os == "linux" else None
            return structs.replace(machine, libc=libc, os_version=text)

        known = {oldest_system(row.platform_tag) or (1, 0) for row in rows}
        lowest, *texts = (version_text(point) for point in sorted({(1, 0), *known}))
        able = (text for text in (lowest, *texts) if self._rule(older(text), python) is None)
        found = next(able, _NEWEST)
        return None if found == lowest else found

    def _jetson(self, machine: Machine) -> Floor | None:
        """The lowest Jetson Linux, where older ones run only builds of their own."""
        old = structs.replace(machine, l4t="1.0")
        jetson = (machine.os, machine.arch) == ("linux", "aarch64") and self._rule(old) is not None
        return self._catalog.jetson_floor if jetson else None

    def _cpu(self, machine: Machine) -> tuple[str, ...]:
        """Features without any one of which the build does not run."""
        known = sorted({name for row in self._catalog.tables.limits for name in row.cpu_lacks})
        without = {name: ("fpu", *(other for other in known if other != name)) for name in known}
        machines = {name: structs.replace(machine, cpu_features=row) for name, row in without.items()}
        return tuple(name for name, lacking in machines.items() if self._rule(lacking) is not None)

    def _facts(
        self, build: Build, gpus: Sequence[GpuNeed], jetson: Floor | None, cpu: tuple[str, ...]
    ) -> Iterator[BoundSource]:
        tables, kind = self._catalog.tables, self._backend.kind.kind
        codes = {code for need in gpus for code in need.codes}
        ended = {code for need in gpus for code in need.codes if any(w.below for w in need.drivers)}
        floor = self._catalog.floor(self._backend)
        if floor is not None:
            yield _fact("driver", floor.driver(self._base), "driver_floors.json", floor)
        code = self._catalog.code(build.torch, self._backend, self._platform)
        if code and gpus:
            yield _fact("gpu", " ".join(code.native), "code.json", code)
        for service in tables.gpu_service:
            if service.capability in ended and service.last_branch is not None:
                value = f"{service.capability}: R{service.last_branch} is the last"
                yield _fact("driver", value, "driver_gpus.json", service)
        for wheels in build.wheels:
            value = f"{wheels.platform_tag}: {' '.join(sorted(wheels.tags))}"
            yield _fact("system", value, "wheels.json", wheels)
        if jetson is not None:
            yield _fact("l4t", jetson.linux, "driver_floors.json", jetson)
        for limit in tables.limits:
            if limit.severity == "blocks" and limit.kind == kind:
                if set(limit.cpu_lacks) & set(cpu):
                    yield _fact("cpu", ", ".join(limit.cpu_lacks), "limits.json", limit)
                elif limit.kernel and codes & set(limit.gfx):
                    never = ", ".join(text for text, _ in limit.kernel)
                    value = f"{', '.join(limit.gfx)}: not on Linux {never}"
                    yield _fact("kernel", value, "limits.json", limit)


def _fact(bound: str, value: str, table: str, row: Any) -> BoundSource:
    return BoundSource(bound, value, table, row.source, row.confidence)
