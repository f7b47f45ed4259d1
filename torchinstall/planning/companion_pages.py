"""Companions as the indexes that publish them list them today, in place of the rows of the tables.

Read are the places with a page of links whose file names say what they are built for (Astral's GPU indexes,
data.pyg.org, whl.natten.org), and of uv's default index the pages of packages whose metadata says which torch
they need (vllm, xformers …). Everything else is as the tables know it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec import structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.catalog.model import Wheels
from torchinstall.catalog.stack import CompanionBuild, Grammar, Place
from torchinstall.catalog.tables import PageKey
from torchinstall.core.request import requirement
from torchinstall.core.target import Target
from torchinstall.index.pages import Needs
from torchinstall.index.urls import LINKS
from torchinstall.planner.builds import version_key
from torchinstall.planner.companion_lines import has_version
from torchinstall.planner.together import able_backends
from torchinstall.planning.inputs import Inputs

if TYPE_CHECKING:
    from torchinstall.index.fetch import LiveResult
    from torchinstall.index.pages import Page

Read = Callable[[tuple[PageKey, ...], str], "LiveResult"]

_MOST_RELEASES = 3
"""Of a place with a page for each release of torch, those of the newest ones are read: the others stay."""


def with_companions(
    inputs: Inputs,
    read: Read,
    describe: Callable[[Mapping[str, str]], LiveResult],
) -> Inputs:
    """The inputs with the companions that were asked for as their places list them today.

    `read` reads pages (package, backend) of an index, given by the template of its URL; `describe` those of
    uv's default index, with what the newest releases within bounds need.
    """
    catalog, target = inputs.catalog, inputs.target
    asked = {item.package for item in inputs.request.requirements if item.url is None}
    names = [name for name in sorted(asked) if any(_places(name, catalog))]
    lines_of = catalog.companion_builds
    needed = {requirement(text).package for name in asked for line in lines_of(name) for text in line.needs}
    bounded = {name: [""] for name in asked | needed if any(map(_says_itself, lines_of(name)))}
    here = target.marker_environment()
    for item in (*inputs.request.requirements, *inputs.request.constraints):
        if item.package in bounded and item.specifier and item.holds(here):
            bounded[item.package].append(item.specifier)
    backends = able_backends(inputs.request, inputs.machine, target, catalog) if names else ()
    built: dict[str, tuple[CompanionBuild, ...]] = {}
    for name in names:
        lines = catalog.companion_builds(name)
        for place, grammar in _places(name, catalog):
            lines = _of_today(lines, place, grammar, backends, read)
        built[name] = lines
    if bounded:
        result = describe({name: ",".join(filter(None, texts)) for name, texts in bounded.items()})
        for (name, _), page in result.found.items():
            if page.wheels:
                lines = built.get(name) or catalog.companion_builds(name)
                built[name] = tuple(_of_default(lines, page, target, catalog, alone=name in asked))
    if not built:
        return inputs
    return structs.replace(inputs, catalog=structs.replace(catalog, built={**catalog.built, **built}))


def _says_itself(line: CompanionBuild) -> bool:
    """Whether it is on the default index and its metadata says which torch it needs."""
    return line.kind == "bounded" and line.place == "pypi" and line.build == "ready"


def _of_default(
    lines: tuple[CompanionBuild, ...], page: Page, target: Target, catalog: Catalog, *, alone: bool
) -> Iterator[CompanionBuild]:
    """The lines with the releases that the page has, and one for each other one that says what it needs.

    One that says nothing of torch counts only if it is not `alone`: what needs it names a torch.
    """
    named = {version for line in lines for version in line.versions.split()}
    versions = sorted({row.version for row in page.wheels}, key=version_key, reverse=True)
    listed = [text for text in versions if text in named or not version_key(text).is_prerelease]
    for line in lines:
        there = [version for version in listed if has_version(line, version)]
        if not (_says_itself(line) and line.versions):
            yield line
        elif there:
            yield structs.replace(line, versions=" ".join(there))
    known = [line for line in lines if _says_itself(line) and line.versions]
    for row in page.wheels:
        needs = page.needs.get(row.version, None if alone else Needs())
        if needs is None or any(has_version(line, row.version) for line in known):
            continue
        wanted = dict(_wanted(needs, known, target, catalog))
        if "torch" in wanted or not alone:
            torch = wanted.pop("torch", "")
            yield structs.replace(
                _nearest(row.version, torch, known),
                versions=row.version,
                bound="",
                torch=torch,
                python=needs.python,
                tags=row.tag_list,
                platforms=(row.platform_tag,),
                needs=tuple(name + bounds for name, bounds in wanted.items()),
                confidence="high",
            )


def _nearest(version: str, torch: str, known: list[CompanionBuild]) -> CompanionBuild:
    """The line that tells a release's CUDA and GPU code: of the next one (for the same torch, if any)."""
    rows = [line for line in known if line.torch == torch] or known
    ordered = sorted(rows, key=lambda line: version_key(line.versions.split()[0]))
    newer = (line for line in ordered if version_key(line.versions.split()[0]) > version_key(version))
    return next(newer, ordered[-1])


def _wanted(
    needs: Needs, known: list[CompanionBuild], target: Target, catalog: Catalog
) -> Iterator[tuple[str, str]]:
    """What of a release's needs counts for the choice: packages that move with torch, and those of others."""
    before = {requirement(text).package for line in known for text in line.needs}
    here = target.marker_environment()
    for need in map(requirement, needs.packages):
        family = catalog.family(need.package)
        moves = family is not None and not family.own_cuda
        if (moves or need.package in before) and need.holds(here):
            yield need.package, need.specifier


def _places(name: str, catalog: Catalog) -> Iterator[tuple[Place, Grammar]]:
    """The places of a companion that can be read, each with the grammar of its file names."""
    for line in {(line.place, line.grammar): line for line in catalog.companion_builds(name)}.values():
        place, grammar = catalog.place(line.place), catalog.grammar(line.grammar)
        listed = place is not None and place.kind in ("index", "find-links") and "{version}" not in place.url
        if place is not None and listed and grammar is not None and "{torch" in grammar.write:
            yield place, grammar


def _of_today(
    lines: tuple[CompanionBuild, ...],
    place: Place,
    grammar: Grammar,
    backends: Iterable[str],
    read: Read,
) -> tuple[CompanionBuild, ...]:
    """The lines of a companion, those of one place as its pages have them; unread pages change nothing."""
    mine = [line for line in lines if line.place == place.id]

    def release(line: CompanionBuild) -> str:
        """The torch that its page is for; empty where one page has them all."""
        match = re.match(r"==(\d+\.\d+)", line.torch) if "{torch}" in place.url else None
        return match[1] if match else ""

    pages: dict[tuple[str, str], list[PageKey]] = defaultdict(list)
    releases = sorted(set(map(release, mine)), key=version_key)[-_MOST_RELEASES:]
    for backend in backends:
        for torch in releases:
            url = place.url.replace("{torch}", torch)
            if place.kind == "find-links":
                url = url.replace("{backend}", backend) + LINKS
            if torch or "{torch}" not in place.url:
                pages[url, torch].append((mine[0].package, backend))
    found: list[CompanionBuild] = []
    known: set[tuple[str, str]] = set()
    for (url, torch), keys in pages.items():
        for (_, backend), rows in read(tuple(keys), url).pages.items():
            known.add((backend, torch))
            found += _lines(rows, mine, grammar, backend)
    kept = []
    for line in mine:
        left = tuple(name for name in line.backends if (name, release(line)) not in known)
        if left or not line.backends:
            kept.append(structs.replace(line, backends=left))
    return (*(line for line in lines if line.place != place.id), *kept, *found)


def _lines(
    rows: Iterable[Wheels], known: list[CompanionBuild], grammar: Grammar, backend: str
) -> Iterator[CompanionBuild]:
    """The files of a page as lines; what its place says of GPU code and needs is that of the nearest line."""
    for row in rows:
        match = re.fullmatch(grammar.pattern, row.local)
        if match is None:
            continue
        said = match.groupdict()
        own = said.get("backend") or ("cu" + said["cuda"].replace(".", "") if said.get("cuda") else backend)
        if own != backend:
            continue  # a page may hold files of other backends
        torch = said.get("torch") or _dotted(said.get("torch_all") or said.get("torch_digits") or "")
        like = [line for line in known if backend in line.backends] or known
        near = next((line for line in like if line.torch.startswith(f"=={torch}.")), like[-1])
        yield structs.replace(
            near,
            versions=row.version,
            torch=f"=={torch}" if torch.count(".") > 1 else f"=={torch}.*",
            backends=(backend,),
            python="",
            tags=row.tag_list,
            platforms=(row.platform_tag,),
            confidence="high",
        )


def _dotted(digits: str) -> str:
    """`2.13.0` of `2130`, `2.11` of `211`."""
    if len(digits) > 3:
        return f"{digits[0]}.{digits[1:-1]}.{digits[-1]}"
    return f"{digits[0]}.{digits[1:]}" if digits else ""
