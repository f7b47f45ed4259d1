"""Read the pages of the PyTorch index that a plan, or the plans of several machines, rest on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any, NamedTuple

from msgspec import structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.tables import PageKey
from torchinstall.core.errors import CatalogError
from torchinstall.core.messages import Message
from torchinstall.core.plan import Plan
from torchinstall.core.request import Request
from torchinstall.index.faults import NOT_THERE
from torchinstall.index.fetch import LiveResult, fetch_pages
from torchinstall.planner.selection import plan
from torchinstall.planning.context import Context, PlanOptions
from torchinstall.planning.inputs import Inputs, live_options

_DISCOVER_AFTER_DAYS = 30
"""The age of the tables from which the index is asked for backends that they cannot know."""

_MOST_TURNS = 6
"""How often pages are read for one plan; each turn is bounded in time."""


class Run(NamedTuple):
    """One run that plans: what a plan is made from, and how indexes may be asked."""

    inputs: Inputs
    options: PlanOptions
    context: Context

    def decide(self, catalog: Catalog, request: Request | None = None) -> Plan:
        """The plan from a catalog."""
        inputs = self.inputs
        return plan(
            request or inputs.request, inputs.machine, inputs.target, catalog, today=self.context.today()
        )

    def read(self, keys: Iterable[PageKey], index_base: str | None = None, **more: Any) -> LiveResult:
        """Pages of the index that the options name, or of another one; `more` as of `read_pages`."""
        catalog = self.inputs.catalog
        return read_pages(keys, catalog, self.context, self.options, index_base=index_base, **more)


class Reading:
    """The tables with pages of the index over them, read in turns until a plan rests on pages that were read.

    The pages that the tables think worth reading nearly always settle it in one turn. Where the index has
    less than the tables say (a mirror), the next best build may lie on a page that nobody asked for yet.

    Attributes:
        catalog: the tables and the pages that were read so far.
        backends: those that the index lists, tables or not, where it was asked.
        failure: set when the index did not answer, or has not one page of torch of those asked for.
    """

    def __init__(self, run: Run) -> None:
        self.catalog = run.inputs.catalog
        self.backends: tuple[str, ...] = ()
        self.failure: CatalogError | None = None
        self._run = run
        self._warnings: list[Message] = []
        self._asked: set[PageKey] = set()
        self._turns = 0

    @property
    def warnings(self) -> tuple[Message, ...]:
        """What went wrong with pages."""
        failure = self.failure
        said = self._warnings or ([] if failure is None else [Message(failure.slug, failure.message)])
        return tuple(dict.fromkeys(said))

    def unread(self, wanted: Iterable[PageKey]) -> tuple[PageKey, ...]:
        """The pages among these that to read may help."""
        if self._turns == _MOST_TURNS or (self.failure is not None and self.failure.slug not in NOT_THERE):
            return ()
        return tuple(key for key in dict.fromkeys(wanted) if key not in self._asked)

    def read(self, keys: tuple[PageKey, ...], asking: Callable[[], object] = bool) -> None:
        """Read pages; `asking` is called before the index is asked."""
        context, first = self._run.context, not self._asked
        age = (context.today() - date.fromisoformat(self.catalog.tables.snapshot)).days
        # The tables hold the stable channel only: what another one has, it must say itself.
        discover = first and (age > _DISCOVER_AFTER_DAYS or self._run.options.channel != "stable")
        result = self._run.read(keys, discover=discover, asking=asking)
        self._turns += 1
        self._asked |= set(keys)
        # "Not one page of torch is there" may only mean that the index lacks these backends: others may do.
        absent = {key: () for key, failure in result.failures.items() if failure.slug in NOT_THERE}
        if any(package == "torch" and rows for (package, _), rows in result.pages.items()):
            self.failure = None
        elif first:
            self.failure = result.error()
        if not absent:
            self._warnings += result.warnings
        if result.pages or absent:
            self.catalog = self.catalog.overlay({**result.pages, **absent}, result.hashes)
        self.backends += tuple(name for name in result.backends or () if self.catalog.backend(name))


def read_pages(
    keys: Iterable[PageKey],
    catalog: Catalog,
    context: Context,
    options: PlanOptions,
    *,
    index_base: str | None = None,
    discover: bool = False,
    **changes: Any,
) -> LiveResult:
    """Read pages of the index that the options name, or of another one, as this run may.

    `discover` also asks which backends there are; `changes` are other fields of `LiveOptions`. The catalog
    knows the packages that every backend shares.

    Raises:
        UsageError: the base of the index is no URL.
    """
    shared = frozenset(row.package for row in catalog.families if row.runtime_of)
    live = structs.replace(live_options(context, options, index_base), shared=shared, **changes)
    result = fetch_pages(keys, live, discover=discover)
    read, cached, failed = result.live, len(result.found) - result.live, len(result.failures)
    base = result.index_base.removesuffix("/{package}")
    context.detail(f"{base}: {read} pages read, {cached} from the cache, {failed} failed")
    for note in result.notes:
        context.detail(note)
    return result
