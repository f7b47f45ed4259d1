"""The machines on which installers go wrong, each with the build that runs there (facts: NVIDIA, PyTorch)."""

from __future__ import annotations

import pytest
from msgspec import structs

from tests.support.planning import amd, decide, intel, linux, mac, nvidia, rejection, windows
from torchinstall.core.machine import Driver, Finding, Gpu, Libc

GTX_1080_TI = nvidia("NVIDIA GeForce GTX 1080 Ti", "6.1")
RTX_4090 = nvidia("NVIDIA GeForce RTX 4090", "8.9")
RTX_5090 = nvidia("NVIDIA GeForce RTX 5090", "12.0")
V100 = nvidia("Tesla V100-SXM2-32GB", "7.0")


def test_pascal_on_a_new_driver_gets_the_last_build_with_its_code() -> None:
    plan = decide(linux(GTX_1080_TI, driver="580.95.05"))
    assert plan.torch == "2.14.1+cu126"
    assert plan.gpus[0].by in ("sm_60", "sm_61")
    for newer in ("cu130", "cu132"):
        assert rejection(plan, newer).rule == "no-code-for-gpu"
        assert "6.1" in (rejection(plan, newer).wanted or "")


def test_a_cuda_12_driver_gets_a_cuda_12_build() -> None:
    plan = decide(linux(RTX_4090, driver="550.54.14"))
    assert plan.backend == "cu126"
    assert rejection(plan, "cu132").rule == "driver-too-old"
    assert rejection(plan, "cu132").found == "driver 550.54.14"


@pytest.mark.parametrize(("torch", "backend"), [("2.8.0", "cu128"), ("2.11.0", "cu126")])
def test_volta_is_in_cu128_of_one_release_and_not_of_another(torch: str, backend: str) -> None:
    plan = decide(linux(V100, driver="580.95.05"), f"torch=={torch}")
    assert plan.status == "ready"
    chosen = {"2.8.0": {"cu126", "cu128", "cu129"}, "2.11.0": {"cu126"}}[torch]
    assert plan.backend in chosen
    if torch == "2.11.0":
        assert rejection(plan, "cu128", torch).rule == "no-code-for-gpu"
    else:
        assert next(
            item for item in plan.candidates if (item.backend, item.torch) == (backend, torch)
        ).verdict != ("rejected")


def test_a_pin_that_costs_the_gpu_is_refused_with_the_lowest_torch_that_works() -> None:
    plan = decide(linux(RTX_5090, driver="580.95.05"), "torch==2.5.1")
    assert plan.status == "impossible"
    assert plan.error is not None
    assert plan.error.exit_code == 3
    assert plan.error.slug == "pins-exclude-gpu"
    assert "torch==2.7.0" in "\n".join(plan.error.hints)
    accepted = decide(linux(RTX_5090, driver="580.95.05"), "torch==2.5.1", allow_cpu=True)
    assert accepted.torch == "2.5.1+cpu"
    assert "gpu-not-used" in {item.slug for item in accepted.warnings}


def test_cuda_11_only_driver_gets_cuda_11_and_not_cpu() -> None:
    plan = decide(linux(nvidia("NVIDIA A100-SXM4-80GB", "8.0"), driver="470.199.02", glibc="2.31"))
    assert plan.torch == "2.7.1+cu118"


def test_kepler() -> None:
    k80 = linux(nvidia("Tesla K80", "3.7"), driver="470.256.02", glibc="2.31")
    assert decide(k80, python="3.11").torch == "2.7.1+cu118"
    assert decide(k80, python="3.11").gpus[0].by == "sm_37"
    old = decide(linux(nvidia("GeForce GTX 680", "3.0"), driver="470.256.02"))
    assert old.backend == "cpu"
    assert "gpu-not-used" in {item.slug for item in old.warnings}


@pytest.mark.parametrize(
    ("gpu", "driver", "backends", "by"),
    [
        (nvidia("NVIDIA GH200 480GB", "9.0"), "565.57.01", {"cu126", "cu129"}, "sm_90"),
        (nvidia("NVIDIA GB10", "12.1", integrated=True), "580.95.05", {"cu130", "cu132"}, "sm_120"),
        (nvidia("NVIDIA Thor", "11.0", integrated=True), "580.00", {"cu130", "cu132"}, "sm_110"),
        (nvidia("NVIDIA Thor", "10.1", integrated=True), "580.00", {"cu130", "cu132"}, "sm_110"),
    ],
)
def test_aarch64(gpu: Gpu, driver: str, backends: set[str], by: str) -> None:
    plan = decide(linux(gpu, driver=driver, arch="aarch64", l4t="38.2" if "Thor" in gpu.label else None))
    assert plan.backend in backends
    assert plan.gpus[0].by == by


def test_old_jetson_names_nvidias_index() -> None:
    orin = nvidia("Orin (nvgpu)", "8.7", integrated=True)
    plan = decide(linux(orin, driver="540.4.0", arch="aarch64", glibc="2.35", l4t="36.4.3"), python="3.10")
    assert plan.backend == "cpu"
    slugs = {item.slug: item.message for item in plan.warnings}
    assert "gpu-not-used" in slugs
    assert "jetson" in slugs["vendor-index"]
    assert rejection(plan, "cu132", "2.14.1").rule == "jetson-needs-own-build"


def test_orin_runs_ordinary_builds_from_toolkit_13_2_on() -> None:
    orin = nvidia("Orin", "8.7", integrated=True)
    plan = decide(linux(orin, driver="595.45.04", arch="aarch64", l4t="39.2"))
    assert plan.backend == "cu132"
    assert rejection(plan, "cu130").rule == "no-code-for-gpu"


def test_hopper_on_a_long_term_driver() -> None:
    assert decide(linux(nvidia("NVIDIA H100 80GB HBM3", "9.0"), driver="535.183.01")).torch == "2.14.1+cu126"


@pytest.mark.parametrize(("python", "torch"), [("3.15", "2.15.0"), ("3.14t", "2.15.0"), ("3.9", "2.8.0")])
def test_new_free_threaded_and_old_pythons(python: str, torch: str) -> None:
    plan = decide(linux(nvidia("NVIDIA GeForce RTX 3090", "8.6"), driver="595.45.04"), "torch", python=python)
    assert plan.torch is not None
    assert plan.torch.startswith(f"{torch}+cu")
    assert plan.target.abi in (plan.packages[0].wheel or "")


def test_an_old_glibc_caps_the_release() -> None:
    plan = decide(linux(glibc="2.17"), "torch", python="3.10")
    assert plan.status == "ready"
    assert plan.packages[0].wheel is not None
    assert "2_28" not in plan.packages[0].wheel
    assert rejection(plan, "cpu", "2.14.1").rule == "glibc-too-old"


def test_musl_is_refused_with_the_way_out() -> None:
    plan = decide(structs.replace(linux(), libc=Libc(family="musl", version="1.2.5")))
    assert plan.error is not None
    assert (plan.error.slug, plan.error.exit_code) == ("musl", 3)
    assert "glibc" in "\n".join(plan.error.hints)


def test_windows_has_no_rocm() -> None:
    plan = decide(windows(amd("gfx1100")))
    assert plan.backend == "cpu"
    assert {"gpu-not-used", "vendor-index"} <= {item.slug for item in plan.warnings}


def test_strix_halo_and_what_rocm_does_not_serve() -> None:
    halo = decide(linux(amd("gfx1151", integrated=True)))
    assert (halo.backend or "").startswith("rocm7")
    old = decide(linux(amd("gfx1031")))
    assert old.backend == "cpu"
    assert "gfx1031" in old.gpus[0].by


def test_rocm_versions_are_compared_as_versions() -> None:
    assert decide(linux(amd("gfx1100")), "torch==2.14.1").backend == "rocm7.14"
    assert decide(linux(amd("gfx908")), "torch==2.14.1").backend == "rocm7.14"


def test_intel_allow_list() -> None:
    arc = decide(linux(intel("8086:e20b", integrated=False)))
    assert arc.backend == "xpu"
    uhd = decide(linux(intel("8086:4680", integrated=True)))
    assert uhd.backend == "cpu"
    both = decide(
        windows(
            intel("8086:4680", integrated=True), nvidia("NVIDIA GeForce RTX 3060", "8.6"), driver="566.36"
        )
    )
    assert both.backend == "cu126"
    assert [gpu.covered for gpu in both.gpus] == [False, True]


def test_no_build_covers_pascal_and_blackwell_so_the_more_capable_wins() -> None:
    pascal = nvidia("NVIDIA GeForce GTX 1070", "6.1", 0)
    blackwell = nvidia("NVIDIA GeForce RTX 5080", "12.0", 1)
    machine = linux(pascal, blackwell, driver="580.95.05")
    plan = decide(machine)
    assert [gpu.covered for gpu in plan.gpus] == [False, True]
    left_out = {item.slug: item.message for item in plan.warnings}["gpu-left-out"]
    assert "GTX 1070: no code for compute capability 6.1" in left_out
    preferred = decide(machine, prefer_gpu=0)
    assert [gpu.covered for gpu in preferred.gpus] == [True, False]


def test_the_whole_set_is_planned() -> None:
    machine = linux(nvidia("NVIDIA B300", "10.3"), driver="615.10")
    trio = decide(machine, "torch", "torchvision", "torchaudio")
    assert trio.backend == "cu130"
    assert {package.name: package.version for package in trio.packages}["torchaudio"] == "2.11.0+cu130"
    assert any(
        item.rule == "companion-missing" and "torchaudio" in (item.wanted or "")
        for item in trio.candidates
        if item.backend == "cu132"
    )


def test_macs() -> None:
    silicon = decide(mac())
    assert silicon.index_url is None
    assert silicon.torch is not None
    assert "+" not in silicon.torch
    assert silicon.gpus[0].covered
    assert decide(mac("13.6", "x86_64")).torch == "2.2.2"
    translated = decide(mac(rosetta=True))
    assert translated.error is not None
    assert translated.error.slug == "rosetta"
    # MPS of torch 2.9 needs macOS 14: the GPU is worth more than the newest release.
    assert decide(mac("13.6")).torch == "2.8.0"
    assert decide(mac("13.6")).gpus[0].by == "mps"


def test_wsl_counts_with_windows_driver_numbers() -> None:
    machine = linux(nvidia("NVIDIA GeForce RTX 4070", "8.9"), driver="527.41", environment=("wsl2",))
    assert decide(machine).backend == "cu118"
    assert decide(linux(nvidia("NVIDIA GeForce RTX 4070", "8.9"), driver="527.41")).backend == "cu126"


def test_a_named_backend_is_obeyed_with_a_warning() -> None:
    plan = decide(linux(GTX_1080_TI, driver="580.95.05"), backend="cu132")
    assert plan.backend == "cu132"
    assert "backend-cannot-run" in {item.slug for item in plan.warnings}
    cpu = decide(linux(GTX_1080_TI, driver="580.95.05"), backend="cpu")
    assert cpu.torch == "2.15.0+cpu"


@pytest.mark.parametrize("status", ["broken", "denied"])
def test_unreadable_hardware_stops_the_plan(status: str) -> None:
    finding = Finding(
        probe="nvidia",
        status="broken" if status == "broken" else "denied",
        detail="the driver was updated without a reboot",
        slug="driver-library-mismatch",
        hint="reboot",
    )
    machine = linux(findings=(finding,))
    plan = decide(machine)
    assert plan.error is not None
    assert (plan.error.slug, plan.error.exit_code) == ("driver-library-mismatch", 4)
    assert decide(machine, allow_cpu=True).backend == "cpu"
    assert decide(machine, backend="cu126").backend == "cu126"


def test_a_gpu_without_a_driver_is_not_no_gpu() -> None:
    card = Gpu(vendor="nvidia", index=0, pci_id="10de:2684", source="pci")
    plan = decide(linux(card))
    assert plan.error is not None
    assert (plan.error.slug, plan.error.exit_code) == ("driver-missing", 4)


def test_a_required_gpu_that_no_build_serves() -> None:
    plan = decide(linux(amd("gfx1031")), require_gpu=True)
    assert plan.error is not None
    assert (plan.error.slug, plan.error.exit_code) == ("gpu-required", 4)
    none = decide(linux(), require_gpu=True)
    assert none.error is not None
    assert none.error.exit_code == 4


def test_declared_targets_for_machines_without_a_gpu() -> None:
    container = linux(environment=("container",))
    assert decide(container).backend == "cpu"
    assert "no-gpu-here" in {item.slug for item in decide(container).warnings}
    hopper = Gpu(vendor="nvidia", index=0, compute_capability=(9, 0), source="--target-gpu")
    both = decide(container, target_gpus=(hopper,), target_driver="550.54")
    assert both.backend == "cu126"
    without_driver = decide(container, target_gpus=(hopper,))
    assert "driver-unknown" in {item.slug for item in without_driver.warnings}
    driver_only = decide(container, target_driver="580.95")
    assert (driver_only.backend or "").startswith("cu13")
    assert "capability-unknown" in {item.slug for item in driver_only.warnings}


def test_a_driver_that_no_longer_serves_the_gpu() -> None:
    plan = decide(linux(nvidia("NVIDIA TITAN Xp", "6.1"), driver="595.45.04"))
    assert plan.backend == "cpu"
    assert "gpu-not-served-by-driver" in {item.rule for item in plan.candidates}


def test_an_unknown_gpu_of_a_known_product_takes_its_code_from_the_table() -> None:
    card = Gpu(vendor="nvidia", index=0, pci_id="10de:2684", integrated=False, source="nvml")
    machine = linux(card)
    machine = structs.replace(machine, drivers=(Driver(vendor="nvidia", version="550.54.14"),))
    plan = decide(machine)
    assert plan.backend == "cu126"
    assert "gpu-code-from-table" in {item.slug for item in plan.warnings}


def test_windows_driver_numbers_belong_to_branches() -> None:
    assert decide(windows(GTX_1080_TI, driver="581.42")).torch == "2.14.1+cu126"
    assert decide(windows(nvidia("Tesla K80", "3.7"), driver="475.14"), python="3.11").torch == "2.7.1+cu118"


def test_a_driver_older_than_the_gpu() -> None:
    ada = Gpu(vendor="nvidia", index=0, compute_capability=(8, 9), source="--target-gpu")
    plan = decide(linux(), target_gpus=(ada,), target_driver="470.256.02")
    assert plan.backend == "cpu"
    assert "gpu-not-served-by-driver" in {item.rule for item in plan.candidates}


def test_a_jetson_without_nvml_is_not_a_missing_driver() -> None:
    nano = Gpu(vendor="nvidia", index=0, name="Jetson Nano", compute_capability=(5, 3), integrated=True)
    plan = decide(linux(nano, arch="aarch64", glibc="2.27", l4t="32.7.4"), python="3.8")
    assert plan.error is None
    assert plan.backend == "cpu"
    assert "vendor-index" in {item.slug for item in plan.warnings}


def test_a_guessed_list_of_code_is_named() -> None:
    ampere = nvidia("NVIDIA GeForce RTX 3090", "8.6")
    plan = decide(windows(ampere, driver="581.42"), "torch==2.8.0")
    assert plan.backend == "cu129"
    assert "code-list-assumed" in {item.slug for item in plan.warnings}


def test_intel_data_centre_gpus_are_for_linux_only() -> None:
    ponte_vecchio = intel("8086:0bdb", integrated=False)
    assert decide(linux(ponte_vecchio)).backend == "xpu"
    assert decide(windows(ponte_vecchio)).backend == "cpu"


def test_a_package_that_ended_is_not_paired_with_a_newer_torch() -> None:
    plan = decide(linux(), "torch", "torchtext", python="3.10")
    assert plan.torch == "2.3.1+cpu"
    assert {package.name: package.version for package in plan.packages}["torchtext"] == "0.18.0"
    assert rejection(plan, "cpu", "2.14.1").rule == "companion-missing"


def test_a_package_bound_to_one_torch_decides_which() -> None:
    plan = decide(linux(RTX_4090, driver="580.95.05"), "torch", "xformers<0.0.34")
    versions = {package.name: package.version for package in plan.packages}
    assert (versions["torch"], versions["xformers"]) == ("2.9.1+cu130", "0.0.33.post2")


def test_rocm_with_its_runtime_beside_it_routes_it() -> None:
    plan = decide(linux(amd("gfx1100")), "torch==2.14.1")
    routed = {package.name for package in plan.packages if package.routed}
    assert {"torch", "triton-rocm", "rocm", "rocm-sdk-core", "rocm-sdk-device-gfx1100"} <= routed
    assert "runtime-assumed" in {item.slug for item in plan.warnings}


def test_a_build_that_did_not_compute_is_not_taken_again() -> None:
    machine = linux(RTX_4090, driver="550.54.14")
    first = decide(machine, "torch")
    again = decide(machine, "torch", failed=(("2.14.1", "cu126"),))
    assert first.torch == "2.14.1+cu126"
    assert again.torch == "2.14.0+cu126"
    assert rejection(again, "cu126", "2.14.1").rule == "did-not-compute"


def test_a_backend_without_a_build_is_said_to_have_none() -> None:
    plan = decide(linux(), backend="cu1234")
    assert plan.error is not None
    assert (plan.error.slug, plan.error.exit_code) == ("backend-not-published", 3)
    assert "cu126" in (plan.error.found or "")
    assert decide(windows(), backend="rocm7.2").error is not None


def test_a_plain_wheel_below_the_glibc_of_its_release_is_doubted() -> None:
    plan = decide(linux(glibc="2.27", arch="aarch64"), "torch==2.10.0", python="3.10")
    assert "linux_aarch64" in (plan.packages[0].wheel or "")
    assert "glibc-assumed" in {item.slug for item in plan.warnings}
    fine = decide(linux(glibc="2.17"), "torch==2.6.0", python="3.10")
    assert "glibc-assumed" not in {item.slug for item in fine.warnings}
