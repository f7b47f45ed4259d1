"""The GPUs that a build is for, where somebody names them: flags, variables of visible devices, an image.

Every spelling that torch, uv, NVIDIA and AMD print is read; what nobody knows is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from torchinstall.core.errors import UsageError
from torchinstall.core.machine import Gpu, Machine, Vendor, capability
from torchinstall.core.messages import close_matches

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.catalog.model import GpuFact

_SM = r"(?i)(?:(?:sm|compute|cc|lto)[-_ ]?)?(\d{1,2})[._]?(\d)[af]?(?:\+ptx|[-_](?:real|virtual))?"
"""`sm_90`, `sm_90a`, `compute_90`, `9.0`, `9.0+PTX`, `90-real`."""

_GFX = r"(?i)(gfx[0-9a-f]+)(?::[a-z]+[+-])*"
"""`gfx942`, and with its features `gfx942:sramecc+:xnack-`."""

_GENERIC = r"(?i)gfx(\d+(?:-\d)?)-generic"
"""LLVM's names for code that a whole family runs: `gfx11-generic`, `gfx10-3-generic`."""

_PCI = r"(?i)[0-9a-f]{4}:[0-9a-f]{4}"
_NAMED: tuple[Vendor, ...] = ("nvidia", "amd", "intel")


def declared_gpus(names: tuple[str, ...], source: str, catalog: Catalog) -> tuple[Gpu, ...]:
    """The GPUs that were named, numbered by vendor.

    Raises:
        UsageError: no product and no code has that name.
    """
    counts: dict[str, int] = {}
    found = []
    for name in names:
        gpu = _parse(name.strip(), catalog)
        index = counts.get(gpu.vendor, 0)
        counts[gpu.vendor] = index + 1
        found.append(structs.replace(gpu, index=index, source=source))
    return tuple(found)


def _parse(text: str, catalog: Catalog) -> Gpu:
    if match := re.fullmatch(_SM, text):
        code = f"{match[1]}.{match[2]}"
        if code in _capabilities(catalog):
            return Gpu(vendor="nvidia", compute_capability=capability(code))
        text = f"sm_{match[1]}{match[2]}"
        raise _unknown_code(text, [f"sm_{known.replace('.', '')}" for known in _capabilities(catalog)])
    if match := re.fullmatch(_GENERIC, text):
        start = "gfx" + match[1].replace("-", "")
        family = [code for code in _gfx_targets(catalog) if code.startswith(start)]
        width = len(match[1].partition("-")[0]) + 5
        if own := [code for code in family if len(code) == width]:
            return Gpu(vendor="amd", gfx_target=min(own))
    match = re.fullmatch(_GFX, text)
    if match is not None and match[1].lower() in _gfx_targets(catalog):
        return Gpu(vendor="amd", gfx_target=match[1].lower())
    if text.lower().startswith("gfx"):
        raise _unknown_code(text, _gfx_targets(catalog))
    pci_id = text.lower() if re.fullmatch(_PCI, text) else None
    for vendor in _NAMED:
        fact = catalog.gpu_fact(vendor, pci_id, text) or _by_words(vendor, text, catalog)
        if fact is not None:
            return product_gpu(vendor, fact)
    raise _unknown(text, catalog)


def _capabilities(catalog: Catalog) -> tuple[str, ...]:
    return tuple(row.capability for row in catalog.tables.gpu_service)


def _gfx_targets(catalog: Catalog) -> tuple[str, ...]:
    """Every gfx target of a product or of a build."""
    rows = catalog.tables
    products = {row.code for row in rows.gpus("amd") if row.code}
    builds = {code for row in rows.code for code in row.native if code.startswith("gfx")}
    return tuple(sorted(products | builds, key=lambda code: (len(code), code)))


_SAID_BY_ALL = {"nvidia", "amd", "intel", "geforce", "radeon", "graphics", "r", "tm", "gpu"}


def _spoken(name: str) -> str:
    """A name without the words that every product of a vendor has."""
    return " ".join(word for word in re.findall(r"[a-z0-9]+", name.lower()) if word not in _SAID_BY_ALL)


def _spelled(name: str) -> str:
    return _spoken(name).replace(" ", "")


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", text.lower()))


def _by_words(vendor: Vendor, text: str, catalog: Catalog) -> GpuFact | None:
    """The product that a shorter name (`Tesla V100`) or one without spaces (`rtx4090`) means.

    All products with its words must run one code.
    """
    words = _words(text) - _SAID_BY_ALL
    others = set(_NAMED) - {vendor}
    if not any(any(char.isdigit() for char in word) for word in words) or _words(text) & others:
        return None
    rows = [
        row
        for row in catalog.tables.gpus(vendor)
        if row.name and (words <= _words(row.name) or _spelled(row.name) == _spelled(text))
    ]
    same = rows and len({(row.code, row.supported, row.integrated, row.os) for row in rows}) == 1
    return structs.replace(min(rows, key=lambda row: len(row.name or "")), name=text) if same else None


def product_gpu(vendor: Vendor, fact: GpuFact) -> Gpu:
    """The GPU of a table's row."""
    known = vendor == "nvidia" and fact.code is not None and fact.code[:1].isdigit()
    return Gpu(
        vendor=vendor,
        name=fact.name,
        pci_id=fact.pci_id,
        compute_capability=capability(fact.code or "") if known else None,
        gfx_target=fact.code if vendor == "amd" else None,
        integrated=fact.integrated,
    )


def _unknown_code(text: str, known: list[str] | tuple[str, ...]) -> UsageError:
    """An architecture that no product has: the nearest that exist are named."""
    plain = text.lower().partition(":")[0].partition("-")[0]
    close = [code for code in known if code.startswith(plain) or plain.startswith(code)]
    close += close_matches(plain, known, most=4)
    near = list(dict.fromkeys(close))[:4] or known[-2:]
    wanted = "an architecture such as sm_90 or gfx1100, or a product's name"
    return _unknown_gpu(f"no GPU has the architecture {text!r}", wanted, text, near)


def _unknown(text: str, catalog: Catalog) -> UsageError:
    names = {
        _spoken(row.name): row.name for vendor in _NAMED for row in catalog.tables.gpus(vendor) if row.name
    }
    words = _words(_spoken(text))
    holding = [key for key in names if words and words <= _words(key)]
    spelled = {_spelled(key): key for key in names if key}
    close = [spelled[key] for key in close_matches(_spelled(text), spelled, most=4)]
    near = [repr(names[key]) for key in (sorted(holding, key=len) or close)[:4]]
    near = near or ["sm_90 (its compute capability without the dot)"]
    return _unknown_gpu(f"no GPU is called {text!r}", "sm_90, gfx1100, or a product's name", text, near)


def _unknown_gpu(what: str, wanted: str, found: str, near: Iterable[str]) -> UsageError:
    hints = tuple(f"--target-gpu {name}" for name in near)
    return UsageError("unknown-gpu", what, wanted=wanted, found=found, hints=hints)


_REQUIRED_CUDA = r"(?:^|[\s,])cuda>=(\d+\.\d+)"
_CUDA = r"(\d+\.\d+)"
_NO_DEVICES = ("none", "void")


class ImageHint(Struct, frozen=True):
    """The driver CUDA version that an image counts on, and the variable that says so."""

    cuda: str
    variable: str


def image_hint(env: Mapping[str, str]) -> ImageHint | None:
    """Read the hint from an image's variables; None where there is none, or the image wants no GPU."""
    if env.get("NVIDIA_VISIBLE_DEVICES") in _NO_DEVICES:
        return None
    if match := re.search(_REQUIRED_CUDA, env.get("NVIDIA_REQUIRE_CUDA", "")):
        return ImageHint(match[1], "NVIDIA_REQUIRE_CUDA")
    if match := re.match(_CUDA, env.get("CUDA_VERSION", "")):
        return ImageHint(match[1], "CUDA_VERSION")
    return None


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
    restricted = False
    for vendor in dict.fromkeys(gpu.vendor for gpu in machine.gpus):
        gpus = list(enumerate(gpu for gpu in machine.gpus if gpu.vendor == vendor))
        select = _of_selector if vendor == "intel" else _of_list
        for value in _values(vendor, env):
            restricted = True
            gpus = [gpus[number] for number in select(value, [gpu for _, gpu in gpus])]
        left += [(vendor, number if gpu.index is None else gpu.index) for number, gpu in gpus]
    return tuple(left) if restricted else None


def _values(vendor: str, env: Mapping[str, str]) -> list[str]:
    if vendor == "intel":
        return [env["ONEAPI_DEVICE_SELECTOR"]] if env.get("ONEAPI_DEVICE_SELECTOR") else []
    found = [env[name] for name in _VARIABLES.get(vendor, ()) if name in env]
    if vendor == "amd" and "HIP_VISIBLE_DEVICES" not in env and "CUDA_VISIBLE_DEVICES" in env:
        found.append(env["CUDA_VISIBLE_DEVICES"])
    return found


def _of_list(value: str, gpus: list[Gpu]) -> list[int]:
    """Positions that a list of numbers and UUIDs names; the first entry that names nothing ends the list.

    That is CUDA's rule, and why -1 hides everything that follows it.
    """
    positions: list[int] = []
    for item in (part.strip() for part in value.split(",")):
        if item.upper().startswith("MIG-"):
            found = _mig_parents(item, gpus)
        elif item.upper().startswith("GPU-"):
            found = [number for number, gpu in enumerate(gpus) if _same_uuid(gpu, item)]
        else:
            found = [int(item)] if item.isdigit() and int(item) < len(gpus) else []
        if not found:
            break
        positions += [number for number in found if number not in positions]
    return positions


def _same_uuid(gpu: Gpu, prefix: str) -> bool:
    return gpu.uuid is not None and gpu.uuid.lower().startswith(prefix.lower())


def _mig_parents(item: str, gpus: list[Gpu]) -> list[int]:
    """The GPU of `MIG-GPU-<uuid>/1/0`; a plain `MIG-<uuid>` does not say whose slice it is: any GPU's."""
    body = item[4:].partition("/")[0]
    if body.upper().startswith("GPU-"):
        return [number for number, gpu in enumerate(gpus) if _same_uuid(gpu, body)]
    return list(range(len(gpus)))


def _of_selector(value: str, gpus: list[Gpu]) -> list[int]:
    """Devices that `level_zero:0,1;opencl:*` selects; `!` removes, `0.1` is a part of device 0."""
    everything = set(range(len(gpus)))
    selected: set[int] = set()
    removed: set[int] = set()
    entries = [entry.strip() for entry in value.split(";")]
    for entry in entries:
        backend, _, devices = entry.lstrip("!").partition(":")
        if backend.lower() not in ("level_zero", "opencl", "*"):
            continue
        into = removed if entry.startswith("!") else selected
        for device in devices.split(","):
            number = device.strip().partition(".")[0]
            if number.lower() in ("*", "gpu"):
                into |= everything
            elif number.isdigit():
                into.add(int(number))
    if all(entry.startswith("!") for entry in entries):
        selected = everything
    return sorted((selected - removed) & everything)
