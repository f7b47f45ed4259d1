"""Builds from elsewhere than an index that is divided by backend.

The user asks for some: `--vendor-index` (the table knows the URL), or an `--index-base` that the table knows,
or that has a page for torch and none for a backend. Others are the last resort of a network that does not
reach the PyTorch index: first the folders that pip's or uv's own configuration names (`find-links`), as
clusters publish their wheels, then uv's default index. A project's configuration counts for neither: it may
have been cloned.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.model import Advice, Code, Wheels
from torchinstall.catalog.tables import platform_of
from torchinstall.core.errors import CatalogError, ToolMissingError, UsageError
from torchinstall.core.files import user_path
from torchinstall.core.machine import Gpu
from torchinstall.core.messages import redact, size_text
from torchinstall.core.plan import Plan
from torchinstall.core.request import DEFAULT_INDEX_BASE, Request
from torchinstall.core.target import Target
from torchinstall.index.urls import file_path, without_credentials
from torchinstall.index.wheels import VariantBuild, WheelName, local_wheels, provider_env, variant_build
from torchinstall.install.command import values_of
from torchinstall.install.uv import own_default_index, uv_settings
from torchinstall.planner.selection import plan
from torchinstall.planner.situation import make_situation
from torchinstall.planning.context import Context, PlanOptions
from torchinstall.planning.inputs import Inputs

if TYPE_CHECKING:
    from torchinstall.index.fetch import LiveResult

Read = Callable[..., "LiveResult"]
"""(keys, index base), and as named what `assemble.read_pages` may be told besides -> pages."""


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
        name = WheelName(item.name, version, local, "", "py3-none", "any")
        pages[item.name, ""] = (name.row(item.backend or "", "vendor", "what is installed"),)
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

    `rows` are those of the index, where it is a known one; `template` is as `index.urls.index_url` reads it.

    Raises:
        CatalogError: a known index did not answer.
    """
    request: Request = structs.replace(inputs.request, index_base=template)
    found = inputs.catalog.of_vendor({}, {}, rows)
    situation = make_situation(request, inputs.machine, inputs.target, found)
    families = [row for name in situation.requirements.family if (row := found.family(name)) is not None]
    names = [row.package for row in families if row.routed]
    names += [name for row in situation.vendor_rows for name in row.runtime()]
    result = read(tuple((name, "") for name in dict.fromkeys(names)), template)
    silent = (rows[0].backend if rows else None) or ""
    built = {
        (row.package, row.version, row.variant): variant_build(properties)
        for key, page in result.pages.items()
        for row in page
        if row.variant
        and (properties := result.found[key].variants.get(row.version, {}).get(row.variant)) is not None
    }

    def backend_of(row: Wheels) -> str:
        if not row.variant:
            return row.backend or silent
        # Empty, so that it is not considered, where nobody knows what the variant is built for.
        build = built.get((row.package, row.version, row.variant))
        return "" if build is None else build.backend

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
    catalog = inputs.catalog.of_vendor(pages, result.hashes, rows, tuple(dict.fromkeys(_code(torch, built))))
    made = plan(request, inputs.machine, inputs.target, catalog, today=context.today())
    notes = tuple(item for item in result.warnings if item.slug == "index-stale-pages")
    warned = structs.replace(made, warnings=(*notes, *made.warnings))
    return _naming_files(warned, situation.gpus, result), catalog


def _code(
    rows: Iterable[Wheels], built: Mapping[tuple[str, str, str], VariantBuild | None]
) -> Iterator[Code]:
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


class Source(NamedTuple):
    """A folder of wheels or an index (its URL), and who named it."""

    place: str
    named_by: str


class Resort(NamedTuple):
    """A source made ready for the planner.

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

    def said(self, made: Plan) -> str:
        """What is taken from it, how large that is, and where it comes from."""
        taken = [item for item in made.packages if item.wheel is not None]
        sizes = (self.sizes.get(item.wheel or "") for item in taken)
        shown = ("size unknown" if size is None else size_text(size) for size in sizes)
        named = (f"{item.name} {item.version} ({size})" for item, size in zip(taken, shown, strict=True))
        return f"{' and '.join(named)} from {self.words}"


def last_resorts(inputs: Inputs, context: Context, read: Read, *, fallback: bool) -> Iterator[Resort]:
    """The sources to try in their order; `fallback`: also those that the user did not name for this run."""
    own = [Source(folder, "--find-links") for folder in inputs.request.find_links]
    yield from (resort._replace(own=True) for resort in _of_folders(own, inputs))
    if not fallback:
        return
    named = [*configured_folders(context.env, context.cwd, inputs.target.prefix)]
    for folder in named:
        if not Path(folder.place).is_dir():
            context.detail(f"{folder.place} ({folder.named_by}) is not a folder here")
    yield from _of_folders([folder for folder in named if Path(folder.place).is_dir()], inputs)
    try:
        yield default_resort(inputs, default_index(context, inputs.uv_args), read, context)
    except (CatalogError, ToolMissingError) as error:
        context.detail(error.message)


def _of_folders(folders: Sequence[Source], inputs: Inputs) -> Iterator[Resort]:
    found = local_wheels(folder.place for folder in folders).wheels
    used = [folder for folder in folders if any(row.source == folder.place for row in found)]
    if any(row.package == "torch" for row in found):
        places = tuple(folder.place for folder in used)
        yield Resort(
            structs.replace(inputs.request, find_links=places),
            Catalog(inputs.catalog.tables, local=found, index_down=True, folders_only=True),
            " and ".join(f"the folder {folder.place} ({folder.named_by})" for folder in used),
            {file.name: file.stat().st_size for place in places for file in Path(place).glob("torch*.whl")},
        )


def default_resort(inputs: Inputs, index: Source, read: Read, context: Context) -> Resort:
    """Uv's default index as the only source.

    Raises:
        CatalogError: it does not answer, or has no torch that the tables know.
    """
    asked = (item.package for item in inputs.request.requirements)
    names = ("torch", *asked, *(item.name for item in inputs.target.installed))
    family = [name for name in dict.fromkeys(names) if inputs.catalog.family(name) is not None]
    result = read(tuple((name, "") for name in family), f"{index.place}/{{package}}", any_host=True)
    pages = {key: tuple(_built(rows, inputs.catalog)) for key, rows in result.pages.items()}
    words = f"{redact(without_credentials(index.place))} ({index.named_by})"
    context.detail(f"{words}: {result.live} pages read, {len(result.found) - result.live} from the cache")
    if not pages.get(("torch", "")):
        raise result.error() or CatalogError(
            "index-not-found",
            f"{words} has no build of torch that is known",
            wanted="torch on the index that uv takes packages from",
            hints=("--index-base URL takes a mirror of the PyTorch index",),
        )
    return Resort(
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


def default_index(context: Context, uv_args: Sequence[str]) -> Source:
    """The index that uv takes packages from unless told otherwise.

    Its arguments count before variables, these before its files, what it says itself is the last.
    """
    env = context.env
    named = [Source(url, "--default-index") for url in values_of("--default-index", uv_args)]
    named += [Source(env[name], name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL") if env.get(name)]
    for file, settings, _ in uv_settings(env, context.cwd):
        indexes = [row for row in _rows(settings, "index") if isinstance(row, dict)]
        urls = [row.get("url") for row in indexes if row.get("default") is True]
        urls += _rows(settings, "index-url")
        named += [Source(url, str(file)) for url in urls if isinstance(url, str)]
    if not named:
        named = [Source(own_default_index(context.find_uv(env), env), "the default index")]
    place, named_by = named[0]
    url = place.partition("=")[2] if re.match(_NAMED_URL, place) else place
    return Source(url.rstrip("/"), named_by)


_NAMED_URL = r"[\w.-]+=\w+://"


def _rows(settings: Mapping[str, Any], key: str) -> list[Any]:
    """What uv's settings hold under a key, as a list; what is for `uv pip` comes first."""
    values = [part.get(key, []) for part in (settings.get("pip"), settings) if isinstance(part, dict)]
    return [row for value in values for row in (value if isinstance(value, list) else [value])]


def configured_folders(env: Mapping[str, str], cwd: Path, prefix: str | None) -> Iterator[Source]:
    """What pip's and then uv's configuration names as `find-links`, pages on the web left out.

    Args:
        env: of the user: `PIP_FIND_LINKS`, `PIP_CONFIG_FILE`, `UV_FIND_LINKS`, `HOME` …
        cwd: where relative paths of variables start.
        prefix: of the environment, which may hold a configuration of pip.
    """
    rows = [(cwd, text, by) for text, by in _of_pip(env, prefix)]
    rows += [(cwd, text, "UV_FIND_LINKS") for text in env.get("UV_FIND_LINKS", "").split(",")]
    for file, settings, of_project in uv_settings(env, cwd):
        links = _rows(settings, "find-links") if not of_project else ()
        rows += [(file.parent, str(text), f"find-links in {file}") for text in links]
    seen = set()
    for base, text, by in rows:
        path = text.strip()
        place = str(user_path(base, str(file_path(path))))
        if path and (path.startswith("file:") or "://" not in path) and place not in seen:
            seen.add(place)
            yield Source(place, by)


def _of_pip(env: Mapping[str, str], prefix: str | None) -> Iterator[tuple[str, str]]:
    """Pip's `find-links` and who says so: its variable, else the last of its files, `[install]` first.

    https://pip.pypa.io/en/stable/topics/configuration/
    """
    import configparser  # only where the index does not answer

    found = {"variable": (env.get("PIP_FIND_LINKS") or "", "PIP_FIND_LINKS")}
    for file in _pip_files(env, prefix):
        parser = configparser.RawConfigParser()
        with contextlib.suppress(configparser.Error, UnicodeDecodeError):
            parser.read(file, encoding="utf-8")
        for section in {"install", "global"}.intersection(parser):
            for key, value in parser.items(section):
                if key.replace("_", "-") == "find-links":
                    found[section] = (value, f"find-links in {file}")
    rows = (found.get(name, ("", "")) for name in ("variable", "install", "global"))
    value, by = next((row for row in rows if row[0]), ("", ""))
    yield from ((text, by) for text in value.split())


def _pip_files(env: Mapping[str, str], prefix: str | None) -> Iterator[Path]:
    """Pip's configuration files, the one that wins last: of the system, the user, the environment, named."""
    named = env.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    home = Path(env.get("HOME") or env.get("USERPROFILE") or os.devnull)
    name, own = "pip.conf", home / ".pip"
    user = Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "pip"
    system = [f"{folder}/pip" for folder in (env.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")] + ["/etc"]
    if sys.platform == "win32":
        name, own = "pip.ini", home / "pip"
        user = Path(env.get("APPDATA") or home / "AppData/Roaming") / "pip"
        system = [str(Path(env.get("PROGRAMDATA") or r"C:\ProgramData", "pip"))]
    elif sys.platform == "darwin":
        system = ["/Library/Application Support/pip"]
        library = home / "Library/Application Support/pip"
        user = library if library.is_dir() else home / ".config/pip"
    yield from (Path(folder, name) for folder in system)
    if not (named and Path(named).exists()):
        yield from (own / name, user / name)
    yield from (Path(prefix, name),) if prefix else ()
    yield from (Path(named),) if named else ()
