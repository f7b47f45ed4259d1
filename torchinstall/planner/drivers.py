"""Which drivers would do: on which of them a build uses a GPU, and what to change where there is another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.machine import Gpu, capability_text
from torchinstall.core.versions import at_least, dotted, version_text
from torchinstall.planner.builds import Build
from torchinstall.planner.coverage import cover_gpu
from torchinstall.planner.rules import HARDWARE_RULES, RULES, EvaluatedBuild, pinned_out
from torchinstall.planner.situation import Situation

_NOT_HERE = ("not-confirmed", *(slug for slug, _ in RULES[: RULES.index(HARDWARE_RULES[0])]))
"""Rules that a driver cannot change."""


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

    def speaking(self, cuda: str | None, catalog: Catalog) -> Window | None:
        """From the branch on that supports a CUDA version, where that is needed; None: no driver does."""
        if cuda is None:
            return self
        branches = [row.branch for row in catalog.tables.branches if at_least(dotted(row.cuda), dotted(cuda))]
        if not branches:
            return None
        low = max((self.low or "0", str(min(branches))), key=dotted)
        return Window(low, self.below) if self.below is None or dotted(low) < dotted(self.below) else None


def drivers_for(build: Build, gpu: Gpu, situation: Situation) -> tuple[Window, str | None] | None:
    """The drivers on which a build uses a GPU, and the CUDA version that its code has to be compiled with.

    None: it uses the GPU with none.
    """
    catalog, backend = situation.catalog, build.backend
    code = catalog.code(build.torch, backend, situation.target.platform)
    found = cover_gpu(backend, code, gpu, structs.replace(situation, drivers={}))
    compiled = found.rule == "ptx-needs-newer-driver"
    if not (found.covered or compiled):
        return None
    service = catalog.service(capability_text(gpu.compute_capability or (0, 0)))
    first, last = (service.first_branch, service.last_branch) if service else (None, None)
    lows = (situation.driver_floor(backend), str(first) if first else None)
    low = max(filter(None, lows), key=dotted, default=None)
    ended = (branch for branch in catalog.tables.branch_cuda if last is not None and branch > last)
    below = str(min(ended, default="")) or None
    if low and below and dotted(low) >= dotted(below):
        return None
    return Window(low, below), version_text(backend.toolkit or ()) if compiled else None


def usable_drivers(
    evaluated: Iterable[EvaluatedBuild], gpu: Gpu, situation: Situation
) -> Iterator[tuple[EvaluatedBuild, Window]]:
    """Every build that some driver lets use a GPU, newest first, and the drivers."""
    for item in evaluated:
        backend = item.build.backend
        if backend.kind.vendor != gpu.vendor or situation.driver_floor(backend) is None:
            continue
        if item.rejected_by(*_NOT_HERE) or pinned_out(item) is not None:
            continue
        found = drivers_for(item.build, gpu, situation)
        window = found and found[0].speaking(found[1], situation.catalog)
        if window:
            yield item, window


def driver_advice(evaluated: tuple[EvaluatedBuild, ...], gpu: Gpu, situation: Situation) -> str | None:
    """What to do about the driver, in one clause; None where the driver is not what is wrong."""
    driver = situation.drivers.get(gpu.vendor)
    if gpu.compute_capability is None or situation.tegra:
        return None
    usable = tuple(usable_drivers(evaluated, gpu, situation))
    code = capability_text(gpu.compute_capability)
    if not usable:
        too_old = (item for item in evaluated if item.rejected_by("system-too-old") and item.torch_allowed)
        if any(item.build.backend.kind.vendor == gpu.vendor and gpu in item.covered for item in too_old):
            return None  # the system is what is wrong
        asked = " ".join(f"{name}{bound}" for name, bound in situation.requirements.bounds.items() if bound)
        named = "" if situation.request.backend == "auto" else f" of {situation.request.backend}"
        named += f" that meets {asked}" if asked else ""
        what = f"no published torch{named} for Python {situation.target.python_minor}"
        return f"{what} can use compute capability {code}, with any driver"
    if driver is None or driver.version is None:
        return None
    service = situation.catalog.service(code)

    def shown(item: EvaluatedBuild, window: Window) -> str:
        floor = situation.driver_floor(item.build.backend)
        low = window.low if window.low == floor else f"R{window.low}"
        end = "or newer" if service is None or window.below is None else f"to R{service.last_branch}"
        return f"{low} {end} (torch {item.build.name})"

    best = usable[0]
    if best[1].below is not None and at_least(driver.version, dotted(best[1].below)):
        return f"install an older driver: {shown(*best)}; found driver {driver.text}"
    if best[1].holds(driver.version):
        return None
    easiest = min(usable, key=lambda pair: dotted(pair[1].low or "0"))
    others = f", or {shown(*easiest)}" if easiest[1].low != best[1].low else ""
    return f"update the driver: {shown(*best)}{others}; found driver {driver.text}"
