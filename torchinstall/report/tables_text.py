"""The catalog's tables as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torchinstall.report.layout import columns, heading

__all__ = ["tables_text"]


def tables_text(snapshot: str, tables: Mapping[str, Mapping[str, Any]]) -> str:
    """One part for each table; `rows` is their number, or the rows themselves."""
    parts = [f"{heading('Catalog')} of {snapshot}"]
    for name, table in tables.items():
        rows = table["rows"]
        count = rows if isinstance(rows, int) else len(rows)
        parts.append(f"{heading(name)}  {count} rows, of {table['as_of']}")
        if not isinstance(rows, int):
            parts += ["  " + json.dumps(row, ensure_ascii=False) for row in rows]
        parts.append(columns(list(table["sources"].items())))
    return "\n".join(part for part in parts if part)
