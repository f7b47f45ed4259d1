"""The doctor's checks: pure functions from an environment to what is wrong in it.

A new check is one function, one row here in the order of the report, and one line in
`docs/reference/doctor.md` (a test joins the three).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

from torchinstall.doctor.checks import build, packages, system
from torchinstall.doctor.model import Diagnosis, Environment


class Row(Struct, frozen=True):
    """One check and the slugs that it may report."""

    run: Callable[[Environment], Iterator[Diagnosis]]
    slugs: tuple[str, ...]


CHECKS: tuple[Row, ...] = (
    Row(packages.interrupted_install, ("interrupted-install", "environment-busy")),
    Row(build.torch_missing, ("torch-missing",)),
    Row(system.unreadable_hardware, ("unreadable-hardware",)),
    Row(build.hardware_objections, ("driver-too-old", "no-code-for-gpu", "no-gpu-of-vendor")),
    Row(build.cpu_build_on_gpu_machine, ("cpu-build-on-gpu-machine",)),
    Row(build.partly_covered, ("some-gpus-without-code",)),
    Row(build.mixed_backends, ("mixed-backends",)),
    Row(build.mixed_releases, ("mixed-releases",)),
    Row(packages.installed_twice, ("installed-twice",)),
    Row(packages.damaged_files, ("damaged-files",)),
    Row(packages.missing_dependencies, ("missing-dependency",)),
    Row(packages.triton_missing, ("triton-missing",)),
    Row(packages.built_for_other_torch, ("built-for-other-torch",)),
    Row(system.shadowed, ("shadowed-package",)),
    Row(system.system_cuda_first, ("system-cuda-first",)),
    Row(system.compat_on_consumer_gpu, ("compat-on-consumer-gpu",)),
    Row(build.does_not_compute, ("does-not-compute",)),
    Row(build.replaced_since, ("replaced-since",)),
    Row(build.another_machine, ("decided-for-another-machine",)),
    Row(system.would_undo, ("project-would-undo", "project-choice")),
    Row(system.settings, tuple(system.SETTINGS)),
    Row(system.source_without_dependency, ("source-without-dependency",)),
    Row(packages.leftovers, ("leftover-folders",)),
    Row(packages.mixed_cuda_packages, ("mixed-cuda-packages",)),
    Row(system.wrong_interpreter, ("wrong-interpreter",)),
    Row(system.hsa_override, ("hsa-override",)),
    Row(system.gpus_hidden, ("gpus-hidden",)),
    Row(system.of_host, tuple(system.OF_HOST)),
    Row(system.low_memory, ("low-memory",)),
)


def examine(seen: Environment) -> tuple[Diagnosis, ...]:
    """Run every check; errors first, then warnings, then what is merely worth knowing."""
    rank = {"error": 0, "warning": 1, "info": 2}
    found = [item for row in CHECKS for item in row.run(seen)]
    return tuple(sorted(found, key=lambda item: rank[item.severity]))
