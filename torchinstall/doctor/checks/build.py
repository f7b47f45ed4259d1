"""Is the installed torch the right build for this machine, and does it compute?"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from torchinstall.core.request import Request
from torchinstall.doctor.model import (
    Diagnosis,
    Environment,
    Project,
    Remedy,
    Severity,
    auto,
    family_requirements,
    misfits,
    reinstall,
    right,
)
from torchinstall.doctor.rules import Here, explain
from torchinstall.install.record import drift, machine_digest
from torchinstall.install.verify import Check
from torchinstall.planner.builds import Build, Rejection, version_key
from torchinstall.planner.rules import (
    EvaluatedBuild,
    driver_too_old,
    no_code_for_gpu,
    no_gpu_of_vendor,
)
from torchinstall.planner.situation import make_situation


def torch_missing(seen: Environment) -> Iterator[Diagnosis]:
    """There is no torch."""
    if seen.release is None:
        message = "torch is not installed in this environment"
        evidence = (f"environment: {seen.target.prefix}",)
        project = seen.surroundings.project or Project(root="")
        asks = project.view.scopes_of("torch")
        ours = asks and not {"--venv", "--python", "--system"} & {*seen.flags}
        # What auto installs into the project's environment, uv takes out again.
        remedies = (Remedy("torchinstall sync"), auto(seen)) if ours else (auto(seen),)
        yield Diagnosis("torch-missing", "error", message, evidence, remedies)


def cpu_build_on_gpu_machine(seen: Environment) -> Iterator[Diagnosis]:
    """A CPU build, and a GPU build of the same release would run here."""
    choice = seen.choice
    if seen.backend != "cpu" or choice is None or choice.backend in (None, "cpu"):
        return
    used = next((gpu.label for gpu in choice.gpus if gpu.covered), None)
    if used is not None:
        requested = seen.decision is not None and seen.decision.backend == "cpu" and not _moved(seen)
        message = f"this is a CPU build, but {choice.backend} could use the {used}"
        message += "; the CPU build was requested" if requested else ""
        severity: Severity = "info" if requested else "error"
        yield Diagnosis(
            "cpu-build-on-gpu-machine", severity, message, _installed_and_better(seen), (right(seen),)
        )


def _installed_and_better(seen: Environment) -> tuple[str, ...]:
    better = seen.better.torch if seen.better is not None else None
    recommended = (f"recommended: torch {better}",) if better else ()
    return (f"installed: torch {seen.installed('torch')}", *recommended)


_HARDWARE = (
    (no_gpu_of_vendor, "no-gpu-of-vendor", "the installed build is for GPUs that this machine does not have"),
    (driver_too_old, "driver-too-old", "the installed build needs a newer CUDA than this driver supports"),
    (no_code_for_gpu, "no-code-for-gpu", "the installed build has no code for this GPU"),
)


def hardware_objections(seen: Environment) -> Iterator[Diagnosis]:
    """The first of the planner's hardware rules that the installed build breaks."""
    case = _installed_case(seen)
    if case is None or case.build.backend.kind.vendor is None:
        return
    answers = ((rule(case), slug, message) for rule, slug, message in _HARDWARE)
    answer, slug, message = next((row for row in answers if row[0] is not None), (None, "", ""))
    if answer is not None:
        needed, found = (answer.wanted, answer.found) if isinstance(answer, Rejection) else answer
        evidence = (f"needed: {needed}", f"found: {found}", *_installed_and_better(seen))
        severity: Severity = "info" if slug == "no-gpu-of-vendor" else "error"
        advice = "or update the driver" if slug == "driver-too-old" else None
        yield Diagnosis(slug, severity, message, evidence, (right(seen),), advice)


def partly_covered(seen: Environment) -> Iterator[Diagnosis]:
    """Several GPUs, and the build has code for some of them only."""
    case = _installed_case(seen)
    if case is None or driver_too_old(case) is not None:
        return
    if 0 < sum(item.covered for item in case.coverage) < len(case.coverage):
        yield Diagnosis(
            "some-gpus-without-code",
            "warning",
            "the installed build runs on some GPUs of this machine, but not on all",
            tuple(f"{item.gpu.label}: {item.by}" for item in case.coverage),
            (Remedy(shlex.join(("torchinstall", "plan", *seen.flags))),),
            "plan shows whether one build covers all of them; --prefer-gpu N chooses the GPU to serve",
        )


def _installed_case(seen: Environment) -> EvaluatedBuild | None:
    """The installed build as the planner's rules see it; None where the catalog does not know it."""
    if seen.release is None or seen.build is None or seen.own_build:
        return None
    situation = make_situation(Request(requirements=()), seen.machine, seen.target, seen.catalog)
    build = Build(torch=seen.release, version=version_key(seen.release), backend=seen.build, wheels=())
    return EvaluatedBuild(build, situation)


def mixed_backends(seen: Environment) -> Iterator[Diagnosis]:
    """Packages of torch's family that were built for another backend than torch."""
    other = [f"{item.name} for {item.backend}" for item, row in misfits(seen) if row is None]
    if other:
        message = f"packages for different backends are mixed: torch for {seen.backend}, {', '.join(other)}"
        evidence = tuple(f"{item.name} {item.version}" for item in seen.target.installed)
        yield Diagnosis("mixed-backends", "error", message, evidence, (right(seen),))


def mixed_releases(seen: Environment) -> Iterator[Diagnosis]:
    """A companion of another torch release."""
    for item, row in misfits(seen):
        if row is None:
            continue
        message = f"{item.name} {item.version} does not belong to torch {seen.installed('torch')}"
        evidence = (f"needed: {item.name} {row.version}", f"found: {item.name} {item.version}")
        severity: Severity = "error" if row.exact else "warning"
        alone = () if item.name in seen.companions else (f"{item.name}=={row.version}",)
        again = auto(seen, *family_requirements(seen), *alone)
        yield Diagnosis("mixed-releases", severity, message, evidence, (again,))


def replaced_since(seen: Environment) -> Iterator[Diagnosis]:
    """Something replaced what torchinstall installed."""
    changes = () if seen.decision is None else drift(seen.decision, seen.target)
    if seen.decision is None or not changes:
        return
    pins = [f"{name}=={version.partition('+')[0]}" for name, version in seen.decision.packages.items()]
    named = seen.decision.backend is None or "--backend" in seen.flags
    backend = () if named else ("--backend", str(seen.decision.backend))
    yield Diagnosis(
        "replaced-since",
        "warning",
        "another install has replaced packages that torchinstall installed",
        (*changes, f"installed on {seen.decision.made_at}"),
        # Not for --fix: it may have been replaced on purpose.
        (Remedy(auto(seen, *backend, *pins).command),),
        "install other packages in the same command, or with the constraint torch==VERSION",
    )


def another_machine(seen: Environment) -> Iterator[Diagnosis]:
    """The GPU or the driver is not the one that the build was chosen for."""
    if seen.decision is not None and _moved(seen):
        before = ", ".join(seen.decision.machine.gpus) or "no GPU"
        now = ", ".join(gpu.label for gpu in seen.machine.gpus) or "no GPU"
        known = [f"{row.vendor} driver {row.version}" for row in seen.machine.drivers if row.version]
        evidence = [f"then: {before}", f"now: {now}, {', '.join(known) or 'no driver'}"]
        if before == now:
            evidence.append("the GPUs are the same, so the driver or the system was changed")
        message = "this build was chosen for another GPU or driver"
        yield Diagnosis("decided-for-another-machine", "info", message, tuple(evidence), (right(seen),))


def _moved(seen: Environment) -> bool:
    return seen.decision is not None and seen.decision.machine.digest != machine_digest(seen.machine)


_LAST_LINES = 5
"""Of what a check printed before it crashed or failed."""


def does_not_compute(seen: Environment) -> Iterator[Diagnosis]:
    """A check of verify failed; failures with the same text are one finding, with its cause where known."""
    here = Here(machine=seen.machine, target=seen.target, flags=seen.flags, certain=True)
    failed: dict[str, Check] = {}
    for check in seen.report.failed if seen.report is not None else ():
        # Other checks compare what is installed, with better words.
        if not check.name.endswith(("-pins-torch", "-build")):
            failed.setdefault(check.found, check)
    for check in failed.values():
        last = check.detail.strip().splitlines()[-_LAST_LINES:]
        evidence = [f"needed: {check.wanted}", f"found: {check.found}", *(f"it said: {row}" for row in last)]
        message = f"the check {check.name} failed"
        package = check.name.removeprefix("import-") if check.name.startswith("import-") else "torch"
        remedies, advice = [reinstall(seen, package)], None
        elsewhere = check.name == "torch-origin" and not check.detail
        if elsewhere:  # a reinstall writes where nobody looks, and what else failed is of that torch
            remedies, advice = [], "a .pth file or sitecustomize of this environment puts that folder first"
        for cause in explain(f"{check.found}\n{check.detail}", seen.catalog, lambda _: here)[:1]:
            message += f": {cause.cause}"
            evidence.append(f"known as {cause.slug}")
            # The commands of a cause are for any environment; these are for this one.
            here_only = rf"\g<0> --python {shlex.quote(seen.target.python or 'python')}"
            typed = (re.sub(r"^uv pip (un)?install\b", here_only, text) for text in cause.commands)
            remedies, advice = list(map(Remedy, typed)), cause.advice
        yield Diagnosis("does-not-compute", "error", message, tuple(evidence), tuple(remedies), advice)
        if elsewhere:
            return
