"""The oracle's own tables, read from `facts/`: made from upstream's files, not from the catalog's data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

Trust = int
"""How sure a yes is: `NO`, `GUESS` (a plan may rest on it only if it says so), `PROVEN`."""

NO, GUESS, PROVEN = 0, 1, 2

_FOLDER = Path(__file__).with_name("facts")


@cache
def numbers(text: str) -> tuple[int, ...]:
    """`580.95.05` as `(580, 95, 5)`."""
    return tuple(int(part) for part in text.split("."))


@dataclass(frozen=True, slots=True)
class Release:
    """One torch release: its companions, and platform -> backend -> how surely it was published."""

    torch: str
    vision: str | None
    audio: str | None
    index_only: tuple[str, ...]
    platforms: Mapping[str, Mapping[str, Trust]]
    pypi: Mapping[str, str | None]

    @property
    def minor(self) -> tuple[int, ...]:
        """`(2, 9)` of 2.9.1."""
        return numbers(self.torch)[:2]


@dataclass(frozen=True, slots=True)
class CodeRow:
    """What a build carries; `ptx` is empty where nobody knows, since then none may be counted on."""

    native: tuple[str, ...]
    ptx: tuple[str, ...]
    trust: Trust


@dataclass(frozen=True, slots=True)
class Limits:
    """What builds cannot do although they have code for the GPU.

    Attributes:
        rocblas: first toolkit of a line -> gfx targets that its rocBLAS computes on, ascending.
        rocblas_until: the last toolkit whose rocBLAS is known.
        metal: first torch minor -> lowest macOS, ascending.
        ptxas: torch minor -> CUDA version of Triton's assembler for capability 10.0 and up, and below.
        ptxas_knows: capability -> first CUDA version whose assembler knows it.
        compile_lowest: capability from which torch.compile works at all.
        kernels: gfx target -> (first, end) of the Linux kernels on which it needs ROCm 7.2.
        reported: (gfx target, backend) that were reported to fail: another build comes first.
    """

    rocblas: Mapping[tuple[int, ...], frozenset[str]]
    rocblas_until: tuple[int, ...]
    metal: Mapping[tuple[int, ...], tuple[int, ...]]
    ptxas: Mapping[tuple[int, ...], tuple[tuple[int, ...], tuple[int, ...]]]
    ptxas_knows: Mapping[str, tuple[int, ...]]
    compile_lowest: tuple[int, ...]
    kernels: Mapping[str, tuple[tuple[tuple[int, ...], tuple[int, ...] | None], ...]]
    reported: frozenset[tuple[str, str]]


def _limits() -> Limits:
    data = _read("limits.json")
    return Limits(
        rocblas={
            numbers(first): frozenset(f"gfx{name}" for name in names.split())
            for first, names in data["rocblas"].items()
        },
        rocblas_until=numbers(data["rocblas_measured_until"]),
        metal={numbers(minor): numbers(macos) for minor, macos in data["metal"].items()},
        ptxas={numbers(minor): (numbers(new), numbers(old)) for minor, (new, old) in data["compile"].items()},
        ptxas_knows={code: numbers(cuda) for code, cuda in data["compile_knows"].items()},
        compile_lowest=numbers(data["compile_lowest"]),
        kernels={
            gfx: tuple((numbers(first), end and numbers(end)) for first, end in spans)
            for gfx, spans in data["kernel"].items()
        },
        reported=frozenset((gfx, backend) for gfx, backend in data["reported"]),
    )


@dataclass(frozen=True, slots=True)
class Facts:
    """All tables.

    Attributes:
        releases: newest first.
        files: (package, directory) -> rows of (version with local segment, platform tag, python-abi tags).
        code: (platform, torch minor, backend) -> what the build carries.
        branch_cuda: driver branch -> newest CUDA it speaks, ascending.
        floors: toolkit -> lowest driver on Linux and on Windows.
        served: compute capability -> first and last driver branch.
        intel: PCI id -> (name, platform, how surely PyTorch's XPU builds run there).
    """

    releases: tuple[Release, ...]
    files: Mapping[tuple[str, str], tuple[tuple[str, str, frozenset[str]], ...]]
    code: Mapping[tuple[str, tuple[int, ...], str], CodeRow]
    branch_cuda: Mapping[int, str]
    floors: Mapping[tuple[int, ...], tuple[str, str]]
    served: Mapping[tuple[int, int], tuple[int | None, int | None]]
    intel: Mapping[str, tuple[str | None, str, Trust]]
    limits: Limits


_TRUST = {"high": PROVEN, "medium": PROVEN, "low": GUESS}
_INTEL = {"yes": PROVEN, "unknown": GUESS, "no": NO}


def _read(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((_FOLDER / name).read_text(encoding="utf-8"))
    return data


@cache
def facts() -> Facts:
    """Read all tables once."""
    published, drivers = _read("published.json"), _read("drivers.json")
    files: dict[tuple[str, str], list[tuple[str, str, frozenset[str]]]] = {}
    for package, version, directory, tag, pythons in published["files"]:
        files.setdefault((package, directory), []).append((version, tag, frozenset(pythons.split())))
    releases = [
        Release(
            torch=torch,
            vision=row["vision"],
            audio=row["audio"],
            index_only=tuple(row["index_only"]),
            platforms={
                platform: {backend: _TRUST[word] for backend, word in backends.items()}
                for platform, backends in row["platforms"].items()
            },
            pypi=row["pypi"],
        )
        for torch, row in published["releases"].items()
    ]
    return Facts(
        releases=tuple(sorted(releases, key=lambda release: numbers(release.torch), reverse=True)),
        files={key: tuple(rows) for key, rows in files.items()},
        code={
            (platform, numbers(minor), backend): CodeRow(
                tuple(native.split()), tuple((ptx or "").split()), _TRUST[word]
            )
            for platform, minor, backend, native, ptx, word in _read("code.json")["code"]
        },
        branch_cuda={int(branch): cuda for branch, cuda in drivers["branch_cuda"].items()},
        floors={numbers(toolkit): (row[0], row[1]) for toolkit, row in drivers["floors"].items()},
        served={
            (numbers(key)[0], numbers(key)[1]): (row[0], row[1]) for key, row in drivers["served"].items()
        },
        intel={row[0]: (row[1], row[2], _INTEL[row[3]]) for row in _read("intel.json")["devices"]},
        limits=_limits(),
    )
