"""A plan from the index of a GPU's vendor, or from any index that is not divided by backend.

The user asks for it: with `--vendor-index` (the table knows the URL), or with an `--index-base` that the
table knows, or that has a page for torch and none for a backend.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec import structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.model import Advice, Code, Wheels
from torchinstall.catalog.tables import PageKey, platform_of
from torchinstall.core.errors import CatalogError, UsageError
from torchinstall.core.machine import Gpu
from torchinstall.core.messages import Message, redact
from torchinstall.core.plan import Plan
from torchinstall.core.request import DEFAULT_INDEX_BASE, Request
from torchinstall.core.target import Target
from torchinstall.index.fetch import LiveResult
from torchinstall.index.wheels import VariantBuild, provider_env, variant_build
from torchinstall.planner.selection import plan
from torchinstall.planner.situation import make_situation
from torchinstall.planning.context import Context
from torchinstall.planning.inputs import Inputs

Read = Callable[[tuple[PageKey, ...], str], LiveResult]
"""(keys, index base) -> pages."""


def named_vendor(inputs: Inputs, base: str, *, asked: bool) -> tuple[tuple[Advice, ...], str] | None:
    """The vendor's index that the user chose, as rows and template; None where it is no vendor's.

    Args:
        inputs: machine and target.
        base: what `--index-base` says.
        asked: `--vendor-index`.

    Raises:
        UsageError: `no-vendor-index`: no index is known for the GPUs of the machine.
    """
    rows = inputs.catalog.tables.advice
    if base != DEFAULT_INDEX_BASE:
        same = tuple(row for row in rows if _same(row.url, base))
        return (
            (same, structs.replace(same[0], url=base).template if "{" not in base else base) if same else None
        )
    if not asked:
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
    """What a doctor judges an installation by that came from a vendor's index: the builds that are installed.

    Args:
        catalog: the tables.
        target: with what is installed.
        index_url: where torch was installed from, as the environment's own record says.
    """
    rows = tuple(row for row in catalog.tables.advice if index_url and _same(row.url, index_url))
    if not rows:
        return catalog
    pages = {
        (item.name, ""): (
            Wheels(
                package=item.name,
                version=item.version.partition("+")[0],
                local=item.version.partition("+")[2],
                backend=item.backend or "",
                platform_tag="any",
                tag_list="py3-none",
                origin="vendor",
                confidence="high",
                source="what is installed",
            ),
        )
        for item in target.installed
    }
    return catalog.of_vendor(pages, {}, rows)


def flat_template(base: str) -> str | None:
    """An index base read as one that is not divided by backend; None where it says how it is divided."""
    return None if "{" in base or "#" in base or base == DEFAULT_INDEX_BASE else f"{base}/{{package}}"


def _same(url: str, base: str) -> bool:
    """The vendor's own URL, or a copy that ends as it does (`http://mirror.example/whl-multi-arch`)."""
    mine, theirs = url.rstrip("/"), base.partition("{")[0].partition("#")[0].rstrip("/")
    tail = urllib.parse.urlsplit(mine).path.strip("/").split("/")
    path = urllib.parse.urlsplit(theirs).path.strip("/").split("/")
    distinct = tail[-2:] if len(tail[-1]) < 8 else tail[-1:]
    return mine == theirs or path[-len(distinct) :] == distinct


def vendor_plan(
    inputs: Inputs, rows: tuple[Advice, ...], template: str, context: Context, read: Read
) -> tuple[Plan, Catalog] | None:
    """The plan from the pages of a vendor's index; None where it has no torch whose backend is known.

    Args:
        inputs: what the plan is made from.
        rows: of the index, where it is a known one.
        template: of the index, see `index.urls.index_url`.
        context: for the date.
        read: reads pages.

    Raises:
        CatalogError: a known index did not answer.
    """
    request: Request = structs.replace(inputs.request, index_base=template)
    found = inputs.catalog.of_vendor({}, {}, rows)
    situation = make_situation(request, inputs.machine, inputs.target, found)
    names = [name for name in situation.requirements.family if _routed(found, name)]
    names += [name for row in situation.vendor_rows for name in row.runtime()]
    result = read(tuple((name, "") for name in dict.fromkeys(names)), template)
    error = result.error()
    silent = (rows[0].backend if rows else None) or ""
    built = {
        (row.package, row.version, label): variant_build(properties)
        for key, page in result.pages.items()
        for row in page
        if (label := row.variant)
        and (properties := result.found[key].variants.get(row.version, {}).get(label)) is not None
    }
    pages = {
        key: tuple(
            structs.replace(row, backend=_backend(row, built) if row.variant else row.backend or silent)
            for row in page
        )
        for key, page in result.pages.items()
    }
    builds = [row for row in pages.get(("torch", ""), ()) if found.backend(row.backend) is not None]
    if not builds:
        if not rows:
            return None
        base = redact(template.removesuffix("/{package}"))
        raise error or CatalogError(
            "index-not-found",
            f"{base} has no page of torch, or it was not read before and --offline was given",
            wanted=f"the pages of {base}",
            hints=("omit --vendor-index for PyTorch's own builds", "--index-base URL takes a mirror of it"),
        )
    code = tuple(dict.fromkeys(_code(pages.get(("torch", ""), ()), built)))
    catalog = inputs.catalog.of_vendor(pages, result.hashes, rows, code)
    made = plan(request, inputs.machine, inputs.target, catalog, today=context.today())
    notes = tuple(
        Message(item.slug, item.message) for item in result.warnings if item.slug == "index-stale-pages"
    )
    return _naming_files(
        structs.replace(made, warnings=(*notes, *made.warnings)), situation.gpus, result
    ), catalog


Built = Mapping[tuple[str, str, str], VariantBuild | None]
"""(package, version, label) -> what the variant is built for."""


def _backend(row: Wheels, built: Built) -> str:
    """The backend of a wheel variant; empty, so that it is not considered, where nobody knows."""
    build = built.get((row.package, row.version, row.variant))
    return "" if build is None else build.backend


def _code(rows: Iterable[Wheels], built: Built) -> Iterator[Code]:
    """The GPU code of each torch variant, as the index itself says it."""
    for row in rows:
        build, platform = built.get((row.package, row.version, row.variant)), platform_of(row.platform_tag)
        if build is not None and build.native and platform is not None:
            yield Code(
                torch=".".join(row.version.split(".")[:2]),
                backend=build.backend,
                platform=platform,
                native=build.native,
                ptx=build.ptx,
                confidence="high",
                source=f"the properties of variant {row.variant}",
            )


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


def _routed(catalog: Catalog, name: str) -> bool:
    family = catalog.family(name)
    return family is not None and family.routed
