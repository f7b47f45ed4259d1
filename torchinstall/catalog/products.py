"""Products by PCI id or name: the last resort when a driver does not say what a GPU is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torchinstall.catalog.model import GpuFact

__all__ = ["Products"]

_AFTER_NAME = re.compile(r"( laptop gpu| \d+ ?gb)+$")
"""What may follow a product's name without changing the chip."""


class Products:
    """The product table of one vendor; the first of several rows for one id or name counts."""

    def __init__(self, rows: Iterable[GpuFact]) -> None:
        self._by_id: dict[str, GpuFact] = {}
        self._by_name: dict[str, GpuFact] = {}
        for row in rows:
            if row.pci_id is not None:
                self._by_id.setdefault(row.pci_id, row)
            if row.name is not None:
                self._by_name.setdefault(_plain_name(row.name), row)

    def find(self, pci_id: str | None, name: str | None) -> GpuFact | None:
        """A product by PCI id, else by name (without the vendor's name, case and spacing apart).

        Where the name is not known as it is, one without its memory size or `Laptop GPU` is looked for:
        `NVIDIA GeForce RTX 3060 12GB`.
        """
        if pci_id is not None and (row := self._by_id.get(pci_id.lower())):
            return row
        if name is None:
            return None
        plain = _plain_name(name)
        return self._by_name.get(plain) or self._by_name.get(_AFTER_NAME.sub("", plain))


def _plain_name(name: str) -> str:
    text = re.sub(r"\b(nvidia|amd|intel|geforce|corporation)\b|\(r\)|\(tm\)", " ", name.lower())
    return re.sub(r"[^a-z0-9]+", " ", text).strip()
