"""The doctor's checks: pure functions from an environment to what is wrong in it.

A new check is one function, one row here in the order of the report, and one line in
`docs/reference/doctor.md` (a test joins the three).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import structs

from torchinstall.doctor.checks import build, packages, system
from torchinstall.doctor.model import Diagnosis, Environment

Check = Callable[[Environment], Iterator[Diagnosis]]

CHECKS: tuple[Check, ...] = (
    packages.interrupted_install,
    build.torch_missing,
    packages.installed_twice,
    system.found_by_probe,
    build.hardware_objections,
    build.cpu_build_on_gpu_machine,
    build.partly_covered,
    build.mixed_backends,
    build.mixed_releases,
    packages.mixed_cuda_packages,
    packages.damaged_files,
    packages.missing_dependencies,
    packages.triton_missing,
    packages.built_for_other_torch,
    system.shadowed,
    system.system_cuda_first,
    system.compat_on_consumer_gpu,
    build.does_not_compute,
    build.replaced_since,
    build.another_machine,
    system.would_undo,
    system.settings,
    system.source_without_dependency,
    packages.leftovers,
    system.wrong_interpreter,
    system.gpus_hidden,
    system.low_memory,
)


def examine(seen: Environment) -> tuple[Diagnosis, ...]:
    """Run every check; errors first, then warnings, then what is merely worth knowing.

    What fails may be the effect of any error before it; then its cause is not guessed.
    """
    rank = {"error": 0, "warning": 1, "info": 2}
    found: list[Diagnosis] = []
    for check in CHECKS:
        rows = list(check(seen))
        if check is build.does_not_compute and any(item.severity == "error" for item in found):
            again = {"remedies": (), "advice": "fix what is above first, then look again"}
            rows = [structs.replace(row, message=row.message.partition(": ")[0], **again) for row in rows]
        found += rows
    return tuple(sorted(found, key=lambda item: rank[item.severity]))
