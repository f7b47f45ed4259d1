"""What a wheel contains: tiny wheels with hand-made libraries, and the real ones that pip finds."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.support import run
from tests.support.binaries import amd_bundle, compressed_bundle, elf, fatbin, mach_o, pe
from tests.support.faults import Answer
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel, write_wheels
from torchinstall.index.archives import RangeFile
from torchinstall.index.binaries import read_binary
from torchinstall.index.inspect import WheelReport, inspect_wheel

TAG = "cp312-cp312-manylinux_2_28_x86_64"
LISTED = "sm_75 sm_80 sm_90 compute_90"
CONFIG = "torch/include/ATen/cuda/CUDAConfig.h"


def report_of(folder: Path, item: TinyWheel) -> WheelReport:
    """A tiny wheel as `inspect` reports it."""
    (path,) = write_wheels(folder, [item])
    return inspect_wheel(path, path.name)


def cuda_wheel(more: dict[str, str | bytes] | None = None) -> TinyWheel:
    """A torch with a compiled-in list and two libraries, one of which lacks the oldest target."""
    listed = b"\0" + LISTED.encode() + b"\0"
    return torch_wheel(
        "2.9.1+cu128",
        TAG,
        requires=("nvidia-cudnn-cu12==9.10.2.21", "triton==3.5.1", "filelock"),
        files={
            CONFIG: "-gencode;arch=compute_75,code=sm_75;-gencode;arch=compute_90,code=compute_90",
            "torch/lib/libtorch_python.so": elf(listed, needed=("libc.so.6",), glibc=("2.17", "2.2.5")),
            "torch/lib/libtorch_cuda.so": elf(
                fatbin((75, 80)) + b"padding" + fatbin((90,), (90,)),
                needed=("libcudart.so.12", "libtorch_python.so"),
                glibc=("2.28", "2.34"),
            ),
            "torch/lib/libtorch_cuda_linalg.so": elf(fatbin((80, 90), (90,)), needed=("libcusolver.so.11",)),
            **(more or {}),
        },
    )


def test_a_cuda_wheel_tells_its_targets_libraries_and_pins(tmp_path: Path) -> None:
    report = report_of(tmp_path, cuda_wheel())

    assert report.toolkit == "cuda 12.8"
    assert report.targets == tuple(LISTED.split())
    assert report.targets_from == "torch/lib/libtorch_python.so"
    assert report.pins == ("nvidia-cudnn-cu12==9.10.2.21", "triton==3.5.1")
    assert report.glibc == "2.34"
    # What lies in the wheel itself need not be found elsewhere.
    assert report.needed == ("libc.so.6", "libcudart.so.12", "libcusolver.so.11")
    cuda, linalg = report.libraries
    assert (cuda.sm, cuda.ptx, cuda.lacks) == (("sm_75", "sm_80", "sm_90"), ("compute_90",), ())
    assert linalg.lacks == ("sm_75",)


def test_without_a_compiled_in_list_the_header_tells(tmp_path: Path) -> None:
    item = torch_wheel("2.9.1+cu128", TAG, files={CONFIG: "code=sm_90 ... arch=compute_120,code=sm_120a"})
    report = report_of(tmp_path, item)
    assert (report.targets, report.targets_from) == (("sm_90", "sm_120a"), CONFIG)


def test_a_rocm_wheel_tells_the_kernels_of_amds_libraries(tmp_path: Path) -> None:
    kernels = {
        f"torch/lib/rocblas/library/TensileLibrary_{name}.dat": "x"
        for name in ("gfx90a", "gfx942", "gfx1100")
    }
    item = torch_wheel(
        "2.9.1+rocm6.4",
        TAG,
        files={
            **kernels,
            "torch/lib/hipblaslt/library/TensileLibrary_lazy_gfx942.dat": "x",
            "torch/lib/libtorch_hip.so": elf(
                amd_bundle("gfx90a", "gfx942:xnack-")
                + b"\0gfx900 gfx90a gfx942 gfx1100\0"
                + compressed_bundle()
            ),
        },
    )
    report = report_of(tmp_path, item)
    assert report.targets == ("gfx900", "gfx90a", "gfx942", "gfx1100")
    assert report.kernels == {"hipBLASLt": ("gfx942",), "rocBLAS": ("gfx1100", "gfx90a", "gfx942")}
    assert report.libraries[0].gfx == ("gfx90a", "gfx942")
    assert any("compressed" in note for note in report.notes)


def test_windows_and_macos_libraries_tell_what_they_load(tmp_path: Path) -> None:
    files = {
        "torch/lib/torch_cuda.dll": pe(fatbin((86,)), needed=("cudart64_12.dll", "KERNEL32.dll")),
        "torch/lib/libtorch_cpu.dylib": mach_o(needed=("/usr/lib/libSystem.B.dylib",), macos="14.0"),
    }
    report = report_of(tmp_path, torch_wheel("2.9.1", "cp312-cp312-macosx_11_0_arm64", files=files))
    assert report.needed == ("/usr/lib/libSystem.B.dylib", "KERNEL32.dll", "cudart64_12.dll")
    assert report.macos == "14.0"
    assert report.libraries[0].sm == ("sm_86",)


def test_libraries_that_were_cut_or_damaged_never_break_the_reader() -> None:
    generator = random.Random(7)  # noqa: S311  seeded, so that a run can be repeated
    whole = [
        elf(fatbin((80,), (90,)) + amd_bundle("gfx90a"), needed=("libc.so.6",), glibc=("2.28",)),
        pe(fatbin((80,)), needed=("a.dll", "b.dll")),
        mach_o(needed=("/usr/lib/libSystem.B.dylib",)),
    ]
    for data in whole:
        for _ in range(300):
            changed = bytearray(data[: generator.randrange(len(data) + 1)])
            for _ in range(generator.randrange(4)):
                if changed:
                    changed[generator.randrange(len(changed))] = generator.randrange(256)
            read_binary(bytes(changed))


def test_what_is_no_wheel_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "torch-1.0-py3-none-any.whl").write_bytes(b"<html>not found</html>")
    result = run(tmp_path, "inspect", "torch-1.0-py3-none-any.whl")
    assert (result.code, "error[bad-wheel]" in result.err) == (2, True)
    result = run(tmp_path, "inspect", "gone.whl")
    assert (result.code, "error[wheel-not-found]" in result.err) == (2, True)


def padded() -> TinyWheel:
    """A wheel of some megabytes, most of them in one library that nobody has to read."""
    noise = random.Random(1).randbytes(6_000_000)  # noqa: S311  seeded, so that a run can be repeated
    return cuda_wheel(
        {"torch/lib/libtorch_cpu.so": elf(noise), "torch/lib/libtorch_huge.so": elf(noise + b"2")}
    )


def test_a_remote_wheel_is_read_in_ranges_and_never_whole(tmp_path: Path) -> None:
    item = padded()
    with IndexServer(IndexTree({"cu128": [item]})) as server:
        url = f"{server.index_base}/cu128/{item.filename.replace('+', '%2B')}"
        result = run(tmp_path, "inspect", "--json", url)
        assert result.code == 0, result.err
        data = result.json
        text = run(tmp_path, "inspect", url).out
    assert data["filename"] == item.filename
    assert data["transferred"] < 0.02 * data["size"]
    assert data["targets"] == LISTED.split()
    assert [row["lacks"] for row in data["libraries"]] == [[], ["sm_75"]]
    assert any("libtorch_huge.so" in note for note in data["notes"])
    assert "over the network" in text
    (path,) = set(server.paths())
    assert all(headers["Range"] for headers in server.sent_headers(path))


def test_a_server_without_ranges_is_one_clear_error(tmp_path: Path) -> None:
    item = cuda_wheel()
    with IndexServer(IndexTree({"cu128": [item]})) as server:
        server.fault("*", lambda right: Answer(body=right.body))
        result = run(tmp_path, "inspect", f"{server.index_base}/cu128/{item.filename}")
    assert result.code == 8
    assert "error[no-ranges]" in result.err
    assert "torchinstall inspect FILE" in result.err


def test_a_wheel_that_is_not_there_says_so(tmp_path: Path) -> None:
    with IndexServer(IndexTree({"cu128": [cuda_wheel()]})) as server:
        result = run(tmp_path, "inspect", f"{server.index_base}/cu128/gone.whl")
    assert result.code == 8
    assert "answered 403" in result.err


def test_plain_http_is_refused_without_asking(tmp_path: Path) -> None:
    result = run(tmp_path, "inspect", "http://mirror.example/torch.whl")
    assert (result.code, "error[insecure-index]" in result.err) == (2, True)


def test_any_package_can_be_read(tmp_path: Path) -> None:
    report = report_of(tmp_path, wheel("einops", "0.8.1"))
    assert (report.name, report.toolkit, report.targets, report.libraries) == ("einops", None, (), ())


real = [
    pytest.mark.wheel,
    pytest.mark.may_skip(reason="the wheels are too large to be fetched by a test"),
    pytest.mark.skipif("PIP_FIND_LINKS" not in os.environ, reason="PIP_FIND_LINKS is not set"),
]
WHEELS = {
    "2.13.0+cpu": (None, ()),
    "2.14.1": ("cuda 13.0", ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")),
}
"""What `torch.version` and `torch.cuda.get_arch_list()` of these builds say."""


@pytest.mark.parametrize("version", [pytest.param(name, marks=real) for name in WHEELS])
def test_a_real_wheel_says_the_same_near_and_far(version: str, tmp_path: Path) -> None:
    pip = shutil.which("pip")
    asked = [
        "download",
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        "--python-version=3.11",
        "-d",
        str(tmp_path),
    ]
    if pip is None or subprocess.run([pip, *asked, f"torch=={version}"], check=False).returncode:
        pytest.skip(f"pip finds no torch {version} for Python 3.11 here")
    (path,) = tmp_path.glob("torch-*.whl")
    toolkit, targets = WHEELS[version]
    with path.open("rb") as file:

        def fetch(start: int, length: int) -> bytes:
            file.seek(start)
            return file.read(length)

        far = inspect_wheel(RangeFile(path.stat().st_size, fetch), path.name)
    assert (far.toolkit, far.targets, far.glibc) == (toolkit, targets, "2.28")
    assert far.transferred is not None
    assert far.transferred < 0.02 * far.size

    near = inspect_wheel(path, path.name)
    assert (near.toolkit, near.targets, near.glibc, near.pins) == (toolkit, targets, "2.28", far.pins)
    if targets:
        (linalg,) = [row for row in near.libraries if row.name.endswith("/libtorch_cuda_linalg.so")]
        assert linalg.lacks == ("sm_75",)
