"""The few questions to the catalog's product tables that a fault raises; loaded only then."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchinstall.catalog.model import GpuFact

__all__ = ["last_branch", "product", "served_gfx"]


def product(vendor: str, pci_id: str) -> GpuFact | None:
    """What the catalog knows of a PCI id."""
    from torchinstall.catalog.load import load_catalog

    return load_catalog().gpu_fact(vendor, pci_id, None)


def last_branch(pci_id: str) -> int | None:
    """The last NVIDIA driver branch that serves a GPU; None: still served, or not known."""
    from torchinstall.catalog.load import load_catalog

    catalog = load_catalog()
    fact = catalog.gpu_fact("nvidia", pci_id, None)
    service = catalog.service(fact.code) if fact is not None and fact.code is not None else None
    return service.last_branch if service is not None else None


def served_gfx(target: str) -> bool:
    """Whether any known build of torch carries code for a gfx target."""
    from torchinstall.catalog.load import load_catalog

    return any(target in row.native for row in load_catalog().tables.code)
