"""Known limits: libraries, drivers, kernels and processors that keep a build from working."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from tests.support.planning import amd, decide, intel, linux, mac, nvidia, rejection, shipped, windows
from torchinstall.core.machine import Driver, Gpu, Machine
from torchinstall.core.plan import Plan, plan_to_json
from torchinstall.core.versions import dotted, within


def strix(kernel: str | None = None) -> Machine:
    gpu = Gpu(vendor="amd", index=0, name="AMD Radeon 8060S", gfx_target="gfx1151", integrated=True)
    return linux(gpu, kernel_version=kernel)


def b200(driver: str) -> Machine:
    return linux(nvidia("NVIDIA B200", "10.0"), driver=driver)


def effects(plan: Plan) -> set[str]:
    return {limit.effect for limit in plan.limits}


@pytest.mark.parametrize(
    ("version", "text", "inside"),
    [
        ("2.10.0", "", True),
        ("2.10.0", ">=2.10,<2.14", True),
        ("2.9.1", ">=2.10,<2.14", False),
        ("2.14", ">=2.10,<2.14", False),
        ("7.14", ">7.2", True),
        ("7.2.1", "<=7.2", False),
        ("12.1", "==10.3|==12.1", True),
        ("12.0", "==10.3|==12.1", False),
        ("2.4.0", "==2.4", True),
    ],
)
def test_a_range_compares_versions(version: str, text: str, *, inside: bool) -> None:
    assert within(dotted(version), text) is inside


@pytest.mark.parametrize("gfx", ["gfx900", "gfx906"])
def test_vega_gets_the_last_rocblas_that_has_its_files(gfx: str) -> None:
    plan = decide(linux(amd(gfx)))
    assert plan.torch == "2.9.1+rocm6.3"
    refused = rejection(plan, "rocm7.2")
    assert refused.rule == "library-lacks-gpu"
    assert gfx in str(refused.wanted)
    assert "gfx908" in str(refused.found)
    blocks = [limit for limit in plan.limits if limit.severity == "blocks"]
    assert {limit.slug for limit in blocks} == {"library-lacks-gpu"}
    assert all(limit.source and limit.gpu for limit in blocks)


def test_rdna4_is_not_given_a_rocblas_before_its_time() -> None:
    assert rejection(decide(linux(amd("gfx1201"))), "rocm6.2.4").rule in (
        "library-lacks-gpu",
        "no-code-for-gpu",
    )
    assert decide(linux(amd("gfx1201")), "torch==2.7.1").backend == "rocm6.3"


def test_a_vega_beside_a_newer_gpu_decides_where_both_must_compute() -> None:
    assert decide(linux(amd("gfx906"), amd("gfx1030", 1))).torch == "2.9.1+rocm6.3"


def test_a_backend_that_was_named_is_obeyed_with_the_reason() -> None:
    plan = decide(linux(amd("gfx906")), backend="rocm7.2")
    assert plan.backend == "rocm7.2"
    assert any(w.slug == "backend-cannot-run" and "rocBLAS" in w.message for w in plan.warnings)
    assert ("library-lacks-gpu", "blocks") in {(limit.slug, limit.severity) for limit in plan.limits}


@pytest.mark.parametrize(("version", "torch"), [("12.5", "2.4.1"), ("13.6", "2.8.0"), ("14.0", "2.15.0")])
def test_an_old_mac_keeps_its_gpu(version: str, torch: str) -> None:
    plan = decide(mac(version))
    assert (plan.torch, plan.gpus[0].covered) == (torch, True)


@pytest.mark.parametrize(
    ("kernel", "refused"),
    [
        ("6.19.2-arch1-1", True),
        ("6.18.4", True),
        ("6.17.9-300.fc43.x86_64", True),
        ("6.14.0-1018-oem", True),
        ("7.0.0-rc3", True),
        ("6.18.3-200.fc43.x86_64", False),
        ("6.17.8", False),
        ("6.14.0-1017-oem", False),
        ("6.14.0-1018-aws", False),
        ("6.8.0-60-generic", False),
    ],
)
def test_strix_halo_on_new_kernels_needs_rocm_7_2(kernel: str, *, refused: bool) -> None:
    plan = decide(strix(kernel), "torch==2.10.0")
    if not refused:
        assert plan.backend == "rocm7.1"
        return
    assert plan.error is not None
    assert plan.error.slug == "pins-exclude-gpu"
    assert f"ROCm 7.2 or newer (AMD Radeon 8060S on Linux {kernel})" in str(plan.error.found)
    assert rejection(plan, "rocm7.1", "2.10.0").rule == "kernel-needs-newer-rocm"
    assert decide(strix(kernel)).torch == "2.14.1+rocm7.14"


def test_an_unknown_kernel_is_said_and_never_refused() -> None:
    plan = decide(strix(), "torch==2.10.0")
    assert plan.backend == "rocm7.1"
    said = next(w.message for w in plan.warnings if w.slug == "works-in-part")
    assert "6.18.4 or newer" in said
    assert "not known" in said
    newest = decide(strix(), "torch==2.11.0")
    assert newest.backend == "rocm7.2"
    assert "memory" not in effects(newest)


def test_a_declared_gpu_has_a_kernel_of_its_own() -> None:
    here = strix("6.19.0")
    elsewhere = decide(here, "torch==2.10.0", target_gpus=(amd("gfx1151"),))
    assert elsewhere.backend == "rocm7.1"


@pytest.mark.parametrize("driver", ["570.86.15", "575.57.08"])
def test_blackwell_before_580_cannot_compile_with_triton_3_7(driver: str) -> None:
    plan = decide(b200(driver))
    assert plan.torch == "2.13.0+cu129"
    found = next(limit for limit in plan.limits if limit.effect == "compile")
    assert (found.slug, found.severity, found.gpu) == ("compile-needs-driver", "degrades", "NVIDIA B200")
    assert "580" in found.message
    assert [w.slug for w in plan.warnings].count("works-in-part") == 1
    needed = decide(b200(driver), need="compile")
    assert needed.torch == "2.11.0+cu128"
    assert "compile" not in effects(needed)
    assert rejection(needed, "cu129").rule == "need-not-met"


def test_driver_580_lifts_the_limit() -> None:
    plan = decide(b200("580.95.05"))
    assert "compile" not in effects(plan)
    assert plan.torch == decide(b200("580.95.05"), need="compile").torch


def test_a_gpu_that_can_never_compile_is_an_error_only_if_it_was_asked_for() -> None:
    old = linux(nvidia("NVIDIA GeForce GTX 1080 Ti", "6.1"), driver="580.95.05")
    assert "compile" in effects(decide(old))
    refused = decide(old, need="compile")
    assert refused.error is not None
    assert refused.error.exit_code == 3
    assert any("--need" in hint for hint in refused.error.hints)


def test_windows_needs_a_package_and_no_other_build() -> None:
    machine = windows(nvidia("NVIDIA GeForce RTX 3060", "8.6"), driver="566.36")
    plan = decide(machine)
    assert plan.torch == decide(machine, need="compile").torch == "2.14.1+cu126"
    said = next(limit.message for limit in plan.limits if limit.effect == "compile")
    assert "triton-windows>=3.8,<3.9" in said
    assert "compile" not in effects(decide(machine, "torch", "triton-windows"))


def wsl(gfx: str) -> Machine:
    return linux(amd(gfx), environment=("wsl2",))


def test_rocm_in_wsl_is_what_is_known_to_work_there() -> None:
    plan = decide(wsl("gfx1100"))
    assert plan.torch == "2.11.0+rocm7.2"
    assert rejection(plan, "rocm7.2").rule == "rocm-not-for-wsl"
    assert rejection(plan, "rocm6.4").rule == "rocm-not-for-wsl"
    assert any("librocdxg" in w.message for w in plan.warnings)


LSE = ("fp", "asimd", "atomics")
V80 = ("fp", "asimd", "crc32")


@pytest.mark.parametrize(
    ("features", "torch", "rule"),
    [
        (V80, "2.10.0", "cpu-too-old"),
        (V80, "2.4.0", "cpu-too-old"),
        (V80, "2.9.1", None),
        (V80, "2.11.0", None),
        (LSE, "2.10.0", None),
        ((), "2.10.0", "unknown"),
    ],
)
def test_an_old_arm_processor(features: tuple[str, ...], torch: str, rule: str | None) -> None:
    plan = decide(linux(arch="aarch64", cpu_features=features), f"torch=={torch}")
    if rule == "cpu-too-old":
        assert plan.error is not None
        assert "an Arm CPU with atomics" in str(plan.error.found)
        assert rejection(plan, "cpu", torch).rule == rule
        assert decide(linux(arch="aarch64", cpu_features=features)).error is None
    else:
        assert plan.torch == f"{torch}+cpu"


def limits_on(machine: Machine, *requirements: str, **more: Any) -> set[str]:
    return {limit.slug for limit in decide(machine, *requirements, **more).limits}


XPU = {"e20b": intel("8086:e20b", integrated=False), "e212": intel("8086:e212", integrated=False)}
A100 = nvidia("NVIDIA A100", "8.0")


KINDS: list[tuple[str, Machine, tuple[str, ...]]] = [
    ("compile-needs-driver", linux(A100, driver="470.256.02"), ()),
    (
        "compile-unknown-gpu",
        linux(nvidia("GB10", "12.1"), driver="580.95.05", arch="aarch64"),
        ("torch==2.9.1",),
    ),
    (
        "compile-unknown-gpu",
        linux(nvidia("Thor", "11.0"), driver="580.95.05", arch="aarch64"),
        ("torch==2.11.0",),
    ),
    ("compile-slow", linux(nvidia("Tesla T4", "7.5"), driver="580.95.05"), ()),
    ("attention-slow", linux(nvidia("Tesla T4", "7.5"), driver="580.95.05"), ()),
    ("attention-slow", linux(amd("gfx1030")), ()),
    ("attention-opt-in", linux(amd("gfx1200")), ()),
    ("gemm-slow", linux(amd("gfx906")), ()),
    ("convolution-slow", linux(amd("gfx1030")), ()),
    ("no-rccl", linux(amd("gfx1103")), ()),
    ("gemm-wrong", linux(amd("gfx1201")), ("torch==2.13.0",)),
    ("bf16-crash", linux(amd("gfx1100")), ("torch==2.8.0", "--backend rocm6.3")),
    ("rocm-fault-reported", linux(amd("gfx90a")), ("torch", "--backend rocm7.14")),
    ("kernel-too-old", strix("6.8.0-60-generic"), ()),
    ("conv3d-without-cudnn", linux(A100, driver="580.95.05"), ("torch==2.9.0",)),
    ("numpy-too-new", linux(), ("torch==2.2.2",)),
    ("numpy-too-new", windows(), ("torch==2.4.0",)),
    ("cpu-too-old", linux(cpu_features=("sse2",)), ("torch",)),
    ("level-zero-ages", linux(XPU["e212"]), ()),
    ("xpu-compiles-first", linux(XPU["e20b"]), ("torch==2.6.0",)),
    ("compile-needs-package", windows(XPU["e20b"]), ()),
    ("compile-needs-older-driver", windows(XPU["e20b"]), ("torch==2.7.1",)),
    ("wsl-needs-librocdxg", wsl("gfx1100"), ()),
    ("rocm-not-tried-in-wsl", wsl("gfx1100"), ("torch", "--backend rocm7.14")),
]


@pytest.mark.parametrize(("slug", "machine", "asked"), KINDS)
def test_each_kind_of_limit_is_in_the_plan(slug: str, machine: Machine, asked: tuple[str, ...]) -> None:
    backend = next((text.partition(" ")[2] for text in asked if text.startswith("--backend")), "auto")
    wanted = [text for text in asked if not text.startswith("--")]
    assert slug in limits_on(machine, *wanted, backend=backend)


def test_every_slug_is_tried_here() -> None:
    tried = {slug for slug, _, _ in KINDS}
    refusing = {"library-lacks-gpu", "kernel-needs-newer-rocm", "rocm-not-for-wsl", "compile-needs-newer-gpu"}
    assert {row.slug for row in shipped().tables.limits} == tried | refusing


def test_numpy_that_was_bounded_is_not_complained_about() -> None:
    assert "numpy-too-new" not in limits_on(linux(), "torch==2.2.2", "numpy<2")


def test_an_mi200_gets_the_rocm_without_reports() -> None:
    assert decide(linux(amd("gfx90a"))).torch == "2.14.1+rocm7.2"


def test_other_gpus_are_not_accused() -> None:
    for machine in (linux(amd("gfx1100")), linux(nvidia("NVIDIA H100", "9.0"), driver="580.95.05"), linux()):
        assert decide(machine).limits == ()


def test_limits_in_json() -> None:
    plan = decide(b200("575.57.08"))
    keys = {"slug", "severity", "gpu", "effect", "message", "source"}
    assert [set(row) for row in plan_to_json(plan)["limits"]] == [keys] * len(plan.limits)


def test_a_whole_backend_can_be_left_out() -> None:
    machine = structs.replace(linux(amd("gfx1100")), drivers=(Driver(vendor="amd"),))
    plan = decide(machine, failed=((None, "rocm7.14"),))
    assert plan.torch == "2.14.1+rocm7.2"
    assert {item.rule for item in plan.candidates if item.backend == "rocm7.14"} == {"did-not-compute"}
