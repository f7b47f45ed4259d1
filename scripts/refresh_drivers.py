"""Read which CUDA each NVIDIA driver branch speaks from CUDA release notes, into driver_branches.json.

    python -m scripts.refresh_drivers --release-notes https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/
    python -m scripts.refresh_drivers --release-notes saved-page.html --write

The table "CUDA Toolkit and Corresponding Driver Versions" pairs each toolkit with the driver it came with;
the branch of that driver speaks that CUDA. Branches that the notes do not name keep their row.
"""

from __future__ import annotations

import html
import re
import sys

from scripts.refreshing import Row, arguments, finish, fold, parser, read_source
from torchinstall.catalog.tables import Table, Tables
from torchinstall.core.versions import dotted

SOURCE = "release-notes-page"

_ROW = re.compile(
    r"CUDA\s+(?P<cuda>\d+\.\d+)(?:\.\d+)?(?:\s+(?:GA|RC|Update\s+\d+|\([^)]*\)))*\s*\|?\s*"
    r"(?:>=|≥)\s*(?P<branch>\d{3})\.\d+"
)


def main(argv: list[str] | None = None) -> int:
    """Run the refresher; returns its exit code."""
    options = parser(__doc__ or "")
    options.add_argument("--release-notes", required=True, help="page or saved file of CUDA release notes")
    args = arguments(options, argv)
    tables = Tables(args.data)
    branches = paired(read_source(args.release_notes))
    if not branches:
        raise SystemExit(f"{args.release_notes} has no row like 'CUDA 13.0 GA >=580.65.06'")
    return finish(tables, (refreshed(tables, branches, args.as_of),), write=args.write)


def paired(text: str) -> dict[int, str]:
    """Branch -> newest CUDA that the page pairs with it."""
    plain = html.unescape(re.sub(r"<[^>]+>", " ", text))
    found: dict[int, str] = {}
    for match in _ROW.finditer(plain):
        branch, cuda = int(match["branch"]), match["cuda"]
        if branch not in found or dotted(cuda) > dotted(found[branch]):
            found[branch] = cuda
    return found


def refreshed(tables: Tables, branches: dict[int, str], as_of: str) -> Table:
    """driver_branches.json with what the page says; a row that says the same stays as it is."""
    table = tables.file("driver_branches.json")
    rows: dict[int, Row] = {row["branch"]: row for row in table.rows}
    for branch, cuda in branches.items():
        if branch not in rows or rows[branch]["cuda"] != cuda:
            rows[branch] = {"branch": branch, "cuda": cuda, "confidence": "high", "source": SOURCE}
    source = {SOURCE: f"CUDA release notes, toolkits and corresponding drivers, read on {as_of}"}
    return fold(table, (rows[branch] for branch in sorted(rows)), source, as_of)


if __name__ == "__main__":
    sys.exit(main())
