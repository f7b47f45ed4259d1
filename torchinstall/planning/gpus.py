"""The GPUs that a build is for, where somebody names them: flags, inventories, variables, an image.

Every spelling that torch, uv, NVIDIA and AMD print is read; what nobody knows is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from torchinstall.core.errors import UsageError
from torchinstall.core.machine import (
    PCI_VENDORS,
    Gpu,
    Machine,
    Vendor,
    capability_named,
    capability_text,
    sm_text,
)
from torchinstall.core.messages import close_matches

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.catalog.model import GpuFact

_GFX = r"(gfx[0-9a-f]+)(?::[a-z]+[+-])*"
"""`gfx942`, and with its features `gfx942:sramecc+:xnack-`."""

_GENERIC = r"gfx(\d+)(?:-(\d))?-generic"
"""LLVM's names for code that a whole family runs: `gfx11-generic`, `gfx10-3-generic`."""

_APPLE = r"(?:apple )?(m[1-9](?: pro| max| ultra)?)"
"""Apple's chips; the first generation of NVIDIA's Tesla M has such names, too."""

_NOISE = re.compile(
    r"\bmig\b.*|\b\d+g[. ]\d+gb\b.*|(?:(?<=\d)[dlpx][mx]?)?(?:-\d+)?-\d+[abcq]$|\bshared\b"
    r"|\b\d+ ?g[bi]?b?\b|\bhbm\d?e?\b|\bpcie?\b|\bsxm\d?\b|\boam\b|\b(?:with )?max-q(?: design)?\b"
    r"|\b(?:nvidia|amd|intel|corporation|geforce|grid|gpu|graphics|series|laptop)\b|\((?:r|tm)\)"
)
"""What may stand in a name without changing the chip: slices (`H100L-94C`), memory, form, maker."""


def declared_gpus(names: Iterable[str], source: str, catalog: Catalog) -> tuple[Gpu, ...]:
    """The GPUs that were named, numbered by vendor.

    Raises:
        UsageError: no product and no code has that name.
    """
    found = []
    for name in names:
        gpu = gpu_named(name, catalog)
        if gpu is None:
            raise _unknown(name.strip(), source, catalog)
        found.append(structs.replace(gpu, source=source))
    return numbered(found)


def numbered(gpus: Iterable[Gpu]) -> tuple[Gpu, ...]:
    """These GPUs with their numbers by vendor."""
    counts: Counter[Vendor] = Counter()
    found = []
    for gpu in gpus:
        found.append(structs.replace(gpu, index=counts[gpu.vendor]))
        counts[gpu.vendor] += 1
    return tuple(found)


def gpu_with_code(text: str) -> Gpu | None:
    """A GPU by what its vendor calls its code, known or not: `sm_90`, `8.9`, `gfx942`."""
    plain = text.strip().lower()
    if (value := capability_named(plain)) is not None:
        return Gpu(vendor="nvidia", compute_capability=value)
    match = re.fullmatch(_GFX, plain)
    return Gpu(vendor="amd", gfx_target=match[1]) if match else None


def gpu_named(text: str, catalog: Catalog, *, within: bool = False) -> Gpu | None:
    """The GPU of a code, a PCI id, or a product's name, whole or short: `sm_90`, `1080ti`, `MI300X`.

    None: nothing is called so, or products with different code are. With `within` a product's name may
    also be a part of the text, as in what clouds and drivers print.
    """
    if len(text) > 200:  # no name is that long
        return None
    return catalog.once(("gpu", text, within), lambda: _find(text.strip(), catalog, within=within))


def _find(text: str, catalog: Catalog, *, within: bool) -> Gpu | None:
    if (gpu := gpu_with_code(text)) is not None:
        return gpu if gpu.code in gpu_codes(catalog) else None
    if match := re.fullmatch(_GENERIC, text.lower()):
        family = re.compile(f"gfx{match[1]}{match[2] or '.'}.")
        codes = sorted(filter(family.fullmatch, gpu_codes(catalog)))
        return Gpu(vendor="amd", gfx_target=codes[0]) if codes else None
    for vendor in PCI_VENDORS.values():
        if (fact := catalog.gpu_fact(vendor, text, text)) is not None:
            return _product_gpu(vendor, fact)
    row, chip = _by_words(text, catalog, within=within), re.fullmatch(_APPLE, text.lower())
    if chip and (row is None or text.lower() != chip[1]):
        return Gpu(vendor="apple", name=f"Apple {chip[1].title()}", integrated=True)
    return None if chip or row is None else _product_gpu(row.vendor, structs.replace(row.fact, name=text))


def gpu_codes(catalog: Catalog) -> tuple[str, ...]:
    """Every compute capability that a driver serves, and every gfx target of a product or of a build."""
    tables = catalog.tables
    products = {row.code for row in tables.gpus("amd") if row.code}
    builds = {code for row in tables.code for code in row.native if code.startswith("gfx")}
    targets = sorted(products | builds, key=lambda code: (len(code), code))
    return (*(row.capability for row in tables.gpu_service), *targets)


class _Product(Struct, frozen=True):
    name: str
    words: str
    vendor: Vendor
    fact: GpuFact


def _words(text: str) -> str:
    """Lower-case words with a space around each; letters and digits are words of their own."""
    plain = _NOISE.sub(" ", re.sub(r"[\s_/,]+", " ", text.lower()).strip())
    plain = _NOISE.sub(" ", plain.replace("-", " ").strip())
    return " " + " ".join(re.findall(r"\d+|[a-z]+", plain)) + " "


def _tight(words: str) -> str:
    return words.replace(" ", "")


def _products(catalog: Catalog) -> list[_Product]:
    return catalog.once("products", lambda: _read_products(catalog))


def _read_products(catalog: Catalog) -> list[_Product]:
    """Every product by its name; `Navi 21 [Radeon RX 6800/6900 XT]` counts for each of the three."""
    rows = []
    for vendor in PCI_VENDORS.values():
        for fact in catalog.tables.gpus(vendor):
            series = ""
            for part in filter(None, map(str.strip, re.split(r"[\[\]/]", fact.name or ""))):
                name = f"{series}{part}" if part[0].isdigit() else part
                series = re.split(r"\d", name)[0]
                rows.append(_Product(name, _words(name), vendor, fact))
    return [row for row in rows if row.words.strip()]


def _by_words(text: str, catalog: Catalog, *, within: bool) -> _Product | None:
    """The product that a shorter name (`Tesla V100`) or one without spaces (`titanv`) means."""
    products, wanted = _products(catalog), _words(text)
    same = [row for row in products if row.words == wanted]
    same = same or [row for row in products if _tight(row.words) == _tight(wanted)]
    if not same and re.search(r"\d{4}|\d.*[a-z]|[a-z].*\d", wanted):
        longer = re.compile(rf"{re.escape(wanted)}(?!\d)")  # M3 is no part of M3-3020
        same = [row for row in products if longer.search(row.words)]
    if not same and within:
        same = [row for row in products if row.words in wanted and row.words.count(" ") > 2]
        if " radeon " in wanted:  # AMD and Intel each have an HD 5500
            same = [row for row in same if row.vendor != "intel"]
    one_code = len({(row.vendor, row.fact.code) for row in same}) == 1
    return min(same, key=lambda row: len(row.words)) if one_code else None


def _product_gpu(vendor: Vendor, fact: GpuFact) -> Gpu | None:
    """None: chips with different code are sold under that name."""
    gpu = Gpu(vendor=vendor) if vendor == "intel" else gpu_with_code(fact.code or "")
    return gpu and structs.replace(gpu, name=fact.name, pci_id=fact.pci_id, integrated=fact.integrated)


def _unknown(text: str, source: str, catalog: Catalog) -> UsageError:
    """The error for a name that nothing has, with the nearest that exist."""
    plain = text.lower().partition(":")[0]
    number = capability_named(plain)
    if number or plain.startswith("gfx"):
        what, wanted = "has the architecture", "an architecture such as sm_90 or gfx1100, or a product's name"
        plain = sm_text(capability_text(number)) if number else plain.partition("-")[0]
        known = [code for code in map(sm_text, gpu_codes(catalog)) if code[:2] == plain[:2]]
        near = [code for code in known if code.startswith(plain) or plain.startswith(code)]
        near = [*near, *close_matches(plain, known, most=4)] or known[-2:]
    else:
        what, wanted = "is called", "sm_90, gfx1100, or a product's name"
        words = _words(text)
        products = _products(catalog) if words.strip() else []
        names = {row.words: row.name for row in sorted(products, key=lambda row: -len(row.name))}
        holding = [key for key in names if {*words.split()} <= {*key.split()} and key != words]
        plain = _tight(words).removeprefix("radeon")
        # One slip is in the letters or in the number: what differs in both is another thing.
        parts = [(kind, re.sub(kind, "", words)) for kind in ("[a-z ]", r"[\d ]")]
        alike = (key for key in names if any(re.sub(kind, "", key) == part for kind, part in parts))
        spelled = {_tight(key).removeprefix("radeon"): key for key in alike}
        close = [spelled[key] for key in close_matches(plain, spelled, most=4)]
        near = [repr(names[key]) for key in sorted(holding, key=len) or close]
        near += [repr(f"Apple {text}")] if re.fullmatch(_APPLE, text.lower()) else []
        near = near or ["sm_90 (its compute capability without the dot)"]
    hints = tuple(f"--target-gpu {name}" for name in list(dict.fromkeys(near))[:4])
    found = f"{text} ({source})"
    return UsageError("unknown-gpu", f"no GPU {what} {text!r}", wanted=wanted, found=found, hints=hints)


class ImageHint(Struct, frozen=True):
    """The driver CUDA version that an image counts on, and the variable that says so."""

    cuda: str
    variable: str


def image_hint(env: Mapping[str, str]) -> ImageHint | None:
    """Read the hint from an image's variables; None where there is none, or the image wants no GPU."""
    if env.get("NVIDIA_VISIBLE_DEVICES") in ("none", "void"):
        return None
    if match := re.search(r"(?:^|[\s,])cuda>=(\d+\.\d+)", env.get("NVIDIA_REQUIRE_CUDA", "")):
        return ImageHint(match[1], "NVIDIA_REQUIRE_CUDA")
    if match := re.match(r"(\d+\.\d+)", env.get("CUDA_VERSION", "")):
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
