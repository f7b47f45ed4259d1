"""Builds from elsewhere than an index that is divided by backend.

The user asks for some: `--vendor-index` (the table knows the URL), or an `--index-base` that the table knows,
or that has a page for torch and none for a backend. Others are the last resort of a network that does not
reach the PyTorch index: first the folders that pip's or uv's own configuration names (`find-links`), as
clusters publish their wheels, then uv's default index. A project's configuration counts for neither: it may
have been cloned.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec import structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.model import Advice, Code, Wheels
from torchinstall.catalog.tables import platform_of
from torchinstall.core.errors import CatalogError, ToolMissingError, UsageError
from torchinstall.core.machine import Gpu
from torchinstall.core.messages import Message, redact, size_text
from torchinstall.core.plan import Plan
from torchinstall.core.request import DEFAULT_INDEX_BASE, Request
from torchinstall.core.target import Target
from torchinstall.index.urls import without_credentials
from torchinstall.index.wheels import local_wheels, provider_env, variant_code
from torchinstall.planner.situation import make_situation
from torchinstall.planning.configured import Source, configured_folders, default_index
from torchinstall.planning.context import PlanOptions
from torchinstall.planning.index_pages import Run
from torchinstall.planning.inputs import Inputs

if TYPE_CHECKING:
    from torchinstall.index.fetch import LiveResult


class Made(NamedTuple):
    """A plan, what it was made from, and whether the index was needed and did not answer."""

    plan: Plan
    catalog: Catalog
    index_down: bool = False

    def warned(self, warnings: Iterable[Message]) -> Made:
        """The same with warnings before its own."""
        return self._replace(plan=structs.replace(self.plan, warnings=(*warnings, *self.plan.warnings)))


def named_vendor(inputs: Inputs, options: PlanOptions) -> tuple[tuple[Advice, ...], str] | None:
    """The vendor's index that the user chose with `--index-base` or `--vendor-index`, as rows and template.

    Raises:
        UsageError: `no-vendor-index`: no index is known for the GPUs of the machine.
    """
    rows, base = inputs.catalog.tables.advice, inputs.request.index_base
    if base != DEFAULT_INDEX_BASE:
        same = tuple(row for row in rows if _same(row.url, base))
        if not same:
            return None
        return same, base if "{" in base else structs.replace(same[0], url=base).template
    if not options.vendor_index:
        return None
    situation = make_situation(inputs.request, inputs.machine, inputs.target, inputs.catalog)
    served = [row for gpu in situation.gpus for row in situation.served_by(gpu)]
    if not served:
        raise UsageError(
            "no-vendor-index",
            "no vendor's index is known for this machine",
            wanted="a GPU that a vendor builds torch for",
            found=", ".join(gpu.label for gpu in situation.gpus) or "no GPU",
            hints=("omit --vendor-index", "--index-base URL takes any index"),
        )
    return tuple(row for row in rows if row.url == served[0].url), served[0].template


def catalog_of_installed(catalog: Catalog, target: Target, index_url: str | None) -> Catalog:
    """The builds that are installed, to judge an installation from a vendor's index (`index_url`) by."""
    rows = tuple(row for row in catalog.tables.advice if index_url and _same(row.url, index_url))
    if not rows:
        return catalog
    pages = {}
    for item in target.installed:
        version, _, local = item.version.partition("+")
        row = Wheels(
            package=item.name,
            version=version,
            local=local,
            backend=item.backend or "",
            platform_tag="any",
            tag_list="py3-none",
            origin="vendor",
            confidence="high",
            source="what is installed",
        )
        pages[item.name, ""] = (row,)
    return structs.replace(catalog, live=pages, hashes={}, folders_only=True, vendor=rows)


def _same(url: str, base: str) -> bool:
    """The vendor's own URL, or a copy that ends as it does (`http://mirror.example/whl-multi-arch`)."""
    mine, theirs = url.rstrip("/"), base.partition("{")[0].partition("#")[0].rstrip("/")
    tail = urllib.parse.urlsplit(mine).path.strip("/").split("/")
    path = urllib.parse.urlsplit(theirs).path.strip("/").split("/")
    distinct = tail[-2:] if len(tail[-1]) < 8 else tail[-1:]
    return mine == theirs or path[-len(distinct) :] == distinct


def vendor_plan(run: Run, rows: tuple[Advice, ...], template: str) -> Made | None:
    """The plan from the pages of a vendor's index; None where it has no torch whose backend is known.

    `rows` are those of the index, where it is a known one; `template` is as `index.urls.index_url` reads it.

    Raises:
        CatalogError: a known index did not answer.
    """
    inputs = run.inputs
    request: Request = structs.replace(inputs.request, index_base=template)
    found = structs.replace(inputs.catalog, live={}, hashes={}, folders_only=True, vendor=rows)
    situation = make_situation(request, inputs.machine, inputs.target, found)
    families = [row for name in situation.requirements.family if (row := found.family(name)) is not None]
    names = [row.package for row in families if row.routed]
    names += [name for row in situation.vendor_rows for name in row.runtime()]
    result = run.read(tuple((name, "") for name in dict.fromkeys(names)), template)
    silent = (rows[0].backend if rows else None) or ""

    code: dict[Code, None] = {}

    def backend_of(row: Wheels) -> str:
        if not row.variant:
            return row.backend or silent
        properties = result.found[row.package, ""].variants.get(row.version, {}).get(row.variant)
        known = None if properties is None else variant_code(row, properties)
        if known is not None and row.package == "torch" and known.native and known.platform:
            code[known] = None
        return "" if known is None else known.backend  # empty, so that it is not considered

    pages = {
        key: tuple(structs.replace(row, backend=backend_of(row)) for row in page)
        for key, page in result.pages.items()
    }
    torch = pages.get(("torch", ""), ())
    if not any(found.backend(row.backend) is not None for row in torch):
        if not rows:
            return None
        base = redact(template.removesuffix("/{package}"))
        raise result.error() or CatalogError(
            "index-not-found",
            f"{base} has no page of torch, or it was not read before and --offline was given",
            wanted=f"the pages of {base}",
            hints=("omit --vendor-index for PyTorch's own builds", "--index-base URL takes a mirror of it"),
        )
    catalog = structs.replace(found, live=pages, hashes=result.hashes, live_code=tuple(code))
    made = _naming_files(run.decide(catalog, request), situation.gpus, result)
    return Made(made, catalog).warned(item for item in result.warnings if item.slug == "index-stale-pages")


def _naming_files(made: Plan, gpus: Iterable[Gpu], result: LiveResult) -> Plan:
    """The plan with the URL and hash of each wheel variant: left to itself, uv might take another one."""
    urls = {file.filename: file.url for page in result.found.values() for file in page.files}
    packages = tuple(
        structs.replace(row, url=urls.get(row.wheel or "")) if row.variant else row for row in made.packages
    )
    properties = [
        result.found[row.name, ""].variants[(row.version or "").partition("+")[0]][row.variant]
        for row in packages
        if row.variant
    ]
    return structs.replace(made, packages=packages, env=tuple(provider_env(properties, gpus).items()))


class Fallback(NamedTuple):
    """A source of builds in place of the PyTorch index, made ready for the planner.

    Attributes:
        request: for this source.
        catalog: with nothing but this source.
        words: which source it is: `the folder /cluster/wheels (find-links in /etc/pip.conf)`.
        sizes: bytes of its files by name, as far as they are known.
        own: the user named it for this run.
    """

    request: Request
    catalog: Catalog
    words: str
    sizes: Mapping[str, int | None]
    own: bool = False

    def serves(self, made: Plan) -> bool:
        """Whether a plan holds: uv would take what it lacks from where it is made for another build of torch.

        Only who named a folder may know better.
        """
        rows = (self.catalog.family(item.name) for item in made.packages if item.version is None)
        elsewhere = any(row is not None and row.routed for row in rows)
        return made.error is None and (self.own or not elsewhere)

    def summary(self, made: Plan) -> str:
        """What is taken from it, how large that is, and where it comes from."""
        taken = [item for item in made.packages if item.wheel is not None]
        sizes = (self.sizes.get(item.wheel or "") for item in taken)
        shown = ("size unknown" if size is None else size_text(size) for size in sizes)
        named = (f"{item.name} {item.version} ({size})" for item, size in zip(taken, shown, strict=True))
        return f"{' and '.join(named)} from {self.words}"


def fallbacks(run: Run, *, every: bool) -> Iterator[Fallback]:
    """The sources to try in their order; `every`: also those that the user did not name for this run."""
    inputs, context = run.inputs, run.context
    own = [Source(folder, "--find-links") for folder in inputs.request.find_links]
    yield from (source._replace(own=True) for source in _of_folders(own, inputs))
    if not every:
        return
    named = [*configured_folders(context.env, context.cwd, inputs.target.prefix)]
    for folder in named:
        if not Path(folder.place).is_dir():
            context.detail(f"{folder.place} ({folder.named_by}) is not a folder here")
    yield from _of_folders([folder for folder in named if Path(folder.place).is_dir()], inputs)
    try:
        yield of_default_index(run)
    except (CatalogError, ToolMissingError) as error:
        context.detail(error.message)


def _of_folders(folders: Sequence[Source], inputs: Inputs) -> Iterator[Fallback]:
    found = local_wheels(folder.place for folder in folders)
    used = [folder for folder in folders if any(row.source == folder.place for row in found)]
    if any(row.package == "torch" for row in found):
        places = tuple(folder.place for folder in used)
        yield Fallback(
            structs.replace(inputs.request, find_links=places),
            Catalog(inputs.catalog.tables, local=found, index_down=True, folders_only=True),
            " and ".join(f"the folder {folder.place} ({folder.named_by})" for folder in used),
            {file.name: file.stat().st_size for place in places for file in Path(place).glob("torch*.whl")},
        )


def of_default_index(run: Run) -> Fallback:
    """The index that uv takes packages from, as the only source.

    Raises:
        CatalogError: it does not answer, or has no torch that the tables know.
        ToolMissingError: there is no uv to say which index that is.
    """
    inputs, context = run.inputs, run.context
    index = default_index(context, inputs.uv_args)
    asked = (item.package for item in inputs.request.requirements)
    names = ("torch", *asked, *(item.name for item in inputs.target.installed))
    family = [name for name in dict.fromkeys(names) if inputs.catalog.family(name) is not None]
    result = run.read(tuple((name, "") for name in family), index.pages, any_host=True)
    pages = {key: tuple(_built(rows, inputs.catalog)) for key, rows in result.pages.items()}
    words = f"{redact(without_credentials(index.place))} ({index.named_by})"
    if not pages.get(("torch", "")):
        raise result.error() or CatalogError(
            "index-not-found",
            f"{words} has no build of torch that is known",
            wanted="torch on the index that uv takes packages from",
            hints=("--index-base URL takes a mirror of the PyTorch index",),
        )
    return Fallback(
        inputs.request,
        structs.replace(inputs.catalog.overlay(pages, result.hashes), index_down=True),
        words,
        {file.filename: file.size for page in result.found.values() for file in page.files},
    )


def _built(rows: Iterable[Wheels], catalog: Catalog) -> Iterator[Wheels]:
    """The rows of a page with the backend that each was built for; those that nobody knows are omitted."""
    shipped = {
        (row.package, row.version, platform_of(row.platform_tag)): row.backend
        for row in catalog.tables.wheels
        if row.origin == "default"
    }
    for row in rows:
        backend = row.backend or shipped.get((row.package, row.version, platform_of(row.platform_tag)))
        if backend is not None:
            yield structs.replace(row, origin="default", backend=backend)
