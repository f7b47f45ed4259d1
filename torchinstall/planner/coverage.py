"""Which GPUs a build runs on and through which code (design, rule 2), and what it cannot do there.

Sources of the rules: `code_rules.json` and `code.json` (PyTorch's own capability check, NVIDIA's
compatibility documents); the strategies here only say how such rows are compared. A library beside torch may
lack the GPU, or need another driver, kernel or CPU than there is (`limits.json`). A row that `blocks` rejects
the build; one that `degrades` becomes a warning, and rejects only what was asked for with `--need`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct, structs

from torchinstall.catalog.model import BackendInfo, Code, Limit
from torchinstall.core.machine import OS_LABELS, VENDOR_NAMES, Gpu, capability, capability_text
from torchinstall.core.plan import KnownLimit
from torchinstall.core.request import requirement, specifiers
from torchinstall.core.target import Target
from torchinstall.core.versions import at_least, dotted, dotted_or_none, version_text, within
from torchinstall.planner.builds import Build, can_hold
from torchinstall.planner.situation import DriverFacts, Situation

UNRANKED = 50
"""The rank of a vendor without backends of its own."""


class Coverage(Struct, frozen=True):
    """One build on one GPU: `by` which code it runs (`sm_86`, `compute_90`, `gfx1100`), or why none does.

    `rule` is the slug of the rule that objects, None when covered; `assumed` says what had to be assumed.
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


def cover_gpus(build: Build, situation: Situation) -> tuple[Coverage, ...]:
    """A build on every GPU of its backend's vendor (of nobody's vendor, for a backend without one)."""
    backend, vendor = build.backend, build.backend.kind.vendor
    code = situation.catalog.code(build.torch, backend, situation.target.platform)

    def cover() -> tuple[Coverage, ...]:
        nobodys = {gpu.vendor for gpu in situation.gpus} - situation.catalog.vendor_ranks.keys()
        vendors = nobodys if vendor is None else {vendor}
        gpus = (gpu for gpu in situation.gpus if gpu.vendor in vendors)
        return tuple(cover_gpu(backend, code, gpu, situation) for gpu in gpus)

    # Patch releases share their minor's list of code, and so its verdicts.
    found = situation.once(("coverage", backend.name, code and (code.torch, code.assumed)), cover)
    # A library beside torch may keep it from the GPU.
    hits = [hit for hit in build_limits(build, situation) if hit.blocks and hit.gpu is not None]
    return tuple(_with_libraries(item, hits) for item in found) if hits else found


def _with_libraries(item: Coverage, hits: Iterable[Hit]) -> Coverage:
    hit = next((hit for hit in hits if item.covered and hit.gpu is item.gpu), None)
    if hit is None:
        return item
    by, wanted, found = map(hit.text, ("message", "wanted", "found"))
    return Coverage(item.gpu, f"{hit.backend}: {by}", hit.row.slug, wanted, found)


def build_limits(build: Build, situation: Situation) -> tuple[Hit, ...]:
    """What is known to fail with a build, for each GPU; what a vendor built himself is another matter."""
    if build.wheels and all(row.origin == "vendor" for row in build.wheels):
        return ()

    def hits() -> Iterator[Hit]:
        backend, release = build.backend, dotted_or_none(build.torch)
        for row, gpus in situation.once("limit-rows", lambda: tuple(_rows_here(situation))):
            ours = row.kind in ("", backend.kind.kind) and release and within(release, row.torch)
            if ours and (not row.toolkit or (backend.toolkit and within(backend.toolkit, row.toolkit))):
                yield from (Hit(row, gpu, build.torch, backend.name, situation.kernel) for gpu in gpus)

    return situation.once(("limits", build.torch, build.backend.name), lambda: tuple(hits()))


def cover_gpu(backend: BackendInfo, code: Code | None, gpu: Gpu, situation: Situation) -> Coverage:
    """Whether a build of `backend` with this code runs on a GPU of the backend's vendor."""
    strategy = backend.kind.strategy
    for row in situation.served_by(gpu):
        if row in situation.catalog.vendor:
            assumed = None if row.confidence == "high" else f"this is a guess ({row.text})"
            return Coverage(gpu, row.match, assumed=assumed)
    if strategy == "device":
        return _by_device(backend, gpu, situation)
    if strategy == "none":
        if code is not None and code.native:
            return _by_system(code, gpu, situation.target)
        return Coverage(gpu, "CPU only", "no-code-for-gpu", "a build for this GPU", backend.name)
    if strategy == "sm" and gpu.compute_capability is None:
        return Coverage(gpu, "assumed", assumed="its compute capability is not known")
    if strategy == "sm" and (refused := _refused_by_driver(gpu, situation)):
        return refused
    if strategy == "gfx" and gpu.gfx_target is None:
        wanted, found = "a known gfx target", f"{gpu.label}: unknown"
        return Coverage(gpu, "its gfx target is not known", "gpu-code-unknown", wanted, found)
    if code is None:
        by = "it is not known which GPUs this build has code for"
        return Coverage(gpu, by, "code-unknown", "a list of the build's GPU code", "none")
    if strategy == "sm":
        return _by_sm(backend, code, gpu, situation)
    if gpu.gfx_target in code.native:
        return Coverage(gpu, gpu.gfx_target or "", assumed=_assumed(code))
    return _no_code(gpu, code, str(gpu.gfx_target))


def _no_code(gpu: Gpu, code: Code, needed: str) -> Coverage:
    wanted, found = f"code for {needed} ({gpu.label})", f"code for {' '.join(code.native)}"
    return Coverage(gpu, f"no code for {needed}", "no-code-for-gpu", wanted, found)


def _assumed(code: Code) -> str | None:
    """What had to be assumed about a list of code; a guessed list is no better than a neighbour's."""
    if code.assumed is None and code.confidence == "low":
        return f"this is a guess ({code.source})"
    return code.assumed and f"the list of {code.assumed} was taken"


def _by_sm(backend: BackendInfo, code: Code, gpu: Gpu, situation: Situation) -> Coverage:
    asked = gpu.compute_capability or (0, 0)
    rules = [
        row
        for row in situation.catalog.tables.code_rules
        if not (row.until and backend.toolkit and at_least(backend.toolkit, dotted(row.until)))
    ]
    same = {capability(row.capability): capability(row.other) for row in rules if row.other}
    own_code_only = {capability(row.capability) for row in rules if row.rule == "own-code-only"}
    device = same.get(asked, asked)
    native = [same.get(target, target) for target in map(capability, code.native)]
    runs = [
        target
        for target in native
        if target == device
        or (target[0] == device[0] and target <= device and own_code_only.isdisjoint((target, device)))
    ]
    if runs:
        best = max(runs)
        return Coverage(gpu, f"sm_{best[0]}{best[1]}", assumed=_assumed(code))
    targets = map(capability, () if device in own_code_only else code.ptx or ())
    ptx = [target for target in targets if target <= device]
    if not ptx or backend.toolkit is None:
        return _no_code(gpu, code, f"compute capability {capability_text(asked)}")
    # PTX is compiled by the driver, which must know the toolkit's PTX: minor versions count here.
    target, driver = "compute_{}{}".format(*max(ptx)), situation.drivers.get(gpu.vendor)
    if driver is not None and driver.speaks(backend):
        return Coverage(gpu, target, assumed=_assumed(code))
    needed = version_text(backend.toolkit)
    supported = f"CUDA {version_text(driver.cuda)}" if driver and driver.cuda else "an unknown CUDA version"
    return Coverage(
        gpu,
        f"its code has to be compiled by a driver that supports CUDA {needed}; this one supports {supported}",
        "ptx-needs-newer-driver",
        f"a driver that supports CUDA {needed} (to compile {target})",
        f"a driver that supports {supported}",
    )


def _refused_by_driver(gpu: Gpu, situation: Situation) -> Coverage | None:
    """A driver branch that came before the GPU, or after it was dropped, cannot use it."""
    driver = situation.drivers.get(gpu.vendor)
    if driver is None or driver.version is None or gpu.compute_capability is None:
        return None
    service = situation.catalog.service(capability_text(gpu.compute_capability))
    branch = situation.catalog.branch_of(driver.version[0])
    if service is None or branch is None:
        return None
    if service.last_branch is not None and branch > service.last_branch:
        needed = f"R{service.last_branch} or older"
    elif service.first_branch is not None and branch < service.first_branch:
        needed = f"R{service.first_branch} or newer"
    else:
        return None
    return Coverage(
        gpu,
        f"driver branch R{branch} does not support {service.architecture} GPUs",
        "gpu-not-served-by-driver",
        f"driver branch {needed} (for {service.architecture} GPUs)",
        f"driver {driver.text}",
    )


def _by_system(code: Code, gpu: Gpu, target: Target) -> Coverage:
    """Code that asks for a system instead of a driver: `mps14.0` runs from macOS 14.0 on."""
    name = code.native[0].rstrip("0123456789.")
    floor = dotted_or_none(code.native[0].removeprefix(name))
    version = dotted_or_none(target.os_version)
    if floor is None or version is None or at_least(version, floor):
        return Coverage(gpu, name)
    system = OS_LABELS[target.os]
    return Coverage(
        gpu,
        f"{name} of torch {code.torch} needs {system} {version_text(floor)}",
        "system-too-old",
        f"{system} {version_text(floor)} or newer for {name}",
        f"{system} {version_text(version)}",
    )


def _by_device(backend: BackendInfo, gpu: Gpu, situation: Situation) -> Coverage:
    fact = situation.catalog.gpu_fact(gpu.vendor, gpu.pci_id, gpu.name)
    if fact is None:
        by = f"{gpu.label} is not in the table of GPUs"
    elif not fact.supported:
        by = f"{gpu.label} is not among the GPUs that PyTorch supports"
    elif fact.os and situation.target.os not in fact.os:
        by = f"PyTorch supports {gpu.label} on {' and '.join(fact.os)} only"
    else:
        return Coverage(gpu, f"{backend.name} ({fact.code})" if fact.code else backend.name)
    wanted = f"{VENDOR_NAMES[gpu.vendor]} GPU that PyTorch supports with {backend.name}"
    return Coverage(gpu, by, "no-code-for-gpu", wanted, gpu.label)


def rank_coverage(coverage: tuple[Coverage, ...], situation: Situation) -> tuple[object, ...]:
    """How well a build uses a machine's GPUs (design, rules 3 and 6); larger is better.

    In this order: the GPU that leads (discrete before integrated, then the vendors' rank), every discrete
    GPU of that vendor covered, the preferred or else most capable one covered.
    """
    covered = [item.gpu for item in coverage if item.covered]
    if not covered:
        return (False, False, -UNRANKED, False, False)
    ranks = situation.catalog.vendor_ranks
    lead = max(covered, key=lambda gpu: (gpu.integrated is not True, -ranks.get(gpu.vendor, UNRANKED)))
    # Those with memory of their own, if any has (not on a Jetson, nor for a laptop's only GPU).
    same = [gpu for gpu in situation.gpus if gpu.vendor == lead.vendor]
    rivals = [gpu for gpu in same if gpu.integrated is not True] or same
    prefer = situation.request.prefer_gpu
    preferred = [gpu for gpu in rivals if prefer is not None and gpu.index == prefer]
    # By identity: coverages hold the situation's own GPUs, and equal ones need not be compared.
    ids = {id(gpu) for gpu in covered}
    return (
        True,
        lead.integrated is not True,
        -ranks.get(lead.vendor, UNRANKED),
        all(id(gpu) in ids for gpu in rivals),
        id(preferred[0] if preferred else max(rivals, key=gpu_power)) in ids,
    )


def gpu_power(gpu: Gpu) -> tuple[object, ...]:
    """How capable a GPU is, for comparing those of one vendor; ties fall to its memory, then its place."""
    return (
        gpu.compute_capability or (0, 0),
        (len(gpu.gfx_target), gpu.gfx_target) if gpu.gfx_target else (0, ""),
        gpu.memory_bytes or 0,
        gpu.name or "",
        -(gpu.index or 0),
    )


def rank_toolkit(backend: BackendInfo, situation: Situation) -> tuple[object, ...]:
    """For one torch: the highest toolkit that the driver speaks, else the lowest one above it."""
    toolkit = backend.toolkit
    if toolkit is None:
        return (False, ())
    driver = situation.driver_of(backend)
    if (driver is not None and driver.speaks(backend)) or situation.catalog.floor(backend) is None:
        return (True, toolkit)
    return (False, tuple(-part for part in toolkit))


class Hit(Struct, frozen=True):
    """A row that holds for a build on this machine, about one of its GPUs or (None) about the machine."""

    row: Limit
    gpu: Gpu | None
    torch: str
    backend: str
    kernel: str | None

    @property
    def blocks(self) -> bool:
        """Whether the build does not compute."""
        return self.row.severity == "blocks"

    @property
    def silent(self) -> bool:
        """Whether it is not worth a warning, since something is only slow."""
        return self.row.effect.endswith(" speed")

    def text(self, name: str) -> str:
        """One of the row's texts, `wanted`, `found`, `message` or `workaround`, about this build and GPU."""
        # Where the kernel is not known, the row's first range says which ones it is about.
        first = self.row.kernel[0][0].lstrip("><=").partition(",")[0] if self.row.kernel else ""
        template: str = getattr(self.row, name)
        return template.format(
            torch=self.torch,
            backend=self.backend,
            gpu=self.gpu.label if self.gpu else "",
            code=(self.gpu and self.gpu.code) or "",
            has=" ".join(self.row.except_gfx),
            kernel=self.kernel or f"{first} or newer",
        )

    @property
    def known(self) -> KnownLimit:
        """As the plan shows it."""
        message, workaround = self.text("message"), self.text("workaround")
        return KnownLimit(
            slug=self.row.slug,
            severity=self.row.severity,
            gpu=self.gpu.label if self.gpu else None,
            effect=self.row.effect,
            message=f"{message} ({workaround})" if workaround else message,
            source=self.row.source,
        )


def _rows_here(situation: Situation) -> Iterator[tuple[Limit, tuple[Gpu | None, ...]]]:
    """The rows whose conditions on the machine hold, with the GPUs that each is about."""
    vendors = {kind.kind: kind.vendor for kind in situation.catalog.tables.kinds}
    for row in situation.catalog.tables.limits:
        vendor = vendors.get(row.kind)
        gpus: tuple[Gpu | None, ...] = (None,)
        if vendor is not None:
            gpus = tuple(gpu for gpu in situation.gpus if gpu.vendor == vendor and _about(row, gpu))
        here = _here(row, situation, situation.drivers.get(vendor) if vendor else None) if gpus else None
        if here is not None:
            yield here, gpus


def _about(row: Limit, gpu: Gpu) -> bool:
    """Whether a row is about a GPU of its vendor; one that is not known well enough is not accused."""
    if row.gfx or row.except_gfx:
        code = gpu.gfx_target
        return code is not None and code not in row.except_gfx and (not row.gfx or code in row.gfx)
    if row.sm:
        return gpu.compute_capability is not None and within(gpu.compute_capability, row.sm)
    return not row.pci or (gpu.pci_id or "").lower().startswith(row.pci)


def _settled(names: str, asked: set[str], situation: Situation) -> bool:
    """Whether a package of a row was asked for, and not in one of the versions that the row names with it."""
    if asked.isdisjoint(re.split(r"[<>=!~]", names)):
        return False  # its bounds need not be parsed, which costs as much as a plan
    named, request = requirement(names), situation.request
    rows = (row for row in (*request.requirements, *request.constraints) if row.package == named.package)
    bounds = specifiers(",".join((named.specifier, *(row.specifier for row in rows if row.specifier))))
    return not (named.specifier and can_hold(bounds))


def _here(row: Limit, situation: Situation, driver: DriverFacts | None) -> Limit | None:
    """The row if its conditions on the machine hold, weaker where it is not known whether they do."""
    target, machine = situation.target, situation.machine
    asked = {item.package for item in situation.request.requirements}
    asked |= {line.instead for name in asked for line in situation.catalog.companion_builds(name)}
    if (
        (row.os and target.os not in row.os)
        or (row.arch and target.arch not in row.arch)
        or not set(row.environment) <= set(machine.environment)
        or any(_settled(text, asked, situation) for text in row.names)
        or (row.cpu_lacks and (not machine.cpu_features or set(row.cpu_lacks) <= set(machine.cpu_features)))
        or (row.cuda and not (driver and driver.cuda and within(driver.cuda, row.cuda)))
    ):
        return None
    # The number after `-` counts distributions' own changes.
    release = situation.kernel or ""
    number = re.match(r"\d+(?:\.\d+)*(?:-\d+)?", release) if row.kernel else None
    kernel = dotted(number[0].replace("-", ".")) if number else ()
    named = any(within(kernel, bounds) and word in release for bounds, word in row.kernel)
    if not row.kernel or (release and named):
        return row
    unknown = situation.kernel is None and row.severity == "blocks"
    message = f"{row.message} (the kernel is not known)"
    return structs.replace(row, severity="degrades", avoid=True, message=message) if unknown else None
