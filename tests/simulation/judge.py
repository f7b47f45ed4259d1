"""Judge a plan: what is wrong with it, as (rule, sentence) pairs; nothing wrong is an empty list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from tests.simulation.case import Case
from tests.simulation.facts import GUESS, NO, PROVEN, Trust, facts
from tests.simulation.options import (
    Option,
    abi_of,
    best_device,
    build_offers,
    closeness,
    compiling,
    coverage,
    options,
    used,
)
from tests.simulation.published import PYPI, Offer, companions_of, fits, offers, platform_of
from tests.simulation.refusal import must_refuse, refusal

if TYPE_CHECKING:
    from torchinstall.core.plan import Package, Plan

Failure = tuple[str, str]

_SAYS_SO = {
    "publication-assumed",
    "glibc-assumed",
    "code-list-assumed",
    "capability-unknown",
    "gpu-code-from-table",
    "driver-unknown",
    "gpu-support-unknown",
}
"""Warnings that say that a plan rests on an assumption."""

_NAMES_LOSERS = {"gpu-not-used", "gpu-left-out"}
_JUDGED = {"torch", "torchvision", "torchaudio"}


def judge(case: Case, plan: Plan) -> list[Failure]:
    """Everything that is wrong with the plan."""
    if plan.status == "impossible":
        return list(refusal(case, plan))
    if plan.error is not None or plan.backend is None or plan.torch is None:
        return [("shape", f"status {plan.status} with error {plan.error} and backend {plan.backend}")]
    if reason := must_refuse(case):
        return [("must refuse", f"{reason}, and the plan is {plan.torch}")]
    failures = list(_exists(case, plan))
    if case.backend != "auto":
        return failures + list(_obeyed(case, plan))
    chosen = Option(_public(plan.torch), Version(_public(plan.torch)), plan.backend, PROVEN)
    return [*failures, *_runs(case, plan, chosen), *_better(case, plan, chosen)]


def _public(version: str) -> str:
    return version.partition("+")[0]


def _warned(plan: Plan, slugs: set[str]) -> bool:
    return any(warning.slug in slugs for warning in plan.warnings)


def _exists(case: Case, plan: Plan) -> Iterator[Failure]:
    """Every package is a real file for this interpreter and system, fits torch, and satisfies the pins."""
    torch = _public(plan.torch or "")
    versions = {package.name: _public(package.version) for package in plan.packages if package.version}
    for package in plan.packages:
        if package.name not in _JUDGED or package.version is None:
            continue
        trust = _file_trust(case, package, torch, plan.backend or "")
        if trust == NO:
            yield "exists", f"{package.name} {package.version} does not exist for {plan.backend} here"
        elif trust == GUESS and not _warned(plan, _SAYS_SO):
            yield "says so", f"nobody has seen {package.name} {package.version}, and the plan does not say so"
        if package.name != "torch" and _public(package.version) not in companions_of(torch, package.name):
            yield "pairs", f"{package.name} {package.version} does not go with torch {torch}"
    for name in {*case.packages, *(Requirement(pin).name for pin in case.pins)}:
        if name not in versions:
            yield "complete", f"{name} was asked for and is not in the plan"
    for pin in map(Requirement, case.pins):
        if pin.name in versions and versions[pin.name] not in pin.specifier:
            yield "pins", f"{pin.name} {versions[pin.name]} breaks {pin}"


def _file_trust(case: Case, package: Package, torch: str, backend: str) -> Trust:
    platform, python, glibc, macos = build_offers(case)
    directory = PYPI if package.index_url is None else backend
    if package.index_url is not None and not package.index_url.rstrip("/").endswith("/" + backend):
        return NO
    version, _, local = (package.version or "").partition("+")
    if directory == PYPI and local:
        return NO
    found = offers(package.name, version, directory, platform, python)
    if package.wheel is not None:
        name, wheel_version, _, tags = parse_wheel_filename(package.wheel)
        tag = package.wheel[:-4].rpartition("-")[2]
        if name != package.name or str(wheel_version) != package.version:
            return NO
        if not {str(item.interpreter) for item in tags} & {abi_of(case.python).split("-")[0], "py3"}:
            return NO
        found = tuple(
            Offer(tag, offer.trust)
            for offer in found
            if platform_of(tag) == platform
            and (not offer.seen or set(offer.platform_tag.split(".")) & set(tag.split(".")))
        )
    return max((min(o.trust, fits(o.platform_tag, torch, glibc, macos)) for o in found), default=NO)


def _runs(case: Case, plan: Plan, chosen: Option) -> Iterator[Failure]:
    """The build uses what the plan says that it uses, and a GPU is never left out in silence."""
    verdicts = used(chosen, case)
    shown = {(gpu.vendor, gpu.index): gpu for gpu in plan.gpus}
    counts: dict[str, int] = {}
    for part, (trust, by) in zip(case.parts, verdicts, strict=True):
        index = counts.get(part.vendor, 0)
        counts[part.vendor] = index + 1
        gpu = shown.get((part.vendor, index))
        if gpu is None:
            yield "names GPUs", f"{part.name} is not in the plan"
            continue
        if gpu.covered and trust == NO:
            yield "runs", f"{plan.torch} is said to use {part.name} ({gpu.by}), but: {by}"
        elif gpu.covered and trust == GUESS and not _warned(plan, _SAYS_SO):
            yield "says so", f"it is a guess that {plan.torch} uses {part.name}, and the plan does not say so"
        elif not gpu.covered and trust == PROVEN:
            yield "denies", f"{plan.torch} uses {part.name} through {by}; the plan says: {gpu.by}"
        elif gpu.covered and trust and case.backend == "auto" and gpu.by.startswith("sm_") and gpu.by != by:
            yield "through", f"{part.name} runs through {by}, the plan says {gpu.by}"
        if part.discrete and not gpu.covered and not _warned(plan, _NAMES_LOSERS):
            yield "names losers", f"{part.name} is not used and no warning says so"
    if case.system.os == "linux" and case.box().cuda is not None and chosen.minor >= (2, 0):
        said = any(limit.effect == "compile" for limit in plan.limits)
        if said is compiling(chosen, case):
            yield (
                "compiles",
                f"{plan.torch} {'compiles' if said else 'does not compile'}, not as the plan says",
            )
    if chosen.backend != "cpu" and not any(trust for trust, _ in verdicts):
        yield "runs", f"{plan.torch} uses no GPU here"


def _better(case: Case, plan: Plan, chosen: Option) -> Iterator[Failure]:
    """No build would have been better: no GPU is traded away, no newer torch would have run too."""
    free, bound = options(case, pins=False), options(case)
    best = best_device(case, bound)
    if best is None:
        wider = best_device(case, free)
        if chosen.backend == "cpu" and wider is not None and not case.allow_cpu:
            yield (
                "traded away",
                f"only the pins keep {case.parts[wider].name} from use, and the plan is ready",
            )
        if case.require_gpu and not any(trust for trust, _ in used(chosen, case)):
            yield "required", "--require-gpu was given and the plan is a CPU build"
        rivals = [option for option in bound if option.backend == "cpu"]
        if chosen.backend == "cpu" and not any(trust for trust, _ in used(chosen, case)):
            yield from _newer(plan, chosen, rivals)
        return
    mine = coverage(chosen, case, best)
    if chosen.backend == "cpu" and not mine[1]:
        yield "traded away", f"{case.parts[best].name} could be used, and a CPU build is chosen"
        return
    sure = [option for option in bound if option.trust == PROVEN and _proven(option, case, best)]
    for option in sure:
        if coverage(option, case, best) > mine:
            yield "covers more", f"{option.torch}+{option.backend} covers more than {plan.torch}"
            return
    rivals = [option for option in sure if coverage(option, case, best) >= mine]
    yield from _newer(plan, chosen, rivals)
    for option in rivals if case.speaks or chosen.backend.startswith("rocm") else ():
        if _reported(case, option) or option.version != chosen.version:
            continue
        if _reported(case, chosen) or closeness(option.backend, case.speaks) > closeness(
            chosen.backend, case.speaks
        ):
            yield "toolkit", f"{option.torch}+{option.backend} comes before {plan.torch} for this driver"


def _reported(case: Case, option: Option) -> bool:
    """Whether somebody reported that a build fails on such a GPU."""
    return any((part.code, option.backend) in facts().limits.reported for part in case.parts)


def _proven(option: Option, case: Case, best: int) -> bool:
    """Whether its coverage rests on no guess."""
    verdicts = used(option, case)
    return verdicts[best][0] == PROVEN and all(trust != GUESS for trust, _ in verdicts)


def _newer(plan: Plan, chosen: Option, rivals: list[Option]) -> Iterator[Failure]:
    newer = [option for option in rivals if option.version > chosen.version and option.trust == PROVEN]
    if newer:
        yield "newest", f"{newer[0].torch}+{newer[0].backend} would have run too, chosen {plan.torch}"


def _obeyed(case: Case, plan: Plan) -> Iterator[Failure]:
    """A backend that was named is obeyed, with the newest torch it has, and a warning where it cannot run."""
    if plan.backend != case.backend:
        yield "obeys", f"--backend {case.backend}, chosen {plan.backend}"
        return
    chosen = Option(_public(plan.torch or ""), Version(_public(plan.torch or "")), case.backend, PROVEN)
    rivals = [option for option in options(case) if option.backend == case.backend]
    usable = [option for option in rivals if any(trust == PROVEN for trust, _ in used(option, case))]
    covers = any(trust for trust, _ in used(chosen, case))
    if case.backend != "cpu" and not covers and not _warned(plan, {"backend-cannot-run", *_NAMES_LOSERS}):
        yield "obeys", f"{plan.torch} uses no GPU here and no warning says so"
    if usable and not covers:
        yield "obeys", f"{usable[0].torch}+{usable[0].backend} would use the GPU, {plan.torch} does not"
    yield from _newer(plan, chosen, usable or ([] if covers else rivals))
