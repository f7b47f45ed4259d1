"""Indexes of GPU vendors, as rows of a table: how their pages are laid out, and how a GPU is named there."""

from __future__ import annotations

from typing import Literal

from torchinstall.catalog.row import Confidence, Row, Text
from torchinstall.core.machine import Vendor


class Advice(Row, frozen=True):
    """An index of a vendor that serves what PyTorch's own does not (`vendor_indexes.json`).

    Attributes:
        match: `gfx1151`, or `l4t36` for a Jetson release; one row each.
        os: operating systems it serves.
        url: what `--index-base` takes.
        layout: where the page of a package is: `{url}/{backend}/{package}/` (as PyTorch's own), `flat`
            (`{url}/{package}/`), or `links` (the URL itself is one page with every file).
        backend: that its builds are for where their local version does not say; None: it always does.
        extras: by package, the extra that brings the code for a GPU; `{gpu}` stands for `match`.
        packages: what torch depends on there and only this index has.
    """

    vendor: Vendor
    match: Text
    os: tuple[Text, ...]
    url: Text
    layout: Literal["backend", "flat", "links"]
    backend: str | None
    extras: dict[str, str]
    packages: tuple[Text, ...]
    text: Text
    confidence: Confidence
    source: str

    @property
    def template(self) -> str:
        """The URL as `index.urls` takes it for this layout."""
        base = self.url.rstrip("/")
        return {"backend": base, "flat": f"{base}/{{package}}", "links": f"{base}/#links"}[self.layout]

    def extras_of(self, package: str) -> tuple[str, ...]:
        """The extra of a package for this GPU."""
        return (self.extras[package].replace("{gpu}", self.match),) if package in self.extras else ()

    def runtime(self) -> tuple[str, ...]:
        """The packages that torch depends on, for this GPU."""
        return tuple(name.replace("{gpu}", self.match) for name in self.packages)
