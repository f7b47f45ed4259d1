"""Build and drive the fake NVML (`fake_nvml.c`): a real shared library that the real pynvml loads."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeGpu:
    """A GPU of the fake; `code` other than 0 refuses its handle (15: lost), no memory is NOT_SUPPORTED."""

    name: str = "NVIDIA GeForce RTX 4090"
    capability: str = "8.9"
    memory_bytes: int = 24 * GIB
    code: int = 0


def build_fake_nvml(folder: Path, *, old: bool = False, name: str = "libnvidia-ml.so.1") -> Path:
    """Compile the library into `folder`; without a C compiler the test is skipped, or fails in CI.

    Args:
        folder: where the file is written.
        old: without the symbols that old drivers lack.
        name: of the file; the soname stays `libnvidia-ml.so.1`.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        if os.environ.get("CI"):
            pytest.fail("no C compiler, and CI must test against the fake NVML")
        pytest.skip("no C compiler for the fake NVML")
    source = Path(__file__).with_name("fake_nvml.c")
    target = folder / name
    command = [compiler, "-D_GNU_SOURCE", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1"]
    command += ["-DOLD_SYMBOLS"] if old else []
    subprocess.run([*command, "-o", str(target), str(source)], check=True, capture_output=True, timeout=120)
    return target


def fake_nvml_env(
    library: Path,
    gpus: Iterable[FakeGpu] = (),
    *,
    driver: str = "580.95.05",
    cuda: int = 13000,
    **settings: str | int,
) -> dict[str, str]:
    """Variables that make a probe use the fake; `settings` are those of `fake_nvml.c` in lower case."""
    rows = [f"{gpu.name};{gpu.capability};{gpu.memory_bytes};{gpu.code}" for gpu in gpus]
    return {
        "TORCHINSTALL_NVML_LIBRARY": str(library),
        "FAKE_NVML_DRIVER": driver,
        "FAKE_NVML_CUDA": str(cuda),
        "FAKE_NVML_GPUS": "|".join(rows),
        **{f"FAKE_NVML_{key.upper()}": str(value) for key, value in settings.items()},
    }
