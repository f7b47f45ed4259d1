"""The plan with what the index says today: which pages are read, and what their absence means.

`plan` serves the shipped tables where the index cannot be reached, with a warning. An installation that needs
the index stops instead, unless local folders or the backend that was named can be served without it.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from torchinstall.planner.model import Warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torchinstall.catalog.catalog import Catalog, PageKey
    from torchinstall.catalog.live import LiveOptions, LiveResult, Trouble
    from torchinstall.cli.world import World
    from torchinstall.machine import Machine
    from torchinstall.planner.model import Plan
    from torchinstall.request import Request
    from torchinstall.target import Target

__all__ = ["Fresh", "fresh_plan", "live_options"]

DISCOVER_AFTER_DAYS = 30
"""The age of the tables from which the index is asked for backends that they cannot know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
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
    world: World,
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
        world: clock, environment and cache folder.
        must_reach: it will be installed, so an index that is needed must answer.
        refresh: read pages again, however young the copies are.
        allow_insecure: hosts that may be asked over http.
        detail: told what was read, for `-v`.

    Raises:
        CatalogError: the index is needed and did not answer.
        UsageError: its URL or a proxy setting is wrong.
    """
    from torchinstall.planner.pages import wanted_pages
    from torchinstall.planner.plan import plan

    today = world.today()
    tables = plan(request, machine, target, catalog, today=today)
    if tables.status == "satisfied":
        return Fresh(plan=tables, catalog=catalog)
    keys = wanted_pages(request, machine, target, catalog)
    if not keys:
        return Fresh(plan=tables, catalog=catalog)
    options = live_options(
        catalog,
        world,
        index_base=request.index_base,
        channel=request.channel,
        offline=request.offline,
        refresh=refresh,
        allow_insecure=allow_insecure,
    )
    result = _read(
        keys, options, catalog, today, lambda names: _more(names, request, machine, target, catalog)
    )
    detail(_story(result))
    for note in result.notes:
        detail(note)
    failure = result.error()
    if failure is None and not result.pages:
        return Fresh(plan=_warned(tables, result.warnings), catalog=catalog)
    if failure is None:
        live = catalog.overlay(result.pages, result.hashes)
        made = plan(request, machine, target, live, today=today)
        return Fresh(plan=_warned(made, result.warnings), catalog=live)
    if must_reach:
        offline = catalog.without_index()
        made = plan(request, machine, target, offline, today=today)
        if not _as_good(made, tables, request):
            raise failure
        return Fresh(plan=_warned(made, result.warnings), catalog=offline)
    return Fresh(plan=_warned(tables, result.warnings), catalog=catalog, index_down=True)


def _more(
    names: Iterable[str], request: Request, machine: Machine, target: Target, catalog: Catalog
) -> tuple[PageKey, ...]:
    from torchinstall.planner.pages import wanted_pages

    unknown = [name for name in names if catalog.backend(name) is not None]
    return wanted_pages(request, machine, target, catalog, discovered=unknown)


def _read(
    keys: tuple[PageKey, ...],
    options: LiveOptions,
    catalog: Catalog,
    today: date,
    more: Callable[[Iterable[str]], tuple[PageKey, ...]],
) -> LiveResult:
    """The pages, and those of backends that the index lists and tables of that age cannot know."""
    from torchinstall.catalog.live import fetch_pages

    discover = (today - date.fromisoformat(catalog.snapshot)).days > DISCOVER_AFTER_DAYS
    result = fetch_pages(keys, options, discover=discover)
    if not result.backends:
        return result
    further = tuple(key for key in more(result.backends) if key not in keys)
    return fetch_pages((*keys, *further), options) if further else result


def live_options(
    catalog: Catalog,
    world: World,
    *,
    index_base: str,
    channel: str,
    offline: bool = False,
    refresh: bool = False,
    allow_insecure: tuple[str, ...] = (),
) -> LiveOptions:
    """The doors and limits of a fetch, as this run has them."""
    from torchinstall.catalog.cache import default_cache_dir
    from torchinstall.catalog.live import LiveOptions

    return LiveOptions(
        index_base=index_base,
        channel=channel,
        cache_dir=default_cache_dir(world.env, sys.platform),
        env=world.env,
        offline=offline,
        refresh=refresh,
        allow_insecure=allow_insecure,
        shared=frozenset(row.package for row in catalog.families if row.runtime_of),
        now=world.now,
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


def _warned(plan: Plan, troubles: Iterable[Trouble]) -> Plan:
    warnings = tuple(Warn(slug=trouble.slug, message=trouble.message) for trouble in troubles)
    return dataclasses.replace(plan, warnings=(*warnings, *plan.warnings))


def _story(result: LiveResult) -> str:
    return (
        f"{result.index_base}: {len(result.live)} pages read, {len(result.cached)} from the cache, "
        f"{len(result.failures)} failed"
    )
