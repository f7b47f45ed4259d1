"""What a fetch brought: pages, failures and warnings, put together from live answers and stored copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torchinstall.catalog.cache import CachedPage, PageCache, PageId
from torchinstall.catalog.model import Wheels
from torchinstall.catalog.pages import BadPageError, PageFile
from torchinstall.errors import CatalogError
from torchinstall.values import dataclass

if TYPE_CHECKING:
    from torchinstall.catalog.tables import PageKey

__all__ = ["FRESH_SECONDS", "ROOT", "LiveResult", "Trouble", "merge"]

FRESH_SECONDS = 24 * 3600.0
"""A page this old is asked for again."""

ROOT: PageKey = ("", "")
"""Stands for the root page among the keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What went wrong with pages: a stable slug and one sentence."""

    slug: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveResult:
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
