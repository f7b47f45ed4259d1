"""Which GPUs a build runs on, and through which code: design, rule 2.

Sources of the rules: `code_rules.json` and `code.json` (PyTorch's own capability check, NVIDIA's
compatibility documents); the strategies here only say how such rows are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchinstall.machine import Capability, capability, capability_text
from torchinstall.versions import at_least, text_of

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.catalog.model import BackendInfo, Code
    from torchinstall.machine import Gpu
    from torchinstall.planner.situation import DriverFacts, Situation

__all__ = ["Cover", "cover"]


@dataclass(frozen=True, slots=True)
class Cover:
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
        return _cover_device(backend, gpu, situation.catalog)
    if code is not None and code.native:
        return Cover(gpu, code.native[0])
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
    wanted = _same_device(gpu.compute_capability, catalog)
    own_code_only = _own_code_only(wanted, backend, catalog)
    runs = [
        native
        for native in (_same_device(capability(text), catalog) for text in code.native)
        if native == wanted
        or (
            not own_code_only
            and native[0] == wanted[0]
            and native[1] <= wanted[1]
            and not _own_code_only(native, backend, catalog)
        )
    ]
    if runs:
        best = max(runs)
        return Cover(gpu, f"sm_{best[0]}{best[1]}", assumed=code.assumed)
    ptx = [] if own_code_only else [capability(text) for text in code.ptx or ()]
    usable = [target for target in ptx if target <= wanted]
    named = " ".join(code.native)
    if usable and backend.toolkit is not None:
        best = max(usable)
        if driver is not None and driver.cuda is not None and at_least(driver.cuda, backend.toolkit):
            return Cover(gpu, f"compute_{best[0]}{best[1]}", assumed=code.assumed)
        spoken = text_of(driver.cuda) if driver and driver.cuda else "unknown"
        return Cover(
            gpu,
            f"only PTX, and the driver speaks CUDA {spoken}",
            "ptx-needs-newer-driver",
            f"a driver that speaks CUDA {text_of(backend.toolkit)} to compile compute_{best[0]}{best[1]}",
            f"driver CUDA version {spoken}",
        )
    return Cover(
        gpu,
        f"no code for {capability_text(gpu.compute_capability)}",
        "no-code-for-gpu",
        f"code for compute capability {capability_text(gpu.compute_capability)} ({gpu.label})",
        f"code for {named}",
    )


def _driver_serves(gpu: Gpu, code: Capability, driver: DriverFacts | None, catalog: Catalog) -> Cover | None:
    """A driver branch that came before the GPU, or after it was dropped, cannot use it."""
    service = catalog.service(capability_text(code))
    if service is None or driver is None or driver.version is None:
        return None
    branch = driver.version[0]
    if service.last_branch is not None and branch > service.last_branch:
        wanted = f"a driver of branch R{service.last_branch} or older ({service.architecture})"
    elif service.first_branch is not None and branch < service.first_branch and gpu.source != "nvml":
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


def _same_device(code: Capability, catalog: Catalog) -> Capability:
    for rule in catalog.code_rules:
        if rule.rule == "same-device" and rule.other is not None and capability(rule.capability) == code:
            return capability(rule.other)
    return code


def _own_code_only(code: Capability, backend: BackendInfo, catalog: Catalog) -> bool:
    return any(
        rule.rule == "own-code-only"
        and capability(rule.capability) == code
        and (rule.until is None or backend.toolkit is None or not at_least(backend.toolkit, rule.until))
        for rule in catalog.code_rules
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
        return Cover(gpu, gpu.gfx_target, assumed=code.assumed)
    return Cover(
        gpu,
        f"no code for {gpu.gfx_target}",
        "no-code-for-gpu",
        f"code for {gpu.gfx_target} ({gpu.label})",
        f"code for {' '.join(code.native)}",
    )


def _cover_device(backend: BackendInfo, gpu: Gpu, catalog: Catalog) -> Cover:
    fact = catalog.gpu_fact(gpu.vendor, gpu.pci_id, gpu.name)
    if fact is not None and fact.supported:
        return Cover(gpu, f"{backend.name} ({fact.code})" if fact.code else backend.name)
    what = "is not on PyTorch's list" if fact is not None else "is not a GPU that the tables know"
    return Cover(
        gpu,
        f"{gpu.label} {what}",
        "no-code-for-gpu",
        f"a GPU that PyTorch supports with {backend.name}",
        gpu.label,
    )
