"""What the rules look at: requirements, GPUs and drivers after declarations, masks and tables."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.model import Advice, BackendInfo, Memo, Wheels
from torchinstall.catalog.tables import platform_of
from torchinstall.core.machine import VENDOR_NAMES, Finding, Gpu, Machine, Vendor, capability
from torchinstall.core.messages import Message
from torchinstall.core.request import Request, Requirement
from torchinstall.core.target import Target
from torchinstall.core.versions import Dotted, at_least, dotted, dotted_or_none

if TYPE_CHECKING:
    # Loading it costs as much as a plan, and most requirements have no version bounds.
    from packaging.specifiers import SpecifierSet


class Requirements(Struct, frozen=True):
    """What was asked for, sorted by who serves it.

    Attributes:
        family: packages that move with torch and were asked for, in order; torch always first.
        bounds: by package: those of the family from requirements, and of companions too from constraints.
        others: requirements for everything else, as asked.
        direct: family packages asked for by URL or path: that file is taken, and the plan goes around it.
    """

    family: tuple[str, ...]
    bounds: dict[str, SpecifierSet]
    others: tuple[Requirement, ...]
    direct: dict[str, Requirement]

    def allows(self, package: str, version: str) -> bool:
        """Whether a version (local segment included) satisfies the user's bounds."""
        spec = self.bounds.get(package)
        return not spec or spec.contains(version)

    def bounded(self, package: str) -> str:
        """The package with the user's bounds, as text."""
        return f"{package}{self.bounds.get(package, '')}"


class DriverFacts(Struct, frozen=True):
    """A vendor's driver: its version (`text` as its vendor writes it) and the driver CUDA version.

    The latter is derived from the branch where the driver did not say.
    """

    version: Dotted | None
    cuda: Dotted | None
    text: str | None

    def speaks(self, backend: BackendInfo) -> bool:
        """Whether it supports the CUDA of a backend itself, not only by minor-version compatibility."""
        return self.cuda is not None and at_least(self.cuda, backend.toolkit or ())


class Situation(Memo, frozen=True, kw_only=True):
    """Everything that the rules look at.

    Attributes:
        gpus: those that count, capabilities filled in from tables where the driver gave none.
        drivers: by vendor; a vendor that is missing has no driver at all.
        assumptions: warnings about what had to be assumed so far.
        keep_installed: companions that are installed should go on working.
    """

    request: Request
    machine: Machine
    target: Target
    catalog: Catalog
    requirements: Requirements
    gpus: tuple[Gpu, ...]
    drivers: dict[Vendor, DriverFacts]
    assumptions: tuple[Message, ...]
    keep_installed: bool = True

    @cached_property
    def tegra(self) -> bool:
        """Whether it is a Jetson whose driver runs only builds made for it (Jetson Linux 32 to 36)."""
        release, floor = dotted_or_none(self.machine.l4t), self.catalog.jetson_floor
        return release is not None and (floor is None or not at_least(release, dotted(floor.linux)))

    @cached_property
    def unreadable(self) -> tuple[Finding, ...]:
        """Findings of vendors whose hardware is there and cannot be read; none, where it was declared."""
        return () if self.request.describes else tuple(_unreadable(self))

    @property
    def kernel(self) -> str | None:
        """The release of the Linux kernel; None: not known, also where only the GPU was declared."""
        return None if self.request.target_gpus else self.machine.kernel_version

    def served_by(self, gpu: Gpu) -> tuple[Advice, ...]:
        """The vendor's indexes that have builds for a GPU."""
        keys = [gpu.gfx_target] if gpu.gfx_target else []
        if self.tegra and self.machine.l4t:
            keys.append("l4t" + self.machine.l4t.split(".")[0])
        return tuple(row for key in keys for row in self.catalog.advice(gpu.vendor, key, self.target.os))

    @property
    def vendor_rows(self) -> tuple[Advice, ...]:
        """What is known of the GPUs here on the vendor's index that builds come from."""
        served = [row for gpu in self.gpus for row in self.served_by(gpu)]
        return tuple(row for row in self.catalog.vendor if row in served)

    @property
    def names_build(self) -> bool:
        """Whether the user named the build, by its backend or its file: then hardware rules only warn."""
        return self.request.backend != "auto" or bool(self.wheels_by_url("torch"))

    def driver_of(self, backend: BackendInfo) -> DriverFacts | None:
        """The driver that a backend runs on; None: there is none, or it needs none."""
        vendor = backend.kind.vendor
        return None if vendor is None else self.drivers.get(vendor)

    def driver_floor(self, backend: BackendInfo) -> str | None:
        """The lowest driver that a backend's toolkit starts on; None: it needs none, or nobody knows."""
        floor = self.catalog.floor(backend)
        return None if floor is None else floor.driver(self.machine)

    def wheels_by_url(self, package: str) -> tuple[Wheels, ...]:
        """What is known of the file by whose URL a package was asked for; empty: nothing, or it was not."""
        asked = self.requirements.direct.get(package)
        if asked is None:
            return ()
        return tuple(row for row in self.catalog.local if row.package == package and row.source == asked.url)


def make_situation(request: Request, machine: Machine, target: Target, catalog: Catalog) -> Situation:
    """Apply what the user declared to what the probe saw."""
    warnings: list[Message] = []
    gpus = request.target_gpus or machine.gpus
    if request.visible is not None:
        gpus = tuple(gpu for gpu in gpus if (gpu.vendor, gpu.index) in request.visible)
    with_floor = _vendors_with_floor(catalog)
    stated = {row.vendor: (row.version, row.cuda_version) for row in machine.drivers}
    # For these the driver comes from a declaration instead of the machine.
    declared_for = with_floor
    if request.target_driver is None and request.target_cuda is None:
        named = {gpu.vendor for gpu in request.target_gpus}
        declared_for = tuple(name for name in with_floor if name in named and machine.driver(name) is None)
    for vendor in declared_for:
        version = request.target_driver
        if dotted_or_none(version) is None and vendor in stated and not request.target_cuda:
            version = stated[vendor][0]
        stated[vendor] = version, request.target_cuda
    drivers: dict[Vendor, DriverFacts] = {}
    for vendor, (text, cuda) in stated.items():
        number, speaks = dotted_or_none(text), dotted_or_none(cuda)
        if speaks is None and number is not None and vendor in with_floor:
            speaks = dotted_or_none(catalog.cuda_of_branch(number[0]))
        drivers[vendor] = DriverFacts(number, speaks, text)
    if not gpus and (request.target_driver or request.target_cuda):
        # A declared driver says that there will be a GPU, though not which one.
        gpus = tuple(Gpu(vendor=vendor, index=0, source="declared") for vendor in declared_for)
    if request.target_cuda == "":
        # CONDA_OVERRIDE_CUDA="" means: there is no CUDA here.
        gpus = tuple(gpu for gpu in gpus if gpu.vendor not in declared_for)
    return Situation(
        request=request,
        machine=machine,
        target=target,
        catalog=catalog,
        requirements=_split(request, target, catalog),
        gpus=tuple(_resolve(gpu, catalog, warnings) for gpu in gpus),
        drivers=drivers,
        assumptions=tuple(warnings),
    )


def _split(request: Request, target: Target, catalog: Catalog) -> Requirements:
    """Sort what was asked for; requirements whose markers do not hold for the target are dropped."""
    family: dict[str, None] = {"torch": None}
    bounds: dict[str, SpecifierSet] = {}
    others: list[Requirement] = []
    direct: dict[str, Requirement] = {}
    here = target.marker_environment()
    limits = (row for row in request.constraints if row.url is None)
    known = (row for row in limits if catalog.family(row.package) or catalog.companion_builds(row.package))
    bounding = [row for row in known if row.holds(here)]
    for requirement in (row for row in request.requirements if row.holds(here)):
        name = requirement.package
        moves = catalog.family(name)
        # On some platforms another package is installed in its place (triton on Windows).
        rows = (row for row in catalog.companion_builds(name) if row.instead)
        replaced = any(target.platform in map(platform_of, row.platforms) for row in rows)
        if moves is None or moves.own_cuda or replaced:
            others.append(requirement)
        elif requirement.url is not None:
            direct[name] = requirement
            others.append(requirement)
        else:
            family[name] = None
            bounding.append(requirement)
    for row in filter(lambda row: row.specifier, bounding):
        bounds[row.package] = bounds.get(row.package, row.bounds) & row.bounds
    return Requirements(tuple(family), bounds, tuple(others), direct)


def _vendors_with_floor(catalog: Catalog) -> tuple[Vendor, ...]:
    """Vendors whose toolkits ask for a driver: the tables say, not the code."""
    kinds = {row.kind for row in catalog.tables.floors}
    vendors = (row.vendor for row in catalog.tables.kinds if row.kind in kinds and row.vendor is not None)
    return tuple(dict.fromkeys(vendors))


def _resolve(gpu: Gpu, catalog: Catalog, warnings: list[Message]) -> Gpu:
    """Fill in what the driver did not say from the product tables, and say so."""
    complete = gpu.code is not None and gpu.integrated is not None and gpu.name is not None
    fact = None if complete else catalog.gpu_fact(gpu.vendor, gpu.pci_id, gpu.name)
    if fact is None:
        return gpu
    changed = structs.replace(
        gpu,
        integrated=fact.integrated if gpu.integrated is None else gpu.integrated,
        name=gpu.name or fact.name,
        pci_id=gpu.pci_id or fact.pci_id,
    )
    code = fact.code if gpu.code is None and fact.code else ""
    if code.startswith("gfx"):
        changed = structs.replace(changed, gfx_target=code)
    elif fact.supported is None and code[:1].isdigit():
        changed = structs.replace(changed, compute_capability=capability(code))
    else:
        return changed
    warnings.append(
        Message(
            "gpu-code-from-table",
            f"which code {gpu.label} runs was not reported; {code} is assumed, from the table of GPUs",
        )
    )
    return changed


def _unreadable(situation: Situation) -> Iterator[Finding]:
    """What stands between the planner and hardware that is there (design, rule 5)."""
    machine, gpus, drivers = situation.machine, situation.gpus, situation.drivers
    with_floor = _vendors_with_floor(situation.catalog)
    readable = {gpu.vendor for gpu in gpus if gpu.vendor not in with_floor or gpu.vendor in drivers}
    faults = [row for row in machine.findings if row.status in ("denied", "broken")]
    lost = [row for row in faults if row.probe in situation.catalog.vendor_ranks.keys() - readable]
    yield from lost
    reported = {row.probe for row in lost}
    # A Jetson's driver is part of its system and answers nobody: it is not missing (design, rule 10).
    tables = situation.catalog.tables
    served = [gpu for gpu in gpus if not situation.tegra and tables.served(gpu.code)]
    for vendor in dict.fromkeys(gpu.vendor for gpu in served):
        if vendor not in readable | reported:
            names = ", ".join(gpu.label for gpu in served if gpu.vendor == vendor)
            yield Finding(
                probe=vendor,
                status="broken",
                detail=f"{names} was found, but its driver is not installed or not loaded",
                source="the machine's list of GPUs",
                slug="driver-missing",
                hint="install the GPU's driver, then run torchinstall again",
            )
    reported |= {gpu.vendor for gpu in machine.gpus}
    for vendor in drivers:
        if vendor in with_floor and vendor not in reported:
            yield Finding(
                probe=vendor,
                status="broken",
                detail=f"the {VENDOR_NAMES[vendor]} driver is loaded, but no GPU is visible",
                source="the machine's list of drivers",
                slug="driver-without-device",
                hint="start the container with its GPUs (docker run --gpus all), or name them with "
                "--target-gpu",
            )
