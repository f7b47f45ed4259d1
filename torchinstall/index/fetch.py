"""Read pages of the index: concurrently, from the cache while they are recent, within a stated time.

Nothing here decides what a failure means for a plan: the result says which pages were read, which were not
and why, and the caller lays what there is over the shipped tables.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct, field, structs
from packaging.version import Version

from torchinstall.catalog.model import Wheels
from torchinstall.catalog.tables import PageKey
from torchinstall.core.errors import CatalogError, UsageError
from torchinstall.core.messages import Message, redact
from torchinstall.core.request import DEFAULT_INDEX_BASE, Channel, specifiers
from torchinstall.core.versions import dotted_or_none
from torchinstall.index.cache import CachedPage, PageCache, PageId
from torchinstall.index.faults import FetchError, with_retries
from torchinstall.index.pages import VARIANTS, Page, parse_page, parse_root, read_needs
from torchinstall.index.urls import check_secure, page_url, root_url, without_credentials
from torchinstall.index.wheels import parse_name, read_variants

if TYPE_CHECKING:
    from torchinstall.index.client import Client

MAX_AGE_SECONDS = 24 * 3600.0
"""A page this old is asked for again."""

_ROOT: PageKey = ("", "")
"""Stands for the root page among the keys."""

_MAX_THREADS = 16

_MOST_VARIANTS, _MOST_DESCRIBED = 6, 4
"""Of so many releases, the newest ones, the wheel variants are known and the requirements are read."""

_MOST_METADATA = 2_000_000
"""Bytes of the metadata of one release."""

Outcome = CachedPage | FetchError

T = TypeVar("T")


class LiveOptions(Struct, frozen=True, kw_only=True):
    """Every option and limit of a fetch.

    Attributes:
        index_base: URL or template, see `urls.index_url`; may carry credentials.
        env: proxies, certificates, netrc, `UV_INSECURE_HOST`, `UV_HTTP_RETRIES` (in place of `retries`).
        offline: only the cache is asked, whatever its age.
        refresh: the age of a cached page does not count.
        allow_insecure: hosts for which http, or a wrong certificate, is accepted.
        shared: packages whose wheels may lie at the root of a channel for every backend (`triton`).
        described: packages of which the requirements of the newest releases within bounds (PEP 440; empty:
            any) are read too; with `any_host`.
        any_host: the pages may link to files on other hosts, see `pages.parse_page`.
        budget: seconds after which what was not read counts as failed.
        backoff: seconds before the first of the `retries`, doubled for each further one.
        asking, working: called before the index is asked; the cache may do without.
    """

    index_base: str = DEFAULT_INDEX_BASE
    channel: Channel = "stable"
    cache_dir: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    offline: bool = False
    refresh: bool = False
    allow_insecure: tuple[str, ...] = ()
    shared: frozenset[str] = frozenset()
    any_host: bool = False
    described: Mapping[str, str] = {}
    budget: float = 8.0
    retries: int = 3
    backoff: float = 0.2
    max_bytes: int = 20_000_000
    now: Callable[[], float] = time.time
    asking: Callable[[], object] = bool
    working: Callable[[str], object] = str


class LiveResult(Struct, frozen=True, kw_only=True):
    """What was read.

    Attributes:
        index_base: its URL without credentials.
        found: the pages; one that is not there is an empty one.
        warnings: what the user should know although `found` may be enough.
        live: how many of the pages the index was asked for, changed or not; the others came from the cache.
        backends: directories that the root page lists, packages among them; None: not asked or not known.
        notes: what was omitted from pages, for a curious user.
    """

    index_base: str
    found: Mapping[PageKey, Page] = {}
    failures: Mapping[PageKey, FetchError] = {}
    warnings: tuple[Message, ...] = ()
    live: int = 0
    backends: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def pages(self) -> Mapping[PageKey, tuple[Wheels, ...]]:
        """Rows by page."""
        return {key: page.wheels for key, page in self.found.items()}

    @property
    def hashes(self) -> Mapping[str, str]:
        """sha256 by file name; without names that stand for different files in different directories."""
        seen: dict[str, set[str | None]] = {}
        for page in self.found.values():
            for file in page.files:
                seen.setdefault(file.filename, set()).add(file.sha256)
        single = {name: next(iter(values)) for name, values in seen.items() if len(values) == 1}
        return {name: value for name, value in single.items() if value is not None}

    def error(self) -> CatalogError | None:
        """The error to raise when pages are needed and not one came: the most frequent failure."""
        if self.found or not self.failures:
            return None
        failure = max(_by_slug(self.failures.values()), key=len)[0]
        return CatalogError(
            failure.slug,
            failure.message,
            wanted=f"the pages of {self.index_base}",
            hints=(
                *failure.hints,
                "--index-base URL takes a mirror of the index",
                "--find-links DIR takes wheels from a folder",
            ),
        )


class _Job(Struct, frozen=True):
    """One page to read; `url` may carry credentials, `stored` is the copy in the cache, however old."""

    url: str
    page: PageId
    stored: CachedPage | None


def fetch_pages(keys: Iterable[PageKey], options: LiveOptions, *, discover: bool = False) -> LiveResult:
    """Read pages of the index; `discover`: also its root page, for `LiveResult.backends`.

    Raises:
        UsageError: the index base or a proxy or certificate setting is wrong, or the index is plain http.
    """
    cache, base, channel = PageCache(options.cache_dir), options.index_base, options.channel
    urls = {key: page_url(base, channel, key[1], key[0]) for key in dict.fromkeys(keys)}
    if discover and (root := root_url(base, channel)) is not None:
        urls[_ROOT] = f"{root}/"
    jobs: dict[PageKey, _Job] = {}
    for key, url in urls.items():
        shared = key[0] in options.shared or options.any_host
        page = PageId(without_credentials(url), *key, channel, shared, options.described.get(key[0]))
        jobs[key] = _Job(url, page, cache.load(page))
    outcomes: dict[PageKey, Outcome] = {}
    if not options.offline:
        due = {key: job for key, job in jobs.items() if options.refresh or not _is_recent(job, options)}
        if due:
            options.asking()
            options.working(f"reading the index: {redact(base).partition('/{')[0]}")
            outcomes = _Reader(options).read(due)
    return _merged(redact(base), jobs, outcomes, cache)


def warm_up(options: LiveOptions) -> None:
    """Load what the first request needs, where the cache will hardly do; a setting that is wrong waits."""
    folder = PageCache(options.cache_dir).folder
    with contextlib.suppress(OSError):
        if folder is not None and 0 <= options.now() - folder.stat().st_mtime < MAX_AGE_SECONDS:
            return
    with contextlib.suppress(UsageError):
        _client(options).env.context(options.index_base, trusted=False)


def _client(options: LiveOptions) -> Client:
    from torchinstall.index.client import Client  # it loads httpx, which a warm cache spares

    return Client(options.env, options.allow_insecure)


def _is_recent(job: _Job, options: LiveOptions) -> bool:
    return job.stored is not None and 0 <= options.now() - job.stored.fetched < MAX_AGE_SECONDS


class _Reader:
    """Reads pages within one time budget, each in a daemon, since a resolver may never answer."""

    def __init__(self, options: LiveOptions) -> None:
        self.options = options
        self.deadline = time.monotonic() + options.budget
        told = options.env.get("UV_HTTP_RETRIES", "")
        self.retries = int(told) if told.isdigit() else options.retries
        self.over = threading.Event()
        self.slots = threading.Semaphore(_MAX_THREADS)
        self.changed = threading.Condition()
        self.outcomes: dict[PageKey, Outcome] = {}
        self.failure: BaseException | None = None
        self.running = 0

    def read(self, jobs: Mapping[PageKey, _Job]) -> dict[PageKey, Outcome]:
        """Fetch every page; what is not there when the budget is spent is an `index-timeout`.

        Raises:
            UsageError: the index is plain http, or a proxy or certificate setting cannot be used.
        """
        client, self.running = _client(self.options), len(jobs)
        check_secure(next(iter(jobs.values())).url, client.allow_insecure)
        for key, job in jobs.items():
            run = (client, key, job)
            threading.Thread(target=self._run, args=run, name="index-page", daemon=True).start()
        try:
            with self.changed:
                left = max(self.deadline - time.monotonic(), 0)
                self.changed.wait_for(lambda: not self.running or self.failure is not None, left)
                outcomes = dict(self.outcomes)
        finally:
            self.over.set()
        if self.failure is not None:
            raise self.failure
        for key in jobs.keys() - outcomes.keys():
            late = f"{redact(jobs[key].url)} did not answer within {self.options.budget:g} s"
            outcomes[key] = FetchError("index-timeout", late)
        return outcomes

    def _run(self, client: Client, key: PageKey, job: _Job) -> None:
        ask, backoff = partial(self._page, client, job), self.options.backoff
        try:
            with self.slots:
                self.outcomes[key] = with_retries(ask, self.retries, backoff, self.over, self.deadline)
        except FetchError as error:
            self.outcomes[key] = error
        except BaseException as error:  # noqa: BLE001  handed to the thread that waits, which raises it
            self.failure = error
        with self.changed:
            self.running -= 1
            self.changed.notify()
        if not self.running:
            client.close()

    def _page(self, client: Client, job: _Job) -> CachedPage:
        page, stored, now = job.page, job.stored, self.options.now()
        etag = stored.etag if stored is not None and stored.missing is None else None
        reply = client.page(job.url, etag, self.deadline, self.options.max_bytes)
        if reply.status == 304 and stored is not None:
            return structs.replace(stored, fetched=now)
        if reply.status != 200:
            return CachedPage(fetched=now, missing=reply.status)
        if not page.package:
            return CachedPage(fetched=now, etag=reply.etag, names=parse_root(reply.text, reply.url))
        parsed = parse_page(
            reply.text,
            reply.url,
            page.package,
            page.backend,
            page.channel,
            shared=page.shared,
            any_host=self.options.any_host,
        )
        described: dict[str, str] = {}
        listed: dict[str, str] = {}
        within = None if page.described is None else specifiers(page.described)
        for file in parsed.files:
            if file.filename.endswith(VARIANTS):
                listed[file.filename.removesuffix(VARIANTS).rpartition("-")[2]] = file.url
            elif within is not None and (name := parse_name(file.filename)) is not None:
                version = Version(name.version)
                if version in within and not version.is_prerelease:
                    described[name.version] = file.url
        notes = list(parsed.notes)
        limits = self.deadline, self.options.max_bytes
        needs = _newest(
            described, _MOST_DESCRIBED, lambda url: read_needs(self._metadata(client, url)), notes
        )
        variants = _newest(
            listed, _MOST_VARIANTS, lambda url: read_variants(client.page(url, None, *limits).text), notes
        )
        files = parsed.files
        if self.options.any_host:
            files = tuple(structs.replace(file, url="") for file in files)
        parsed = structs.replace(parsed, files=files, needs=needs, variants=variants, notes=tuple(notes))
        return CachedPage(fetched=now, etag=reply.etag, page=parsed)

    def _metadata(self, client: Client, url: str) -> str:
        """The metadata of a wheel: the file beside it (PEP 658), else from within the wheel, by parts."""
        reply = client.page(f"{url}.metadata", None, self.deadline, _MOST_METADATA)
        if reply.status == 200:
            return reply.text
        from torchinstall.index.archives import member_text, remote_file  # they load zipfile

        wheel = remote_file(client, url, deadline=self.deadline)
        return member_text(wheel, ".dist-info/METADATA", _MOST_METADATA)


def _newest(urls: Mapping[str, str], most: int, read: Callable[[str], T], notes: list[str]) -> dict[str, T]:
    """What the URLs of the newest of these versions say; one that cannot be had is a note."""
    found = {}
    for version in sorted(urls, key=lambda text: dotted_or_none(text) or (), reverse=True)[:most]:
        try:
            found[version] = read(urls[version])
        except (FetchError, OSError, ValueError) as error:  # noqa: PERF203 - each URL is one attempt
            notes.append(f"{redact(urls[version])}: {error}")
    return found


def _merged(
    index_base: str, jobs: Mapping[PageKey, _Job], outcomes: Mapping[PageKey, Outcome], cache: PageCache
) -> LiveResult:
    """Put outcomes and stored pages together; a stored page stands in for a failure, with a warning."""
    found: dict[PageKey, CachedPage] = {}
    failures: dict[PageKey, FetchError] = {}
    replaced: list[FetchError] = []
    for key, job in jobs.items():
        outcome = outcomes.get(key, job.stored)
        if isinstance(outcome, CachedPage):
            found[key] = outcome
        elif outcome is not None and job.stored is not None:
            replaced.append(outcome)
            found[key] = job.stored
        elif outcome is not None and key != _ROOT:
            failures[key] = outcome
    absent = _absent_index(found, index_base) if outcomes else {}
    failures.update(absent)
    found = {key: page for key, page in found.items() if key not in absent}
    # Only here it is known whether the index itself is there, so that a page that is not can be stored.
    for key, outcome in outcomes.items():
        if isinstance(outcome, CachedPage) and key in found:
            cache.store(jobs[key].page, outcome)
    root = found.pop(_ROOT, None)
    notes = [note for cached in found.values() for note in cached.page.notes]
    if cache.problem is not None:
        notes.append(f"pages could not be stored: {cache.problem}")
    return LiveResult(
        index_base=index_base,
        found={key: cached.page for key, cached in found.items()},
        failures=failures,
        warnings=tuple(_warnings(index_base, failures, replaced)),
        live=sum(isinstance(outcomes.get(key), CachedPage) for key in found),
        backends=root.names if root is not None else None,
        notes=tuple(notes),
    )


def _absent_index(found: Mapping[PageKey, CachedPage], index_base: str) -> dict[PageKey, FetchError]:
    """Pages "not there" when not one page of torch is: then it is the index that is not there."""
    torch = {page.missing for (package, _), page in found.items() if package == "torch"}
    if not torch or None in torch:
        return {}
    slug, what, why = "index-not-found", 404, "no index"
    if 403 in torch:
        slug, what, why = "index-forbidden", 403, "access refused"
    message = f"{index_base} answered {what} for every page of torch: no such backend, or {why}"
    failure = FetchError(slug, message)
    return {key: failure for key, page in found.items() if page.missing is not None and key != _ROOT}


def _by_slug(failures: Iterable[FetchError]) -> list[list[FetchError]]:
    groups: dict[str, list[FetchError]] = {}
    for failure in failures:
        groups.setdefault(failure.slug, []).append(failure)
    return list(groups.values())


def _warnings(
    index_base: str, failures: Mapping[PageKey, FetchError], replaced: list[FetchError]
) -> Iterator[Message]:
    for first, *more in _by_slug(failures.values()):
        others = f" (and {len(more)} more page{'s' * (len(more) > 1)})" if more else ""
        yield Message(first.slug, f"{first.message}{others}")
    if replaced:
        message = (
            f"{len(replaced)} pages of {index_base} could not be read again; copies older than "
            f"{MAX_AGE_SECONDS / 3600:.0f} h are used: {replaced[0].message}"
        )
        yield Message("index-stale-pages", message)
