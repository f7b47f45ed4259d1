"""Does this build run on this machine? Written from the facts, for the simulation to judge plans with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from tests.simulation.facts import GUESS, NO, PROVEN, Trust, facts, numbers

_OWN_CODE_ONLY = {(5, 3), (6, 2), (7, 2), (10, 1)}
_SBSA_SINCE = (13, 2)
_ORDINARY_JETSON = 38
"""L4T releases from here on (JetPack 7) have the ordinary aarch64 driver model."""


@dataclass(frozen=True, slots=True)
class Device:
    """What a GPU really is: `code` is `8.9`, `gfx1100` or a PCI id, whatever its machine file omits."""

    vendor: str
    code: str
    discrete: bool = True


@dataclass(frozen=True, slots=True)
class Box:
    """What of a machine decides whether a build runs there.

    Attributes:
        platform: `linux_x86_64` and so on, of the interpreter.
        driver: NVIDIA driver version; None: unknown.
        cuda: newest CUDA that the driver speaks; None: unknown.
        windows_driver: Windows and WSL.
        l4t: major version of Jetson Linux, None elsewhere.
        macos: product version, None elsewhere.
        kernel: Linux release, `6.18.4`; None: not known.
        declared: nothing is known of the driver because only a GPU was declared: any driver is meant.
    """

    platform: str
    driver: str | None = None
    cuda: str | None = None
    windows_driver: bool = False
    l4t: int | None = None
    macos: str | None = None
    declared: bool = False
    kernel: str | None = None


def toolkit_of(backend: str) -> tuple[int, ...] | None:
    """`cu128` -> (12, 8), `rocm7.14` -> (7, 14); None for cpu and xpu."""
    if match := re.fullmatch(r"cu(\d+)(\d)", backend):
        return int(match[1]), int(match[2])
    return numbers(backend[4:]) if backend.startswith("rocm") else None


@cache
def branch_of(driver: str) -> int | None:
    """The branch of a driver: 472.12 (Windows) is of R470, 581.42 of R580."""
    major = numbers(driver)[0]
    return max((branch for branch in facts().branch_cuda if branch <= major), default=None)


@cache
def cuda_of_driver(driver: str) -> str | None:
    """The newest CUDA that a driver speaks."""
    branch = branch_of(driver)
    return None if branch is None else facts().branch_cuda[branch]


@cache
def _floor(toolkit: tuple[int, ...], windows: bool) -> tuple[int, ...]:
    column = 1 if windows else 0
    if toolkit[0] < 11:
        return numbers(facts().floors[toolkit][column])
    # Minor-version compatibility: the newest row of a major prints the floor of the whole major.
    newest = max(key for key in facts().floors if key[0] == toolkit[0])
    return numbers(facts().floors[newest][column])


@cache
def driver_starts(backend: str, box: Box) -> bool:
    """Whether the driver starts programs made with the backend's toolkit."""
    toolkit = toolkit_of(backend)
    if toolkit is None or box.declared:
        return True
    if box.driver is not None:
        return numbers(box.driver) >= _floor(toolkit, box.windows_driver)
    if box.cuda is not None:
        needed = toolkit if toolkit[0] < 11 else (toolkit[0], 0)
        return numbers(box.cuda) >= needed
    return False


def _served(capability: tuple[int, int], box: Box) -> bool:
    """Whether the driver knows the GPU at all."""
    first, last = facts().served.get(capability, (None, None))
    branch = branch_of(box.driver) if box.driver else None
    if branch is None:
        return box.driver is None or first is None
    return (first is None or branch >= first) and (last is None or branch <= last)


@cache
def runs(backend: str, minor: tuple[int, ...], device: Device, box: Box) -> tuple[Trust, str]:
    """Whether a build uses a device, and through what (`sm_86`), or why not.

    Args:
        backend: of the build.
        minor: torch's minor release, `(2, 9)`.
        device: the GPU.
        box: the machine it sits in.
    """
    if backend.startswith("cu"):
        return _runs_cuda(backend, minor, device, box)
    if backend.startswith("rocm"):
        row = facts().code.get((box.platform, minor, backend))
        if device.vendor != "amd" or row is None:
            return NO, "no build for it"
        if device.code not in row.native:
            return NO, "gfx target not in the build"
        return _limited_rocm(backend, device, box) or (row.trust, device.code)
    if backend == "xpu":
        known = facts().intel.get(device.code)
        if device.vendor != "intel" or known is None:
            return NO, "not an Intel GPU that PyTorch names"
        if known[2] == PROVEN and known[1] == "PVC" and box.platform == "win_amd64":
            return GUESS, "not among the targets of the Windows builds"
        return known[2], known[1]
    if device.vendor == "apple" and box.platform == "macos_arm64" and box.macos is not None:
        return _runs_metal(minor, numbers(box.macos))
    return NO, "a CPU build"


def _limited_rocm(backend: str, device: Device, box: Box) -> tuple[Trust, str] | None:
    """Why a ROCm build with code for a GPU does not compute there all the same."""
    toolkit, limits = toolkit_of(backend) or (), facts().limits
    held = [gfx for first, gfx in limits.rocblas.items() if first <= toolkit]
    if toolkit <= limits.rocblas_until and held and device.code not in held[-1]:
        return NO, "its rocBLAS has nothing for it"
    for first, end in limits.kernels.get(device.code, ()):
        kernel = numbers(box.kernel) if box.kernel else ()
        if toolkit < (7, 2) and kernel >= first and (end is None or kernel < end):
            return NO, "the kernel crashes its ROCm"
    return None


@cache
def compiles(minor: tuple[int, ...], capability: tuple[int, ...], box: Box) -> bool:
    """Whether Triton's assembler knows an NVIDIA GPU and the driver loads what it makes (Linux)."""
    limits = facts().limits
    pair = limits.ptxas.get(minor)
    if capability < limits.compile_lowest or pair is None:
        return False
    ptxas = pair[0] if capability >= (10, 0) else pair[1]
    knows = limits.ptxas_knows.get(".".join(map(str, capability)))
    loads = box.cuda is None or numbers(box.cuda)[0] >= ptxas[0]
    return loads and (knows is None or ptxas >= knows)


def _runs_metal(minor: tuple[int, ...], macos: tuple[int, ...]) -> tuple[Trust, str]:
    """Every build for Apple Silicon holds MPS code, newer ones for newer systems only."""
    rows = facts().limits.metal.items()
    floor = [lowest for first, lowest in rows if first <= max(minor, (1, 12))][-1]
    return (PROVEN, "mps") if macos >= floor else (NO, "macOS too old for MPS")


def _runs_cuda(backend: str, minor: tuple[int, ...], device: Device, box: Box) -> tuple[Trust, str]:
    row = facts().code.get((box.platform, minor, backend))
    toolkit = toolkit_of(backend)
    if device.vendor != "nvidia" or row is None or toolkit is None:
        return NO, "no build for it"
    capability = (numbers(device.code)[0], numbers(device.code)[1])
    if box.l4t is not None and box.l4t < _ORDINARY_JETSON:
        return NO, "a Jetson driver"
    if not driver_starts(backend, box):
        return NO, "driver too old for the toolkit"
    if not _served(capability, box):
        return NO, "driver does not serve the GPU"
    own_only = capability in _OWN_CODE_ONLY or (capability == (8, 7) and toolkit < _SBSA_SINCE)
    best: tuple[int, ...] | None = None
    for text in row.native:
        target = numbers(text)
        same = target == capability or {target, capability} == {(10, 1), (11, 0)}
        reaches = target[0] == capability[0] and target[1] <= capability[1] and not own_only
        foreign = target in _OWN_CODE_ONLY or (target == (8, 7) and toolkit < _SBSA_SINCE)
        if (same or (reaches and not foreign)) and (best is None or target > best):
            best = target
    if best is not None:
        return row.trust, f"sm_{best[0]}{best[1]}"
    cuda = numbers(box.cuda) if box.cuda else None
    for text in row.ptx:
        target = numbers(text)
        if target <= capability and (box.declared or (cuda is not None and cuda >= toolkit)):
            return row.trust, f"compute_{target[0]}{target[1]}"
    return NO, "no code for it"
