"""NVML through the real pynvml in a real child process, against a library compiled from C."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.nvml import GIB, FakeGpu, build_fake_nvml, fake_nvml_env
from torchinstall.core.machine import Finding, Machine
from torchinstall.probe.detect import probe_machine
from torchinstall.probe.real import real_system

RTX = FakeGpu()
PASCAL = FakeGpu(name="NVIDIA GeForce GTX 1070", capability="6.1", memory_bytes=8 * GIB)
BLACKWELL = FakeGpu(name="NVIDIA GeForce RTX 5080", capability="12.0", memory_bytes=16 * GIB)
LOST = FakeGpu(code=15)


def detect(env: dict[str, str]) -> Machine:
    return probe_machine(real_system(env))


def fault(machine: Machine, slug: str) -> Finding:
    found = [finding for finding in machine.findings if finding.slug == slug]
    assert found, [finding.slug for finding in machine.findings]
    return found[0]


def nvidia_faults(machine: Machine) -> list[str | None]:
    return [
        finding.slug
        for finding in machine.findings
        # This machine has no libcuda, which is its own business.
        if finding.probe == "nvidia" and finding.status in ("broken", "denied")
    ]


def test_one_gpu(fake_nvml: Path) -> None:
    machine = detect(fake_nvml_env(fake_nvml, [RTX]))
    driver = machine.driver("nvidia")
    assert driver is not None
    assert (driver.version, driver.cuda_version, driver.source) == ("580.95.05", "13.0", "nvml")
    (gpu,) = machine.gpus
    assert (gpu.name, gpu.compute_capability, gpu.memory_bytes) == (RTX.name, (8, 9), 24 * GIB)
    assert (gpu.index, gpu.pci_id, gpu.integrated, gpu.source) == (0, "10de:2684", False, "nvml")
    assert gpu.uuid == "GPU-00000000-0000-0000-0000-000000000000"
    assert nvidia_faults(machine) == []


def test_no_gpu_behind_a_working_driver(fake_nvml: Path) -> None:
    machine = detect(fake_nvml_env(fake_nvml))
    assert machine.gpus == ()
    assert machine.driver("nvidia") is not None
    assert fault(machine, "driver-without-gpu").status == "absent"


def test_eight_gpus_keep_their_order(fake_nvml: Path) -> None:
    machine = detect(fake_nvml_env(fake_nvml, [FakeGpu(name=f"GPU {number}") for number in range(8)]))
    assert [(gpu.index, gpu.name) for gpu in machine.gpus] == [(n, f"GPU {n}") for n in range(8)]


def test_mixed_capabilities(fake_nvml: Path) -> None:
    machine = detect(fake_nvml_env(fake_nvml, [PASCAL, BLACKWELL]))
    assert [gpu.compute_capability for gpu in machine.gpus] == [(6, 1), (12, 0)]


def test_driver_not_loaded(fake_nvml: Path) -> None:
    machine = detect(fake_nvml_env(fake_nvml, [RTX], init=9))
    assert machine.gpus == ()
    assert machine.driver("nvidia") is None
    assert fault(machine, "driver-not-loaded").status == "broken"


def test_mismatch_reports_the_version_of_the_library(tmp_path: Path) -> None:
    library = build_fake_nvml(tmp_path, name="libnvidia-ml.so.580.95.05")
    link = tmp_path / "libnvidia-ml.so.1"
    link.symlink_to(library.name)
    machine = detect(fake_nvml_env(link, [RTX], init=18))
    found = fault(machine, "driver-library-mismatch")
    assert found.status == "broken"
    assert found.hint is not None
    assert "reboot" in found.hint
    driver = machine.driver("nvidia")
    assert driver is not None
    assert driver.version == "580.95.05"
    assert machine.gpus == ()


@pytest.mark.parametrize("code", [4, 17])
def test_no_permission(fake_nvml: Path, code: int) -> None:
    machine = detect(fake_nvml_env(fake_nvml, [RTX], init=code))
    assert machine.gpus == ()
    assert fault(machine, "gpu-permission-denied").status == "denied"


def test_one_lost_gpu_leaves_the_others(fake_nvml: Path) -> None:
    machine = detect(fake_nvml_env(fake_nvml, [RTX, LOST, PASCAL]))
    assert [gpu.index for gpu in machine.gpus] == [0, 2]
    found = fault(machine, "gpu-lost")
    assert found.status == "broken"
    assert "GPU 1" in found.detail


def test_all_gpus_lost(fake_nvml: Path) -> None:
    machine = detect(fake_nvml_env(fake_nvml, [LOST]))
    assert machine.gpus == ()
    assert nvidia_faults(machine) == ["gpu-lost"]


def test_one_gpu_of_another_user(fake_nvml: Path) -> None:
    machine = detect(fake_nvml_env(fake_nvml, [FakeGpu(code=4), RTX]))
    assert [gpu.index for gpu in machine.gpus] == [1]
    assert fault(machine, "gpu-permission-denied").status == "denied"


def test_old_library_without_newer_symbols(old_nvml: Path) -> None:
    machine = detect(fake_nvml_env(old_nvml, [PASCAL, RTX], driver="384.81", cuda=9000))
    assert [gpu.compute_capability for gpu in machine.gpus] == [(6, 1), (8, 9)]
    driver = machine.driver("nvidia")
    assert driver is not None
    assert (driver.version, driver.cuda_version) == ("384.81", "9.0")


@pytest.mark.parametrize("number", [7, -1, 999999999])
def test_absurd_cuda_number(fake_nvml: Path, number: int) -> None:
    machine = detect(fake_nvml_env(fake_nvml, [RTX], cuda=number))
    driver = machine.driver("nvidia")
    assert driver is not None
    assert driver.cuda_version is None
    assert len(machine.gpus) == 1
    assert fault(machine, "implausible-cuda-version").status == "broken"


def test_slow_but_not_too_slow(fake_nvml: Path) -> None:
    machine = detect(fake_nvml_env(fake_nvml, [RTX], sleep_ms=400))
    assert len(machine.gpus) == 1
    assert nvidia_faults(machine) == []


def test_a_library_that_hangs_for_a_minute(fake_nvml: Path) -> None:
    start = time.monotonic()
    machine = detect(fake_nvml_env(fake_nvml, [RTX], sleep_ms=60_000))
    assert time.monotonic() - start < 3.5
    assert fault(machine, "nvml-timeout").status == "broken"
    assert machine.gpus == ()


def test_a_library_that_crashes(fake_nvml: Path) -> None:
    machine = detect(fake_nvml_env(fake_nvml, [RTX], crash="init"))
    found = fault(machine, "nvml-crash")
    assert found.status == "broken"
    assert "SIGSEGV" in found.detail


def test_what_was_said_before_a_crash_counts(fake_nvml: Path) -> None:
    machine = detect(fake_nvml_env(fake_nvml, [RTX, PASCAL], crash=1))
    assert [gpu.name for gpu in machine.gpus] == [RTX.name]
    assert fault(machine, "nvml-crash").status == "broken"


def test_unified_memory_is_not_a_fault(fake_nvml: Path) -> None:
    spark = FakeGpu(name="NVIDIA GB10", capability="12.1", memory_bytes=0)
    machine = detect(fake_nvml_env(fake_nvml, [spark]))
    (gpu,) = machine.gpus
    assert (gpu.memory_bytes, gpu.integrated, gpu.compute_capability) == (None, True, (12, 1))


def test_libcuda_missing(fake_nvml: Path) -> None:
    machine = detect(fake_nvml_env(fake_nvml, [RTX], cuda_code=12))
    driver = machine.driver("nvidia")
    assert driver is not None
    assert driver.cuda_version is None
    assert len(machine.gpus) == 1
    assert fault(machine, "libcuda-missing").status == "broken"


def test_capability_not_supported(fake_nvml: Path) -> None:
    machine = detect(fake_nvml_env(fake_nvml, [FakeGpu(capability="0.0")]))
    assert machine.gpus[0].compute_capability is None
    assert machine.gpus[0].pci_id == "10de:2684"


def test_mig(fake_nvml: Path) -> None:
    machine = detect(fake_nvml_env(fake_nvml, [RTX, RTX], mig=1))
    assert "GPU 1" in fault(machine, "mig").detail
    assert len(machine.gpus) == 2


def test_visible_devices_are_not_obeyed(fake_nvml: Path) -> None:
    env = fake_nvml_env(fake_nvml, [RTX, PASCAL]) | {"CUDA_VISIBLE_DEVICES": ""}
    assert len(detect(env).gpus) == 2


def test_a_named_library_that_is_not_there(tmp_path: Path) -> None:
    machine = detect(fake_nvml_env(tmp_path / "libnvidia-ml.so.1"))
    assert fault(machine, "nvml-not-loadable").status == "broken"


def test_one_child_initialises_once(fake_nvml: Path, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    detect(fake_nvml_env(fake_nvml, [RTX], calls=str(calls)))
    assert calls.read_text() == "nvmlInitWithFlags\n"
