"""What the user should know about a chosen build: each assumption and each loss is a warning with a slug."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from torchinstall.core.messages import Message
from torchinstall.core.tags import glibc_floor
from torchinstall.core.versions import at_least, dotted_or_none, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torchinstall.core.machine import Gpu
    from torchinstall.planner.companions import Pick
    from torchinstall.planner.requirements import Wants
    from torchinstall.planner.rules import Case, Objection
    from torchinstall.planner.situation import Situation

__all__ = ["STALE_DAYS", "age_note", "chosen_notes", "no_gpu_note", "unread_note", "vendor_advice"]

STALE_DAYS = 90
"""After this many days the shipped tables are called old."""


def chosen_notes(
    case: Case, picked: Iterable[Pick], overridden: Iterable[Objection], reasons: dict[Gpu, str]
) -> list[Message]:
    """Warnings about the build that was chosen.

    Args:
        case: the chosen build.
        picked: its packages.
        overridden: hardware rules that an explicit `--backend` overrode.
        reasons: for each GPU that no build could use, why.
    """
    situation, backend = case.situation, case.build.backend
    notes = [
        Message(
            slug="backend-cannot-run",
            message=f"{_named(case)} is obeyed, but it cannot run here: it wants {item.wanted}, "
            f"and there is {item.found}",
        )
        for item in tuple(overridden)[:1]
    ]
    notes.extend(_gpu_notes(case, reasons, obeyed=bool(notes)))
    notes.extend(_knowledge_notes(case, picked))
    driver = situation.driver_of(backend)
    if backend.toolkit is None or situation.catalog.floor(backend) is None or driver is None:
        return notes
    if driver.cuda is None and driver.version is None:
        notes.append(
            Message(
                slug="driver-unknown",
                message=f"the driver of the target is not known; {backend.name} needs "
                f"{_floor_text(case)} or newer (say --target-driver)",
            )
        )
    elif driver.cuda is not None and not at_least(driver.cuda, backend.toolkit):
        notes.append(
            Message(
                slug="toolkit-newer-than-driver",
                message=f"{backend.name} is newer than driver CUDA version {text_of(driver.cuda)}; it runs "
                "by minor-version compatibility, only code that is compiled to PTX at run time may not",
            )
        )
    return notes


def _named(case: Case) -> str:
    """How the build was named that is obeyed."""
    asked = case.wants.direct.get("torch")
    backend = case.build.backend.name
    return f"--backend {backend}" if asked is None else f"the {backend} build in {asked.url}"


def _floor_text(case: Case) -> str:
    floor = case.situation.catalog.floor(case.build.backend)
    if floor is None:
        return "no driver"
    return "driver " + (floor.windows if case.situation.column == "windows" else floor.linux)


def _gpu_notes(case: Case, reasons: dict[Gpu, str], *, obeyed: bool) -> list[Message]:
    situation = case.situation
    covered = [item.gpu for item in case.covers if item.covered]
    notes: list[Message] = []
    left_out = [gpu for gpu in situation.gpus if gpu not in covered]
    if obeyed or not left_out:
        return notes
    why = "; ".join(f"{gpu.label}: {reasons.get(gpu, 'another GPU won')}" for gpu in left_out)
    if not covered:
        notes.append(
            Message(slug="gpu-not-used", message=f"torch will not use the GPU of this machine ({why})")
        )
    elif any(gpu.integrated is not True for gpu in left_out):
        notes.append(Message(slug="gpu-left-out", message=f"no build serves all GPUs; left out: {why}"))
    return notes


def _knowledge_notes(case: Case, picked: Iterable[Pick]) -> list[Message]:
    """Design, rule 11: an assumption is never silent."""
    notes = [
        Message(
            slug="code-list-assumed",
            message=f"no list of the GPU code in torch {case.build.torch}+{case.build.backend.name} is "
            f"certain; {text} is assumed",
        )
        for text in dict.fromkeys(
            item.assumed for item in case.covers if item.covered and item.by != "assumed"
        )
        if text is not None
    ]
    notes.extend(
        Message(
            slug="capability-unknown",
            message=f"{item.gpu.label}: {item.assumed}; a build that fits is assumed",
        )
        for item in case.covers
        if item.covered and item.by == "assumed"
    )
    unseen = [
        f"{pick.package} {pick.wheels.full_version}"
        for pick in picked
        if pick.wheels is not None and pick.wheels.confidence != "high" and pick.wheels.origin == "index"
    ]
    notes.extend(_glibc_note(pick, case) for pick in picked if _glibc_unknown(pick, case))
    linked = [pick.package for pick in picked if pick.routed and pick.wheels is None and not pick.asked]
    if linked:
        notes.append(
            Message(
                slug="runtime-assumed",
                message=f"torch of {case.build.backend.name} takes its runtime from packages of its own, by "
                f"what is documented: {_some(linked)}",
            )
        )
    if unseen:
        notes.append(
            Message(
                slug="publication-assumed",
                message=f"{', '.join(unseen)}: published as far as the tables know, but no file was seen",
            )
        )
    return notes


def _glibc_unknown(pick: Pick, case: Case) -> bool:
    """Whether a plain `linux_*` wheel is taken below the glibc that every other wheel of its release names.

    A plain tag says nothing about glibc; the wheels of one release are built on one system.
    """
    where = case.situation
    have = dotted_or_none(where.target.libc.version) if where.target.libc else None
    if pick.wheels is None or have is None or not pick.wheels.platform_tag.startswith("linux_"):
        return False
    floors = [
        floor
        for row in where.catalog.wheels(pick.package, where.target.platform)
        if row.version == pick.wheels.version and (floor := glibc_floor(row.platform_tag)) is not None
    ]
    return bool(floors) and not at_least(have, min(floors))


def _glibc_note(pick: Pick, case: Case) -> Message:
    libc = case.situation.target.libc
    return Message(
        slug="glibc-assumed",
        message=f"the wheel of {pick.package} names no lowest glibc, and others of the same release need a "
        f"newer one than {libc.version if libc else 'this'}; it may not load",
    )


def _some(names: list[str], most: int = 3) -> str:
    """The first names of a long list, and how many there are."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def unread_note(wanted: Wants) -> Message:
    """The warning for a torch that was asked for by a URL which does not say what it was built for."""
    return Message(
        slug="named-build-unknown",
        message=f"what {wanted.direct['torch'].url} was built for is not known before it is installed, so "
        "nothing is promised about this machine's GPU",
    )


def vendor_advice(situation: Situation) -> list[Message]:
    """Indexes of vendors that serve a GPU which PyTorch's own index does not."""
    catalog, os = situation.catalog, situation.target.os
    notes: list[Message] = []
    for gpu in situation.gpus:
        keys = [gpu.gfx_target] if gpu.gfx_target else []
        if situation.tegra and situation.machine.l4t:
            keys.append("l4t" + situation.machine.l4t.split(".")[0])
        for key in keys:
            notes.extend(
                Message(slug="vendor-index", message=f"{row.text}: --index-base {row.url}")
                for row in catalog.advice(gpu.vendor, key, os)
            )
    return list(dict.fromkeys(notes))


def no_gpu_note(where: Situation) -> list[Message]:
    """A CPU build because nothing else is visible: loud where a GPU may be elsewhere."""
    places = {"container": "this container", "ci": "this CI run"}
    place = next((text for word, text in places.items() if word in where.machine.environment), None)
    if place is None:
        return [Message(slug="no-gpu", message="no GPU was found on this machine, so the CPU build is taken")]
    return [
        Message(
            slug="no-gpu-here",
            message=f"no GPU is visible in {place}, so the CPU build is taken; if it will run on a GPU "
            "elsewhere, say so: --target-driver 580 --target-gpu sm_90",
        )
    ]


def age_note(snapshot: str, today: date | None) -> list[Message]:
    """A warning when the shipped tables are old; for a plan that read nothing live."""
    if today is None:
        return []
    days = (today - date.fromisoformat(snapshot)).days
    if days < STALE_DAYS:
        return []
    return [
        Message(
            slug="catalog-old",
            message=f"the shipped catalog is {days} days old ({snapshot}); newer builds may exist: "
            "let torchinstall read the index (without --offline), or upgrade torchinstall",
        )
    ]
