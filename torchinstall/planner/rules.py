"""The rules that reject a build: one function each, tried in this order; the first that objects is named.

Each rule's slug is part of the contract: `docs/explanation/how-a-build-is-chosen.md` explains every one
(a test joins the two). A rule returns (wanted, found), or None when it has nothing to object.

Hardware rules come before the rules about what was asked for, so that a build rejected by one of the
latter would have run on this machine: that is how "only your pins rule it out" is known.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from torchinstall.core.tags import python_tags, wheel_fits
from torchinstall.core.versions import at_least, dotted, text_of
from torchinstall.planner.builds import builds, fitting
from torchinstall.planner.companions import Missing, Pick, picks
from torchinstall.planner.coverage import Cover, cover
from torchinstall.planner.rank import sort_key
from torchinstall.planner.requirements import of_url

if TYPE_CHECKING:
    from torchinstall.catalog.model import Code, Wheels
    from torchinstall.planner.builds import Build
    from torchinstall.planner.requirements import Wants
    from torchinstall.planner.situation import Situation

__all__ = [
    "ASKED_RULES",
    "HARDWARE_RULES",
    "RULES",
    "Case",
    "Judged",
    "Objection",
    "is_obeyed",
    "judge",
    "judge_all",
]


class Objection(Struct, frozen=True):
    """A rule's refusal."""

    rule: str
    wanted: str
    found: str


class Case:
    """One build before the rules: what they look at, worked out once and only when asked for."""

    def __init__(self, build: Build, situation: Situation, wants: Wants) -> None:
        self.build = build
        self.situation = situation
        self.wants = wants
        self._covers: tuple[Cover, ...] | None = None
        self._fits: tuple[Wheels, ...] | None = None
        self._key: tuple[object, ...] | None = None
        self._picks: tuple[Pick, ...] | Missing | None = None

    @property
    def covers(self) -> tuple[Cover, ...]:
        """Every GPU of the backend's vendor (of nobody's vendor, for a backend without one)."""
        if self._covers is None:
            self._covers = _covers(self.build, self.situation)
        return self._covers

    @property
    def fits(self) -> tuple[Wheels, ...]:
        """Its wheels for the target's Python and ABI, whatever system they ask for."""
        if self._fits is None:
            self._fits = fitting(self.build.wheels, python_tags(self.situation.target.abi))
        return self._fits

    @property
    def key(self) -> tuple[object, ...]:
        """Its place among accepted builds (`rank.sort_key`)."""
        if self._key is None:
            self._key = sort_key(self.build, self.covers, self.situation)
        return self._key

    @property
    def picks(self) -> tuple[Pick, ...] | Missing:
        """The wheels of all wanted packages, or what is missing; only for a build whose torch fits."""
        if self._picks is None:
            self._picks = picks(self.build, self.wants, self.situation.catalog, self.situation.target)
        return self._picks


def _covers(build: Build, situation: Situation) -> tuple[Cover, ...]:
    catalog, target = situation.catalog, situation.target
    code = catalog.code(build.torch, build.backend, target.platform)
    # Patch releases share their minor's list of code, and so its verdicts.
    memo_key = ("covers", build.backend.name, code and (code.torch, code.assumed))
    if memo_key not in situation.memo:
        situation.memo[memo_key] = _judged_covers(build, code, situation)
    covers: tuple[Cover, ...] = situation.memo[memo_key]
    return covers


def _judged_covers(build: Build, code: Code | None, situation: Situation) -> tuple[Cover, ...]:
    vendor = build.backend.kind.vendor
    served = {kind.vendor for kind in situation.catalog.tables.kinds}
    same: dict[tuple[object, ...], Cover] = {}
    found: list[Cover] = []
    for gpu in situation.gpus:
        if gpu.vendor != vendor if vendor is not None else gpu.vendor in served:
            continue
        # Eight equal GPUs in one machine get one answer.
        key = (gpu.name, gpu.compute_capability, gpu.gfx_target, gpu.pci_id, gpu.source)
        if key not in same:
            same[key] = cover(build.backend, code, gpu, situation)
        answer = same[key]
        found.append(answer if answer.gpu is gpu else answer.of(gpu))
    return tuple(found)


def backend_not_asked(case: Case) -> tuple[str, str] | None:
    """The user named another backend."""
    request, name = case.situation.request, case.build.backend.name
    if request.backend not in ("auto", name):
        return f"--backend {request.backend}", name
    if request.only not in (None, (case.build.torch, name)):
        return "the build that the other machines share", f"{case.build.torch}+{name}"
    return None


def did_not_compute(case: Case) -> tuple[str, str] | None:
    """It was installed here a moment ago, and the check afterwards failed on the device."""
    build = (case.build.torch, case.build.backend.name)
    if build in case.situation.request.failed:
        return "a build that computes on this machine", "it was tried, and it did not"
    return None


def no_gpu_of_vendor(case: Case) -> tuple[str, str] | None:
    """There is no GPU of the backend's vendor."""
    vendor = case.build.backend.kind.vendor
    if vendor is None or any(gpu.vendor == vendor for gpu in case.situation.gpus):
        return None
    seen = ", ".join(dict.fromkeys(gpu.vendor for gpu in case.situation.gpus)) or "no GPU"
    return f"a GPU by {vendor}", seen


def rosetta(case: Case) -> tuple[str, str] | None:
    """An x86-64 Python on Apple Silicon: its builds ended with 2.2.2 and never use the GPU."""
    if case.situation.machine.rosetta:
        return "an arm64 Python", "an x86-64 Python that Rosetta translates"
    return None


def python_not_published(case: Case) -> tuple[str, str] | None:
    """No file for the target's Python version and ABI."""
    if case.situation.target.implementation != "cpython":
        return "CPython", case.situation.target.implementation
    if case.fits:
        return None
    published = sorted(
        {
            tag.partition("-")[2] if "-cp" in tag else tag.partition("-")[0]
            for row in case.build.wheels
            for tag in row.tags
        },
        key=lambda abi: (len(abi.rstrip("tm")), abi),
    )
    return f"a wheel for {case.situation.target.abi}", " ".join(published)


def system_too_old(case: Case) -> Objection | None:
    """Every file for this Python asks for a newer libc or macOS, or there is none for musl."""
    misfits = [wheel_fits(row.platform_tag, case.situation.target) for row in case.fits]
    if not misfits or None in misfits:
        return None
    first = next(item for item in misfits if item is not None)
    return Objection(*first)


def jetson_needs_own_build(case: Case) -> tuple[str, str] | None:
    """Jetson Linux 32 to 36 cannot run the generic aarch64 builds (design, rule 10)."""
    vendor_build = any(row.origin in ("vendor", "find-links") for row in case.build.wheels)
    if case.situation.tegra and case.build.backend.kind.strategy == "sm" and not vendor_build:
        return (
            "a build made for Jetson",
            f"a generic aarch64 build, and Jetson Linux {case.situation.machine.l4t}",
        )
    return None


def driver_too_old(case: Case) -> tuple[str, str] | None:
    """The driver is below the floor of the toolkit's major version (minor-version compatibility)."""
    backend, situation = case.build.backend, case.situation
    floor = situation.catalog.floor(backend)
    if floor is None or backend.kind.vendor is None:
        return None
    driver = situation.drivers.get(backend.kind.vendor)
    needed = dotted(floor.windows if situation.column == "windows" else floor.linux)
    wanted = (
        f"driver {text_of(needed)} or newer (for {backend.kind.toolkit} {text_of(backend.toolkit or ())})"
    )
    if driver is None:
        return wanted, "no driver"
    if driver.version is not None:
        return None if at_least(driver.version, needed) else (wanted, f"driver {text_of(driver.version)}")
    if driver.cuda is not None and backend.toolkit is not None and driver.cuda[0] < backend.toolkit[0]:
        return wanted, f"a driver that speaks CUDA {text_of(driver.cuda)}"
    return None


def no_code_for_gpu(case: Case) -> Objection | None:
    """No GPU of the vendor can run the build's code; the most capable one's reason is named."""
    none_there = not case.covers or case.build.backend.kind.vendor is None
    if none_there or any(item.covered for item in case.covers):
        return None
    worst = max(
        case.covers, key=lambda item: (item.gpu.integrated is not True, item.gpu.compute_capability or (0, 0))
    )
    return Objection(worst.rule or "no-code-for-gpu", worst.wanted or "", worst.found or "")


def not_confirmed(case: Case) -> tuple[str, str] | None:
    """Nobody has seen this build: it is only guessed that it is published."""
    rows = case.fits
    if rows and all(row.confidence == "low" for row in rows):
        return "evidence that this build is published", f"a guess ({rows[0].source})"
    return None


def companion_missing(case: Case) -> tuple[str, str] | None:
    """A requested package is not published beside this torch."""
    if isinstance(case.picks, Missing) and not case.picks.pinned:
        return case.picks.wanted, case.picks.found
    return None


def pinned_out(case: Case) -> tuple[str, str] | None:
    """The user's version bounds exclude it."""
    for row in case.fits:
        if case.wants.allows("torch", row.full_version):
            break
    else:
        return f"torch{case.wants.pins.get('torch', '')}", f"torch {case.build.wheels[0].full_version}"
    if isinstance(case.picks, Missing) and case.picks.pinned:
        return case.picks.wanted, case.picks.found
    return None


Rule = Callable[[Case], "tuple[str, str] | Objection | None"]

HARDWARE_RULES: tuple[tuple[str, Rule], ...] = (
    ("no-gpu-of-vendor", no_gpu_of_vendor),
    ("jetson-needs-own-build", jetson_needs_own_build),
    ("driver-too-old", driver_too_old),
    ("no-code-for-gpu", no_code_for_gpu),
)
"""Rules that an explicit `--backend` turns into warnings (design, rule 8)."""

ASKED_RULES: tuple[tuple[str, Rule], ...] = (
    ("companion-missing", companion_missing),
    ("pinned-out", pinned_out),
)
"""Rules about what was asked for, not about what can run."""

RULES: tuple[tuple[str, Rule], ...] = (
    ("backend-not-asked", backend_not_asked),
    ("did-not-compute", did_not_compute),
    ("rosetta", rosetta),
    ("python-not-published", python_not_published),
    ("system-too-old", system_too_old),
    *HARDWARE_RULES,
    ("not-confirmed", not_confirmed),
    *ASKED_RULES,
)


def judge(case: Case, *, obey: bool) -> tuple[Objection | None, tuple[Objection, ...]]:
    """Try the rules in order.

    Args:
        case: the build.
        obey: the backend was named: hardware rules warn instead of rejecting.

    Returns:
        The first objection (None: accepted), and the hardware objections that were overridden.
    """
    soft = {slug for slug, _ in HARDWARE_RULES} if obey else set()
    overridden: list[Objection] = []
    for slug, rule in RULES:
        answer = rule(case)
        if answer is None:
            continue
        objection = answer if isinstance(answer, Objection) else Objection(slug, *answer)
        if slug not in soft:
            return objection, tuple(overridden)
        overridden.append(objection)
    return None, tuple(overridden)


_LAST = ("judged",)


class Judged(Struct, frozen=True):
    """A build after the rules: accepted when `objection` is None."""

    case: Case
    objection: Objection | None
    overridden: tuple[Objection, ...]


def judge_all(where: Situation, wanted: Wants) -> tuple[Judged, ...]:
    """Every build for the platform, newest first, with the rule that objects to it.

    The last answer is kept: what to read of an index and what to choose are asked in turn.
    """
    question = (where.request, where.machine, where.target)
    asked, answer = where.catalog.scratch.get(_LAST, ((), ()))
    if len(asked) == len(question) and all(map(operator.is_, asked, question)):
        kept: tuple[Judged, ...] = answer
        return kept
    judged = _judged(where, wanted)
    where.catalog.scratch[_LAST] = question, judged
    return judged


def _judged(where: Situation, wanted: Wants) -> tuple[Judged, ...]:
    obey = is_obeyed(where, wanted)
    named = of_url("torch", wanted, where.catalog)
    found = []
    for build in builds(where.catalog, where.target, where.request.channel):
        if named and (build.torch, build.backend.name) != (named[0].version, named[0].backend):
            continue
        case = Case(structs.replace(build, wheels=named) if named else build, where, wanted)
        found.append(Judged(case, *judge(case, obey=obey)))
    return tuple(found)


def is_obeyed(where: Situation, wanted: Wants) -> bool:
    """Whether the build was named, by its backend or by its file, so that hardware rules only warn."""
    return where.request.backend != "auto" or bool(of_url("torch", wanted, where.catalog))
