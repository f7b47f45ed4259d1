"""Read pages of the index: concurrently, from the cache while they are fresh, within a stated time.

Nothing here decides what a failure means for a plan: the result says which pages were read, which were not
and why, and the caller lays what there is over the shipped tables.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from torchinstall.catalog.cache import CachedPage, PageCache, PageId
from torchinstall.catalog.live_result import FRESH_SECONDS, ROOT, LiveResult, Trouble, merge
from torchinstall.catalog.urls import (
    DEFAULT_INDEX_BASE,
    check_secure,
    page_url,
    redact,
    root_url,
    without_credentials,
)
from torchinstall.values import dataclass

if TYPE_CHECKING:
    from torchinstall.catalog.tables import PageKey

__all__ = ["FRESH_SECONDS", "LiveOptions", "LiveResult", "Trouble", "discover_backends", "fetch_pages"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions:
    """Every door and limit of a fetch.

    Attributes:
        index_base: URL or template, see `urls.index_url`; may carry credentials.
        cache_dir: folder for pages, see `cache_dir.default_cache_dir`; None: nothing is kept.
        env: proxies, certificates, netrc, `UV_INSECURE_HOST`, `UV_HTTP_RETRIES`.
        offline: only the cache is asked, whatever its age.
        refresh: the age of a cached page does not count.
        allow_insecure: hosts for which http, or a wrong certificate, is accepted.
        shared: packages whose wheels may lie at the root of a channel for every backend (families with
            `runtime_of`: `triton`, `pytorch-triton-rocm` …).
        budget: seconds after which what was not read counts as failed.
        retries: further attempts after a fault that may pass; `UV_HTTP_RETRIES` lowers or raises it.
        backoff: seconds before the first retry, doubled for each further one.
        max_bytes: of one page.
        now: seconds since 1970, for the age of cached pages.
    """

    index_base: str = DEFAULT_INDEX_BASE
    channel: str = "stable"
    cache_dir: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    offline: bool = False
    refresh: bool = False
    allow_insecure: tuple[str, ...] = ()
    shared: frozenset[str] = frozenset()
    budget: float = 8.0
    retries: int = 3
    backoff: float = 0.2
    max_bytes: int = 20_000_000
    now: Callable[[], float] = time.time


def fetch_pages(keys: Iterable[PageKey], options: LiveOptions, *, discover: bool = False) -> LiveResult:
    """Read pages of the index.

    Args:
        keys: (package, backend) each.
        options: doors and limits.
        discover: also read the root page, for `LiveResult.backends`.

    Raises:
        UsageError: the index base or a proxy or certificate setting is wrong, or the index is plain http.
    """
    base = redact(options.index_base)
    wanted: dict[PageKey, PageId] = {}
    asked: dict[PageKey, str] = {}
    for package, backend in dict.fromkeys(keys):
        url = page_url(options.index_base, options.channel, backend, package)
        asked[package, backend] = url
        wanted[package, backend] = PageId(
            url=without_credentials(url),
            package=package,
            backend=backend,
            channel=options.channel,
            shared=package in options.shared,
        )
    root = root_url(options.index_base, options.channel) if discover else None
    if root is not None:
        asked[ROOT] = f"{root}/"
        wanted[ROOT] = PageId(
            url=without_credentials(f"{root}/"), package="", backend="", channel=options.channel
        )
    cache = PageCache(options.cache_dir)
    stored = {key: found for key, page in wanted.items() if (found := cache.load(page)) is not None}
    if options.offline:
        return merge(base, wanted, stored, {}, cache)
    stale = [key for key in wanted if options.refresh or not _fresh(stored.get(key), options)]
    if not stale:
        return merge(base, wanted, stored, {}, cache)
    check_secure(asked[stale[0]], _insecure_hosts(options))
    from torchinstall.catalog.workers import Job, run_jobs

    jobs = [Job(key=key, url=asked[key], page=wanted[key], stored=stored.get(key)) for key in stale]
    outcomes = run_jobs(jobs, options, cache, _insecure_hosts(options))
    return merge(base, wanted, stored, outcomes, cache)


def discover_backends(options: LiveOptions, accept: Callable[[str], bool]) -> tuple[str, ...]:
    """Backends that the index's root page lists, as far as `accept` takes the name for one.

    Empty where the page cannot be had (`fetch_pages(…, discover=True)` also says why).
    """
    return tuple(name for name in fetch_pages((), options, discover=True).backends or () if accept(name))


def _insecure_hosts(options: LiveOptions) -> tuple[str, ...]:
    return (*options.allow_insecure, *options.env.get("UV_INSECURE_HOST", "").replace(",", " ").split())


def _fresh(cached: CachedPage | None, options: LiveOptions) -> bool:
    return cached is not None and 0 <= options.now() - cached.fetched < FRESH_SECONDS
