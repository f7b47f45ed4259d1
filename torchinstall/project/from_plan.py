"""From a plan for one machine to a layout for a project. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from packaging.version import InvalidVersion, Version

from torchinstall.core.errors import UsageError
from torchinstall.core.request import DEFAULT_INDEX_BASE
from torchinstall.project.availability import Stock
from torchinstall.project.model import Layout, LayoutName
from torchinstall.project.platforms import CELLS

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.core.plan import Plan

__all__ = ["Wish", "caps_of", "cell_of", "layout_from_plan", "parse_on"]

_MACHINE_RULES = frozenset({"driver-too-old", "no-code-for-gpu", "jetson-needs-own-build"})
"""Refusals that a newer torch will repeat on this machine; a lock must not move past them."""

_DEFAULT = "default"


class Wish(Struct, frozen=True, kw_only=True):
    """What the user said about the project.

    Attributes:
        backends: those to offer; empty: CPU and the planned one.
        on: platform key -> backend, or `default` for the default index.
        default: the backend that a bare `uv run` shall take; None: the planned one.
        packages: normalised names that must be routed besides torch.
        required: platform keys for `required-environments`; None: as the layout needs.
    """

    layout: LayoutName
    backends: tuple[str, ...] = ()
    on: tuple[tuple[str, str], ...] = ()
    default: str | None = None
    packages: tuple[str, ...] = ()
    required: tuple[str, ...] | None = None
    index_base: str = DEFAULT_INDEX_BASE


def parse_on(text: str) -> tuple[str, str]:
    """`linux-aarch64=cu130` as (`linux_aarch64`, `cu130`); `linux`, `windows` and `macos` are short names.

    Raises:
        UsageError: `bad-platform`.
    """
    name, equals, backend = text.partition("=")
    short = {"linux": "linux_x86_64", "windows": "win_amd64", "macos": "macos_arm64"}
    key = name.strip().replace("-", "_")
    cell = short.get(key, key)
    macos = cell.startswith("macos") and backend.strip() != _DEFAULT
    if not (equals and backend.strip()) or cell not in CELLS or macos:
        raise UsageError(
            "bad-platform",
            f"{text!r} is not a platform and its backend",
            wanted="PLATFORM=BACKEND with " + ", ".join(CELLS[:3]) + "; macOS takes the default index",
            found=text,
            hints=("--on linux_aarch64=cu130", "--on windows=default"),
        )
    return cell, backend.strip()


def cell_of(plan: Plan) -> str | None:
    """The platform key of the plan's target; None where it has none."""
    from torchinstall.catalog.tables import platform_of

    cells = {platform_of(tag) for tag in plan.target.platform_tags}
    cells = {"win_amd64" if cell == "win_arm64" else cell for cell in cells}
    return next((cell for cell in CELLS if cell in cells), None)


def caps_of(plan: Plan) -> tuple[tuple[str, str], ...]:
    """Backend -> the lowest torch above the chosen one that this machine cannot use as well."""
    chosen = plan.chosen
    if chosen is None:
        return ()
    above = [
        candidate.torch
        for candidate in plan.candidates
        if candidate.backend == chosen.backend
        and _version(candidate.torch) > _version(chosen.torch)
        and (
            candidate.rule in _MACHINE_RULES
            if candidate.verdict == "rejected"
            else plan.status == "ready"  # accepted, but it serves fewer of the GPUs
        )
    ]
    return ((chosen.backend, _short(min(above, key=_version))),) if above else ()


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


def _short(version: str) -> str:
    """`2.11.0` as `2.11`: what a bound looks like when a person writes it."""
    return version.removesuffix(".0") if version.count(".") > 1 else version


def layout_from_plan(wish: Wish, plan: Plan, catalog: Catalog) -> Layout:
    """The layout that a plan and the user's wishes come down to.

    Raises:
        TorchInstallError: there is no plan to take the backend from; the plan's own error.
        UsageError: `backends-missing`: a choice between backends needs two.
    """
    cell = cell_of(plan)
    planned = None if cell is None or cell.startswith("macos") else plan.backend
    if not (wish.backends or wish.on) and plan.error is not None:
        raise plan.error
    on: tuple[tuple[str, str], ...] = ()
    if wish.layout == "this-machine":
        backends = wish.backends[:1] or ((planned,) if planned else ())
    elif wish.layout == "markers":
        on = _on(wish, planned, Stock(catalog, plan.channel))
        backends = tuple(dict.fromkeys(backend for _, backend in on))
    else:
        backends = wish.backends or tuple(dict.fromkeys(("cpu", *((planned,) if planned else ()))))
        _two(backends, wish.layout)
    return Layout(
        name=wish.layout,
        backends=backends,
        on=on,
        default=_default(wish, planned, backends),
        packages=tuple(dict.fromkeys(("torch", *wish.packages))),
        required=_required(wish, cell),
        index_base=wish.index_base,
        channel=plan.channel,
        caps=caps_of(plan),
        torch=plan.chosen.torch if plan.chosen else None,
    )


def _on(wish: Wish, planned: str | None, stock: Stock) -> tuple[tuple[str, str], ...]:
    chosen = dict(wish.on)
    base = wish.backends[0] if wish.backends else planned
    there = stock.cells("torch", base) if base else frozenset()
    for cell in CELLS:
        if cell not in chosen and base and cell in there:
            chosen[cell] = base
    return tuple((cell, chosen[cell]) for cell in CELLS if chosen.get(cell, _DEFAULT) != _DEFAULT)


def _two(backends: tuple[str, ...], layout: LayoutName) -> None:
    if len(backends) < 2:
        raise UsageError(
            "backends-missing",
            f"the layout {layout} is a choice between backends, and only {backends[0]} is known here",
            wanted="two backends or more",
            found=", ".join(backends),
            hints=(f"torchinstall configure --layout {layout} --with cpu --with cu130",),
        )


def _default(wish: Wish, planned: str | None, backends: tuple[str, ...]) -> str | None:
    if wish.layout != "groups":
        return None
    default = wish.default or (planned if planned in backends else None) or backends[-1]
    if default not in backends:
        raise UsageError(
            "bad-default",
            f"{default} is to be the default and is not among the backends",
            wanted=", ".join(backends),
            found=default,
            hints=(f"--default {backends[-1]}",),
        )
    return default


def _required(wish: Wish, cell: str | None) -> tuple[str, ...]:
    if wish.required is not None:
        return wish.required
    if wish.layout == "this-machine":
        return (cell,) if cell is not None else ()
    return CELLS
