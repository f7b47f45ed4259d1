"""GPUs that were declared: `--target-gpu sm_90`, `gfx1100`, `NVIDIA H100`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import structs

from torchinstall.core.errors import UsageError
from torchinstall.core.machine import Gpu

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.catalog.model import GpuFact
    from torchinstall.core.machine import Capability, Machine, Vendor

__all__ = ["declared_gpus", "visible_gpus"]


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
        found.append(structs.replace(gpu, index=index, source=source))
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
            return _product(vendor, fact)
    raise _unknown(text, catalog)


def _product(vendor: Vendor, fact: GpuFact) -> Gpu:
    capability: Capability | None = None
    if vendor == "nvidia" and fact.code and (match := _DOTTED.fullmatch(fact.code)):
        capability = int(match[1]), int(match[2])
    return Gpu(
        vendor=vendor,
        name=fact.name,
        pci_id=fact.pci_id,
        compute_capability=capability,
        gfx_target=fact.code if vendor == "amd" else None,
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


_VARIABLES = {
    "nvidia": ("CUDA_VISIBLE_DEVICES",),
    # The second counts within what the first left; CUDA_VISIBLE_DEVICES is HIP's fallback.
    "amd": ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
}


def visible_gpus(env: Mapping[str, str], machine: Machine) -> tuple[tuple[str, int], ...] | None:
    """The GPUs left, as (vendor, index); None where no variable says anything.

    A set but empty variable hides every GPU of its vendor, as the drivers read it.
    """
    left: list[tuple[str, int]] = []
    said = False
    for vendor in dict.fromkeys(gpu.vendor for gpu in machine.gpus):
        gpus = [gpu for gpu in machine.gpus if gpu.vendor == vendor]
        indexes = [place if gpu.index is None else gpu.index for place, gpu in enumerate(gpus)]
        kept = list(range(len(gpus)))
        for value in _values(vendor, env):
            said = True
            chosen = (
                _oneapi(value, len(kept)) if vendor == "intel" else _chosen(value, [gpus[k] for k in kept])
            )
            kept = [kept[place] for place in chosen]
        left += [(vendor, indexes[place]) for place in kept]
    return tuple(left) if said else None


def _values(vendor: str, env: Mapping[str, str]) -> list[str]:
    if vendor == "intel":
        return [env["ONEAPI_DEVICE_SELECTOR"]] if env.get("ONEAPI_DEVICE_SELECTOR") else []
    found = [env[name] for name in _VARIABLES.get(vendor, ()) if name in env]
    if vendor == "amd" and "HIP_VISIBLE_DEVICES" not in env and "CUDA_VISIBLE_DEVICES" in env:
        found.append(env["CUDA_VISIBLE_DEVICES"])
    return found


def _chosen(value: str, gpus: list[Gpu]) -> list[int]:
    """Places that a list of numbers and UUIDs names; the first entry that names nothing ends the list.

    That is CUDA's rule, and why -1 hides everything that follows it.
    """
    places: list[int] = []
    for item in (part.strip() for part in value.split(",")):
        if item.upper().startswith("MIG-"):
            found = _mig_parents(item, gpus)
        elif item.upper().startswith("GPU-"):
            found = [place for place, gpu in enumerate(gpus) if _same_uuid(gpu, item)]
        elif item.isdigit() and int(item) < len(gpus):
            found = [int(item)]
        else:
            found = []
        if not found:
            break
        places += [place for place in found if place not in places]
    return places


def _same_uuid(gpu: Gpu, prefix: str) -> bool:
    return gpu.uuid is not None and gpu.uuid.lower().startswith(prefix.lower())


def _mig_parents(item: str, gpus: list[Gpu]) -> list[int]:
    """The GPU of `MIG-GPU-<uuid>/1/0`; a plain `MIG-<uuid>` does not say whose slice it is: any GPU's."""
    body = item[4:].partition("/")[0]
    if body.upper().startswith("GPU-"):
        return [place for place, gpu in enumerate(gpus) if _same_uuid(gpu, body)]
    return list(range(len(gpus)))


def _oneapi(value: str, count: int) -> list[int]:
    """Devices that `level_zero:0,1;opencl:*` selects; a `!` entry takes away, `0.1` is a part of device 0."""
    wanted: set[int] = set()
    unwanted: set[int] = set()
    only_unwanted = True
    for entry in value.split(";"):
        take_away = entry.strip().startswith("!")
        backend, _, devices = entry.strip().lstrip("!").partition(":")
        found: set[int] = set()
        ours = backend.lower() in ("level_zero", "opencl", "*")
        for device in devices.split(",") if ours else ():
            number = device.strip().partition(".")[0]
            if number.lower() in ("*", "gpu"):
                found |= set(range(count))
            elif number.isdigit():
                found.add(int(number))
        if take_away:
            unwanted |= found
        else:
            only_unwanted = False
            wanted |= found
    base = set(range(count)) if only_unwanted else wanted
    return sorted(place for place in base - unwanted if place < count)
