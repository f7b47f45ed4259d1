"""The plan with what the index says today: which pages are read, and what their absence means.

A plan falls back to the shipped tables where the index cannot be reached, with a warning. An installation
that needs the index stops instead, unless local folders or the backend that was named can serve it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import structs

from torchinstall.core.errors import CatalogError
from torchinstall.core.messages import Message
from torchinstall.core.plan import Plan
from torchinstall.index.cache import default_cache_dir
from torchinstall.planner.selection import pages_to_read, plan
from torchinstall.planning.companion_pages import with_companions
from torchinstall.planning.context import Context
from torchinstall.planning.inputs import Inputs
from torchinstall.planning.options import PlanOptions
from torchinstall.planning.request import index_base_of
from torchinstall.planning.vendor_index import flat_template, named_vendor, vendor_plan

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.catalog.model import Advice
    from torchinstall.catalog.tables import PageKey
    from torchinstall.index.fetch import LiveResult

DISCOVER_AFTER_DAYS = 30
"""The age of the tables from which the index is asked for backends that they cannot know."""

MOST_TURNS = 6
"""How often pages are read for one plan; each turn is bounded in time."""

NOT_THERE = frozenset({"index-forbidden", "index-not-found"})
"""Slugs that say that the index answered and has no such page."""

Decide = Callable[["Catalog"], Plan]


def online_plan(
    inputs: Inputs,
    options: PlanOptions,
    context: Context,
    *,
    must_reach: bool,
    detail: Callable[[str], None],
) -> tuple[Plan, Catalog, bool]:
    """Plan from the tables, read the pages that could change the plan, and plan again.

    Args:
        inputs: what the plan is made from.
        options: where the index is and how it may be asked.
        context: clock, environment and cache folder.
        must_reach: it will be installed, so an index that is needed must answer.
        detail: told what was read, for `-v`.

    Returns:
        The plan, the catalog that it was made from, and whether the index was needed and did not answer.

    Raises:
        CatalogError: the index is needed and did not answer.
        UsageError: its URL or a proxy setting is wrong.
    """

    def companions(keys: tuple[PageKey, ...], base: str) -> LiveResult:
        return read_pages(keys, inputs.catalog, context, options, index_base=base)

    inputs = with_companions(inputs, companions, detail)

    def of_vendor(rows: tuple[Advice, ...], template: str) -> tuple[Plan, Catalog] | None:
        def read(keys: tuple[PageKey, ...], base: str) -> LiveResult:
            return read_pages(keys, inputs.catalog, context, options, index_base=base)

        return vendor_plan(inputs, rows, template, context, read)

    base = inputs.request.index_base
    chosen = named_vendor(inputs, base, asked=options.vendor_index)
    made = None if chosen is None else of_vendor(*chosen)
    if made is not None:
        return (*made, False)
    try:
        return _of_backends(inputs, options, context, must_reach=must_reach, detail=detail)
    except _NoBackendError as none:
        # It has no backend's page of torch: it may be an index that is not divided by backend.
        flat = flat_template(base)
        made = None if flat is None else of_vendor((), flat)
        if made is not None:
            return (*made, False)
        return none.otherwise()


class _NoBackendError(Exception):
    """The index answered, and has no page of torch for any backend; `otherwise` plans without it."""

    def __init__(self, otherwise: Callable[[], tuple[Plan, Catalog, bool]]) -> None:
        super().__init__()
        self.otherwise = otherwise


def _of_backends(
    inputs: Inputs,
    options: PlanOptions,
    context: Context,
    *,
    must_reach: bool,
    detail: Callable[[str], None],
) -> tuple[Plan, Catalog, bool]:
    """As `online_plan`, from an index that is divided by backend.

    Raises:
        _NoBackendError: it has no page of torch.
    """
    request, catalog = inputs.request, inputs.catalog

    def decide(known: Catalog) -> Plan:
        return plan(request, inputs.machine, inputs.target, known, today=context.today())

    if request.offline and request.find_links and any(row.package == "torch" for row in catalog.local):
        # Without a network a folder is all there is: what the tables know of an index cannot be had.
        folders = structs.replace(catalog, live={}, index_down=True, folders_only=True)
        made = decide(folders)
        if made.error is None:
            return made, folders, False

    @lru_cache(maxsize=1)  # asked again after every reading, also after one that brought nothing
    def wanted(known: Catalog, discovered: tuple[str, ...]) -> tuple[PageKey, ...]:
        return pages_to_read(request, inputs.machine, inputs.target, known, discovered=discovered)

    tables = decide(catalog)
    folder = default_cache_dir(context.env, sys.platform)
    unread = request.offline and (folder is None or not folder.is_dir())
    if tables.status == "satisfied" or unread or not wanted(catalog, ()):
        return tables, catalog, False
    age = (context.today() - date.fromisoformat(catalog.snapshot)).days
    reading = _Reading(
        lambda keys, discover: read_pages(keys, catalog, context, options, discover=discover),
        catalog,
        tables,
        # The tables hold the stable channel only: what another one has, it must say itself.
        discover=age > DISCOVER_AFTER_DAYS or request.channel != "stable",
        detail=detail,
    )
    while keys := reading.unread(wanted):
        reading.read(keys, decide)
    if reading.failure is None:
        return _warned(reading.plan, reading.warnings), reading.catalog, False
    failure = reading.failure

    def otherwise() -> tuple[Plan, Catalog, bool]:
        if not must_reach:
            note = Message(failure.slug, failure.message)
            return _warned(tables, reading.warnings or [note]), catalog, True
        without = structs.replace(catalog, index_down=True)
        made = decide(without)
        # It must use the same GPUs, and come from the user's own folders or be the backend that was named.
        local = all(item.routed and item.index_url is None for item in made.packages if item.version)
        same = [gpu.covered for gpu in made.gpus] == [gpu.covered for gpu in tables.gpus]
        if made.error is not None or not same or not (local or request.backend != "auto"):
            raise failure
        return _warned(made, reading.warnings), without, False

    if failure.slug in NOT_THERE:
        raise _NoBackendError(otherwise)
    return otherwise()


class _Reading:
    """Reads pages until the plan rests on pages that were read.

    The pages that the tables think worth reading nearly always settle it in one turn. Where the index has
    less than the tables say (a mirror), the next best build may lie on a page that nobody asked for yet.

    Attributes:
        failure: set when the index did not answer, or has not one page of torch of those asked for.
    """

    def __init__(
        self,
        fetch: Callable[[tuple[PageKey, ...], bool], LiveResult],
        catalog: Catalog,
        tables: Plan,
        *,
        discover: bool,
        detail: Callable[[str], None],
    ) -> None:
        self._fetch = fetch
        self.catalog = catalog
        self.plan = tables
        self.warnings: list[Message] = []
        self.failure: CatalogError | None = None
        self._tables = tables
        self._discover = discover
        self._detail = detail
        self._names: tuple[str, ...] = ()
        self._asked: set[PageKey] = set()
        self._turns = 0

    def unread(
        self, wanted: Callable[[Catalog, tuple[str, ...]], tuple[PageKey, ...]]
    ) -> tuple[PageKey, ...]:
        """The pages to read next; none when the plan is settled."""
        down = self.failure is not None and self.failure.slug not in NOT_THERE
        if self._turns == MOST_TURNS or down:
            return ()
        keys = dict.fromkeys(wanted(self.catalog, self._names))
        if self.plan.chosen != self._tables.chosen:
            packages = dict.fromkeys(package for package, _ in keys)
            keys |= dict.fromkeys((package, name) for name in self._alternatives() for package in packages)
        return tuple(key for key in keys if key not in self._asked)

    def _alternatives(self) -> tuple[str, ...]:
        """Backends of the chosen one's maker that could serve too."""
        chosen = self.catalog.backend(self.plan.backend) if self.plan.backend else None
        names = dict.fromkeys(item.backend for item in self.plan.candidates if item.verdict != "rejected")
        return tuple(
            name
            for name in names
            if chosen is not None
            and (info := self.catalog.backend(name)) is not None
            and info.kind.vendor == chosen.kind.vendor
        )

    def read(self, keys: tuple[PageKey, ...], decide: Decide) -> None:
        """Read pages and plan again."""
        first = not self._asked
        result = self._fetch(keys, self._discover and first)
        self._turns += 1
        self._asked |= set(keys)
        self._detail(
            f"{result.index_base}: {result.live} pages read, {len(result.found) - result.live} from the "
            f"cache, {len(result.failures)} failed"
        )
        for note in result.notes:
            self._detail(note)
        pages = dict(result.pages)
        # "Not one page of torch is there" may only mean that the index lacks these backends: others may do.
        absent = {key: () for key, failure in result.failures.items() if failure.slug in NOT_THERE}
        if any(package == "torch" and rows for (package, _), rows in pages.items()):
            self.failure = None
        elif first:
            self.failure = result.error()
        if not absent:
            self.warnings += [Message(item.slug, item.message) for item in result.warnings]
        pages.update(absent)
        if pages:
            self.catalog = self.catalog.overlay(pages, result.hashes)
            self.plan = decide(self.catalog)
        self._names += tuple(name for name in result.backends or () if self.catalog.backend(name) is not None)


def read_pages(
    keys: Iterable[PageKey],
    catalog: Catalog,
    context: Context,
    options: PlanOptions,
    *,
    discover: bool = False,
    index_base: str | None = None,
) -> LiveResult:
    """Read pages of the index, as this run may.

    Args:
        keys: the pages.
        catalog: knows the packages that every backend shares.
        context: clock, environment and cache folder.
        options: where the index is and how it may be asked.
        discover: ask which backends there are, too.
        index_base: another index than that of the options.

    Raises:
        UsageError: the base of the index is no URL.
    """
    from torchinstall.index.fetch import LiveOptions, fetch_pages  # a plan from the tables needs neither

    live = LiveOptions(
        index_base=index_base or index_base_of(options),
        channel=options.channel,
        cache_dir=default_cache_dir(context.env, sys.platform),
        env=context.env,
        offline=options.offline,
        refresh=options.refresh,
        allow_insecure=options.allow_insecure_host,
        shared=frozenset(row.package for row in catalog.families if row.runtime_of),
        now=context.now,
    )
    return fetch_pages(keys, live, discover=discover)


def _warned(made: Plan, warnings: list[Message]) -> Plan:
    return structs.replace(made, warnings=(*warnings, *made.warnings))
