"""Say what was decided: what to know about the chosen build, and why each backend was chosen or not.

In words that need no knowledge of CUDA. Every rule slug has its sentence here (a test joins them with
`rules.RULES`), and its worked example in `docs/explanation/how-a-build-is-chosen.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from fnmatch import fnmatch

from packaging.version import Version

from torchinstall.core.machine import Gpu
from torchinstall.core.messages import Message, redact
from torchinstall.core.plan import Candidate, CompanionUse, Plan
from torchinstall.core.target import oldest_system, wheel_fits
from torchinstall.core.versions import version_text
from torchinstall.planner.rules import EvaluatedBuild, vendor_gpu
from torchinstall.planner.situation import Situation

RULE_WORDS = {
    "backend-not-asked": "Another backend was requested by name, so this one was not considered further.",
    "did-not-compute": "It was installed here, and the check afterwards showed that it does not compute.",
    "rosetta": "The Python here is made for Intel processors and runs translated on Apple Silicon; PyTorch "
    "stopped publishing for it, and it could never use the GPU.",
    "python-not-published": "PyTorch publishes each build for certain Python versions only, and there is no "
    "file of this build for yours.",
    "musl": "PyTorch's files are made for systems with glibc; this system (Alpine, for instance) uses musl.",
    "glibc-too-old": "The files of this build need a newer C library (glibc) than this system has.",
    "macos-too-old": "The files of this build need a newer macOS.",
    "system-too-old": "The files of this build need a newer operating system.",
    "no-gpu-of-vendor": "This backend is for GPUs of a vendor of which this machine has none.",
    "jetson-needs-own-build": "The GPU of this Jetson has its own driver: the general builds for ARM servers "
    "can be installed on it, but do not run.",
    "driver-too-old": "The build brings its own CUDA libraries, and they need a driver that is new enough. "
    "You can update the driver; the CUDA toolkit on the machine does not matter.",
    "no-code-for-gpu": "A build contains machine code for certain generations of GPUs only. This one has "
    'none for the GPU here: it would install, and then fail with "no kernel image is available".',
    "ptx-needs-newer-driver": "For this GPU the build contains only half-finished code (PTX) that the driver "
    "has to compile; this driver is older than the code and cannot.",
    "gpu-not-served-by-driver": "This driver does not support this generation of GPUs any more (or not yet).",
    "gpu-code-unknown": "The GPU did not report which generation it is, and no table knows it.",
    "code-unknown": "It is not known which GPUs this build has code for.",
    "library-lacks-gpu": "torch itself has code for this GPU, but a library that it comes with has not: it "
    "would install, see the GPU, and fail at the first computation that needs the library.",
    "kernel-needs-newer-rocm": "The Linux kernel here works with newer ROCm libraries only; those that the "
    "build brings along crash on it.",
    "rocm-not-for-wsl": "The ROCm libraries of this build do not work in WSL.",
    "cpu-too-old": "The build uses instructions that the processor here does not have.",
    "need-not-met": "What you asked for with --need does not work with this build on this machine.",
    "not-confirmed": "Nobody has seen the files of this build; that it was published is only a guess.",
    "companion-missing": "One of the packages that you asked for is not published for this build, and "
    "packages of different builds do not work together.",
    "pinned-out": "The versions that you asked for exclude it.",
    "companion-no-code": "A package that you asked for has ready files for this build, but none of them has "
    "code for the GPU here: it would install, and then fail.",
    "needs-build": "A package that you asked for has no ready files here. It would be built from source, "
    "which takes a compiler and time, and happens only where --allow-build names it.",
}

STALE_DAYS = 90
"""After this many days the shipped tables are called old."""


def plan_warnings(chosen: EvaluatedBuild, reasons: dict[Gpu, str]) -> Iterator[Message]:
    """What the user should know about a chosen build: each assumption and each loss is a warning with a slug.

    `reasons` says for each GPU that no build could use, why.
    """
    situation = chosen.situation
    yield from situation.assumptions
    if chosen.overridden:
        yield _cannot_run(chosen)
    else:
        yield from _unused_gpus(chosen, reasons)
    yield from _assumed_code(chosen)
    yield from _assumed_glibc(chosen)
    yield from _assumed_packages(chosen)
    yield from _driver_notes(chosen)
    yield from _works_in_part(chosen)
    yield from _not_on_index(chosen)
    if not chosen.covered:
        yield from vendor_indexes(situation)
    for finding in situation.unreadable:
        text = f"{finding.detail}; {finding.hint}" if finding.hint else finding.detail
        yield Message(finding.slug or "gpu-unreadable", text)
    by_itself = situation.request.backend == "auto" and situation.target.os != "macos"
    if by_itself and not situation.gpus and not situation.unreadable:
        yield _no_gpu(chosen)
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
    unused = [gpu for gpu in chosen.situation.gpus if gpu not in chosen.covered]
    by = {**{item.gpu: item.by for item in chosen.coverage}, **reasons}
    why = "; ".join(f"{gpu.label}: {by.get(gpu, 'another GPU was preferred')}" for gpu in unused)
    if unused and not chosen.covered:
        yield Message("gpu-not-used", f"torch will not use the GPU of this machine ({why})")
    elif any(gpu.integrated is not True for gpu in unused):
        yield Message("gpu-left-out", f"no build can use all GPUs of this machine; not used: {why}")


def _assumed_code(chosen: EvaluatedBuild) -> Iterator[Message]:
    for item in chosen.coverage:
        if item.covered and item.by == "assumed":
            text = f"{item.gpu.label}: {item.assumed}; the build is assumed to fit"
            yield Message("capability-unknown", text)
        elif item.covered and item.assumed is not None:
            text = f"it is not certain which GPUs torch {chosen.build.name} has code for: {item.assumed}"
            yield Message("code-list-assumed", text)


def _works_in_part(chosen: EvaluatedBuild) -> Iterator[Message]:
    """One warning for each GPU (or the machine) about what does not work although torch computes there."""
    said: dict[str, dict[str, None]] = {}
    for hit in chosen.limits:
        if not (hit.blocks or hit.silent) and (hit.gpu is None or hit.gpu in chosen.covered):
            device = f" on {hit.gpu.label}" if hit.gpu else ""
            said.setdefault(device, {})[hit.known.message] = None
    for device, messages in said.items():
        yield Message("works-in-part", f"torch {chosen.build.name}{device}: {'; '.join(messages)}")


def _assumed_glibc(chosen: EvaluatedBuild) -> Iterator[Message]:
    """A plain `linux_*` wheel says nothing about glibc, and all others of its release need a newer one.

    The wheels of one release are built on one system.
    """
    target, catalog = chosen.situation.target, chosen.situation.catalog
    rows = (pick.wheels for pick in chosen.picks if pick.wheels is not None)
    for row in (row for row in rows if row.platform_tag.startswith("linux_")):
        files = catalog.wheels(row.package, target.platform)
        tags = (other.platform_tag for other in files if other.version == row.version)
        told = list(filter(oldest_system, tags))
        if told and all(wheel_fits(tag, target) for tag in told):
            here = target.libc.version if target.libc else None
            yield Message(
                "glibc-assumed",
                f"the wheel of {row.package} does not say which glibc it needs; others of the same release "
                f"need a newer one than {here}, so it may not load",
            )


def _assumed_packages(chosen: EvaluatedBuild) -> Iterator[Message]:
    linked = [
        pick.package
        for pick in chosen.picks
        if pick.routed and pick.wheels is None and not (pick.asked or pick.index)
    ]
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
    """Packages of which the index has no file for the backend, and PyPI's has code for others only."""
    situation, backend = chosen.situation, chosen.build.backend.name
    for pick in chosen.picks if situation.target.platform == "linux_x86_64" else ():
        family = situation.catalog.family(pick.package)
        elsewhere = family.pypi_backends if family and pick.asked and pick.wheels is None else ()
        if elsewhere and not any(fnmatch(backend, pattern) for pattern in elsewhere):
            yield Message(
                "companion-not-for-backend",
                f"no {pick.package} is known on the index for {backend}; PyPI's is for "
                f"{' and '.join(elsewhere)}, and may not work with this torch",
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
            "newer (name it: --target-driver 580)",
        )
    elif not chosen.overridden and driver.cuda is not None and not driver.speaks(backend):
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


def _no_gpu(chosen: EvaluatedBuild) -> Message:
    """A CPU build because nothing else is visible: loud where a GPU may be elsewhere."""
    backend, what = chosen.build.backend, "the CPU build"
    if backend.kind.vendor is not None:
        what = f"the {backend.name} build, which computes on the CPU as well,"
    places = {"container": "this container", "ci": "this CI run"}
    environment = chosen.situation.machine.environment
    place = next((text for name, text in places.items() if name in environment), None)
    if place is None:
        return Message("no-gpu", f"no GPU was found on this machine, so {what} was chosen")
    return Message(
        "no-gpu-here",
        f"no GPU is visible in {place}, so {what} was chosen; if it will run on a GPU elsewhere, "
        "describe it: --target-driver 580 --target-gpu sm_90",
    )


def old_tables(snapshot: str, today: date) -> Iterator[Message]:
    """Nothing newer than the shipped tables was read, and they are old."""
    days = (today - date.fromisoformat(snapshot)).days
    if days >= STALE_DAYS:
        yield Message(
            "catalog-old",
            f"the shipped catalog is {days} days old ({snapshot}) and newer builds may exist: run without "
            "--offline, or upgrade torchinstall",
        )


_OTHER_BACKENDS = ("no-gpu-of-vendor", "backend-not-asked")
"""Rules that say nothing about this machine's own line of backends."""


def explain(plan: Plan, name: str) -> tuple[str, ...]:
    """What became of a backend (or of one companion) in this plan, and what each companion allows."""
    mine = [use for use in plan.companions if use.name == name]
    return (*(() if mine else why_not(plan, name)), *_companions(mine or plan.companions, plan))


def why_not(plan: Plan, backend: str) -> Iterator[str]:
    """What became of a backend: why it is chosen, or why not."""
    rows = [item for item in plan.candidates if item.backend == backend]
    rejected = [item for item in rows if item.verdict == "rejected"]
    best = next((item for item in rows if item.verdict != "rejected"), None)
    if not rows and any(message.slug == "fallback-source" for message in plan.warnings):
        yield f"{backend} was not considered: the source that stands in for the index has no build of it."
    elif not rows:
        yield f"{backend} was not considered: no build of it is known for this platform."
        yield f"Known: {', '.join(dict.fromkeys(item.backend for item in plan.candidates))}."
    elif best is None:
        yield f"No build of {backend} can be used here."
        for rule in dict.fromkeys(item.rule for item in rejected):
            yield _rejected([item for item in rejected if item.rule == rule])
            yield RULE_WORDS[rule or ""]
    elif plan.chosen is not None and plan.chosen in rows:
        yield from _why_chosen(plan, plan.chosen)
        yield from [_rejected(rejected)] if rejected else []
    else:
        yield f"torch {best.torch}+{backend} was not chosen. {why_second(plan, best)}"
        yield from () if plan.chosen else ("Nothing was chosen, because the plan stopped before.",)
        newer = [item for item in rejected if Version(item.torch) > Version(best.torch)]
        yield from (_rejected(newer), RULE_WORDS[newer[0].rule or ""]) if newer else ()


def _companions(uses: Iterable[CompanionUse], plan: Plan) -> Iterator[str]:
    """For each companion, which releases of torch it allows here."""
    for use in uses:
        version = f" ({use.version} is planned)" if use.version and plan.status != "impossible" else ""
        if use.allows:
            yield f"{use.name}{version} has ready files here for torch {', '.join(use.allows)}."
        elif plan.status == "impossible" or use.version is None:
            yield f"{use.name} has no ready files here for any torch."
        else:
            yield f"{use.name}{version} is needed by another package."
        if use.held_back:
            yield f"It keeps torch {use.held_back} out."


def _why_chosen(plan: Plan, chosen: Candidate) -> Iterator[str]:
    yield f"torch {chosen.torch}+{chosen.backend} was chosen."
    for gpu in plan.gpus:
        used = f"It has code for {gpu.label} ({gpu.by})."
        yield used if gpu.covered else f"It does not use {gpu.label}: {gpu.by}."
    newer = [item for item in plan.candidates if Version(item.torch) > Version(chosen.torch)]
    reasons = dict.fromkeys(item.rule for item in newer if item.rule not in (None, *_OTHER_BACKENDS))
    rejected = ", ".join(map(str, reasons)) or "for this machine"
    yield f"Newer releases were rejected ({rejected})." if newer else "There is no newer release of torch."


def why_second(plan: Plan, accepted: Candidate) -> str:
    """Why a build that would run was not chosen."""
    chosen = plan.chosen
    if chosen is None:
        return "Would run here."
    if accepted.backend == "cpu" and any(gpu.covered for gpu in plan.gpus):
        return "Would run on the CPU only."
    ours, theirs = Version(chosen.torch), Version(accepted.torch)
    if theirs < ours:
        return f"Would run, but its newest torch is {accepted.torch}."
    if plan.kept:
        return "Would run; what is installed is kept without --upgrade."
    if theirs == ours:
        return f"Would run, but {chosen.backend} suits the GPUs and the driver here better."
    if len(plan.gpus) > 1 and not plan.limits:
        return f"Would run, but not on every GPU that {chosen.backend} uses."
    return "Would run, but has a known fault here, or lacks ready files of a package that is wanted."


def _rejected(rows: list[Candidate]) -> str:
    newest, oldest = rows[0].torch, rows[-1].torch
    span = f"torch {newest} was" if newest == oldest else f"torch {oldest} to {newest} were"
    return f"{span} rejected: needed {rows[0].wanted}; found {rows[0].found}."
