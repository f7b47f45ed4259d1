"""Why there is no plan: the errors of design rules 4 and 5, and the reason for each GPU that is not used."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

from torchinstall.catalog.model import Wheels
from torchinstall.core.errors import GpuUnavailableError, NoCompatibleBuildError, TorchInstallError
from torchinstall.core.machine import Gpu
from torchinstall.core.plan import Plan
from torchinstall.core.target import Target, wheel_fits
from torchinstall.planner.coverage import UNRANKED
from torchinstall.planner.drivers import driver_advice, usable_drivers
from torchinstall.planner.rules import HARDWARE_RULES, REQUEST_RULES, RULES, EvaluatedBuild, pinned_out
from torchinstall.planner.situation import Situation

_SYSTEM_HINTS = {
    "musl": "use an image with glibc (debian, ubuntu, fedora); PyTorch publishes nothing for musl",
    "rosetta": "install an arm64 Python and create a new environment with it: "
    "uv venv --python cpython-{python}-macos-aarch64-none",
    "glibc-too-old": "use a newer distribution, or an older Python, for which older releases were published",
    "macos-too-old": "update macOS, or use an older Python, for which older releases were published",
}
_DEPTH = {slug: depth for depth, (slug, _) in enumerate(RULES)}


def left_behind(package: str, made: Plan, target: Target) -> TorchInstallError:
    """Another torch would be right, and a package that is installed beside the present one cannot follow."""
    there = {item.name: item.version for item in target.installed}
    python = f" --python {shlex.quote(target.python)}" if target.python else ""
    return NoCompatibleBuildError(
        "companion-left-behind",
        f"{package} is installed, and there is none for the torch that would be installed",
        wanted=f"{package} for torch {made.torch}",
        found=f"{package} {there.get(package)} beside torch {there.get('torch', 'of no version')}",
        hints=(
            f"if you do not need {package}: uv pip uninstall{python} {package}",
            "otherwise ask for a torch that has it, or keep the one that is installed",
        ),
    )


def unreadable_gpu(best: EvaluatedBuild, evaluated: tuple[EvaluatedBuild, ...]) -> TorchInstallError | None:
    """Hardware that is there and cannot be read stops the plan, unless a better GPU can be used anyway."""
    ranks = best.situation.catalog.vendor_ranks
    vendor = best.build.backend.kind.vendor
    used = ranks.get(vendor, UNRANKED) if vendor and best.covered else UNRANKED
    for finding in best.situation.unreadable:
        if ranks.get(finding.probe, UNRANKED) < used:
            name = _usual_backend(evaluated, finding.probe)
            own = f"--backend {name}, or " if name else ""
            flags = f"or choose the build yourself: {own}--allow-cpu for the CPU build"
            return GpuUnavailableError(
                finding.slug or "gpu-unreadable",
                finding.detail,
                wanted="a GPU that can be read, or a flag that says how to go on without it",
                found=f"{finding.status} ({finding.source or finding.probe})",
                hints=(finding.hint, flags) if finding.hint else (flags,),
            )
    return None


def _usual_backend(evaluated: tuple[EvaluatedBuild, ...], vendor: str) -> str | None:
    """The backend of a vendor that runs on most machines: lowest toolkit among those of the newest minors.

    It has code for the vendor's GPUs, as far as these are known; a Jetson's own builds have no backend.
    """
    own = [
        item.build
        for item in evaluated
        if item.build.backend.kind.vendor == vendor
        and not item.rejected_by("python-not-published", "system-too-old", "not-confirmed")
        and all(found.covered or found.rule == "gpu-not-served-by-driver" for found in item.coverage)
    ]
    if not own or "jetson" in evaluated[0].situation.machine.environment:
        return None
    newest = max(build.version for build in own)
    recent = [build for build in own if build.version.release[:2] >= (newest.major, newest.minor - 1)]
    return min(recent, key=lambda build: build.backend.toolkit or ()).backend.name


def pins_exclude_gpu(evaluated: tuple[EvaluatedBuild, ...]) -> TorchInstallError | None:
    """A published torch could use the GPU, and only what the user asked for rules it out."""
    lost = [item for item in evaluated if item.rejected_by(*REQUEST_RULES) and item.covered]
    if not lost:
        return None
    if any(item.rejected_by("need-not-met") for item in lost):
        # Those that meet the need and that other pins would allow; what lacks a companion no pin brings back.
        lost = [item for item in lost if item.rejected_by("pinned-out")] or lost
    newest = max(lost, key=lambda item: item.build.version)
    oldest = min(lost, key=lambda item: item.build.version)
    gpus = ", ".join(gpu.label for gpu in newest.covered)
    span = " to ".join(dict.fromkeys((oldest.build.torch, newest.build.torch)))
    ways = [
        f"ask for torch=={newest.build.torch}, the newest that works ({newest.build.backend.name})",
        f"the oldest that works is torch=={oldest.build.torch}",
    ]
    if newest.rejected_by("need-not-met"):
        ways = [f"omit --need: torch {newest.build.name} computes, though without it"]
    elif any(usable_drivers(evaluated, gpu := newest.covered[0], newest.situation)):
        ways += filter(None, [driver_advice(evaluated, gpu, newest.situation)])
    message = f"what you asked for rules out every build that can use {gpus}; torch {span} could"
    hints = (*ways, "or accept the CPU build: --allow-cpu")
    return _error(newest, evaluated, message, hints, "pins-exclude-gpu")


def required_gpu(evaluated: tuple[EvaluatedBuild, ...], situation: Situation) -> TorchInstallError:
    """`--require-gpu`, and no GPU build can run."""
    if not situation.gpus:
        return GpuUnavailableError(
            "gpu-required",
            "a GPU is required, but none was found",
            wanted="a GPU that torch can use (--require-gpu)",
            found="no GPU",
            hints=("describe the GPU that the build is for: --target-gpu sm_90 --target-driver 580",),
        )
    reasons = gpu_reasons(evaluated, situation)
    return GpuUnavailableError(
        "gpu-required",
        "a GPU is required, but no build can use the GPU of this machine",
        wanted="a build that runs on it (--require-gpu)",
        found="; ".join(f"{gpu.label}: {reason}" for gpu, reason in reasons.items()),
        hints=("see why: torchinstall plan --allow-cpu",),
    )


def no_build(evaluated: tuple[EvaluatedBuild, ...], situation: Situation) -> TorchInstallError:
    """Every candidate was rejected: the rule that the furthest ones met is named."""
    target, request = situation.target, situation.request
    if not evaluated and request.channel != "stable":
        return NoCompatibleBuildError(
            "channel-not-read",
            f"nothing is known of the {request.channel} channel: its index was not read, or it has nothing "
            f"for {target.platform}",
            wanted=f"pages of the {request.channel} index",
            found="the shipped tables, which hold the stable channel",
            hints=("run it without --offline, and check --index-base",),
        )
    if not evaluated:
        return NoCompatibleBuildError(
            "platform-not-published",
            f"PyTorch publishes nothing for {target.platform} on the {request.channel} channel",
            wanted="a platform with builds: Linux and Windows on x86-64 or aarch64, macOS",
            found=target.platform,
            hints=("torchinstall plan --target-gpu … --machine FILE plans for another machine",),
        )
    named = request.backend != "auto" or request.only is not None
    if named and all(item.rejected_by("backend-not-asked") for item in evaluated):
        return _backend_not_published(evaluated, situation)
    asked = [item for item in evaluated if item.torch_allowed and not item.rejected_by("backend-not-asked")]
    # A build for GPUs that are not here says nothing of what keeps the others from running.
    served = [item for item in asked if not item.rejected_by("no-gpu-of-vendor")]
    furthest = max(served or asked or evaluated, key=lambda item: (_depth(item), item.build.order))
    message = f"no build of torch fits; the closest is {furthest.build.name}"
    return _error(furthest, evaluated, message, _what_to_change(furthest, evaluated))


def _error(
    item: EvaluatedBuild,
    evaluated: Iterable[EvaluatedBuild],
    message: str,
    hints: Iterable[str],
    slug: str = "",
) -> NoCompatibleBuildError:
    """What rejected a build, and what one that was asked for lacks beside code."""
    rejection = item.rejection
    assert rejection is not None, "it was accepted"  # noqa: S101  # only rejected builds come here
    found = [rejection.found]
    for other in evaluated:
        blocks = [hit.row.slug for hit in other.limits if hit.blocks]
        if other.rejection and other.rejection.rule in blocks and pinned_out(other) is None:
            found.append(f"torch {other.build.name} needs {other.rejection.wanted}")
            break
    return NoCompatibleBuildError(
        slug or rejection.rule, message, wanted=rejection.wanted, found="; ".join(found), hints=tuple(hints)
    )


def _backend_not_published(evaluated: tuple[EvaluatedBuild, ...], situation: Situation) -> TorchInstallError:
    """What was named has no build for this platform: the backends of its kind that have are named."""
    request = situation.request
    torch, name = request.only or (None, request.backend)
    wanted = situation.catalog.backend(name)
    rows = [item.build for item in evaluated if torch in (None, item.build.torch)]
    backends = {row.backend.name: row.backend.kind.kind for row in rows}
    similar = [known for known, kind in backends.items() if wanted is None or kind == wanted.kind.kind]
    what = f"torch {torch}+{name}" if torch else name
    return NoCompatibleBuildError(
        "backend-not-published",
        f"no build of {what} is known for {situation.target.platform}",
        wanted=f"a build of {what}{'' if torch else ' (--backend)'}",
        found=", ".join(similar or backends) or f"nothing of torch {torch}",
        hints=(
            "torchinstall plan --machine FILE chooses a build for this machine"
            if torch
            else "omit --backend to have one chosen, or name one of those found",
        ),
    )


def _what_to_change(furthest: EvaluatedBuild, evaluated: tuple[EvaluatedBuild, ...]) -> Iterator[str]:
    more = "torchinstall plan shows every build and why it was rejected"
    pinned = (item for item in evaluated if item.rejected_by("pinned-out") and not item.torch_allowed)
    others = [item.build.torch for item in pinned if item.missing is None]
    bounds = furthest.situation.requirements.bounded("torch")
    # The release that was asked for, where only its local version is in the way.
    fits = min(
        others, key=lambda torch: not re.search(rf"=={re.escape(torch)}(\+|,|$)", bounds), default=None
    )
    system = _SYSTEM_HINTS.get(furthest.rejection.rule) if furthest.rejection else None
    if system is not None:
        if fits is not None:
            yield f"ask for torch=={fits}, which runs here"
        yield system.format(python=furthest.situation.target.python_minor)
    elif furthest.rejected_by("python-not-published"):
        python = _nearest_python(furthest)
        place = "" if furthest.situation.target.python is None else f"--venv .venv-{python} --python"
        yield f"use another Python: {place or '--python-version'} {python}"
    elif furthest.rejected_by("pinned-out") and (lost := furthest.missing) and furthest.torch_allowed:
        yield f"ask for {lost.package} without a version; {lost.found} goes with torch {furthest.build.torch}"
    elif furthest.rejected_by(*REQUEST_RULES):
        yield more if fits is None else f"ask for another version; torch=={fits} would fit"
    elif furthest.coverage:
        advice = driver_advice(evaluated, furthest.coverage[0].gpu, furthest.situation)
        same = [item for item in evaluated if item.build.torch == furthest.build.torch]
        other = next((item for item in same if item.rejected_by(*REQUEST_RULES) and item.covered), None)
        yield from filter(None, (advice, other and f"or ask for torch=={other.build.name}, which runs here"))
        yield more
    else:
        yield more


def _depth(item: EvaluatedBuild) -> int:
    """How far a build came: the place of the rule that rejected it; one for another GPU has no code here."""
    return _DEPTH[item.rule or "no-code-for-gpu"]


def _nearest_python(item: EvaluatedBuild) -> str:
    """Of the Python versions that a build has wheels for, the one nearest to the target's."""
    # Old wheels for macOS have the ABI none.
    tags = " ".join(tag for row in item.build.wheels for tag in row.tags)
    minors = map(int, re.findall(r"\bcp3(\d+)m?\b", tags))
    here = int(item.situation.target.python_minor.partition(".")[2])
    return f"3.{min(minors, key=lambda minor: abs(minor - here), default=12)}"


def _for_system(item: EvaluatedBuild) -> list[Wheels]:
    return [row for row in item.build.wheels if wheel_fits(row.platform_tag, item.situation.target) is None]


def _elsewhere(own: Iterable[EvaluatedBuild], gpu: Gpu) -> str | None:
    """Which build could use a GPU of this machine as it is, but for the Python or else the system."""
    able = [
        item
        for item in own
        if item.rejected_by("python-not-published", "system-too-old") and item.torch_allowed
        if gpu in item.covered and not any(rule(item) for _, rule in HARDWARE_RULES)
        if any(row.confidence != "low" for row in item.wheels or _for_system(item))
    ]
    newest = max(able, key=lambda item: item.build.order, default=None)
    if newest is None or newest.rejection is None:
        return None
    by_python = newest.rejected_by("python-not-published")
    needed = f"Python {_nearest_python(newest)}" if by_python else newest.rejection.wanted
    return f"torch {newest.build.name} could, with {needed}"


def gpu_reasons(evaluated: tuple[EvaluatedBuild, ...], situation: Situation) -> dict[Gpu, str]:
    """For each GPU that no build can use: the objection that came last, in one clause."""
    reasons: dict[Gpu, str] = {}
    for gpu in situation.gpus:
        own = [
            item
            for item in evaluated
            if item.build.backend.kind.vendor == gpu.vendor
            or any(found.gpu is gpu and found.rule != "no-code-for-gpu" for found in item.coverage)
        ]
        if not own:
            reasons[gpu] = f"PyTorch publishes nothing for it on {situation.target.platform}"
        elif all(item.rejected_by("backend-not-asked") for item in own):
            reasons[gpu] = f"the backend {situation.request.backend} was asked for"
        elif able := [
            item
            for item in own
            if gpu in item.covered and (item.rejection is None or item.rejected_by(*REQUEST_RULES))
        ]:
            if all(item.rejection is not None for item in able):
                newest = max(able, key=lambda item: item.build.order).build.name
                reasons[gpu] = f"what was asked for rules out the builds that could, such as torch {newest}"
        else:
            closest = max(own, key=lambda item: (_depth(item), item.build.version))
            rejection = closest.rejection
            if rejection is not None and rejection.rule != "no-code-for-gpu":
                reason = f"needs {rejection.wanted}, found {rejection.found}"
            else:
                uncovered = (item.by for item in closest.coverage if item.gpu == gpu and not item.covered)
                reason = next(uncovered, "another GPU was preferred")
            ways = driver_advice(evaluated, gpu, situation), _elsewhere(own, gpu)
            reasons[gpu] = "; ".join(filter(None, ways)) or reason
    return reasons
