"""The rules that reject a build: one function each, tried in this order; the first that objects is named.

Each rule's slug is part of the contract: `docs/explanation/how-a-build-is-chosen.md` explains every one
(a test joins the two). A rule returns (wanted, found), or None when it has nothing to object.

Hardware rules come before the rules about what was asked for, so that a build rejected by one of the
latter would have run on this machine: that is how "only your pins rule it out" is known.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cached_property

from msgspec import Struct, structs

from torchinstall.catalog.model import Wheels
from torchinstall.core.machine import VENDOR_NAMES, Gpu
from torchinstall.core.target import wheel_fits
from torchinstall.core.versions import at_least, dotted, version_text
from torchinstall.planner.builds import Build, Pick, Rejection, builds, matching_wheels, pick_packages
from torchinstall.planner.companion_lines import Choice
from torchinstall.planner.companions import Stack, find_stack, wanted_companions
from torchinstall.planner.coverage import (
    Coverage,
    Hit,
    build_limits,
    cover_gpus,
    gpu_power,
    rank_coverage,
    rank_toolkit,
)
from torchinstall.planner.situation import Situation


class EvaluatedBuild(Struct, dict=True, eq=False):
    """One build and what the rules say of it; what they look at is worked out only when asked for.

    Attributes:
        rule: the first of `RULES` that objects; None: accepted.
        rejection: its objection, whose slug may be finer.
        overridden: hardware rules that object, for a build that the user named.
    """

    build: Build
    situation: Situation
    rule: str | None = None
    rejection: Rejection | None = None
    overridden: tuple[Rejection, ...] = ()

    @cached_property
    def wheels(self) -> tuple[Wheels, ...]:
        """Its wheels for the target's Python and ABI, whatever system they need."""
        return matching_wheels(self.build.wheels, self.situation.target)

    @property
    def key(self) -> tuple[str, str]:
        """Its torch release and backend."""
        return self.build.torch, self.build.backend.name

    @property
    def torch_allowed(self) -> bool:
        """Whether the user's bounds of torch itself allow it."""
        allows = self.situation.requirements.allows
        return any(allows("torch", row.full_version) for row in self.build.wheels)

    @cached_property
    def coverage(self) -> tuple[Coverage, ...]:
        """Every GPU of the backend's vendor."""
        return cover_gpus(self.build, self.situation)

    @cached_property
    def covered(self) -> list[Gpu]:
        """The GPUs that it runs on."""
        return [item.gpu for item in self.coverage if item.covered]

    @property
    def limits(self) -> tuple[Hit, ...]:
        """What is known to fail with it here."""
        return build_limits(self.build, self.situation)

    @property
    def stands_in(self) -> bool:
        """Whether a GPU build may compute on the CPU: a folder or the default index may have no CPU build."""
        situation = self.situation
        return situation.catalog.index_down and (not situation.gpus or situation.request.allow_cpu)

    @cached_property
    def gpu_rank(self) -> tuple[object, ...]:
        """How well it uses this machine's GPUs; larger is better."""
        return rank_coverage(self.coverage, self.situation)

    @cached_property
    def rank(self) -> tuple[object, ...]:
        """Its place among accepted builds (design, rule 3); larger is better. Ready files before sources."""
        avoided = any(hit.row.avoid for hit in self.limits)
        need = self.situation.request.need  # whoever needs something is not given a guess
        certain = need is None or all(item.assumed is None for item in self.coverage if item.covered)
        ready = not any(choice.compiles for choice in self.choices)
        toolkit = rank_toolkit(self.build.backend, self.situation)
        return (*self.gpu_rank, not avoided, ready, self.build.version, certain, *toolkit)

    @cached_property
    def _packages(self) -> tuple[Pick, ...] | Rejection:
        return pick_packages(self.build, self.situation)

    @property
    def missing(self) -> Rejection | None:
        """The first package of torch's family that it lacks; only for a build whose torch wheel fits."""
        return self._packages if isinstance(self._packages, Rejection) else None

    @cached_property
    def stack(self) -> Stack | Rejection:
        """It with everything that was asked for, or what it lacks; for a build whose torch wheel fits."""
        if wanted_companions(self.situation):
            return find_stack(self.build, self.situation)
        return self._packages if isinstance(self._packages, Rejection) else Stack(self._packages)

    @property
    def blocked(self) -> Rejection | None:
        """The companion that alone keeps it out: their rules are asked last."""
        return self.rejection if self.rejected_by("companion-no-code") else None

    @property
    def choices(self) -> tuple[Choice, ...]:
        """What is taken of each companion."""
        return self.stack.choices if isinstance(self.stack, Stack) else ()

    @property
    def picks(self) -> tuple[Pick, ...]:
        """What is taken of each package, torch first."""
        return self.stack.picks if isinstance(self.stack, Stack) else ()

    def rejected_by(self, *rules: str) -> bool:
        """Whether one of these rules rejected it."""
        return self.rule in rules


Objection = tuple[str, str] | Rejection | None
"""(wanted, found); a `Rejection` where a rule objects under several slugs."""


def _backend_not_asked(item: EvaluatedBuild) -> Objection:
    request, build = item.situation.request, item.build
    if request.backend not in ("auto", build.backend.name):
        return f"--backend {request.backend}", build.backend.name
    if request.only not in (None, item.key):
        return "the build that all machines share", build.name
    return None


def _did_not_compute(item: EvaluatedBuild) -> Objection:
    """It was installed here a moment ago, and the check afterwards failed on the device."""
    if {item.key, (None, item.build.backend.name)} & {*item.situation.request.failed}:
        return "a build that computes on this machine", "it was installed, and its check failed"
    return None


def _rosetta(item: EvaluatedBuild) -> Objection:
    """An x86-64 Python on Apple Silicon: its builds ended with 2.2.2 and never use the GPU."""
    if item.situation.machine.rosetta:
        return "an arm64 Python", "an x86-64 Python that runs under Rosetta"
    return None


def _python_not_published(item: EvaluatedBuild) -> Objection:
    target = item.situation.target
    if target.implementation != "cpython":
        return "CPython", target.implementation
    if item.wheels:
        return None
    tags = {tag for row in item.build.wheels for tag in row.tags}
    abis = {tag.partition("-")[2] if "-cp" in tag else tag.partition("-")[0] for tag in tags}
    published = sorted(abis, key=lambda abi: (len(abi.rstrip("tm")), abi))
    return f"a wheel for {target.abi}", f"wheels for {', '.join(published)}"


def _system_too_old(item: EvaluatedBuild) -> Objection:
    """Every file for this Python needs a newer libc or macOS, or there is none for musl."""
    misfits = [wheel_fits(row.platform_tag, item.situation.target) for row in item.wheels]
    return Rejection(*misfits[0]) if misfits and misfits[0] and None not in misfits else None


def no_gpu_of_vendor(item: EvaluatedBuild) -> Objection:
    """There is no GPU of the backend's vendor."""
    vendor, gpus = item.build.backend.kind.vendor, item.situation.gpus
    if vendor is None or any(gpu.vendor == vendor for gpu in gpus):
        return None
    found = ", ".join(dict.fromkeys(f"{VENDOR_NAMES[gpu.vendor]} GPU" for gpu in gpus))
    return f"an {vendor_gpu(item.build)}", found or "no GPU"


def vendor_gpu(build: Build) -> str:
    """`NVIDIA GPU`, of the vendor that a build is for."""
    vendor = build.backend.kind.vendor
    return f"{VENDOR_NAMES[vendor]} GPU" if vendor else "GPU"


def _jetson_needs_own_build(item: EvaluatedBuild) -> Objection:
    """Jetson Linux 32 to 36 cannot run the generic aarch64 builds (design, rule 10)."""
    vendor_build = any(row.origin in ("vendor", "find-links") for row in item.build.wheels)
    if item.situation.tegra and item.build.backend.kind.strategy == "sm" and not vendor_build:
        release = item.situation.machine.l4t
        return "a build made for Jetson", f"a generic aarch64 build (this is Jetson Linux {release})"
    return None


def driver_too_old(item: EvaluatedBuild) -> Objection:
    """The driver is below the floor of the toolkit's major version (minor-version compatibility)."""
    backend = item.build.backend
    floor, driver = item.situation.driver_floor(backend), item.situation.driver_of(backend)
    if floor is None or backend.kind.vendor is None:
        return None
    toolkit = backend.toolkit or ()
    wanted = f"driver {floor} or newer (for {backend.kind.toolkit} {version_text(toolkit)})"
    if driver is None:
        return wanted, "no driver"
    if driver.version is not None:
        return None if at_least(driver.version, dotted(floor)) else (wanted, f"driver {driver.text}")
    if driver.cuda is not None and toolkit and driver.cuda[0] < toolkit[0]:
        return wanted, f"a driver that supports CUDA {version_text(driver.cuda)}"
    return None


def no_code_for_gpu(item: EvaluatedBuild) -> Objection:
    """No GPU of the vendor can run the build's code; the most capable one's reason is named."""
    if not item.coverage or item.build.backend.kind.vendor is None or item.covered:
        return None
    best = max(item.coverage, key=lambda one: (one.gpu.integrated is not True, gpu_power(one.gpu)))
    return Rejection(best.rule or "no-code-for-gpu", best.wanted or "", best.found or "")


def _cpu_too_old(item: EvaluatedBuild) -> Objection:
    hit = next((hit for hit in item.limits if hit.blocks and hit.gpu is None), None)
    return Rejection(hit.row.slug, hit.text("wanted"), hit.text("found")) if hit else None


def _need_not_met(item: EvaluatedBuild) -> Objection:
    """What was asked for with `--need` does not work on the most capable GPU that the build covers."""
    need = item.situation.request.need
    best = max(item.covered, key=gpu_power, default=None)
    device = best.label if best else "this machine"
    # What can be made to work asks for no other build.
    own = (hit for hit in item.limits if hit.gpu is best and hit.row.effect == need and not hit.row.mendable)
    return next(((f"{need} on {device} (--need)", hit.text("message")) for hit in own), None)


def _not_confirmed(item: EvaluatedBuild) -> Objection:
    if item.wheels and all(row.confidence == "low" for row in item.wheels):
        return "evidence that this build is published", f"only a guess ({item.wheels[0].source})"
    return None


def _companion_missing(item: EvaluatedBuild) -> Objection:
    missing = item.missing
    return missing if missing and missing.rule == "companion-missing" else None


def pinned_out(item: EvaluatedBuild) -> Objection:
    """The user's version bounds exclude it."""
    if item.torch_allowed:
        return item.missing
    return item.situation.requirements.bounded("torch"), f"torch {item.build.wheels[0].full_version}"


def _companion_no_code(item: EvaluatedBuild) -> Objection:
    return None if isinstance(item.stack, Stack) else item.stack


Rule = Callable[[EvaluatedBuild], Objection]

HARDWARE_RULES: tuple[tuple[str, Rule], ...] = (
    ("no-gpu-of-vendor", no_gpu_of_vendor),
    ("jetson-needs-own-build", _jetson_needs_own_build),
    ("driver-too-old", driver_too_old),
    ("no-code-for-gpu", no_code_for_gpu),
    ("cpu-too-old", _cpu_too_old),
)
"""Rules that an explicit `--backend` turns into warnings (design, rule 8)."""

_REQUEST_RULES: tuple[tuple[str, Rule], ...] = (
    ("need-not-met", _need_not_met),
    ("companion-missing", _companion_missing),
    ("pinned-out", pinned_out),
    ("companion-no-code", _companion_no_code),
)

REQUEST_RULES = tuple(slug for slug, _ in _REQUEST_RULES)
"""Slugs of the rules about what was asked for, not about what can run."""

RULES: tuple[tuple[str, Rule], ...] = (
    ("backend-not-asked", _backend_not_asked),
    ("did-not-compute", _did_not_compute),
    ("rosetta", _rosetta),
    ("python-not-published", _python_not_published),
    ("system-too-old", _system_too_old),
    *HARDWARE_RULES,
    ("not-confirmed", _not_confirmed),
    *_REQUEST_RULES,
)

_FOR_GPUS = frozenset({"no-gpu-of-vendor", "driver-too-old", "no-code-for-gpu"})


def evaluate(situation: Situation) -> tuple[EvaluatedBuild, ...]:
    """Every build for the platform, newest first, with the rule that rejects it.

    The last answer is stored: what to read of an index and what to choose are asked in turn.
    """
    inputs = (situation.request, situation.machine, situation.target, situation.keep_installed)
    last, stored = situation.catalog.memo.get("evaluated", ((None,) * len(inputs), ()))
    if all(map(operator.is_, last, inputs)):
        return tuple(stored)
    named = situation.wheels_by_url("torch")
    soft = dict(HARDWARE_RULES) if situation.names_build else {}
    found = []
    for build in builds(situation.catalog, situation.target, situation.request.channel):
        if named and (build.torch, build.backend.name) != (named[0].version, named[0].backend):
            continue
        item = EvaluatedBuild(structs.replace(build, wheels=named) if named else build, situation)
        for slug, rule in RULES:  # until one rejects; those in `soft` are only noted
            answer = None if slug in _FOR_GPUS and item.stands_in else rule(item)
            if answer is None:
                continue
            rejection = answer if isinstance(answer, Rejection) else Rejection(slug, *answer)
            if slug not in soft:
                item.rule, item.rejection = slug, rejection
                break
            item.overridden = (*item.overridden, rejection)
        found.append(item)
    situation.catalog.memo["evaluated"] = inputs, tuple(found)
    return tuple(found)
