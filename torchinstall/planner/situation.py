"""Join request and machine: which GPUs and drivers count after declarations, masks and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct, structs

from torchinstall.core.machine import Finding, Gpu, capability
from torchinstall.core.messages import Message
from torchinstall.core.versions import Dotted, dotted_or_none

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.catalog.model import BackendInfo
    from torchinstall.core.machine import Driver, Machine, Vendor
    from torchinstall.core.request import Request
    from torchinstall.core.target import Target

__all__ = ["DriverFacts", "Situation", "situation"]


class DriverFacts(Struct, frozen=True, kw_only=True):
    """A vendor's driver as the rules need it.

    Attributes:
        version: None where it is not known.
        cuda: the driver CUDA version, derived from the branch where the driver did not say.
        declared: the user named it; nothing was probed.
    """

    version: Dotted | None
    cuda: Dotted | None
    declared: bool = False


class Situation(Struct, frozen=True, kw_only=True):
    """Everything that the rules look at.

    Attributes:
        gpus: those that count, capabilities filled in from tables where the driver gave none.
        drivers: by vendor; a vendor that is missing has no driver at all.
        column: which operating system's driver numbers count (WSL runs on the Windows driver).
        unreadable: findings of vendors whose hardware is there and cannot be read.
        assumptions: warnings about what had to be assumed so far.
        memo: verdicts that several builds share, kept for the life of one plan.
    """

    request: Request
    machine: Machine
    target: Target
    catalog: Catalog
    gpus: tuple[Gpu, ...]
    drivers: dict[Vendor, DriverFacts]
    column: Literal["linux", "windows"]
    unreadable: tuple[Finding, ...]
    assumptions: tuple[Message, ...]
    memo: dict[tuple[object, ...], Any]

    @property
    def discrete(self) -> tuple[Gpu, ...]:
        """GPUs with memory of their own; all of them where there is none (Jetson, laptops' only GPU)."""
        own = tuple(gpu for gpu in self.gpus if gpu.integrated is not True)
        return own or self.gpus

    def driver_of(self, backend: BackendInfo) -> DriverFacts | None:
        """The driver that a backend runs on; None: there is none, or it needs none."""
        vendor = backend.kind.vendor
        return None if vendor is None else self.drivers.get(vendor)

    @property
    def tegra(self) -> bool:
        """A Jetson whose driver cannot run generic aarch64 CUDA builds (Jetson Linux 32 to 36)."""
        return is_tegra(self.machine, self.catalog)


def is_tegra(machine: Machine, catalog: Catalog) -> bool:
    """Whether a machine is a Jetson whose driver runs only builds made for it (design, rule 10)."""
    release = dotted_or_none(machine.l4t)
    return release is not None and not catalog.runs_generic_builds(release)


def situation(request: Request, machine: Machine, target: Target, catalog: Catalog) -> Situation:
    """Apply what the user declared to what the probe saw."""
    warnings: list[Message] = []
    gpus = _visible(request, request.target_gpus or machine.gpus)
    drivers: dict[Vendor, DriverFacts] = {row.vendor: _facts(row, catalog) for row in machine.drivers}
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
    wsl = "wsl2" in machine.environment
    return Situation(
        request=request,
        machine=machine,
        target=target,
        catalog=catalog,
        gpus=resolved,
        drivers=drivers,
        column="windows" if target.os == "windows" or wsl else "linux",
        unreadable=_unreadable(request, machine, resolved, drivers, catalog),
        assumptions=tuple(warnings),
        memo={},
    )


def _visible(request: Request, gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    if request.visible is None:
        return gpus
    return tuple(gpu for gpu in gpus if (gpu.vendor, gpu.index) in request.visible)


def _facts(driver: Driver, catalog: Catalog) -> DriverFacts:
    version = dotted_or_none(driver.version)
    cuda = dotted_or_none(driver.cuda_version)
    if cuda is None and version is not None and driver.vendor in _vendors_with_floor(catalog):
        cuda = dotted_or_none(catalog.cuda_of_branch(version[0]))
    return DriverFacts(version=version, cuda=cuda)


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
    version = dotted_or_none(request.target_driver) or (probed.version if probed else None)
    cuda = dotted_or_none(request.target_cuda)
    if cuda is None and version is not None:
        cuda = dotted_or_none(catalog.cuda_of_branch(version[0]))
    if request.target_cuda and request.target_driver is None:
        version = None
    return DriverFacts(version=version, cuda=cuda, declared=True)


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
            slug="gpu-code-from-table",
            message=f"{gpu.label} did not say what code it runs; the table of products says {fact.code}",
        )
    )
    return changed


def _unreadable(
    request: Request,
    machine: Machine,
    gpus: tuple[Gpu, ...],
    drivers: dict[Vendor, DriverFacts],
    catalog: Catalog,
) -> tuple[Finding, ...]:
    """What stands between the planner and hardware that is there (design, rule 5)."""
    if request.target_gpus or request.target_driver or request.target_cuda is not None:
        return ()
    with_floor = _vendors_with_floor(catalog)
    readable = {gpu.vendor for gpu in gpus if gpu.vendor not in with_floor or gpu.vendor in drivers}
    served = {kind.vendor for kind in catalog.tables.kinds}
    findings = [
        finding
        for finding in machine.findings
        if finding.status in ("denied", "broken") and finding.probe in served - readable
    ]
    told = {finding.probe for finding in findings}
    # A Jetson's driver is part of its system and answers nobody: it is not missing (design, rule 10).
    tegra = is_tegra(machine, catalog)
    for vendor in dict.fromkeys(gpu.vendor for gpu in gpus):
        if vendor not in readable and vendor not in told and not tegra:
            names = ", ".join(gpu.label for gpu in gpus if gpu.vendor == vendor)
            findings.append(
                Finding(
                    probe=vendor,
                    status="broken",
                    detail=f"{names} is there, but no driver answers for it",
                    source="the machine's list of GPUs",
                    slug="driver-missing",
                    hint="install the GPU's driver, then run torchinstall again",
                )
            )
            told.add(vendor)
    seen = {gpu.vendor for gpu in machine.gpus}
    findings.extend(
        Finding(
            probe=vendor,
            status="broken",
            detail=f"a driver of {vendor} is loaded, but no GPU can be seen",
            source="the machine's list of drivers",
            slug="driver-without-device",
            hint="start the container with its GPUs (docker run --gpus all), or name them with --target-gpu",
        )
        for vendor in drivers
        if vendor in with_floor and vendor not in told and vendor not in seen
    )
    return tuple(findings)
