"""Which GPU an inventory means: by code, PCI id, or the short name that people and schedulers use."""

from __future__ import annotations

import re

from msgspec import Struct, structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.machine import Gpu, Vendor, capability

_VENDORS: tuple[Vendor, ...] = ("nvidia", "amd", "intel")
_PCI: dict[str, Vendor] = {"10de": "nvidia", "1002": "amd", "8086": "intel"}
_NOISE = re.compile(
    r"\bmig\b.*|\b\d+g[. ]\d+gb\b.*|-\d+[abcq]$|\bshared\b|\b\d+ ?g[bi]?b?\b|\bhbm\d?e?\b|\bpcie?\b"
    r"|\bsxm\d?\b|\boam\b|\b(?:nvidia|amd|intel|corporation|geforce|grid|gpu|graphics|series|laptop)\b"
)
"""What may stand in a name without changing the chip: slices, memory, form, maker."""


def gpu_of(
    catalog: Catalog, *, product: str | None = None, code: str | None = None, pci_id: str | None = None
) -> Gpu | None:
    """A GPU by what is known of it; None: nothing that is known identifies it.

    Args:
        catalog: knows products.
        product: its name, or a part of it.
        code: `8.9` or `gfx942`.
        pci_id: `10de:2684`.
    """
    named = gpu_named(product, catalog) if product else None
    name = product or (named.name if named is not None else None)
    if code and re.fullmatch(r"\d{1,2}\.\d", code):
        return Gpu(vendor="nvidia", name=name, compute_capability=capability(code), integrated=False)
    if code and code.lower().startswith("gfx"):
        return Gpu(vendor="amd", name=name, gfx_target=code.lower())
    if pci_id and pci_id[:4].lower() in _PCI:
        return Gpu(vendor=_PCI[pci_id[:4].lower()], name=product, pci_id=pci_id.lower())
    return None if named is None else structs.replace(named, name=name)


def gpu_named(text: str, catalog: Catalog) -> Gpu | None:
    """The GPU of a short name: `a100`, `1080ti`, `nvidia_h100_80gb_hbm3`, `MI300X`, `sm_90`, `gfx942`.

    None: no product has that name, or products with different code have.
    """
    plain = text.strip().lower()
    if match := re.fullmatch(r"(?:sm|cc)[_.-]?(\d{1,2})\.?(\d)|(\d{1,2})\.(\d)", plain):
        return gpu_of(catalog, code=f"{match[1] or match[3]}.{match[2] or match[4]}")
    if re.fullmatch(r"gfx[0-9a-f]{3,}", plain):
        return gpu_of(catalog, code=plain)
    wanted = _words(plain)
    products = _products(catalog)
    tight = wanted.replace(" ", "")
    same = [row for row in products if row.words == wanted] or [row for row in products if row.tight == tight]
    if not same and any(character.isdigit() for character in wanted):
        same = [row for row in products if wanted in row.words]
        same = same or [row for row in products if row.words in wanted and row.words.count(" ") > 2]
    if not same or len({row.code for row in same}) > 1:
        return None
    return min(same, key=lambda row: len(row.words)).gpu


class _Product(Struct, frozen=True):
    words: str
    tight: str
    code: tuple[str, str]
    gpu: Gpu


def _words(text: str) -> str:
    """Lower-case words with a space around each; letters and digits are words of their own."""
    plain = _NOISE.sub(" ", re.sub(r"[\s_/,]+", " ", text.lower()).strip())
    plain = _NOISE.sub(" ", plain.replace("-", " ").strip())
    return " " + " ".join(re.findall(r"\d+|[a-z]+", plain)) + " "


def _products(catalog: Catalog) -> list[_Product]:
    """Every product by the words of its name; a row with several names counts for each."""
    key = ("fleet-products",)
    if key not in catalog.scratch:
        rows: list[_Product] = []
        for vendor in _VENDORS:
            for row in catalog.tables.gpus(vendor):
                if row.name is None or row.code is None:
                    continue
                nvidia = vendor == "nvidia" and row.code[:1].isdigit()
                gpu = Gpu(
                    vendor=vendor,
                    name=row.name,
                    compute_capability=capability(row.code) if nvidia else None,
                    gfx_target=row.code if vendor == "amd" else None,
                    pci_id=row.pci_id if vendor == "intel" else None,
                    integrated=row.integrated,
                )
                for name in filter(str.strip, re.split(r"[\[\]/]", row.name)):
                    words = _words(name)
                    rows.append(_Product(words, words.replace(" ", ""), (vendor, row.code), gpu))
        catalog.scratch[key] = rows
    found: list[_Product] = catalog.scratch[key]
    return found
