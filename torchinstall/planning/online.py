"""The plan with what the index says today: which pages are read, and what their absence means.

`plan` serves the shipped tables where the index cannot be reached, with a warning. An installation that needs
the index stops instead, unless local folders or the backend that was named can be served without it.
"""

from __future__ import annotations

import sys
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from msgspec import Struct, structs

from torchinstall.core.messages import Message
from torchinstall.index.cache import default_cache_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torchinstall.catalog.catalog import Catalog
    from torchinstall.catalog.tables import PageKey
    from torchinstall.core.errors import CatalogError
    from torchinstall.core.machine import Machine
    from torchinstall.core.plan import Plan
    from torchinstall.core.request import Channel, Request
    from torchinstall.core.target import Target
    from torchinstall.index.fetch import LiveOptions, Trouble
    from torchinstall.planning.context import Context

__all__ = ["Fresh", "fresh_plan", "live_options"]

DISCOVER_AFTER_DAYS = 30
"""The age of the tables from which the index is asked for backends that they cannot know."""

MOST_TURNS = 6
"""How often pages are read for one plan; each turn is bounded in time."""

NOT_THERE = frozenset({"index-forbidden", "index-not-found"})
"""Slugs that say that the index answered and has no such page."""


class Fresh(Struct, frozen=True, kw_only=True):
    """A plan and the catalog that it was made from; `index_down`: the index was needed and did not answer."""

    plan: Plan
    catalog: Catalog
    index_down: bool = False


def fresh_plan(
    request: Request,
    machine: Machine,
    target: Target,
    catalog: Catalog,
    *,
    context: Context,
    must_reach: bool,
    refresh: bool = False,
    allow_insecure: tuple[str, ...] = (),
    detail: Callable[[str], None],
) -> Fresh:
    """Plan from the tables, read the pages that could change the plan, and plan again.

    Args:
        request: what was asked for.
        machine: what is there.
        target: where it goes.
        catalog: the tables and local folders.
        context: clock, environment and cache folder.
        must_reach: it will be installed, so an index that is needed must answer.
        refresh: read pages again, however young the copies are.
        allow_insecure: hosts that may be asked over http.
        detail: told what was read, for `-v`.

    Raises:
        CatalogError: the index is needed and did not answer.
        UsageError: its URL or a proxy setting is wrong.
    """
    from torchinstall.planner.pages import wanted_pages
    from torchinstall.planner.selection import plan

    def decide(known: Catalog) -> Plan:
        return plan(request, machine, target, known, today=context.today())

    if request.offline and request.find_links and any(row.package == "torch" for row in catalog.local):
        # Without a network a folder is all there is: what the tables know of an index cannot be had.
        folders = catalog.only_folders()
        made = decide(folders)
        if made.error is None:
            return Fresh(plan=made, catalog=folders)

    @lru_cache(maxsize=1)  # asked again after every reading, also after one that brought nothing
    def wanted(known: Catalog, discovered: tuple[str, ...]) -> tuple[PageKey, ...]:
        return wanted_pages(request, machine, target, known, discovered=discovered)

    tables = decide(catalog)
    folder = default_cache_dir(context.env, sys.platform)
    unread = request.offline and (folder is None or not folder.is_dir())
    if tables.status == "satisfied" or unread or not wanted(catalog, ()):
        return Fresh(plan=tables, catalog=catalog)
    options = live_options(
        catalog,
        context,
        index_base=request.index_base,
        channel=request.channel,
        offline=request.offline,
        refresh=refresh,
        allow_insecure=allow_insecure,
    )
    age = (context.today() - date.fromisoformat(catalog.snapshot)).days
    # The tables hold the stable channel only: what another one has, it must say itself.
    discover = age > DISCOVER_AFTER_DAYS or request.channel != "stable"
    reading = _Reading(options, catalog, tables, discover=discover, detail=detail)
    while keys := reading.unread(wanted):
        reading.read(keys, decide)
    if reading.failure is None:
        return Fresh(plan=_warned(reading.plan, reading.warnings), catalog=reading.catalog)
    if not must_reach:
        note = Message(slug=reading.failure.slug, message=reading.failure.message)
        return Fresh(plan=_warned(tables, reading.warnings or [note]), catalog=catalog, index_down=True)
    without = catalog.without_index()
    made = decide(without)
    if not _as_good(made, tables, request):
        raise reading.failure
    return Fresh(plan=_warned(made, reading.warnings), catalog=without)


class _Reading:
    """Reads pages until the plan rests on pages that were read.

    The pages that the tables think worth reading nearly always settle it in one turn. Where the index has
    less than the tables say (a mirror), the next best build may lie on a page that nobody asked for yet.

    Attributes:
        failure: set when the index did not answer, or has not one page of torch of those asked for.
    """

    def __init__(
        self,
        options: LiveOptions,
        catalog: Catalog,
        tables: Plan,
        *,
        discover: bool,
        detail: Callable[[str], None],
    ) -> None:
        self.options = options
        self.catalog = catalog
        self.plan = tables
        self.warnings: list[Trouble] = []
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

    def read(self, keys: tuple[PageKey, ...], decide: Callable[[Catalog], Plan]) -> None:
        """Read pages and plan again."""
        from torchinstall.index.fetch import fetch_pages

        first = not self._asked
        result = fetch_pages(keys, self.options, discover=self._discover and first)
        self._turns += 1
        self._asked |= set(keys)
        self._detail(
            f"{result.index_base}: {len(result.live)} pages read, {len(result.cached)} from the cache, "
            f"{len(result.failures)} failed"
        )
        for note in result.notes:
            self._detail(note)
        failure = result.error()
        pages = dict(result.pages)
        # "Not one page of torch is there" may only mean that the index lacks these backends: others may do.
        absent = {key: () for key, trouble in result.failures.items() if trouble.slug in NOT_THERE}
        if any(package == "torch" and rows for (package, _), rows in pages.items()):
            self.failure = None
        elif first:
            self.failure = failure
        if not absent:
            self.warnings += result.warnings
        pages.update(absent)
        if pages:
            self.catalog = self.catalog.overlay(pages, result.hashes)
            self.plan = decide(self.catalog)
        self._names += tuple(name for name in result.backends or () if self.catalog.backend(name) is not None)


def live_options(
    catalog: Catalog,
    context: Context,
    *,
    index_base: str,
    channel: str,
    offline: bool = False,
    refresh: bool = False,
    allow_insecure: tuple[str, ...] = (),
) -> LiveOptions:
    """The doors and limits of a fetch, as this run has them."""
    from torchinstall.index.fetch import LiveOptions

    return LiveOptions(
        index_base=index_base,
        channel=cast("Channel", channel),
        cache_dir=default_cache_dir(context.env, sys.platform),
        env=context.env,
        offline=offline,
        refresh=refresh,
        allow_insecure=allow_insecure,
        shared=frozenset(row.package for row in catalog.families if row.runtime_of),
        now=context.now,
    )


def _as_good(made: Plan, tables: Plan, request: Request) -> bool:
    """Whether a plan without the index may be carried out unasked.

    It must use the same GPUs, and come from the user's own folders or be the backend that was named.
    """
    if made.error is not None or _covered(made) != _covered(tables):
        return False
    local = all(package.routed and package.index_url is None for package in made.packages if package.version)
    return local or request.backend != "auto"


def _covered(plan: Plan) -> list[bool]:
    return [gpu.covered for gpu in plan.gpus]


def _warned(plan: Plan, troubles: Iterable[Trouble | Message]) -> Plan:
    warnings = tuple(Message(slug=trouble.slug, message=trouble.message) for trouble in troubles)
    return structs.replace(plan, warnings=(*warnings, *plan.warnings))
