"""The parts of the probe that decode what kernels, tools and Windows print."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.machine_folder import GIB, MachineFolder, nvml_gpu, nvml_rows
from tests.support.systems import POSIX
from torchinstall.core.errors import UsageError
from torchinstall.core.machine import Machine, cuda_text, machine_arch
from torchinstall.core.versions import driver_of_windows
from torchinstall.probe.amd import decode_gfx
from torchinstall.probe.bus import displays
from torchinstall.probe.detect import probe_machine
from torchinstall.probe.host import container_engine, wsl_version
from torchinstall.probe.nvidia_sources import (
    Smi,
    kernel_driver,
    query_smi,
    smi_library_version,
    tegra,
)
from torchinstall.probe.recording import folder_system, stored_path


def linux(root: Path, **record: object) -> MachineFolder:
    return MachineFolder(root, "built from a test", platform="linux", machine="x86_64", **record)


def detect(folder: MachineFolder) -> Machine:
    return probe_machine(folder_system(folder.write()))


def slugs(machine: Machine) -> set[str]:
    return {finding.slug for finding in machine.findings if finding.slug}


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (90010, "gfx90a"),
        (90012, "gfx90c"),
        (90402, "gfx942"),
        (90500, "gfx950"),
        (100300, "gfx1030"),
        (110000, "gfx1100"),
        (110501, "gfx1151"),
        (120001, "gfx1201"),
        (120500, "gfx1250"),
        (0, None),
        (99999999999, None),
        (91600, None),
    ],
)
def test_gfx_targets(number: int, name: str | None) -> None:
    assert decode_gfx(number) == name


@given(st.integers(min_value=-(10**12), max_value=10**12))
def test_a_gfx_target_is_a_name_or_nothing(number: int) -> None:
    name = decode_gfx(number)
    assert name is None or name.startswith("gfx")


@pytest.mark.parametrize(
    ("number", "text"),
    [(13000, "13.0"), (12080, "12.8"), (9020, "9.2"), (999, None), (100000, None), (None, None)],
)
def test_cuda_numbers(number: int | None, text: str | None) -> None:
    assert cuda_text(number) == text


@pytest.mark.parametrize(
    ("windows", "own"),
    [
        ("32.0.15.6636", "566.36"),
        ("31.0.15.3179", "531.79"),
        ("27.21.14.5671", "456.71"),
        ("32.0.101.6987", "169.87"),
        ("10.0.26100.1", None),
        ("", None),
        (None, None),
    ],
)
def test_nvidias_number_in_windows_one(windows: str | None, own: str | None) -> None:
    assert driver_of_windows(windows or "") == own


@pytest.mark.parametrize(
    ("name", "arch"),
    [
        ("AMD64", "x86_64"),
        ("x86_64", "x86_64"),
        ("arm64", "aarch64"),
        ("ARM64", "aarch64"),
        ("riscv64", "riscv64"),
    ],
)
def test_architectures(name: str, arch: str) -> None:
    assert machine_arch(name) == arch


def test_an_architecture_without_builds_is_said(tmp_path: Path) -> None:
    folder = MachineFolder(tmp_path, "built from a test", platform="linux", machine="riscv64")
    assert "unsupported-arch" in slugs(detect(folder))
    folder = MachineFolder(tmp_path, "built from a test", platform="freebsd14", machine="x86_64")
    assert "unsupported-os" in slugs(detect(folder))


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n",
            "580.95.05",
        ),
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\n",
            "550.54.14",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build\n", "540.4.0"),
        ("NVRM version: something else\nGCC version: gcc version 12.3.0\n", None),
    ],
)
def test_the_kernel_modules_version(tmp_path: Path, text: str, version: str | None) -> None:
    folder = linux(tmp_path).file("/proc/driver/nvidia/version", text)
    assert kernel_driver(folder_system(folder.write())).version == version


@pytest.mark.parametrize(
    ("release", "number"),
    [
        ("6.6.87.2-microsoft-standard-WSL2", 2),
        ("5.15.153.1-Microsoft-custom-WSL2", 2),
        ("4.4.0-22621-Microsoft", 1),
        ("6.8.0-45-generic", None),
    ],
)
def test_wsl(tmp_path: Path, release: str, number: int | None) -> None:
    folder = linux(tmp_path).file("/proc/sys/kernel/osrelease", release + "\n")
    assert wsl_version(folder_system(folder.write())) == number


@pytest.mark.parametrize(
    ("path", "text", "name"),
    [
        ("/.dockerenv", "", "docker"),
        ("/run/.containerenv", "", "podman"),
        ("/run/systemd/container", "lxc\n", "lxc"),
        ("/run/systemd/container", "wsl\n", None),
        ("/proc/1/cgroup", "11:memory:/kubepods/burstable/pod1/abc\n", "kubernetes"),
        ("/proc/1/cgroup", "0::/system.slice/docker-abc.scope\n", "docker"),
        ("/proc/1/cgroup", "0::/machine.slice/libpod-abc.scope\n", "podman"),
        ("/proc/1/cgroup", "0::/init.scope\n", None),
    ],
)
def test_container_engines(tmp_path: Path, path: str, text: str, name: str | None) -> None:
    assert container_engine(folder_system(linux(tmp_path).file(path, text).write())) == name


@pytest.mark.parametrize(
    ("line", "release"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64", "36.4.3"),
        ("# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64", "32.7.1"),
        ("# R39 (release), REVISION: 0, GCID: 1", "39.0"),
        ("something else", None),
    ],
)
def test_jetson_releases(tmp_path: Path, line: str, release: str | None) -> None:
    board = tegra(folder_system(linux(tmp_path).file("/etc/nv_tegra_release", line + "\n").write()))
    assert (board.l4t if board else None) == release


def smi(tmp_path: Path, stdout: str) -> Smi:
    folder = linux(tmp_path).note("commands", {"nvidia-smi": {"returncode": 0, "stdout": stdout}})
    return query_smi(folder_system(folder.write()), 1)


def test_smi_lines(tmp_path: Path) -> None:
    first = "0, NVIDIA A10, 580.95.05, 23028 MiB, GPU-1, 0x223610DE, 8.6"
    second = "1, NVIDIA GB10, 580.95.05, [N/A], [Unknown Error], [N/A], 12.1"
    said = smi(tmp_path, f"{first}\r\n{second}\r\n\r\n")
    assert said.driver == "580.95.05"
    one, two = said.gpus
    assert (one.memory_bytes, one.pci_id, one.integrated) == (23028 << 20, "10de:2236", False)
    assert (two.memory_bytes, two.pci_id, two.uuid, two.compute_capability) == (None, None, None, (12, 1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No devices were found\n",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. a, b, c, d, e, f\n",
        "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.95\n",
    ],
)
def test_smi_errors_on_stdout_are_no_gpus(tmp_path: Path, text: str) -> None:
    said = smi(tmp_path, text)
    assert said.gpus == ()
    assert said.problem


def test_the_library_version_after_a_mismatch(tmp_path: Path) -> None:
    text = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.95\n"
    folder = linux(tmp_path).note("commands", {"nvidia-smi -L": {"returncode": 18, "stdout": text}})
    assert smi_library_version(folder_system(folder.write()), 1) == "580.95"


def test_stored_paths_work_on_every_file_system() -> None:
    assert (
        stored_path("/sys/bus/pci/devices/0000:01:00.0/uevent")
        == "sys/bus/pci/devices/0000%3A01%3A00.0/uevent"
    )
    assert stored_path("C:\\Windows\\System32\\nvml.dll") == "C/Windows/System32/nvml.dll"
    assert stored_path("/../../etc/passwd") == "etc/passwd"


@pytest.mark.only_on(POSIX, "names with colons, and links")
def test_a_folder_may_also_hold_plain_colons_and_real_links(tmp_path: Path) -> None:
    device = tmp_path / "sys/bus/pci/devices/0000:03:00.0"
    device.mkdir(parents=True)
    for name, text in (("vendor", "0x1002\n"), ("device", "0x744c\n"), ("class", "0x030000\n")):
        (device / name).write_text(text)
    (device / "driver").symlink_to("../../../../bus/pci/drivers/amdgpu")
    (found,) = displays(folder_system(tmp_path), "amd")
    assert (found.pci_id, found.driver, found.address) == ("1002:744c", "amdgpu", "0000:03:00.0")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        folder_system(tmp_path / "none")
    assert caught.value.slug == "no-machine-folder"


def test_cpu_nodes_of_kfd_are_no_gpus(tmp_path: Path) -> None:
    folder = linux(tmp_path).kfd(0, cpu_cores_count=64, simd_count=0, gfx_target_version=0)
    machine = detect(folder)
    assert machine.gpus == ()
    assert not [row for row in machine.findings if row.probe == "amd" and row.status != "absent"]


def test_an_unserved_integrated_gpu_without_nodes_stops_nobody(tmp_path: Path) -> None:
    """A container on a desktop processor with a small GPU is a machine without one, not a fault."""
    folder = linux(tmp_path).files("/.dockerenv").kfd(1, simd_count=4, gfx_target_version=100306)
    machine = detect(folder)
    assert [gpu.gfx_target for gpu in machine.gpus] == ["gfx1036"]
    assert "no-device-node" not in slugs(machine)


def test_permission_names_the_groups_of_the_nodes(tmp_path: Path) -> None:
    folder = linux(tmp_path).files("/dev/kfd", "/dev/dri/renderD128")
    folder.kfd(1, simd_count=96, gfx_target_version=110000)
    folder.note("access", {"/dev/kfd": False, "/dev/dri/renderD128": False})
    folder.note("groups", {"/dev/kfd": "render", "/dev/dri/renderD128": "video"})
    (finding,) = [row for row in detect(folder).findings if row.slug == "kfd-permission"]
    assert finding.hint == "sudo usermod -aG render,video $USER, then log in again"
    folder.note("groups", {"/dev/kfd": "$(reboot)", "/dev/dri/renderD128": "root"})
    (finding,) = [row for row in detect(folder).findings if row.slug == "kfd-permission"]
    assert finding.hint == "sudo usermod -aG render,video $USER, then log in again"


def test_a_render_node_alone_may_be_barred(tmp_path: Path) -> None:
    folder = linux(tmp_path).files("/dev/kfd", "/dev/dri/renderD128")
    folder.kfd(1, simd_count=96, gfx_target_version=110000).note("access", {"/dev/dri/renderD128": False})
    assert "render-permission" in slugs(detect(folder))


def test_other_nvml_faults_have_names(tmp_path: Path) -> None:
    rows = nvml_rows("580.95.05", 13000, [nvml_gpu(0, "NVIDIA L4", (8, 9), "10de:27b8")])
    for index, code in ((1, 8), (2, 999)):
        rows.insert(5, {"what": "gpu", "index": index, "code": code, "text": "said"})
    folder = linux(tmp_path).nvidia_module("580.95.05").nvidia_nodes(3).nvml(rows)
    assert {"gpu-without-power", "gpu-unreadable"} <= slugs(detect(folder))


def test_a_library_that_refuses_for_no_known_reason(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"what": "library", "path": "/x/libnvidia-ml.so.1"},
        {"what": "init", "code": 999, "text": "Unknown"},
    ]
    folder = linux(tmp_path).nvidia_module("580.95.05").nvidia_nodes().nvml(rows)
    machine = detect(folder)
    assert "nvml-refused" in slugs(machine)
    assert machine.drivers[0].version == "580.95.05"


def test_a_crash_in_libcuda_costs_nothing_but_itself(tmp_path: Path) -> None:
    rows = nvml_rows("580.95.05", 13000, [nvml_gpu(0, "NVIDIA L4", (8, 9), "10de:27b8")])[:-2]
    folder = (
        linux(tmp_path).nvidia_module("580.95.05").nvidia_nodes().nvml(rows, "crash: SIGSEGV (no message)")
    )
    machine = detect(folder)
    assert len(machine.gpus) == 1
    assert "libcuda-unusable" in slugs(machine)


def test_a_gpu_that_the_driver_leaves_out_without_a_known_reason(tmp_path: Path) -> None:
    rows = nvml_rows("580.95.05", 13000, [nvml_gpu(0, "NVIDIA L4", (8, 9), "10de:27b8")])
    folder = linux(tmp_path).nvidia_module("580.95.05").nvidia_nodes().nvml(rows)
    folder.pci("0000:01:00.0", "10de:27b8", driver="nvidia").pci("0000:09:00.0", "10de:27b8")
    machine = detect(folder)
    assert len(machine.gpus) == 1
    assert "gpu-unlisted" in slugs(machine)


def test_a_loaded_driver_without_any_gpu(tmp_path: Path) -> None:
    folder = linux(tmp_path).nvidia_module("580.95.05").nvidia_nodes()
    machine = detect(folder)
    assert machine.gpus == ()
    assert "driver-without-gpu" in slugs(machine)


def test_rocm_in_wsl_that_sees_nothing(tmp_path: Path) -> None:
    folder = linux(tmp_path).files("/dev/dxg").file("/opt/rocm/.info/version", "7.2.1-43\n")
    machine = detect(folder)
    assert "rocm-without-gpu" in slugs(machine)
    assert machine.drivers[0].rocm_version == "7.2.1"


def test_the_newest_rocm_folder_counts(tmp_path: Path) -> None:
    folder = linux(tmp_path).files("/dev/kfd", "/dev/dri/renderD128", "/sys/module/amdgpu/initstate")
    folder.kfd(1, simd_count=96, gfx_target_version=110000)
    for version in ("6.4.1", "7.10.0", "7.2.0"):
        folder.file(f"/opt/rocm-{version}/.info/version", f"{version}-1\n")
    assert detect(folder).drivers[0].rocm_version == "7.10.0"


@pytest.mark.parametrize("variable", ["SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"])
def test_jobs_without_a_gpu(tmp_path: Path, variable: str) -> None:
    assert "job-without-gpu" in slugs(detect(linux(tmp_path, env={variable: "1"})))


def test_a_login_node_only_where_there_is_no_gpu(tmp_path: Path) -> None:
    folder = linux(tmp_path).files("/etc/slurm/slurm.conf")
    assert "hpc-login-node" in slugs(detect(folder))
    folder.files("/dev/kfd", "/dev/dri/renderD128").kfd(1, simd_count=96, gfx_target_version=110000)
    assert "hpc-login-node" not in slugs(detect(folder))


def test_memory_comes_from_the_folder(tmp_path: Path) -> None:
    folder = linux(tmp_path).file("/proc/meminfo", "MemTotal:       65849908 kB\nMemFree: 1 kB\n")
    assert detect(folder).memory_bytes == 65849908 * 1024
    folder.file("/proc/self/cgroup", "0::/job/1\n").file("/sys/fs/cgroup/job/1/memory.max", f"{GIB}\n")
    assert "memory-limit" in slugs(detect(folder))


def test_variables_with_secrets_are_named_and_not_shown(tmp_path: Path) -> None:
    env = {"https_proxy": "http://me:hush@proxy:3128", "NO_PROXY": "intranet"}
    machine = detect(linux(tmp_path, env=env))
    (finding,) = [row for row in machine.findings if "network" in row.detail]
    assert "HTTPS_PROXY, NO_PROXY" in finding.detail
    assert "hush" not in str(machine)


def test_an_old_kernel_names_no_gfx_target(tmp_path: Path) -> None:
    """Before Linux 5.16 a KFD node has no `gfx_target_version`: the device id tells which GPU it is."""
    folder = linux(tmp_path).files("/dev/kfd", "/dev/dri/renderD128")
    folder.kfd(1, simd_count=256, vendor_id=0x1002, device_id=0x6860, drm_render_minor=128)
    machine = detect(folder)
    assert [(gpu.gfx_target, gpu.pci_id) for gpu in machine.gpus] == [("gfx900", "1002:6860")]
    assert not [finding for finding in machine.findings if finding.slug == "gpu-not-in-kfd"]


def statuses(machine: Machine, probe: str) -> list[tuple[str | None, str]]:
    return [(row.slug, row.status) for row in machine.findings if row.probe == probe and row.slug]


@pytest.mark.parametrize("driver", [None, "nouveau"])
def test_a_gpu_older_than_every_build_is_not_missed(tmp_path: Path, driver: str | None) -> None:
    machine = detect(linux(tmp_path).pci("0000:01:00.0", "10de:128b", driver=driver))
    assert statuses(machine, "nvidia") == [("gpu-too-old", "absent")]
    assert [gpu.pci_id for gpu in machine.gpus] == ["10de:128b"]


def test_a_driver_that_came_without_support_for_the_gpu_is_not_waited_for(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"what": "library", "path": "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.595.45.04"},
        {"what": "init", "code": 18, "text": "Driver/library version mismatch"},
    ]
    folder = linux(tmp_path).nvidia_module("580.95.05").nvidia_nodes().nvml(rows)
    assert slugs(detect(folder.pci("0000:01:00.0", "10de:2684", driver="nvidia"))) == {
        "driver-library-mismatch"
    }
    folder.root.joinpath("sys/bus/pci/devices/0000%3A01%3A00.0/uevent").unlink()
    pascal = detect(folder.pci("0000:01:00.0", "10de:1b80", driver="nvidia"))
    assert slugs(pascal) == {"gpu-unsupported-by-driver"}


@pytest.mark.parametrize("pci_id", ["8086:3e92", "8086:1916", "8086:9bc8", "8086:8a52", "8086:7d45"])
def test_an_integrated_gpu_that_torch_does_not_support_needs_no_level_zero(
    tmp_path: Path, pci_id: str
) -> None:
    machine = detect(linux(tmp_path).pci("0000:00:02.0", pci_id, driver="i915"))
    assert statuses(machine, "intel") == [("gpu-not-supported-by-xpu", "absent")]


@pytest.mark.parametrize(("device", "missed"), [("128B", False), ("1B80", True)])
def test_an_adapter_without_its_driver_is_missed_where_a_build_could_use_it(
    tmp_path: Path, device: str, *, missed: bool
) -> None:
    adapter = {"device_id": rf"PCI\VEN_10DE&DEV_{device}", "name": "Microsoft Basic Display Adapter"}
    folder = MachineFolder(
        tmp_path, "built from a test", platform="win32", machine="AMD64", adapters=[adapter]
    )
    assert ("driver-missing" in slugs(detect(folder))) is missed


@pytest.mark.parametrize(("chip", "code"), [("tegra210", (5, 3)), ("tegra234", (8, 7)), ("tegra999", None)])
def test_the_chip_of_a_board_without_jetson_linux_tells_its_capability(
    tmp_path: Path, chip: str, code: tuple[int, int] | None
) -> None:
    folder = MachineFolder(tmp_path, "built from a test", platform="linux", machine="aarch64")
    folder.file("/proc/device-tree/compatible", f"maker,board\0nvidia,{chip}\0")
    (gpu,) = detect(folder.file("/proc/device-tree/model", "A Board\0")).gpus
    assert (gpu.name, gpu.compute_capability) == ("A Board", code)
