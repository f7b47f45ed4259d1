"""Which drivers would let a GPU be used, and with which build: computed from every build, not from one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct, structs

from torchinstall.core.machine import Gpu, capability_text
from torchinstall.core.versions import Dotted, at_least, dotted
from torchinstall.planner.coverage import cover_gpu
from torchinstall.planner.rules import EvaluatedBuild, pinned_out
from torchinstall.planner.situation import Situation

_NOT_HERE = (
    "backend-not-asked",
    "did-not-compute",
    "rosetta",
    "python-not-published",
    "musl",
    "glibc-too-old",
    "macos-too-old",
    "not-confirmed",
)
"""Rules that a driver cannot change."""


class _Window(Struct, frozen=True):
    """Drivers on which a build uses a GPU.

    Attributes:
        low: the lowest, as text in `first`.
        last: the last branch that serves the GPU; None: no end.
    """

    build: str
    low: Dotted
    first: str
    last: int | None

    @property
    def text(self) -> str:
        span = f"{self.first} or newer" if self.last is None else f"{self.first} to R{self.last}"
        return f"{span} (torch {self.build})"


def driver_advice(evaluated: Iterable[EvaluatedBuild], gpu: Gpu, situation: Situation) -> str | None:
    """What to do about the driver, in one clause; None where the driver is not what is wrong."""
    driver = situation.drivers.get(gpu.vendor)
    if gpu.compute_capability is None or situation.tegra or driver is None or driver.version is None:
        return None
    windows = tuple(_windows(evaluated, gpu, situation))
    code = f"compute capability {capability_text(gpu.compute_capability)}"
    if not windows:
        python = ".".join(situation.target.python_version.split(".")[:2])
        return f"no published torch for Python {python} can use {code}, with any driver"
    branch = situation.catalog.branch_of(driver.version[0]) or driver.version[0]
    best = windows[0]
    if best.last is not None and branch > best.last:
        return f"install an older driver: {best.text}; found driver {driver.text}"
    if at_least(driver.version, best.low):
        return None
    easiest = min(windows, key=lambda window: window.low)
    others = f", or {easiest.text}" if easiest.low < best.low else ""
    return f"update the driver: {best.text}{others}; found driver {driver.text}"


def _windows(evaluated: Iterable[EvaluatedBuild], gpu: Gpu, situation: Situation) -> Iterator[_Window]:
    """Every build that some driver lets use the GPU, newest first."""
    catalog = situation.catalog
    service = catalog.service(capability_text(gpu.compute_capability or (0, 0)))
    first, last = (service.first_branch, service.last_branch) if service else (None, None)
    anywhere = structs.replace(situation, drivers={}, memo={})
    for item in evaluated:
        backend = item.build.backend
        floor = situation.driver_floor(backend)
        if backend.kind.vendor != gpu.vendor or floor is None or item.rejected_by(*_NOT_HERE):
            continue
        if pinned_out(item) is not None:
            continue
        code = catalog.code(item.build.torch, backend, situation.target.platform)
        found = cover_gpu(backend, code, gpu, anywhere)
        starts = [(dotted(floor), floor)]
        if first is not None:
            starts.append(((first,), f"R{first}"))
        if found.rule == "ptx-needs-newer-driver":
            speaking = [
                number
                for number, cuda in catalog.tables.branch_cuda.items()
                if at_least(dotted(cuda), backend.toolkit or ())
            ]
            if not speaking:
                continue
            starts.append(((min(speaking),), f"R{min(speaking)}"))
        elif not found.covered:
            continue
        low, text = max(starts)
        if last is None or (catalog.branch_of(low[0]) or 0) <= last:
            yield _Window(item.build.name, low, text, last)
