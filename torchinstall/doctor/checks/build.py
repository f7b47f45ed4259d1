"""Is the installed torch the right build for this machine, and does it compute?"""

from __future__ import annotations

from collections.abc import Iterator

from torchinstall.core.request import Request
from torchinstall.doctor.advice import Here
from torchinstall.doctor.model import Diagnosis, Environment
from torchinstall.doctor.remedies import auto, by_hand, family_requirements, reinstall
from torchinstall.doctor.rules import explain
from torchinstall.install.record import drift, machine_digest
from torchinstall.install.verify import Check
from torchinstall.planner.builds import Build, version_key
from torchinstall.planner.rules import (
    EvaluatedBuild,
    Rejection,
    driver_too_old,
    no_code_for_gpu,
    no_gpu_of_vendor,
)
from torchinstall.planner.situation import make_situation


def torch_missing(seen: Environment) -> Iterator[Diagnosis]:
    """There is no torch."""
    if seen.release is None:
        yield Diagnosis(
            slug="torch-missing",
            severity="error",
            message="torch is not installed in this environment",
            evidence=(f"environment: {seen.target.prefix}",),
            remedies=(auto(seen),),
        )


def cpu_build_on_gpu_machine(seen: Environment) -> Iterator[Diagnosis]:
    """A CPU build, and a GPU build of the same release would run here."""
    choice = seen.choice
    if seen.backend != "cpu" or choice is None or choice.backend in (None, "cpu"):
        return
    used = next((gpu.name or gpu.vendor for gpu in choice.gpus if gpu.covered), None)
    if used is None:
        return
    requested = seen.decision is not None and seen.decision.backend == "cpu" and not _moved(seen)
    yield Diagnosis(
        slug="cpu-build-on-gpu-machine",
        severity="info" if requested else "error",
        message=f"this is a CPU build, but {choice.backend} could use the {used}"
        + ("; the CPU build was requested" if requested else ""),
        evidence=_installed_and_better(seen),
        remedies=(auto(seen, *family_requirements(seen)),),
    )


def _installed_and_better(seen: Environment) -> tuple[str, ...]:
    better = seen.better.torch if seen.better is not None else None
    return (
        f"installed: torch {seen.installed('torch')}",
        *((f"recommended: torch {better}",) if better else ()),
    )


_HARDWARE = (
    (
        "no-gpu-of-vendor",
        no_gpu_of_vendor,
        "the installed build is for GPUs that this machine does not have",
    ),
    (
        "driver-too-old",
        driver_too_old,
        "the installed build needs a newer CUDA than this driver supports",
    ),
    (
        "no-code-for-gpu",
        no_code_for_gpu,
        "the installed build has no code for this GPU",
    ),
)


def hardware_objections(seen: Environment) -> Iterator[Diagnosis]:
    """The first of the planner's hardware rules that the installed build breaks."""
    case = _installed_case(seen)
    if case is None or case.build.backend.kind.vendor is None:
        return
    for slug, rule, message in _HARDWARE:
        answer = rule(case)
        if answer is None:
            continue
        needed, found = (answer.wanted, answer.found) if isinstance(answer, Rejection) else answer
        yield Diagnosis(
            slug=slug,
            severity="info" if slug == "no-gpu-of-vendor" else "error",
            message=message,
            evidence=(f"needed: {needed}", f"found: {found}", *_installed_and_better(seen)),
            remedies=(auto(seen, *family_requirements(seen)),),
            advice="or update the driver" if slug == "driver-too-old" else None,
        )
        return


def partly_covered(seen: Environment) -> Iterator[Diagnosis]:
    """Several GPUs, and the build has code for some of them only."""
    case = _installed_case(seen)
    if case is None or driver_too_old(case) is not None:
        return
    if 0 < sum(item.covered for item in case.coverage) < len(case.coverage):
        yield Diagnosis(
            slug="some-gpus-without-code",
            severity="warning",
            message="the installed build runs on some GPUs of this machine, but not on all",
            evidence=tuple(f"{item.gpu.label}: {item.by}" for item in case.coverage),
            remedies=(by_hand("torchinstall plan"),),
            advice="plan shows whether one build covers all of them; --prefer-gpu N chooses the GPU to serve",
        )


def _installed_case(seen: Environment) -> EvaluatedBuild | None:
    """The installed build as the planner's rules see it; None where the catalog does not know it."""
    info = None if seen.backend is None else seen.catalog.backend(seen.backend)
    if seen.release is None or info is None:
        return None
    request = Request(requirements=())
    return EvaluatedBuild(
        Build(torch=seen.release, version=version_key(seen.release), backend=info, wheels=()),
        make_situation(request, seen.machine, seen.target, seen.catalog),
    )


def mixed_backends(seen: Environment) -> Iterator[Diagnosis]:
    """Packages of torch's family that were built for another backend than torch."""
    torch = seen.backend
    other = [
        item
        for item in seen.target.installed
        if item.name != "torch" and item.backend not in (None, torch) and seen.moves_with_torch(item.name)
    ]
    if torch is not None and other:
        listed = ", ".join(f"{item.name} for {item.backend}" for item in other)
        yield Diagnosis(
            slug="mixed-backends",
            severity="error",
            message=f"packages for different backends are mixed: torch for {torch}, {listed}",
            evidence=tuple(f"{item.name} {item.version}" for item in seen.target.installed),
            remedies=(auto(seen, *family_requirements(seen)),),
        )


def mixed_releases(seen: Environment) -> Iterator[Diagnosis]:
    """A companion of another torch release."""
    for item in seen.target.installed if seen.release is not None else ():
        row = seen.catalog.companion(seen.release or "", item.name)
        if row is None or item.name == "torch" or row.version == item.version.partition("+")[0]:
            continue
        yield Diagnosis(
            slug="mixed-releases",
            severity="error" if row.exact else "warning",
            message=f"{item.name} {item.version} does not belong to torch {seen.installed('torch')}",
            evidence=(f"needed: {item.name} {row.version}", f"found: {item.name} {item.version}"),
            remedies=(auto(seen, *family_requirements(seen)),),
        )


def replaced_since(seen: Environment) -> Iterator[Diagnosis]:
    """Something replaced what torchinstall installed."""
    changes = () if seen.decision is None else drift(seen.decision, seen.target)
    if seen.decision is None or not changes:
        return
    pins = [f"{name}=={version.partition('+')[0]}" for name, version in seen.decision.packages.items()]
    named = seen.decision.backend is None or "--backend" in seen.flags
    backend = () if named else ("--backend", str(seen.decision.backend))
    yield Diagnosis(
        slug="replaced-since",
        severity="warning",
        message="another install has replaced packages that torchinstall installed",
        evidence=(*changes, f"installed on {seen.decision.made_at}"),
        # Not for --fix: it may have been replaced on purpose.
        remedies=(by_hand(auto(seen, *backend, *pins).command),),
        advice="install other packages in the same command, or with the constraint torch==VERSION",
    )


def another_machine(seen: Environment) -> Iterator[Diagnosis]:
    """The GPU or the driver is not the one that the build was chosen for."""
    if seen.decision is not None and _moved(seen):
        before = ", ".join(seen.decision.machine.gpus) or "no GPU"
        now = ", ".join(gpu.label for gpu in seen.machine.gpus) or "no GPU"
        known = [f"{row.vendor} driver {row.version}" for row in seen.machine.drivers if row.version]
        drivers = ", ".join(known) or "no driver"
        yield Diagnosis(
            slug="decided-for-another-machine",
            severity="info",
            message="this build was chosen for another GPU or driver",
            evidence=(
                f"then: {before}",
                f"now: {now}, {drivers}",
                *(
                    ("the GPUs are the same, so the driver or the system was changed",)
                    if before == now
                    else ()
                ),
            ),
            remedies=(auto(seen, *family_requirements(seen)),),
        )


def _moved(seen: Environment) -> bool:
    return seen.decision is not None and seen.decision.machine.digest != machine_digest(seen.machine)


_LAST_LINES = 5
"""Of what a check printed before it crashed or failed."""


def does_not_compute(seen: Environment) -> Iterator[Diagnosis]:
    """A check of verify failed; failures with the same text are one finding, with its cause where known."""
    here = Here(machine=seen.machine, target=seen.target, flags=seen.flags, certain=True)
    failed: dict[str, Check] = {}
    for check in seen.report.failed if seen.report is not None else ():
        failed.setdefault(check.found, check)
    for check in failed.values():
        last = check.detail.strip().splitlines()[-_LAST_LINES:]
        evidence = (
            f"needed: {check.wanted}",
            f"found: {check.found}",
            *(f"it said: {line}" for line in last),
        )
        known = explain(f"{check.found}\n{check.detail}", seen.catalog, lambda _: here)
        package = check.name.removeprefix("import-") if check.name.startswith("import-") else "torch"
        yield Diagnosis(
            slug="does-not-compute",
            severity="error",
            message=f"the check {check.name} failed" + (f": {known[0].cause}" if known else ""),
            evidence=(*evidence, f"known as {known[0].slug}") if known else evidence,
            remedies=tuple(map(by_hand, known[0].commands)) if known else (reinstall(seen, package),),
            advice=known[0].advice if known else None,
        )
