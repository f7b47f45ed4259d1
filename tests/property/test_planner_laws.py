"""The planner's laws: each test's docstring is the sentence that must always hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.support.planning import amd, decide, intel, linux, nvidia, shipped, windows
from torchinstall.core.machine import decode_machine, machine_to_json
from torchinstall.core.plan import plan_to_json
from torchinstall.core.versions import dotted
from torchinstall.planner.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from torchinstall.core.machine import Gpu, Machine
    from torchinstall.core.plan import Plan

CAPABILITIES = ["3.5", "5.0", "5.2", "6.0", "6.1", "7.0", "7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0"]
DRIVERS = [
    "440.33",
    "450.80.02",
    "470.42",
    "525.60.13",
    "535.54",
    "550.54.14",
    "570.26",
    "580.65.06",
    "595.45",
    "615.1",
]
PYTHONS = ["3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.14t", "3.15"]
REQUIREMENTS = [
    ("torch",),
    ("torch", "torchvision"),
    ("torch", "torchvision", "torchaudio"),
    ("torch<2.8",),
    ("torch>=2.12",),
]
SUFFIXES = {slug for slug, _ in RULES} | {
    "musl",
    "glibc-too-old",
    "macos-too-old",
    "library-lacks-gpu",
    "kernel-needs-newer-rocm",
    "rocm-not-for-wsl",
    "ptx-needs-newer-driver",
    "gpu-not-served-by-driver",
    "gpu-code-unknown",
    "code-unknown",
}

gpus = st.one_of(
    st.sampled_from(CAPABILITIES).map(lambda code: nvidia(f"NVIDIA test {code}", code)),
    st.sampled_from(["gfx803", "gfx906", "gfx1030", "gfx1036", "gfx1100", "gfx1201"]).map(amd),
    st.sampled_from(["8086:e20b", "8086:56a0", "8086:4680"]).map(lambda pci: intel(pci, integrated=False)),
)


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Linux and Windows machines with up to three GPUs."""
    found: list[Gpu] = []
    for position, gpu in enumerate(draw(st.lists(gpus, max_size=3))):
        found.append(structs.replace(gpu, index=position, integrated=draw(st.booleans())))
    driver = draw(st.sampled_from(DRIVERS))
    make = draw(st.sampled_from([linux, windows]))
    return make(*found, driver=driver if any(gpu.vendor == "nvidia" for gpu in found) else None)


pythons = st.sampled_from(PYTHONS)
requirements = st.sampled_from(REQUIREMENTS)


def choice(plan: Plan) -> tuple[object, ...]:
    return plan.status, plan.backend, plan.packages


@settings(max_examples=120, deadline=None)
@given(machine=machines(), python=pythons, wanted=requirements, order=st.randoms(use_true_random=False))
def test_gpu_order(machine: Machine, python: str, wanted: tuple[str, ...], order: Random) -> None:
    """The order in which the GPUs are listed does not matter."""
    shuffled = list(machine.gpus)
    order.shuffle(shuffled)
    other = structs.replace(machine, gpus=tuple(shuffled))
    assert choice(decide(machine, *wanted, python=python)) == choice(decide(other, *wanted, python=python))


@settings(max_examples=120, deadline=None)
@given(
    code=st.sampled_from(CAPABILITIES),
    python=pythons,
    pair=st.lists(st.sampled_from(DRIVERS), min_size=2, max_size=2),
)
def test_newer_driver(code: str, python: str, pair: list[str]) -> None:
    """A newer driver never loses a build that the GPU can still use (unless it dropped the GPU)."""
    older, newer = sorted(pair, key=dotted)
    service = shipped().service(code)
    if service is not None and service.last_branch is not None and dotted(newer)[0] > service.last_branch:
        return
    gpu = nvidia("NVIDIA test", code)

    def usable(driver: str) -> set[tuple[str, str]]:
        plan = decide(linux(gpu, driver=driver), "torch", python=python)
        return {(item.backend, item.torch) for item in plan.candidates if item.verdict != "rejected"}

    assert usable(older) <= usable(newer)


@settings(max_examples=60, deadline=None)
@given(python=pythons, wanted=requirements, make=st.sampled_from([linux, windows]))
def test_no_gpu(python: str, wanted: tuple[str, ...], make: Callable[[], Machine]) -> None:
    """Without a GPU no GPU backend is ever chosen."""
    plan = decide(make(), *wanted, python=python)
    assert plan.backend in ("cpu", None)


@settings(max_examples=120, deadline=None)
@given(machine=machines(), python=pythons, wanted=requirements)
def test_pins_exist(machine: Machine, python: str, wanted: tuple[str, ...]) -> None:
    """Every pin of a plan exists in the catalog, as a file for the target."""
    plan = decide(machine, *wanted, python=python)
    platform = {"linux": f"linux_{machine.arch}", "windows": "win_amd64"}[machine.os]
    for package in plan.packages:
        if package.version is None:
            continue
        rows = shipped().wheels(package.name, platform)
        files = {row.filename(tag) for row in rows for tag in row.tags if row.backend == plan.backend}
        assert package.wheel in files


@settings(max_examples=120, deadline=None)
@given(machine=machines(), python=pythons, wanted=requirements)
def test_one_rule_each(machine: Machine, python: str, wanted: tuple[str, ...]) -> None:
    """Each rejected candidate names exactly one known rule, with what it wanted and found; no other does."""
    plan = decide(machine, *wanted, python=python)
    assert sum(item.verdict == "chosen" for item in plan.candidates) == (plan.status != "impossible")
    for item in plan.candidates:
        if item.verdict == "rejected":
            assert item.rule in SUFFIXES
            assert item.wanted
            assert item.found
        else:
            assert item.rule is None


@settings(max_examples=120, deadline=None)
@given(machine=machines(), python=pythons, wanted=requirements)
def test_silence(machine: Machine, python: str, wanted: tuple[str, ...]) -> None:
    """A GPU is never traded away in silence: CPU on a machine with a GPU always comes with a reason."""
    plan = decide(machine, *wanted, python=python)
    if plan.backend == "cpu" and machine.gpus:
        assert "gpu-not-used" in {item.slug for item in plan.warnings}
        assert all(not gpu.covered and gpu.by for gpu in plan.gpus)


@settings(max_examples=80, deadline=None)
@given(machine=machines(), python=pythons, wanted=requirements)
def test_round_trips(machine: Machine, python: str, wanted: tuple[str, ...]) -> None:
    """Machines survive their JSON, and plans are plain values."""
    assert decode_machine(json.dumps(machine_to_json(machine)), "a file") == machine
    json.dumps(plan_to_json(decide(machine, *wanted, python=python)))


@settings(max_examples=80, deadline=None)
@given(machine=machines(), python=pythons)
def test_overrides_that_say_what_is_there(machine: Machine, python: str) -> None:
    """Declaring exactly what was probed changes nothing."""
    driver = machine.driver("nvidia")
    if driver is None:
        return
    same = decide(machine, python=python, target_driver=driver.version, target_gpus=machine.gpus)
    assert choice(same) == choice(decide(machine, python=python))
