"""`torchinstall catalog verify`: the tables against the laws they keep."""

from __future__ import annotations

from msgspec import to_builtins

from torchinstall.cli.session import Session
from torchinstall.cli.settings import Settings
from torchinstall.cli.verb import Verb
from torchinstall.core.errors import CatalogError

__all__ = ["VERB"]


def run(session: Session, settings: Settings) -> int:
    """Print every broken law; a table that breaks one is an error."""
    from torchinstall.catalog.laws import verify
    from torchinstall.catalog.load import ShippedTables
    from torchinstall.planning.assemble import catalog_of

    tables = catalog_of(session.context).tables
    assert isinstance(tables, ShippedTables)  # noqa: S101  # catalog_of makes no other
    problems = verify(tables)
    rows = [to_builtins(problem) for problem in problems]
    session.console.partial["problems"] = rows
    if problems:
        first = problems[0]
        for problem in problems:
            session.console.say(f"{problem.table}: {problem.law}: {problem.what}")
        raise CatalogError(
            "catalog-unlawful",
            f"the catalog breaks {len(problems)} of its laws, the first in {first.table}",
            wanted=first.law,
            found=first.what,
            hints=("uv pip install --reinstall torchinstall", "unset TORCHINSTALL_CATALOG_DIR if you set it"),
        )
    if settings.on("json"):
        from torchinstall.cli.as_json import envelope

        session.console.out_json(envelope("ok", snapshot=tables.snapshot, problems=[]))
    else:
        session.console.out(f"the catalog of {tables.snapshot} keeps its laws")
    return 0


VERB = Verb(
    "verify",
    run,
    summary="Check the catalog's tables: their shape, and what they must say together.",
    options=("json",),
    examples=(
        ("torchinstall catalog verify", "are the tables whole?"),
        ("TORCHINSTALL_CATALOG_DIR=./data torchinstall catalog verify", "are tables of my own?"),
        ("torchinstall catalog verify --json", "for a script"),
    ),
)
