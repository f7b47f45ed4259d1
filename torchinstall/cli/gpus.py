"""GPUs that were declared: `--target-gpu sm_90`, `gfx1100`, `NVIDIA H100`."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from torchinstall.errors import UsageError
from torchinstall.machine import Gpu

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.catalog.model import GpuFact
    from torchinstall.machine import Capability, Vendor

__all__ = ["declared_gpus"]

_SM = re.compile(r"(?:sm|compute)_?(\d{1,2})(\d)[af]?", re.IGNORECASE)
_DOTTED = re.compile(r"(\d{1,2})\.(\d)")
_GFX = re.compile(r"gfx[0-9a-f]{3,}", re.IGNORECASE)
_NAMED: tuple[Vendor, ...] = ("nvidia", "amd", "intel")


def declared_gpus(names: tuple[str, ...], source: str, catalog: Catalog) -> tuple[Gpu, ...]:
    """The GPUs that were named, numbered by vendor.

    Raises:
        UsageError: no product and no code has that name.
    """
    counts: dict[str, int] = {}
    found = []
    for name in names:
        gpu = _parse(name, catalog)
        index = counts.get(gpu.vendor, 0)
        counts[gpu.vendor] = index + 1
        found.append(dataclasses.replace(gpu, index=index, source=source))
    return tuple(found)


def _parse(name: str, catalog: Catalog) -> Gpu:
    text = name.strip()
    if match := _SM.fullmatch(text) or _DOTTED.fullmatch(text):
        return Gpu(vendor="nvidia", compute_capability=(int(match[1]), int(match[2])))
    if _GFX.fullmatch(text):
        return Gpu(vendor="amd", gfx_target=text.lower())
    for vendor in _NAMED:
        fact = catalog.gpu_fact(vendor, None, text)
        if fact is not None:
            return _product(fact)
    raise _unknown(text, catalog)


def _product(fact: GpuFact) -> Gpu:
    capability: Capability | None = None
    if fact.vendor == "nvidia" and fact.code and (match := _DOTTED.fullmatch(fact.code)):
        capability = int(match[1]), int(match[2])
    return Gpu(
        vendor=fact.vendor,
        name=fact.name,
        pci_id=fact.pci_id,
        compute_capability=capability,
        gfx_target=fact.code if fact.vendor == "amd" else None,
        integrated=fact.integrated,
    )


def _unknown(text: str, catalog: Catalog) -> UsageError:
    names = {
        row.name.lower(): row.name for vendor in _NAMED for row in catalog.tables.gpus(vendor) if row.name
    }
    words = set(re.findall(r"[a-z0-9]+", text.lower())) - {"nvidia", "amd", "intel", "geforce", "radeon"}
    close = [name for key, name in names.items() if words and words <= set(re.findall(r"[a-z0-9]+", key))]
    import difflib

    close = close or [names[key] for key in difflib.get_close_matches(text.lower(), names, n=4, cutoff=0.6)]
    return UsageError(
        "unknown-gpu",
        f"no GPU is called {text!r}",
        wanted="sm_90, gfx1100, or a product's name",
        found=text,
        hints=tuple(f"--target-gpu {name!r}" for name in sorted(close, key=len)[:4])
        or ("--target-gpu sm_90 (its compute capability without the dot)",),
    )
