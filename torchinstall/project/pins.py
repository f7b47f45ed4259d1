"""Pins that name a build, and PyTorch's pages of links: older ways that no other tool's table is about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.core.messages import Message
from torchinstall.core.request import extras_text
from torchinstall.index.urls import pytorch_index
from torchinstall.project.choices import choices, pinned_backend, public_bounds
from torchinstall.project.edit import drop, list_at
from torchinstall.project.foreign import plain_name
from torchinstall.project.model import Listed, Point, points_of
from torchinstall.project.pyproject import ProjectView, is_requirement, texts

_SYSTEMS = ("linux_x86_64", "win_amd64", "macos_arm64")
"""A pin that is written once for each of these is meant for every platform."""


def did(message: str) -> Message:
    """What a migration did."""
    return Message(slug="migrated", message=message)


def check_spelled(view: ProjectView, catalog: Catalog) -> None:
    """Name a requirement of a package of PyTorch that uv cannot read, instead of adding another one.

    Raises:
        UsageError: `bad-pyproject`.
    """
    for scope, items in view.lists.items():
        for text in texts(items):
            if catalog.family(plain_name(text)) and not is_requirement(text):
                raise UsageError(
                    "bad-pyproject",
                    f"{text!r} in {scope.text} is not a requirement that uv can read",
                    wanted="bounds such as torch>=2.8; only == and != may name a build (+cu126)",
                    found=text,
                    hints=("correct the requirement; the file was not changed",),
                )


def pins_of(view: ProjectView, catalog: Catalog) -> tuple[Listed, ...]:
    """Requirements of the torch family that name a build (`torch==2.5.1+cu121`) that no source serves."""
    served = {
        (item.scope, item.package, item.backend, point)
        for item in choices(view, catalog, uv=True)
        for point in item.points
    }
    found = []
    for item in view.listed:
        family, backend = catalog.family(item.package), pinned_backend(item, catalog)
        if family is None or not family.routed or "+" not in str(item.requirement.specifier):
            continue
        points = view.points(item.requirement.marker)
        if any((item.scope, item.package, backend, point) not in served for point in points):
            found.append(item)
    return tuple(found)


def clean_pins(data: dict[str, Any], view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    """`torch==2.5.1+cu121 ; linux` and `torch==2.5.1 ; darwin` become one `torch==2.5.1`."""
    while pins := pins_of(view, catalog):
        first = pins[0]
        same = [item for item in view.listed if (item.scope, item.package) == (first.scope, first.package)]
        public = {public_bounds(item.requirement.specifier) for item in same}
        covered = frozenset[Point]().union(*(view.points(item.requirement.marker) for item in same))
        rows = list_at(data, *first.scope.path)
        if len(public) == 1 and points_of(_SYSTEMS, view.versions) <= covered:
            extras = extras_text(first.requirement.extras)
            rows[same[0].position] = f"{first.requirement.name}{extras}{public.pop()}"
            for item in reversed(same[1:]):
                del rows[item.position]
        else:  # versions differ by platform, or it is not required everywhere: the markers stay
            for item in same:
                rows[item.position] = _without_local(item.text)
        yield did(
            f"{first.package} in {first.scope.text} now names only a version; the index chooses the build"
        )
        view = ProjectView(data)


def _without_local(text: str) -> str:
    head, semicolon, marker = text.partition(";")
    parts = [part.partition("+")[0] for part in head.rstrip().split(",")]
    return ",".join(parts) + head[len(head.rstrip()) :] + semicolon + marker


def clean_links(data: dict[str, Any], view: ProjectView, catalog: Catalog) -> Iterator[Message]:
    """PyTorch's pages leave `find-links`; pages of others stay."""
    for path in (("tool", "uv"), ("tool", "uv", "pip")):
        links = view.tool(*path[1:]).get("find-links")
        if not isinstance(links, list):
            continue
        for link in list(links):
            if pytorch_index(str(link), catalog.backend):
                yield did(f"find-links {link} is replaced by an explicit index")
                links.remove(link)
                if not links:
                    drop(data, *path, "find-links")
