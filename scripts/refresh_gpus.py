"""Add products of pci.ids to the GPU tables (the last resort when no driver answers).

    python -m scripts.refresh_gpus                                     # shows what the public list has
    python -m scripts.refresh_gpus --write                             # once a month
    python -m scripts.refresh_gpus --pci-ids /usr/share/misc/pci.ids

What a chip can do is learned from the rows that are there: all known products of chip `AD102` have
capability 8.9, so a new product of that chip has it too. A chip whose known products disagree, or of which
none is known, is named on stderr and gets no row: somebody has to look it up.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from dataclasses import dataclass

from scripts.refreshing import Row, arguments, finish, fold, parser, read_source
from torchinstall.catalog.tables import Table, Tables

SOURCE = "pci-ids-page"

PUBLIC_LIST = "https://pci-ids.ucw.cz/v2.2/pci.ids"

VENDORS = {"nvidia": "10de", "amd": "1002", "intel": "8086"}
"""Vendors whose chips are named so that they tell what the product can do."""

_CHIP = {
    "nvidia": re.compile(r"(?P<chip>[GT][A-Z](?:\d{3}|\d{2}[A-Z])|AD\d{3})"),
    "amd": re.compile(r"(?P<chip>[A-Z][A-Za-z]+(?: Halo)?(?: ?\d+)?)"),
    "intel": re.compile(r"(?P<chip>[A-Z][\w -]*?) \[(?=[^\]]*(?:Arc|Graphics|GPU))"),
}
"""`AD102`, `GA107` of `GA107BM`, `GB10B`; `Navi 31`, `Strix Halo`, `Phoenix1`; `DG2`, `Battlemage G21`."""

_OF_THE_CHIP = ("code", "supported", "integrated", "os")
"""Columns that all products of a chip share."""

_PRODUCT = re.compile(r"\[(?P<name>.+)\]\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A line of pci.ids: `2684  AD102 [GeForce RTX 4090]`."""

    pci_id: str
    chip: str
    name: str | None


def main(argv: list[str] | None = None) -> int:
    """Run the refresher; returns its exit code."""
    options = parser(__doc__ or "")
    options.add_argument(
        "--pci-ids", default=PUBLIC_LIST, help="pci.ids, a file or a URL (default: %(default)s)"
    )
    args = arguments(options, argv)
    tables = Tables(args.data)
    text = read_source(args.pci_ids)
    changed = [refreshed(tables, vendor, products(text, vendor), args.as_of) for vendor in VENDORS]
    return finish(tables, changed, write=args.write)


def products(text: str, vendor: str) -> list[Product]:
    """The vendor's devices whose line names a chip."""
    found: list[Product] = []
    inside = False
    for line in text.splitlines():
        if line[:1] not in ("\t", "#", ""):
            inside = line.startswith(VENDORS[vendor])
            continue
        match = re.match(r"\t([0-9a-f]{4})  (.+)", line)
        if not inside or match is None:
            continue
        chip = _CHIP[vendor].match(match[2])
        name = _PRODUCT.search(match[2])
        if chip is not None:
            # AMD's table keeps the whole line, since a chip of AMD's is many products.
            short = name["name"] if name else None
            found.append(
                Product(
                    pci_id=f"{VENDORS[vendor]}:{match[1]}",
                    chip=chip["chip"],
                    name=match[2] if vendor == "amd" else short,
                )
            )
    return found


def refreshed(tables: Tables, vendor: str, listed: list[Product], as_of: str) -> Table:
    """The vendor's table with a row for each product of a chip that the table knows."""
    table = tables.file(f"gpus_{vendor}.json")
    by_id = {row["pci_id"]: row for row in table.rows if row["pci_id"] is not None}
    known: dict[str, set[tuple[tuple[str, object], ...]]] = defaultdict(set)
    for product in listed:
        if row := by_id.get(product.pci_id):
            known[product.chip].add(tuple((name, row[name]) for name in _OF_THE_CHIP if name in row))
    fresh: list[Row] = []
    open_chips: set[str] = set()
    for product in listed:
        if product.pci_id in by_id:
            continue
        if len(known[product.chip]) != 1:
            open_chips.add(product.chip)
            continue
        facts = dict(next(iter(known[product.chip])))
        fresh.append(
            {
                "pci_id": product.pci_id,
                "name": product.name,
                **facts,
                "confidence": "medium",
                "source": SOURCE,
            }
        )
    if open_chips:
        print(f"{vendor}: no capability known for {', '.join(sorted(open_chips))}", file=sys.stderr)
    with_id = sorted([*by_id.values(), *fresh], key=lambda row: str(row["pci_id"]))
    by_name = [row for row in table.rows if row["pci_id"] is None]
    source = {SOURCE: f"pci.ids, read on {as_of}; what the chip can do from other products of the same chip"}
    return fold(table, (*with_id, *by_name), source, as_of)


if __name__ == "__main__":
    sys.exit(main())
