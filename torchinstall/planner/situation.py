"""What the rules look at: requirements, GPUs and drivers after declarations, masks and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.model import Advice, BackendInfo, Wheels
from torchinstall.catalog.tables import platform_of
from torchinstall.core.machine import VENDOR_NAMES, Driver, Finding, Gpu, Machine, Vendor, capability
from torchinstall.core.messages import Message
from torchinstall.core.request import Request, Requirement, canonical_name
from torchinstall.core.target import Target
from torchinstall.core.versions import Dotted, dotted_or_none

if TYPE_CHECKING:
    # Loading it costs as much as a plan, and most requirements have no version bounds.
    from packaging.specifiers import SpecifierSet


class Requirements(Struct, frozen=True):
    """What was asked for, sorted by who serves it.

    Attributes:
        family: packages that move with torch and were asked for, in order; torch always first.
        bounds: version bounds by family package, from requirements and constraints.
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
        return not spec or spec.contains(version, prereleases=True)

    def bounded(self, package: str) -> str:
        """The package with the user's bounds, as text."""
        return f"{package}{self.bounds.get(package, '')}"


class DriverFacts(Struct, frozen=True):
    """A vendor's driver as the rules need it.

    Attributes:
        version: None where it is not known.
        cuda: the driver CUDA version, derived from the branch where the driver did not say.
        text: the version as its vendor writes it.
    """

    version: Dotted | None
    cuda: Dotted | None
    text: str | None


class Situation(Struct, frozen=True, kw_only=True):
    """Everything that the rules look at.

    Attributes:
        gpus: those that count, capabilities filled in from tables where the driver gave none.
        drivers: by vendor; a vendor that is missing has no driver at all.
        driver_os: which operating system's driver numbers count (WSL runs on the Windows driver).
        tegra: a Jetson whose driver runs only builds made for it (Jetson Linux 32 to 36).
        unreadable: findings of vendors whose hardware is there and cannot be read.
        assumptions: warnings about what had to be assumed so far.
        memo: verdicts that several builds share, kept for the life of one plan.
        keep_installed: companions that are installed should go on working.
    """

    request: Request
    machine: Machine
    target: Target
    catalog: Catalog
    requirements: Requirements
    gpus: tuple[Gpu, ...]
    drivers: dict[Vendor, DriverFacts]
    driver_os: Literal["linux", "windows"]
    tegra: bool
    unreadable: tuple[Finding, ...]
    assumptions: tuple[Message, ...]
    memo: dict[tuple[object, ...], Any]
    keep_installed: bool = True

    @property
    def kernel(self) -> str | None:
        """The release of the Linux kernel; None: not known, also where only the GPU was declared."""
        return None if self.request.target_gpus else self.machine.kernel_version

    @property
    def discrete(self) -> tuple[Gpu, ...]:
        """GPUs with memory of their own; all of them where there is none (Jetson, laptops' only GPU)."""
        own = tuple(gpu for gpu in self.gpus if gpu.integrated is not True)
        return own or self.gpus

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
        if floor is None:
            return None
        return floor.windows if self.driver_os == "windows" else floor.linux

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
    drivers: dict[Vendor, DriverFacts] = {row.vendor: _driver_facts(row, catalog) for row in machine.drivers}
    declared_for = _declared_vendors(request, machine, catalog)
    for vendor in declared_for:
        drivers[vendor] = _declared_driver(request, drivers.get(vendor), catalog)
    if not gpus and (request.target_driver or request.target_cuda):
        # A declared driver says that there will be a GPU, though not which one.
        gpus = tuple(Gpu(vendor=vendor, index=0, source="declared") for vendor in declared_for)
    if request.target_cuda == "":
        # CONDA_OVERRIDE_CUDA="" means: there is no CUDA here.
        gpus = tuple(gpu for gpu in gpus if gpu.vendor not in declared_for)
    resolved = tuple(_resolve(gpu, catalog, warnings) for gpu in gpus)
    release = dotted_or_none(machine.l4t)
    tegra = release is not None and not catalog.runs_generic_builds(release)
    declared = bool(request.target_gpus or request.target_driver or request.target_cuda is not None)
    return Situation(
        request=request,
        machine=machine,
        target=target,
        catalog=catalog,
        requirements=_split(request, target, catalog),
        gpus=resolved,
        drivers=drivers,
        driver_os="windows" if target.os == "windows" or "wsl2" in machine.environment else "linux",
        tegra=tegra,
        unreadable=() if declared else _unreadable(machine, resolved, drivers, catalog, tegra=tegra),
        assumptions=tuple(warnings),
        memo={},
    )


def _split(request: Request, target: Target, catalog: Catalog) -> Requirements:
    """Sort what was asked for; requirements whose markers do not hold for the target are dropped."""
    family: dict[str, None] = {"torch": None}
    bounds: dict[str, SpecifierSet] = {}
    others: list[Requirement] = []
    direct: dict[str, Requirement] = {}
    for requirement in request.requirements:
        if not _holds(requirement, target):
            continue
        name = canonical_name(requirement.name)
        known = catalog.family(name)
        if known is None or known.own_cuda or _replaced(name, target, catalog):
            others.append(requirement)
        elif requirement.url is not None:
            direct[name] = requirement
            others.append(requirement)
        else:
            family[name] = None
            _bound(bounds, name, requirement)
    for constraint in request.constraints:
        name = canonical_name(constraint.name)
        if catalog.family(name) is not None and constraint.url is None and _holds(constraint, target):
            _bound(bounds, name, constraint)
    return Requirements(tuple(family), bounds, tuple(others), direct)


def _replaced(name: str, target: Target, catalog: Catalog) -> bool:
    """Whether another package is installed in its place on this platform (triton on Windows)."""
    rows = catalog.companion_builds(name)
    return any(row.instead and target.platform in map(platform_of, row.platforms) for row in rows)


def _holds(requirement: Requirement, target: Target) -> bool:
    if requirement.marker is None:
        return True
    marker = requirement.parsed().marker
    return marker is None or marker.evaluate(target.marker_environment())


def _bound(bounds: dict[str, SpecifierSet], name: str, requirement: Requirement) -> None:
    if requirement.specifier:
        specifier = requirement.parsed().specifier
        bounds[name] = bounds[name] & specifier if name in bounds else specifier


def _driver_facts(driver: Driver, catalog: Catalog) -> DriverFacts:
    version = dotted_or_none(driver.version)
    cuda = dotted_or_none(driver.cuda_version)
    if cuda is None and version is not None and driver.vendor in _vendors_with_floor(catalog):
        cuda = dotted_or_none(catalog.cuda_of_branch(version[0]))
    return DriverFacts(version, cuda, driver.version)


def _vendors_with_floor(catalog: Catalog) -> tuple[Vendor, ...]:
    """Vendors whose toolkits ask for a driver: the tables say, not the code."""
    with_floor = {row.kind for row in catalog.tables.floors}
    return tuple(
        dict.fromkeys(
            kind.vendor
            for kind in catalog.tables.kinds
            if kind.vendor is not None and kind.kind in with_floor
        )
    )


def _declared_vendors(request: Request, machine: Machine, catalog: Catalog) -> tuple[Vendor, ...]:
    """For which vendors the driver comes from a declaration instead of the machine."""
    with_floor = _vendors_with_floor(catalog)
    if request.target_driver is not None or request.target_cuda is not None:
        return with_floor
    named = {gpu.vendor for gpu in request.target_gpus}
    return tuple(vendor for vendor in with_floor if vendor in named and machine.driver(vendor) is None)


def _declared_driver(request: Request, probed: DriverFacts | None, catalog: Catalog) -> DriverFacts:
    version, text = dotted_or_none(request.target_driver), request.target_driver
    if version is None and probed is not None and not request.target_cuda:
        version, text = probed.version, probed.text
    cuda = dotted_or_none(request.target_cuda)
    if cuda is None and version is not None:
        cuda = dotted_or_none(catalog.cuda_of_branch(version[0]))
    return DriverFacts(version, cuda, text)


def _resolve(gpu: Gpu, catalog: Catalog, warnings: list[Message]) -> Gpu:
    """Fill in what the driver did not say from the product tables, and say so."""
    unknown_code = gpu.compute_capability is None and gpu.gfx_target is None
    if not unknown_code and gpu.integrated is not None and gpu.name is not None:
        return gpu
    if gpu.pci_id is None and gpu.name is None:
        return gpu
    fact = catalog.gpu_fact(gpu.vendor, gpu.pci_id, gpu.name)
    if fact is None:
        return gpu
    changed = structs.replace(
        gpu,
        integrated=fact.integrated if gpu.integrated is None else gpu.integrated,
        name=gpu.name or fact.name,
        pci_id=gpu.pci_id or fact.pci_id,
    )
    if not unknown_code or fact.code is None:
        return changed
    if fact.code.startswith("gfx"):
        changed = structs.replace(changed, gfx_target=fact.code)
    elif fact.supported is None and fact.code[:1].isdigit():
        changed = structs.replace(changed, compute_capability=capability(fact.code))
    else:
        return changed
    warnings.append(
        Message(
            "gpu-code-from-table",
            f"which code {gpu.label} runs was not reported; {fact.code} is assumed, from the table of GPUs",
        )
    )
    return changed


def _unreadable(
    machine: Machine,
    gpus: tuple[Gpu, ...],
    drivers: dict[Vendor, DriverFacts],
    catalog: Catalog,
    *,
    tegra: bool,
) -> tuple[Finding, ...]:
    """What stands between the planner and hardware that is there (design, rule 5)."""
    with_floor = _vendors_with_floor(catalog)
    readable = {gpu.vendor for gpu in gpus if gpu.vendor not in with_floor or gpu.vendor in drivers}
    served = {kind.vendor for kind in catalog.tables.kinds}
    findings = [
        finding
        for finding in machine.findings
        if finding.status in ("denied", "broken") and finding.probe in served - readable
    ]
    reported = {finding.probe for finding in findings}
    # A Jetson's driver is part of its system and answers nobody: it is not missing (design, rule 10).
    for vendor in () if tegra else dict.fromkeys(gpu.vendor for gpu in gpus):
        if vendor in readable or vendor in reported:
            continue
        names = ", ".join(gpu.label for gpu in gpus if gpu.vendor == vendor)
        findings.append(
            Finding(
                probe=vendor,
                status="broken",
                detail=f"{names} was found, but its driver is not installed or not loaded",
                source="the machine's list of GPUs",
                slug="driver-missing",
                hint="install the GPU's driver, then run torchinstall again",
            )
        )
        reported.add(vendor)
    seen = {gpu.vendor for gpu in machine.gpus}
    findings.extend(
        Finding(
            probe=vendor,
            status="broken",
            detail=f"the {VENDOR_NAMES[vendor]} driver is loaded, but no GPU is visible",
            source="the machine's list of drivers",
            slug="driver-without-device",
            hint="start the container with its GPUs (docker run --gpus all), or name them with --target-gpu",
        )
        for vendor in drivers
        if vendor in with_floor and vendor not in reported and vendor not in seen
    )
    return tuple(findings)
