"""Which extra or group of a project fits a machine. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from torchinstall.core.errors import GpuUnavailableError, NoCompatibleBuildError
from torchinstall.core.messages import Message
from torchinstall.project.held import Offer, offers
from torchinstall.project.view import ProjectView

if TYPE_CHECKING:
    from torchinstall.catalog.catalog import Catalog
    from torchinstall.core.plan import Candidate, Plan

__all__ = ["Choice", "choose", "uv_flags"]


class Choice(Struct, frozen=True, kw_only=True):
    """What to ask of uv.

    Attributes:
        offer: None: the project offers no choice.
        flags: for `uv sync` and `uv run`.
        why: one clause for the line that is printed.
    """

    offer: Offer | None
    flags: tuple[str, ...]
    why: str
    notes: tuple[Message, ...] = ()


def choose(
    view: ProjectView,
    plan: Plan,
    catalog: Catalog,
    *,
    locked: Mapping[str, str] | None = None,
    require_gpu: bool = False,
) -> Choice:
    """The offer that fits the machine of a plan best.

    Args:
        view: the project.
        plan: for this machine and `torch` without bounds; its candidates are the judgement on every build.
        catalog: knows backends.
        locked: backend -> the torch version that the project's lock holds for it on this platform.
        require_gpu: rather fail than take an offer without a GPU.

    Raises:
        NoCompatibleBuildError: nothing that the project offers runs here.
        GpuUnavailableError: `require_gpu`, and only a CPU build fits.
    """
    there = tuple(offer for offer in offers(view, catalog) if offer.place is not None)
    fixed = tuple(offer for offer in offers(view, catalog) if offer.place is None)
    if not there:
        return _fixed(fixed, plan, locked or {})
    fitting = [offer for offer in there if _accepted(offer.backend, plan, locked or {})]
    if not fitting:
        raise _nothing_fits(there, plan)
    best = max(fitting, key=lambda offer: _rank(offer, plan, catalog))
    notes: list[Message] = []
    if _vendor(best.backend, catalog) is None and plan.backend and _vendor(plan.backend, catalog) is not None:
        lost = f"this machine could use {plan.backend}, and the project offers only " + ", ".join(
            offer.backend for offer in there
        )
        if require_gpu:
            raise GpuUnavailableError(
                "gpu-not-offered",
                lost,
                wanted=f"an extra or group for {plan.backend}",
                found=", ".join(f"{offer.backend}: {_reason(offer.backend, plan)}" for offer in there),
                hints=(_add_hint(there, plan.backend),),
            )
        notes.append(Message(slug="gpu-not-offered", message=f"{lost}; {_add_hint(there, plan.backend)}"))
    gpu = next((item.name or item.vendor for item in plan.gpus if item.covered), None)
    why = f"for {gpu}" if gpu and _vendor(best.backend, catalog) else "no GPU build of the project fits here"
    if not plan.gpus:
        why = "no GPU here"
    return Choice(offer=best, flags=uv_flags(best, view), why=why, notes=tuple(notes))


def _add_hint(there: tuple[Offer, ...], backend: str) -> str:
    kind = there[0].place.kind if there[0].place else "group"
    names = " ".join(
        f"--with {item}" for item in dict.fromkeys((*(offer.backend for offer in there), backend))
    )
    return f"torchinstall configure --layout {kind}s {names}"


def _fixed(fixed: tuple[Offer, ...], plan: Plan, locked: Mapping[str, str]) -> Choice:
    """A project with one build a platform: nothing to choose, but something to say where it does not fit."""
    notes: tuple[Message, ...] = ()
    if fixed and plan.backend and not any(_accepted(offer.backend, plan, locked) for offer in fixed):
        notes = (
            Message(
                slug="project-for-another-machine",
                message=f"the project takes {', '.join(offer.backend for offer in fixed)}, and here "
                + "; ".join(dict.fromkeys(_reason(offer.backend, plan) for offer in fixed))
                + "; torchinstall configure --layout groups --with cpu "
                + " ".join(f"--with {name}" for name in dict.fromkeys((fixed[0].backend, plan.backend))),
            ),
        )
    return Choice(
        offer=fixed[0] if fixed else None, flags=(), why="the project offers no choice", notes=notes
    )


def uv_flags(offer: Offer, view: ProjectView) -> tuple[str, ...]:
    """The flags that make uv take one offer and none of those that conflict with it."""
    place = offer.place
    if place is None:
        return ()
    if place.kind == "extra":
        return ("--extra", place.name)
    defaults = view.texts("default-groups") or ()
    mine = canonicalize_name(place.name)
    rivals = {
        name for row in view.conflicts if ("group", mine) in row for kind, name in row if kind == "group"
    } - {mine}
    out = [flag for name in defaults if canonicalize_name(name) in rivals for flag in ("--no-group", name)]
    own = () if mine in map(canonicalize_name, defaults) else ("--group", place.name)
    return (*out, *own)


def _vendor(backend: str, catalog: Catalog) -> str | None:
    info = catalog.backend(backend)
    return info.kind.vendor if info is not None else None


def _candidates(backend: str, plan: Plan) -> list[Candidate]:
    return [candidate for candidate in plan.candidates if candidate.backend == backend]


def _accepted(backend: str, plan: Plan, locked: Mapping[str, str]) -> bool:
    """Whether the locked build runs here; where that is not known, whether any build of the backend does."""
    mine = _candidates(backend, plan)
    version = locked.get(backend)
    exact = [item for item in mine if version is not None and item.torch == version.partition("+")[0]]
    return any(item.verdict != "rejected" for item in exact or mine)


def _reason(backend: str, plan: Plan) -> str:
    rejected = next((item for item in _candidates(backend, plan) if item.verdict == "rejected"), None)
    if rejected is None:
        return f"{backend} is not published for this platform and Python"
    return f"{backend} needs {rejected.wanted}, found {rejected.found}"


def _rank(offer: Offer, plan: Plan, catalog: Catalog) -> tuple[bool, bool, Version, tuple[int, ...]]:
    """The planned backend, then one with a GPU, then the newest torch, then the newest toolkit."""
    info = catalog.backend(offer.backend)
    accepted = [item for item in _candidates(offer.backend, plan) if item.verdict != "rejected"]
    return (
        offer.backend == plan.backend,
        info is not None and info.kind.vendor is not None,
        max((_version(item.torch) for item in accepted), default=Version("0")),
        (info.toolkit or ()) if info is not None else (),
    )


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


def _nothing_fits(there: tuple[Offer, ...], plan: Plan) -> NoCompatibleBuildError:
    names = ", ".join(offer.backend for offer in there)
    return NoCompatibleBuildError(
        "nothing-offered-fits",
        f"none of the builds that the project offers ({names}) runs on this machine",
        wanted=f"an extra or group for {plan.backend or 'cpu'}",
        found="\n".join(dict.fromkeys(_reason(offer.backend, plan) for offer in there)),
        hints=(_add_hint(there, plan.backend or "cpu"),),
    )
