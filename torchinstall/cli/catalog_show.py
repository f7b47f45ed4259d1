"""`torchinstall catalog show`: every table with its date, its size and its sources."""

from __future__ import annotations

from typing import Any

from torchinstall.cli.session import Session
from torchinstall.cli.settings import Settings
from torchinstall.cli.verb import Argument, Verb

__all__ = ["VERB"]


def run(session: Session, settings: Settings) -> int:
    """Print the tables, or one table's rows."""
    from torchinstall.catalog.load import ShippedTables
    from torchinstall.catalog.schemas import SCHEMAS
    from torchinstall.planning.assemble import catalog_of

    tables = catalog_of(session.context).tables
    assert isinstance(tables, ShippedTables)  # noqa: S101  # catalog_of makes no other
    wanted = settings.texts("tables")
    names = [name for name in SCHEMAS if not wanted or name.removesuffix(".json") in wanted]
    unknown = sorted(set(wanted) - {name.removesuffix(".json") for name in SCHEMAS})
    if unknown:
        raise _unknown_table(unknown[0], [name.removesuffix(".json") for name in SCHEMAS])
    files = {name.removesuffix(".json"): tables.file(name) for name in names}
    data: dict[str, Any] = {
        name: {
            "as_of": file.as_of,
            "rows": list(file.rows) if wanted else len(file.rows),
            "sources": dict(file.sources),
        }
        for name, file in files.items()
    }
    if settings.on("json"):
        from torchinstall.cli.as_json import envelope

        session.console.out_json(envelope("ok", snapshot=tables.snapshot, tables=data))
    else:
        from torchinstall.cli.text import tables_text

        session.console.out(tables_text(tables.snapshot, data))
    return 0


def _unknown_table(name: str, known: list[str]) -> Exception:
    import difflib

    from torchinstall.core.errors import UsageError

    return UsageError(
        "unknown-table",
        f"the catalog has no table {name!r}",
        wanted=", ".join(difflib.get_close_matches(name, known) or known),
        found=name,
        hints=("torchinstall catalog show",),
    )


VERB = Verb(
    "show",
    run,
    summary="Print each table of the catalog: its date, its rows, its sources.",
    arguments=(
        Argument(name="tables", metavar="[TABLE]...", help="Print the rows of these tables.", many=True),
    ),
    options=("json",),
    examples=(
        ("torchinstall catalog show", "how old is what we know?"),
        ("torchinstall catalog show driver_floors", "which driver does each CUDA need, and who says so?"),
        ("torchinstall catalog show code --json", "the SM and gfx targets of every build"),
    ),
)
