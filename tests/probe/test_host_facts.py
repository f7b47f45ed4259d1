"""Kernel, processor features and runtimes: what known limits look at."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.machines.golden import MACHINES
from tests.support.machine_folder import MachineFolder
from torchinstall.cli.text import machine_text
from torchinstall.core.machine import Machine, decode_machine, machine_to_json
from torchinstall.probe.detect import probe_machine
from torchinstall.probe.host import distribution
from torchinstall.probe.recording import RECORD, folder_system, record_machine

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
flags\t\t: fpu vme sse4_2 popcnt avx2
bugs\t\t: spectre_v1

processor\t: 1
flags\t\t: fpu vme
"""
PI_4 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41

Serial\t\t: 10000000abcdef01
Model\t\t: Raspberry Pi 4 Model B
"""


def linux(
    tmp_path: Path, cpuinfo: str, kernel: str = "6.18.4-arch1-1", machine: str = "x86_64"
) -> MachineFolder:
    folder = MachineFolder(tmp_path, "built from values", platform="linux", machine=machine)
    return folder.file("/proc/cpuinfo", cpuinfo).file("/proc/sys/kernel/osrelease", kernel + "\n")


def detect(folder: MachineFolder) -> Machine:
    return probe_machine(folder_system(folder.write()))


def test_kernel_and_features_of_the_first_processor(tmp_path: Path) -> None:
    machine = detect(linux(tmp_path, X86))
    assert machine.kernel_version == "6.18.4-arch1-1"
    assert machine.cpu_features == ("fpu", "vme", "sse4_2", "popcnt", "avx2")
    again = decode_machine(json.dumps(machine_to_json(machine)), "file")
    assert (again.kernel_version, again.cpu_features) == (machine.kernel_version, machine.cpu_features)


def test_an_arm_processor_and_no_serial_number_in_the_recording(tmp_path: Path) -> None:
    folder = linux(tmp_path / "pi", PI_4, machine="aarch64")
    record_machine(folder_system(folder.write()), tmp_path / "copy")
    assert "atomics" not in detect(folder).cpu_features
    assert detect(folder).cpu_features == probe_machine(folder_system(tmp_path / "copy")).cpu_features
    assert "abcdef01" not in (tmp_path / "copy" / "proc" / "cpuinfo").read_text(encoding="utf-8")


def test_a_mac_names_what_sysctl_prints(tmp_path: Path) -> None:
    folder = MachineFolder(tmp_path, "built from values", platform="darwin", machine="arm64")
    printed = "hw.optional.arm.FEAT_LSE: 1\nhw.optional.arm.FEAT_SME: 0\nhw.optional.arm64: 1\n"
    folder.note("commands", {"sysctl": {"stdout": printed}})
    assert detect(folder).cpu_features == ("FEAT_LSE", "arm64")


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    machine = detect(MachineFolder(tmp_path, "built from values", platform="linux", machine="x86_64"))
    assert not {"kernel_version", "cpu_features"} & machine_to_json(machine).keys()


@pytest.mark.parametrize(("minor", "said"), [(38, True), (39, True), (40, False), (44, False), (None, False)])
def test_an_old_visual_cpp_runtime_is_said(tmp_path: Path, minor: int | None, *, said: bool) -> None:
    source = next(folder for folder in MACHINES if folder.name == "windows-11-rtx3060")
    shutil.copytree(source, tmp_path / "copy")
    record = tmp_path / "copy" / RECORD
    data = json.loads(record.read_text(encoding="utf-8"))
    if minor is not None:
        data["registry"][r"SOFTWARE\Microsoft\VisualStudio\14.0\VC\Runtimes\X64\Minor"] = minor
    record.write_text(json.dumps(data), encoding="utf-8")
    found = [
        row
        for row in probe_machine(folder_system(tmp_path / "copy")).findings
        if row.slug == "vc-runtime-old"
    ]
    assert bool(found) is said
    assert all(f"14.{minor}" in row.detail and "2.9" in row.detail for row in found)


def test_a_host_bridge_of_gb10_is_no_gpu(tmp_path: Path) -> None:
    folder = linux(tmp_path, PI_4, machine="aarch64")
    for address, device, kind in (("0000:00:00.0", "22ce", "60400"), ("000f:01:00.0", "2e12", "30000")):
        folder.file(
            f"/sys/bus/pci/devices/{address}/uevent",
            f"DRIVER=x\nPCI_CLASS={kind}\nPCI_ID=10DE:{device.upper()}\n",
        )
    said = " ".join(row.detail for row in detect(folder).findings if row.probe == "nvidia")
    assert "10de:2e12" in said
    assert "10de:22ce" not in said


@pytest.mark.parametrize(
    ("release", "text"),
    [
        ('NAME="Debian GNU/Linux"\nID=debian\nVERSION_ID="12"\n', "Debian GNU/Linux 12, x86_64"),
        ("ID=arch\nBUILD_ID=rolling\n", "arch rolling, x86_64"),
        ("", "Linux, x86_64"),
    ],
)
def test_a_distribution_is_called_by_its_name(tmp_path: Path, release: str, text: str) -> None:
    system = folder_system(linux(tmp_path, X86).file("/etc/os-release", release).write())
    assert text in machine_text(probe_machine(system), distribution(system))
