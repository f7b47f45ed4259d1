"""What a build cannot do here although it has code for the GPU: the rows of `limits.json` that hold.

A library beside torch may lack the GPU, or need another driver, kernel or CPU than there is. A row that
`blocks` rejects the build (through the GPU's coverage, or as a rule about the machine); one that `degrades`
becomes a warning, and rejects only what was asked for with `--need`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct, structs

from torchinstall.catalog.model import BackendInfo, Limit
from torchinstall.core.machine import Gpu, capability_text
from torchinstall.core.plan import KnownLimit
from torchinstall.core.request import canonical_name
from torchinstall.core.versions import dotted, dotted_or_none, within
from torchinstall.planner.situation import Situation

_FASTER = " speed"
"""Ends the name of an effect that is only slow: it is in the plan, and no warning."""


class Hit(Struct, frozen=True):
    """A row that holds for a build on this machine, about one of its GPUs or (None) about the machine."""

    row: Limit
    gpu: Gpu | None
    values: dict[str, str]

    @property
    def blocks(self) -> bool:
        """Whether the build does not compute."""
        return self.row.severity == "blocks"

    @property
    def silent(self) -> bool:
        """Whether it is not worth a warning."""
        return self.row.effect.endswith(_FASTER)

    def fails(self, need: str | None) -> bool:
        """Whether what was asked for with `--need` does not work, and nothing but another build mends it."""
        return need is not None and self.row.effect == need and not self.row.mendable

    def said(self, text: str) -> str:
        """One of the row's texts, `wanted`, `found`, `message` or `way`, about this build and GPU."""
        return str(getattr(self.row, text)).format_map(self.values)

    @property
    def known(self) -> KnownLimit:
        """As the plan shows it."""
        message, way = self.said("message"), self.said("way")
        return KnownLimit(
            slug=self.row.slug,
            severity=self.row.severity,
            gpu=self.gpu.label if self.gpu else None,
            effect=self.row.effect,
            message=f"{message} ({way})" if way else message,
            source=self.row.source,
        )


def limits_of(torch: str, backend: BackendInfo, situation: Situation) -> tuple[Hit, ...]:
    """What holds for a build, for each GPU that a row is about."""
    return situation.once(("limits", torch, backend.name), lambda: tuple(_hits(torch, backend, situation)))


def _hits(torch: str, backend: BackendInfo, situation: Situation) -> Iterator[Hit]:
    release = dotted_or_none(torch)
    if release is None:  # a version that nobody can compare
        return
    for row, gpus in situation.once("limit-rows", lambda: tuple(_rows_here(situation))):
        ours = row.kind in ("", backend.kind.kind) and within(release, row.torch)
        if ours and (not row.toolkit or (backend.toolkit and within(backend.toolkit, row.toolkit))):
            yield from (Hit(row, gpu, _values(row, gpu, torch, backend, situation)) for gpu in gpus)


def _values(
    row: Limit, gpu: Gpu | None, torch: str, backend: BackendInfo, situation: Situation
) -> dict[str, str]:
    code = gpu and (gpu.gfx_target or (gpu.compute_capability and capability_text(gpu.compute_capability)))
    kernel = situation.kernel
    # Where the kernel is not known, the row's first range says which ones it is about.
    unknown = row.kernel and f"{row.kernel[0][0].lstrip('><=').partition(',')[0]} or newer"
    return {
        "torch": torch,
        "backend": backend.name,
        "gpu": gpu.label if gpu else "",
        "code": code or "",
        "has": " ".join(row.except_gfx),
        "kernel": kernel or unknown or "",
    }


def _rows_here(situation: Situation) -> Iterator[tuple[Limit, tuple[Gpu | None, ...]]]:
    """The rows whose conditions on the machine hold, with the GPUs that each is about."""
    vendors = {kind.kind: kind.vendor for kind in situation.catalog.tables.kinds}
    for row in situation.catalog.tables.limits:
        vendor = vendors.get(row.kind)
        gpus: tuple[Gpu | None, ...] = (None,)
        if vendor is not None:
            gpus = tuple(gpu for gpu in situation.gpus if gpu.vendor == vendor and _about(row, gpu))
        here = _here(row, situation) if gpus else None
        if here is not None:
            yield here, gpus


def _about(row: Limit, gpu: Gpu) -> bool:
    """Whether a row is about a GPU of its vendor; one that is not known well enough is not accused."""
    if row.gfx or row.except_gfx:
        return (
            gpu.gfx_target is not None
            and (gpu.gfx_target in row.gfx or not row.gfx)
            and (gpu.gfx_target not in row.except_gfx)
        )
    if row.sm:
        return gpu.compute_capability is not None and within(gpu.compute_capability, row.sm)
    return not row.pci or (gpu.pci_id or "").lower().startswith(row.pci)


def _here(row: Limit, situation: Situation) -> Limit | None:
    """The row if its conditions on the machine hold, weaker where it is not known whether they do."""
    target, machine = situation.target, situation.machine
    asked = {canonical_name(item.name) for item in situation.request.requirements}
    if (
        (row.os and target.os not in row.os)
        or (row.arch and target.arch not in row.arch)
        or not set(row.environment) <= set(machine.environment)
        or not asked.isdisjoint(row.names)
        or (row.cpu_lacks and (not machine.cpu_features or set(row.cpu_lacks) <= set(machine.cpu_features)))
    ):
        return None
    if row.cuda:
        driver = situation.drivers.get("nvidia")
        if driver is None or driver.cuda is None or not within(driver.cuda, row.cuda):
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
