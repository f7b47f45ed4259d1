"""Check the catalog's tables against their laws: what `torchinstall catalog verify` does.

Reading a table checks its shape; the laws say what tables must say together. They are too slow for a start of
the program and are run by the verb, by the scripts that rebuild tables, and by the tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.laws import LAWS, Problem
from torchinstall.catalog.schemas import SCHEMAS
from torchinstall.catalog.table_file import read_table
from torchinstall.errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchinstall.catalog.load import ShippedTables

__all__ = ["Problem", "verify"]


def verify(tables: ShippedTables) -> tuple[Problem, ...]:
    """Every broken law, the tables that cannot even be read first (then nothing else is looked at)."""
    unreadable = tuple(_unreadable(tables))
    if unreadable:
        return unreadable
    catalog = Catalog(tables)
    return tuple(problem for law in LAWS for problem in law(tables, catalog))


def _unreadable(tables: ShippedTables) -> Iterator[Problem]:
    for name in SCHEMAS:
        error = _fault(tables, name)
        if error is not None:
            yield Problem(law=error.slug, table=name, what=error.found or error.message)


def _fault(tables: ShippedTables, name: str) -> CatalogError | None:
    try:
        read_table(tables.directory / name, SCHEMAS[name])
    except CatalogError as error:
        return error
    return None
