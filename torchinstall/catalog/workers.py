"""The threads that fetch pages: all at once, with retries, and never longer than the budget.

The threads are daemons and the caller stops waiting at the deadline: a resolver or a server that hangs
cannot hold the program up. The last thread to finish closes the connections.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchinstall.catalog.cache import CachedPage, PageCache, PageId
from torchinstall.catalog.pages import BadPageError, parse_page, parse_root
from torchinstall.catalog.transport import Fetcher, Reply, RetryLater, load_httpx
from torchinstall.catalog.urls import redact

if TYPE_CHECKING:
    from torchinstall.catalog.live import LiveOptions
    from torchinstall.catalog.tables import PageKey

__all__ = ["Job", "run_jobs"]

_MAX_THREADS = 16

Outcome = CachedPage | BadPageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
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
            return dataclasses.replace(job.stored, fetched=fetched)
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
