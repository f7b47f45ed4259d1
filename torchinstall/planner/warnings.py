"""What the user should know about a chosen build: each assumption and each loss is a warning with a slug."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from torchinstall.core.machine import Gpu
from torchinstall.core.messages import Message, redact
from torchinstall.core.target import glibc_floor
from torchinstall.core.versions import at_least, dotted_or_none, version_text
from torchinstall.planner.builds import Pick
from torchinstall.planner.limits import known_limit
from torchinstall.planner.rules import EvaluatedBuild, vendor_gpu
from torchinstall.planner.situation import Situation

STALE_DAYS = 90
"""After this many days the shipped tables are called old."""


def plan_warnings(chosen: EvaluatedBuild, reasons: dict[Gpu, str], today: date | None) -> Iterator[Message]:
    """Warnings about a plan.

    Args:
        chosen: the chosen build.
        reasons: for each GPU that no build could use, why.
        today: for the age of the tables; None: do not judge it.
    """
    situation = chosen.situation
    yield from situation.assumptions
    if chosen.overridden:
        yield _cannot_run(chosen)
    else:
        yield from _unused_gpus(chosen, reasons)
    yield from _assumed_code(chosen)
    for pick in chosen.picks:
        yield from _assumed_glibc(pick, situation)
    yield from _assumed_packages(chosen)
    yield from _driver_notes(chosen)
    yield from _works_in_part(chosen)
    yield from _not_on_index(chosen)
    if not chosen.uses_gpu:
        yield from vendor_indexes(situation)
    for finding in situation.unreadable:
        text = f"{finding.detail}; {finding.hint}" if finding.hint else finding.detail
        yield Message(finding.slug or "gpu-unreadable", text)
    if not situation.gpus and not situation.unreadable and situation.request.backend == "auto":
        yield from _no_gpu(situation)
    if not situation.catalog.live and today is not None:
        yield from _old_tables(situation.catalog.snapshot, today)
    asked = situation.requirements.direct.get("torch")
    if asked is not None and not situation.wheels_by_url("torch"):
        yield Message(
            "named-build-unknown",
            f"what {redact(asked.url or '')} was built for is not known before it is installed, so it may "
            "not run on this machine's GPU",
        )


def _cannot_run(chosen: EvaluatedBuild) -> Message:
    backend, asked = chosen.build.backend.name, chosen.situation.requirements.direct.get("torch")
    named = f"--backend {backend}" if asked is None else f"the {backend} build in {redact(asked.url or '')}"
    rejection = chosen.overridden[0]
    if rejection.rule == "no-gpu-of-vendor":
        why = f"this machine has no {vendor_gpu(chosen.build)}; torch will fall back to the CPU"
    else:
        why = f"it cannot use the GPU of this machine: needed {rejection.wanted}, found {rejection.found}"
    return Message("backend-cannot-run", f"{named} was requested, but {why}")


def _unused_gpus(chosen: EvaluatedBuild, reasons: dict[Gpu, str]) -> Iterator[Message]:
    covered = [item.gpu for item in chosen.coverage if item.covered]
    unused = [gpu for gpu in chosen.situation.gpus if gpu not in covered]
    by = {**{item.gpu: item.by for item in chosen.coverage}, **reasons}
    why = "; ".join(f"{gpu.label}: {by.get(gpu, 'another GPU was preferred')}" for gpu in unused)
    if unused and not covered:
        yield Message("gpu-not-used", f"torch will not use the GPU of this machine ({why})")
    elif any(gpu.integrated is not True for gpu in unused):
        yield Message("gpu-left-out", f"no build can use all GPUs of this machine; not used: {why}")


def _assumed_code(chosen: EvaluatedBuild) -> Iterator[Message]:
    """Design, rule 11: an assumption is never silent."""
    for item in chosen.coverage:
        if item.covered and item.assumed is not None and item.by != "assumed":
            yield Message(
                "code-list-assumed",
                f"which GPUs torch {chosen.build.name} has code for is not certain; its list of GPU code is "
                f"assumed to be {item.assumed}",
            )
    for item in chosen.coverage:
        if item.covered and item.by == "assumed":
            yield Message(
                "capability-unknown", f"{item.gpu.label}: {item.assumed}; the build is assumed to fit"
            )


def _works_in_part(chosen: EvaluatedBuild) -> Iterator[Message]:
    """One warning for each GPU (or the machine) about what does not work although torch computes there."""
    covered = [item.gpu for item in chosen.coverage if item.covered]
    said: dict[str, dict[str, None]] = {}
    for hit in chosen.limits:
        if not (hit.blocks or hit.silent) and (hit.gpu is None or hit.gpu in covered):
            where = f" on {hit.gpu.label}" if hit.gpu else ""
            said.setdefault(where, {})[known_limit(hit).message] = None
    for where, messages in said.items():
        yield Message("works-in-part", f"torch {chosen.build.name}{where}: {'; '.join(messages)}")


def _assumed_glibc(pick: Pick, situation: Situation) -> Iterator[Message]:
    """A plain `linux_*` wheel below the glibc that every other wheel of its release names.

    A plain tag says nothing about glibc; the wheels of one release are built on one system.
    """
    libc = situation.target.libc
    have = dotted_or_none(libc.version) if libc else None
    if pick.wheels is None or libc is None or not have or not pick.wheels.platform_tag.startswith("linux_"):
        return
    floors = [
        floor
        for row in situation.catalog.wheels(pick.package, situation.target.platform)
        if row.version == pick.wheels.version and (floor := glibc_floor(row.platform_tag)) is not None
    ]
    if floors and not at_least(have, min(floors)):
        yield Message(
            "glibc-assumed",
            f"the wheel of {pick.package} does not say which glibc it needs; others of the same release need "
            f"a newer one than {libc.version}, so it may not load",
        )


def _assumed_packages(chosen: EvaluatedBuild) -> Iterator[Message]:
    linked = [pick.package for pick in chosen.picks if pick.routed and pick.wheels is None and not pick.asked]
    if linked:
        more = f" and {len(linked) - 3} more" if len(linked) > 3 else ""
        yield Message(
            "runtime-assumed",
            f"according to its documentation, torch for {chosen.build.backend.name} gets its runtime from "
            f"separate packages: {', '.join(linked[:3])}{more}",
        )
    unseen = [
        f"{pick.package} {pick.wheels.full_version}"
        for pick in chosen.picks
        if pick.wheels is not None and pick.wheels.confidence != "high" and pick.wheels.origin == "index"
    ]
    if unseen:
        are, have = ("is", "has") if len(unseen) == 1 else ("are", "have")
        yield Message(
            "publication-assumed",
            f"not confirmed: {', '.join(unseen)} {are} expected on the index but {have} not been seen "
            "there yet",
        )


def _not_on_index(chosen: EvaluatedBuild) -> Iterator[Message]:
    """Packages with code for one backend, of which the index has no file for the chosen one."""
    situation, backend = chosen.situation, chosen.build.backend
    for pick in chosen.picks:
        family = situation.catalog.family(pick.package)
        if family is None or not (family.index_first and family.pairing == "table" and pick.asked):
            continue
        served = backend.kind.kind == "cuda" and at_least(backend.toolkit or (), (13,))
        if pick.wheels is None and situation.target.platform == "linux_x86_64" and not served:
            yield Message(
                "companion-not-for-backend",
                f"no {pick.package} is known on the index for {backend.name}; PyPI's is built for CUDA, so "
                "its own kernels may not load",
            )


def _driver_notes(chosen: EvaluatedBuild) -> Iterator[Message]:
    situation, backend = chosen.situation, chosen.build.backend
    floor, driver = situation.driver_floor(backend), situation.driver_of(backend)
    if backend.toolkit is None or floor is None or driver is None:
        return
    if driver.cuda is None and driver.version is None:
        yield Message(
            "driver-unknown",
            f"the driver of the target is not known; {backend.name} needs driver {floor} or "
            "newer (name it with --target-driver)",
        )
    elif not chosen.overridden and driver.cuda is not None and not at_least(driver.cuda, backend.toolkit):
        yield Message(
            "toolkit-newer-than-driver",
            f"{backend.name} is newer than the driver CUDA version {version_text(driver.cuda)}; it runs "
            "thanks to minor-version compatibility, but code that is compiled at run time (PTX) may not",
        )


def vendor_indexes(situation: Situation) -> Iterator[Message]:
    """Indexes of vendors that serve a GPU which PyTorch's own index does not."""
    for gpu in situation.gpus:
        for row in situation.served_by(gpu):
            if row not in situation.catalog.vendor:
                yield Message("vendor-index", f"{row.text}; to install from {row.url} add --vendor-index")


def _no_gpu(situation: Situation) -> Iterator[Message]:
    """A CPU build because nothing else is visible: loud where a GPU may be elsewhere."""
    environment = situation.machine.environment
    place = "this container" if "container" in environment else "this CI run" if "ci" in environment else None
    if situation.target.os == "macos":
        return
    if place is None:
        yield Message("no-gpu", "no GPU was found on this machine, so the CPU build was chosen")
    else:
        yield Message(
            "no-gpu-here",
            f"no GPU is visible in {place}, so the CPU build was chosen; if it will run on a GPU elsewhere, "
            "describe it: --target-driver 580 --target-gpu sm_90",
        )


def _old_tables(snapshot: str, today: date) -> Iterator[Message]:
    days = (today - date.fromisoformat(snapshot)).days
    if days >= STALE_DAYS:
        yield Message(
            "catalog-old",
            f"the shipped catalog is {days} days old ({snapshot}) and newer builds may exist: run without "
            "--offline, or upgrade torchinstall",
        )
