"""Which GPUs a build runs on, and through which code: design, rule 2.

Sources of the rules: `code_rules.json` and `code.json` (PyTorch's own capability check, NVIDIA's
compatibility documents); the strategies here only say how such rows are compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from torchinstall.core.machine import Capability, capability, capability_text
from torchinstall.core.versions import at_least, dotted, dotted_or_none, text_of

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.catalog.model import BackendInfo, Code
    from torchinstall.core.machine import Gpu
    from torchinstall.core.target import Target
    from torchinstall.planner.situation import DriverFacts, Situation

__all__ = ["Cover", "cover"]


class Cover(Struct, frozen=True):
    """One build on one GPU.

    Attributes:
        by: the code that runs (`sm_86`, `compute_90`, `gfx1100`), or why none does.
        rule: slug of the rule that stands against it; None when covered.
        wanted, found: of that rule.
        assumed: it is covered only as far as anybody knows; says what was assumed.
    """

    gpu: Gpu
    by: str
    rule: str | None = None
    wanted: str | None = None
    found: str | None = None
    assumed: str | None = None

    def of(self, gpu: Gpu) -> Cover:
        """The same verdict for an equal GPU."""
        return Cover(gpu, self.by, self.rule, self.wanted, self.found, self.assumed)

    @property
    def covered(self) -> bool:
        """Whether the build runs on the GPU."""
        return self.rule is None


def cover(backend: BackendInfo, code: Code | None, gpu: Gpu, situation: Situation) -> Cover:
    """Whether a build of `backend` with this code runs on a GPU of the backend's vendor."""
    driver = situation.drivers.get(gpu.vendor)
    if backend.kind.strategy == "sm":
        return _cover_sm(backend, code, gpu, driver, situation.catalog)
    if backend.kind.strategy == "gfx":
        return _cover_gfx(code, gpu)
    if backend.kind.strategy == "device":
        return _cover_device(backend, gpu, situation)
    if code is not None and code.native:
        return _cover_system(code, gpu, situation.target)
    return Cover(gpu, "CPU only", "no-code-for-gpu", "a build for this GPU", backend.name)


def _cover_sm(
    backend: BackendInfo, code: Code | None, gpu: Gpu, driver: DriverFacts | None, catalog: Catalog
) -> Cover:
    if gpu.compute_capability is None:
        return Cover(gpu, "assumed", assumed="the compute capability of this GPU is not known")
    if refused := _driver_serves(gpu, gpu.compute_capability, driver, catalog):
        return refused
    if code is None:
        return Cover(gpu, "nobody knows its code", "code-unknown", "a list of the build's code", "none known")
    targets = _targets(backend, code, catalog)
    wanted = targets.devices.get(gpu.compute_capability, gpu.compute_capability)
    alone = wanted in targets.alone
    runs = [
        native
        for native in targets.native
        if native == wanted
        or (not alone and native[0] == wanted[0] and native[1] <= wanted[1] and native not in targets.alone)
    ]
    if runs:
        best = max(runs)
        return Cover(gpu, f"sm_{best[0]}{best[1]}", assumed=_doubt(code))
    usable = () if alone else tuple(target for target in targets.ptx if target <= wanted)
    if usable and backend.toolkit is not None:
        return _cover_ptx(backend, code, gpu, driver, max(usable))
    text = capability_text(gpu.compute_capability)
    return Cover(
        gpu,
        f"no code for {text}",
        "no-code-for-gpu",
        f"code for compute capability {text} ({gpu.label})",
        f"code for {' '.join(code.native)}",
    )


def _doubt(code: Code) -> str | None:
    """What had to be assumed about a list of code; a guessed list is no better than a neighbour's."""
    if code.assumed is None and code.confidence == "low":
        return f"a guess ({code.source})"
    return code.assumed and f"that of {code.assumed}"


def _cover_ptx(
    backend: BackendInfo, code: Code, gpu: Gpu, driver: DriverFacts | None, target: Capability
) -> Cover:
    """PTX is compiled by the driver, which must know the toolkit's PTX: minor versions count here."""
    toolkit = backend.toolkit or ()
    if driver is not None and driver.cuda is not None and at_least(driver.cuda, toolkit):
        return Cover(gpu, f"compute_{target[0]}{target[1]}", assumed=_doubt(code))
    spoken = text_of(driver.cuda) if driver and driver.cuda else "unknown"
    return Cover(
        gpu,
        f"only PTX, and the driver speaks CUDA {spoken}",
        "ptx-needs-newer-driver",
        f"a driver that speaks CUDA {text_of(toolkit)} to compile compute_{target[0]}{target[1]}",
        f"driver CUDA version {spoken}",
    )


class _Targets(Struct, frozen=True):
    """A build's SM targets as capabilities, with the exceptions that hold for its toolkit.

    Attributes:
        devices: capabilities that are another name of one and the same device.
        alone: capabilities that run only code built for them.
    """

    native: tuple[Capability, ...]
    ptx: tuple[Capability, ...]
    devices: dict[Capability, Capability]
    alone: frozenset[Capability]


def _targets(backend: BackendInfo, code: Code, catalog: Catalog) -> _Targets:
    key = ("sm-targets", code.torch, backend.name, code.platform)
    if key not in catalog.scratch:
        devices = {
            capability(rule.capability): capability(rule.other)
            for rule in catalog.tables.code_rules
            if rule.rule == "same-device" and rule.other is not None
        }
        alone = frozenset(
            capability(rule.capability)
            for rule in catalog.tables.code_rules
            if rule.rule == "own-code-only"
            and (
                rule.until is None
                or backend.toolkit is None
                or not at_least(backend.toolkit, dotted(rule.until))
            )
        )
        native = tuple(devices.get(item, item) for item in map(capability, code.native))
        ptx = tuple(map(capability, code.ptx or ()))
        catalog.scratch[key] = _Targets(native, ptx, devices, alone)
    found: _Targets = catalog.scratch[key]
    return found


def _driver_serves(gpu: Gpu, code: Capability, driver: DriverFacts | None, catalog: Catalog) -> Cover | None:
    """A driver branch that came before the GPU, or after it was dropped, cannot use it."""
    service = catalog.service(capability_text(code))
    if service is None or driver is None or driver.version is None:
        return None
    branch = catalog.branch_of(driver.version[0])
    if branch is None:
        return None
    if service.last_branch is not None and branch > service.last_branch:
        wanted = f"a driver of branch R{service.last_branch} or older ({service.architecture})"
    elif service.first_branch is not None and branch < service.first_branch:
        wanted = f"a driver of branch R{service.first_branch} or newer ({service.architecture})"
    else:
        return None
    return Cover(
        gpu,
        f"driver R{branch} does not serve {service.architecture}",
        "gpu-not-served-by-driver",
        wanted,
        f"driver {text_of(driver.version)}",
    )


def _cover_system(code: Code, gpu: Gpu, target: Target) -> Cover:
    """Code that asks for a system instead of a driver: `mps14.0` runs from macOS 14.0 on."""
    name = code.native[0].rstrip("0123456789.")
    floor = dotted_or_none(code.native[0].removeprefix(name))
    version = dotted_or_none(target.os_version)
    if floor is None or version is None or at_least(version, floor):
        return Cover(gpu, name)
    return Cover(
        gpu,
        f"{name} of torch {code.torch} needs {target.os} {text_of(floor)}",
        "system-too-old",
        f"{target.os} {text_of(floor)} or newer for {name}",
        f"{target.os} {text_of(version)}",
    )


def _cover_gfx(code: Code | None, gpu: Gpu) -> Cover:
    if gpu.gfx_target is None:
        return Cover(
            gpu,
            "its gfx target is not known",
            "gpu-code-unknown",
            "a known gfx target",
            f"{gpu.label}: unknown",
        )
    if code is None:
        return Cover(gpu, "nobody knows its code", "code-unknown", "a list of the build's code", "none known")
    if gpu.gfx_target in code.native:
        return Cover(gpu, gpu.gfx_target, assumed=_doubt(code))
    return Cover(
        gpu,
        f"no code for {gpu.gfx_target}",
        "no-code-for-gpu",
        f"code for {gpu.gfx_target} ({gpu.label})",
        f"code for {' '.join(code.native)}",
    )


def _cover_device(backend: BackendInfo, gpu: Gpu, situation: Situation) -> Cover:
    fact = situation.catalog.gpu_fact(gpu.vendor, gpu.pci_id, gpu.name)
    if fact is not None and fact.supported and (not fact.os or situation.target.os in fact.os):
        return Cover(gpu, f"{backend.name} ({fact.code})" if fact.code else backend.name)
    what = "is not on PyTorch's list" if fact is not None else "is not a GPU that the tables know"
    if fact is not None and fact.supported:
        what = f"is on PyTorch's list for {' and '.join(fact.os)} only"
    return Cover(
        gpu,
        f"{gpu.label} {what}",
        "no-code-for-gpu",
        f"a GPU that PyTorch supports with {backend.name}",
        gpu.label,
    )
