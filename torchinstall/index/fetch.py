"""Read pages of the index: concurrently, from the cache while they are fresh, within a stated time.

Nothing here decides what a failure means for a plan: the result says which pages were read, which were not
and why, and the caller lays what there is over the shipped tables.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field, structs

from torchinstall.catalog.model import Wheels
from torchinstall.core.errors import CatalogError
from torchinstall.core.request import Channel
from torchinstall.index.cache import CachedPage, PageCache, PageId
from torchinstall.index.client import Fetcher, Reply, RetryLater, load_httpx
from torchinstall.index.pages import BadPageError, PageFile, parse_page, parse_root
from torchinstall.index.urls import (
    DEFAULT_INDEX_BASE,
    check_secure,
    page_url,
    redact,
    root_url,
    without_credentials,
)

if TYPE_CHECKING:
    from torchinstall.catalog.tables import PageKey

__all__ = [
    "FRESH_SECONDS",
    "ROOT",
    "Job",
    "LiveOptions",
    "LiveResult",
    "Trouble",
    "discover_backends",
    "fetch_pages",
    "merge",
    "run_jobs",
]


class LiveOptions(Struct, frozen=True, kw_only=True):
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
    channel: Channel = "stable"
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


FRESH_SECONDS = 24 * 3600.0
"""A page this old is asked for again."""

ROOT: PageKey = ("", "")
"""Stands for the root page among the keys."""


class Trouble(Struct, frozen=True, kw_only=True):
    """What went wrong with pages: a stable slug and one sentence."""

    slug: str
    message: str


class LiveResult(Struct, frozen=True, kw_only=True):
    """What was read.

    Attributes:
        index_base: where, without credentials.
        pages: rows by page; a page that is not there is an empty one.
        files: name, URL and hash of each wheel, by page.
        failures: pages that could not be had at all.
        warnings: what the user should know although `pages` may be enough.
        live: pages that the index was asked for and that came, changed or not.
        cached: pages that came from the cache without a request, and stale ones that had to do.
        backends: directories that the root page lists, packages among them; None: not asked or not known.
        notes: what was left out of pages, for a curious user.
    """

    index_base: str
    pages: Mapping[PageKey, tuple[Wheels, ...]]
    files: Mapping[PageKey, tuple[PageFile, ...]]
    failures: Mapping[PageKey, Trouble]
    warnings: tuple[Trouble, ...]
    live: tuple[PageKey, ...]
    cached: tuple[PageKey, ...]
    backends: tuple[str, ...] | None
    notes: tuple[str, ...]

    @property
    def hashes(self) -> Mapping[str, str]:
        """sha256 by file name; without names that stand for different files in different directories."""
        seen: dict[str, set[str | None]] = {}
        for files in self.files.values():
            for file in files:
                seen.setdefault(file.filename, set()).add(file.sha256)
        return {
            name: str(next(iter(values)))
            for name, values in seen.items()
            if len(values) == 1 and None not in values
        }

    def error(self) -> CatalogError | None:
        """The error to raise when pages are needed and not one came; None when some did.

        Its slug is that of the most frequent failure.
        """
        if self.pages or not self.failures:
            return None
        slug = Counter(trouble.slug for trouble in self.failures.values()).most_common(1)[0][0]
        trouble = next(trouble for trouble in self.failures.values() if trouble.slug == slug)
        return CatalogError(
            slug,
            trouble.message,
            wanted=f"the pages of {self.index_base}",
            hints=(
                "--index-base URL takes a mirror of the index",
                "--find-links DIR takes wheels from a folder",
                "--backend cpu takes the CPU build from the default index, where it has one",
            ),
        )


def merge(
    index_base: str,
    wanted: Mapping[PageKey, PageId],
    stored: Mapping[PageKey, CachedPage],
    outcomes: Mapping[PageKey, CachedPage | BadPageError],
    cache: PageCache,
) -> LiveResult:
    """Put live outcomes and stored pages together; a stored page stands in for a failure, with a warning.

    Args:
        index_base: for messages, without credentials.
        wanted: every page asked for; the key `ROOT` is the root page.
        stored: what the cache has.
        outcomes: of the pages that the index was asked for.
        cache: keeps the pages that are not there, now that the index as a whole is known to be.
    """
    had: dict[PageKey, CachedPage] = {}
    failures: dict[PageKey, Trouble] = {}
    stood_in: list[Trouble] = []
    live = [key for key, outcome in outcomes.items() if isinstance(outcome, CachedPage) and key != ROOT]
    for key in wanted:
        outcome = outcomes.get(key, stored.get(key))
        if isinstance(outcome, BadPageError):
            trouble = Trouble(slug=outcome.slug, message=outcome.message)
            if key in stored:
                stood_in.append(trouble)
                had[key] = stored[key]
            elif key != ROOT:
                failures[key] = trouble
        elif outcome is not None:
            had[key] = outcome
    refused = _refused(had, outcomes, index_base)
    for key in refused:
        del had[key]
    failures.update(refused)
    for key, outcome in outcomes.items():
        if isinstance(outcome, CachedPage) and outcome.missing is not None and key in had:
            cache.store(wanted[key], outcome)
    root = had.pop(ROOT, None)
    return LiveResult(
        index_base=index_base,
        pages={key: found.page.wheels if found.page else () for key, found in had.items()},
        files={key: found.page.files for key, found in had.items() if found.page},
        failures=failures,
        warnings=_warnings(index_base, failures, stood_in),
        live=tuple(key for key in live if key in had),
        cached=tuple(key for key in had if key not in live),
        backends=root.names if root is not None else None,
        notes=_notes(had, cache),
    )


def _refused(
    had: Mapping[PageKey, CachedPage],
    outcomes: Mapping[PageKey, CachedPage | BadPageError],
    index_base: str,
) -> dict[PageKey, Trouble]:
    """Pages "not there" when not one page of torch is: then it is the index that is not there."""
    torch = [found.missing for key, found in had.items() if key[0] == "torch"]
    if not torch or None in torch or not outcomes:
        return {}
    if 403 in torch:
        trouble = Trouble(
            slug="index-forbidden",
            message=f"{index_base} answered 403 for every page of torch: no such backend, or access refused",
        )
    else:
        trouble = Trouble(
            slug="index-not-found",
            message=f"{index_base} answered 404 for every page of torch: no such backend, or no index",
        )
    return {key: trouble for key, found in had.items() if found.missing is not None and key != ROOT}


def _warnings(
    index_base: str, failures: Mapping[PageKey, Trouble], stood_in: list[Trouble]
) -> tuple[Trouble, ...]:
    found: list[Trouble] = []
    for slug, count in Counter(trouble.slug for trouble in failures.values()).items():
        first = next(trouble for trouble in failures.values() if trouble.slug == slug)
        others = f" (and {count - 1} more pages)" if count > 1 else ""
        found.append(Trouble(slug=slug, message=f"{first.message}{others}"))
    if stood_in:
        message = (
            f"{len(stood_in)} pages of {index_base} could not be read again; copies older than "
            f"{FRESH_SECONDS / 3600:.0f} h serve: {stood_in[0].message}"
        )
        found.append(Trouble(slug="index-stale-pages", message=message))
    return tuple(found)


def _notes(had: Mapping[PageKey, CachedPage], cache: PageCache) -> tuple[str, ...]:
    notes = [note for found in had.values() if found.page is not None for note in found.page.notes]
    if cache.problem is not None:
        notes.append(f"pages could not be kept: {cache.problem}")
    return tuple(notes)


_MAX_THREADS = 16

Outcome = CachedPage | BadPageError


class Job(Struct, frozen=True, kw_only=True):
    """One page to fetch; `url` may carry credentials, `stored` is the copy whose ETag is asked about."""

    key: PageKey
    url: str
    page: PageId
    stored: CachedPage | None


def run_jobs(
    jobs: list[Job], options: LiveOptions, cache: PageCache, allow_insecure: tuple[str, ...]
) -> dict[PageKey, Outcome]:
    """Fetch every page; what is not there when the budget is spent is an `index-timeout`.

    Raises:
        UsageError: a proxy or certificate setting that cannot be used.
    """
    deadline = time.monotonic() + options.budget
    load_httpx()
    crew = _Crew(jobs, options, cache, Fetcher(options.env, allow_insecure, options.max_bytes), deadline)
    return crew.run()


class _Crew:
    def __init__(
        self, jobs: list[Job], options: LiveOptions, cache: PageCache, fetcher: Fetcher, deadline: float
    ) -> None:
        self.options = options
        self.cache = cache
        self.fetcher = fetcher
        self.deadline = deadline
        self.jobs = jobs
        self.retries = _retries(options)
        self.todo: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.done: queue.SimpleQueue[tuple[Job, Outcome | Exception]] = queue.SimpleQueue()
        self.over = threading.Event()
        self.busy = min(len(jobs), _MAX_THREADS)
        self.lock = threading.Lock()
        for job in jobs:
            self.todo.put(job)

    def run(self) -> dict[PageKey, Outcome]:
        for number in range(self.busy):
            threading.Thread(target=self.work, name=f"index-page-{number}", daemon=True).start()
        outcomes: dict[PageKey, Outcome] = {}
        try:
            while len(outcomes) < len(self.jobs):
                job, outcome = self.done.get(timeout=max(self.deadline - time.monotonic(), 0))
                if isinstance(outcome, Exception) and not isinstance(outcome, BadPageError):
                    raise outcome
                outcomes[job.key] = outcome
        except queue.Empty:
            pass
        finally:
            self.over.set()
        for job in self.jobs:
            if job.key not in outcomes:
                outcomes[job.key] = BadPageError(
                    "index-timeout", f"{redact(job.url)} did not answer within {self.options.budget:g} s"
                )
        return outcomes

    def work(self) -> None:
        try:
            while not self.over.is_set():
                job = self.todo.get_nowait()
                try:
                    self.done.put((job, self.fetch(job)))
                except Exception as error:  # noqa: BLE001  handed to the thread that waits, which raises it
                    self.done.put((job, error))
        except queue.Empty:
            pass
        finally:
            with self.lock:
                self.busy -= 1
                last = self.busy == 0
            if last:
                self.fetcher.close()

    def fetch(self, job: Job) -> CachedPage:
        """One page with retries; raises what the last attempt raised."""
        pause = self.options.backoff
        for attempt in range(self.retries + 1):
            try:
                return self.attempt(job)
            except BadPageError as error:  # noqa: PERF203  a retry loop is made of this
                after = error.after if isinstance(error, RetryLater) and error.after else 0.0
                wait = max(pause, after)
                late = time.monotonic() + wait >= self.deadline
                if not error.retry or attempt == self.retries or late or self.over.wait(wait):
                    raise
                pause *= 2
        raise AssertionError("the loop above returns or raises")

    def attempt(self, job: Job) -> CachedPage:
        etag = job.stored.etag if job.stored is not None and job.stored.missing is None else None
        reply = self.fetcher.get(job.url, etag, self.deadline)
        cached = self.digest(job, reply)
        if cached.missing is None:
            self.cache.store(job.page, cached)
        return cached

    def digest(self, job: Job, reply: Reply) -> CachedPage:
        fetched = self.options.now()
        if reply.status == 304 and job.stored is not None:
            return structs.replace(job.stored, fetched=fetched)
        if reply.status != 200:
            return CachedPage(fetched=fetched, missing=reply.status)
        page = job.page
        if not page.package:
            return CachedPage(fetched=fetched, etag=reply.etag, names=parse_root(reply.text, reply.url))
        parsed = parse_page(
            reply.text, reply.url, page.package, page.backend, page.channel, shared=page.shared
        )
        return CachedPage(fetched=fetched, etag=reply.etag, page=parsed)


def _retries(options: LiveOptions) -> int:
    told = options.env.get("UV_HTTP_RETRIES", "")
    return int(told) if told.isdigit() else options.retries
