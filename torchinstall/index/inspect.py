"""What a wheel contains, read from the file itself; a remote one by HTTP ranges, never whole.

A wheel is a zip file: its table of contents is at the end, so a few ranges say which members there are.
torch's own headers and `libtorch_python` name the GPUs that it was compiled for, and the fat binaries in its
libraries prove it. Only the head of a large remote library is read; the report says what was not read.
"""

from __future__ import annotations

import contextlib
import mmap
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from msgspec import Struct, structs

from torchinstall.core.errors import UsageError
from torchinstall.core.target import oldest_system
from torchinstall.core.versions import version_text
from torchinstall.index.archives import RangeFile, member, open_wheel
from torchinstall.index.binaries import Binary, read_binary
from torchinstall.index.wheels import metadata_values, parse_name, read_variants, version_values

_SHARE = 0.018
"""How much of a remote wheel may be transferred, unless its own table of contents is larger."""
_FLOOR = 128 << 10
"""What may be transferred of a wheel so small that its share is less."""
_PIECE = 1 << 20

_LIBRARY = re.compile(r"\.(so(\.[\d.]+)?|dll|pyd|dylib)$")
_GENCODE = re.compile(r"code=(sm|compute)_(\d+[af]?)")
_GFX = re.compile(r"gfx[0-9a-f]{3,4}(?:-generic)?")
_GFX_FOLDERS = {
    "rocBLAS": "rocblas/library/",
    "hipBLASLt": "hipblaslt/library/",
    "hipSPARSELt": "hipsparselt/library/",
    "AOTriton": "aotriton.images/",
    "MIOpen": "miopen/db/",
}
"""Folders of AMD's libraries; the names of the files there say which GPUs have kernels."""
_PINS = re.compile(r"cuda-(?:toolkit|bindings)|nvidia-|(?:pytorch-)?triton|rocm|intel-|onemkl|torch\b")


class LibraryReport(Struct, frozen=True, kw_only=True):
    """The GPU code of one library.

    Attributes:
        lacks: targets of torch's own list that this library has no code for.
        whole: all of it was read, else only its head.
    """

    name: str
    sm: tuple[str, ...] = ()
    ptx: tuple[str, ...] = ()
    gfx: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    whole: bool = True


class WheelReport(Struct, frozen=True, kw_only=True):
    """What a wheel contains.

    Attributes:
        size, transferred: bytes of the file, and bytes that were read of a remote one.
        toolkit: `cuda 13.0`, `rocm 7.2`, `xpu 20250302`; None for a CPU build.
        targets: torch's own list (`sm_86`, `compute_90`, `gfx1100`); empty where it is not known.
        targets_from: the member that says so.
        libraries: those that hold GPU code.
        kernels: GPUs by AMD library, from file names.
        pins: requirements on torch and on the libraries of the toolkit, as written.
        needed: libraries that are not in the wheel and must be found at run time.
        glibc: oldest glibc that can load it, by its name and the symbols of the libraries that were read.
        macos: oldest macOS that its libraries declare.
        variant: properties of a wheel variant (PEP 825), empty for an ordinary wheel.
        notes: what could not be read.
    """

    filename: str
    size: int
    transferred: int | None = None
    name: str = ""
    version: str = ""
    requires_python: str | None = None
    toolkit: str | None = None
    targets: tuple[str, ...] = ()
    targets_from: str | None = None
    libraries: tuple[LibraryReport, ...] = ()
    kernels: Mapping[str, tuple[str, ...]] = {}
    pins: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    glibc: str | None = None
    macos: str | None = None
    variant: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def inspect_wheel(file: Path | RangeFile, filename: str) -> WheelReport:
    """Read a wheel that is called so; of a remote one only a little.

    Raises:
        UsageError: `bad-wheel`: it is no zip file, or has no metadata.
    """
    try:
        with open_wheel(file) as wheel:
            remote = file if isinstance(file, RangeFile) else None
            size = file.size if isinstance(file, RangeFile) else file.stat().st_size
            return _Reader(wheel, remote, filename, size).report()
    except ValueError as error:
        raise UsageError(
            "bad-wheel", f"{filename} cannot be read as a wheel", wanted="a .whl file", found=str(error)
        ) from error


class _Reader:
    def __init__(self, wheel: zipfile.ZipFile, remote: RangeFile | None, filename: str, size: int) -> None:
        self.wheel = wheel
        self.remote = remote
        self.filename, self.size = filename, size
        self.members = {info.filename: info for info in wheel.infolist()}
        self.notes: list[str] = []

    def report(self) -> WheelReport:
        metadata = self._text(member(self.wheel, ".dist-info/METADATA"))
        member(self.wheel, ".dist-info/WHEEL")
        name, version, python = (
            next(iter(metadata_values(metadata, field)), None)
            for field in ("Name", "Version", "Requires-Python")
        )
        toolkit, variant = self._toolkit(), self._variant()
        flags = self._compiler_flags()
        read = dict(self._binaries())
        # The list that was compiled in as text, the longest of them.
        compiled = ((item.listed, path) for path, (item, _) in read.items() if item.listed)
        targets, source = max(compiled, key=lambda pair: len(pair[0]), default=flags)
        own = {PurePosixPath(path).name for path in self.members}
        named = parse_name(self.filename, variants=True)
        tag = oldest_system(named.platform_tag) if named and "linux" in named.platform_tag else None
        glibc = [item.glibc for item, _ in read.values() if item.glibc] + ([tag] if tag else [])
        if any(item.packed for item, _ in read.values()):
            self.notes.append("some AMD code is in compressed bundles, whose targets cannot be read")
        libraries = [_library(path, *found, targets) for path, found in sorted(read.items())]
        return WheelReport(
            filename=self.filename,
            size=self.size,
            transferred=self.remote.transferred if self.remote else None,
            name=name or "",
            version=version or "",
            requires_python=python,
            toolkit=toolkit,
            targets=targets,
            targets_from=source,
            libraries=tuple(row for row in libraries if row.sm or row.ptx or row.gfx),
            kernels=self._kernels(),
            pins=tuple(row for row in metadata_values(metadata, "Requires-Dist") if _PINS.match(row)),
            needed=tuple(sorted({name for item, _ in read.values() for name in item.needed} - own)),
            glibc=version_text(max(glibc, default=())) or None,
            macos=version_text(max((item.macos for item, _ in read.values() if item.macos), default=()))
            or None,
            variant=variant,
            notes=tuple(self.notes),
        )

    def _text(self, name: str) -> str:
        return self.wheel.read(name).decode("utf-8", "replace")

    def _toolkit(self) -> str | None:
        """What `torch/version.py` says it was built with."""
        for name in ("torch/version.py", "torchvision/version.py", "torchaudio/version.py"):
            said = version_values(self._text(name)) if name in self.members else {}
            for kind, key in (("cuda", "cuda"), ("rocm", "rocm"), ("rocm", "hip"), ("xpu", "xpu")):
                if key in said:
                    return f"{kind} {said[key]}"
        return None

    def _variant(self) -> tuple[str, ...]:
        name = next((name for name in self.members if name.endswith(".dist-info/variant.json")), None)
        variants = read_variants(self._text(name)) if name else {}
        return tuple(
            f"{namespace} :: {feature} :: {value}"
            for properties in variants.values()
            for namespace, features in properties.items()
            for feature, values in features.items()
            for value in values
        )

    def _compiler_flags(self) -> tuple[tuple[str, ...], str | None]:
        """The targets in a header of torch that repeats the flags of the compiler."""
        flags = "torch/include/ATen/cuda/CUDAConfig.h"
        found = _GENCODE.findall(self._text(flags)) if flags in self.members else []
        targets = tuple(dict.fromkeys(f"{kind}_{number}" for kind, number in found))
        return (targets, flags) if targets else ((), None)

    def _kernels(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, set[str]] = {}
        for name in self.members:
            for library, folder in _GFX_FOLDERS.items():
                if f"/{folder}" in f"/{name}":
                    found.setdefault(library, set()).update(_GFX.findall(name.partition(folder)[2]))
        return {library: tuple(sorted(targets)) for library, targets in sorted(found.items()) if targets}

    def _binaries(self) -> Iterator[tuple[str, tuple[Binary, bool]]]:
        """Each library that was read, the smallest first, and whether all of it was read."""
        libraries = [info for name, info in self.members.items() if _LIBRARY.search(name)]
        libraries.sort(key=lambda info: info.compress_size)
        skipped = []
        for info in libraries:
            name, size = PurePosixPath(info.filename).name, info.compress_size
            room, head = size, size
            if self.remote is not None:
                room = max(int(self.size * _SHARE), _FLOOR) - self.remote.transferred - self.remote.ahead
                # The head of a library may already show GPU code, if there can be any.
                head = min(size, self.remote.ahead) if re.search("cuda|hip|rocm", name) else size
            if room < head:
                skipped.append(name)
            else:
                yield info.filename, (self._binary(info, None if size <= room else room), size <= room)
        if skipped:
            self.notes.append(f"not read, to keep the download small: {', '.join(skipped)}")

    def _binary(self, info: zipfile.ZipInfo, room: int | None) -> Binary:
        """One library; of a remote one as much as `room` compressed bytes hold."""
        start = self.remote.transferred if self.remote else 0
        with self.wheel.open(info) as member, tempfile.TemporaryFile() as spool:
            while piece := member.read(_PIECE):
                spool.write(piece)
                if room is not None and self.remote and self.remote.transferred - start >= room:
                    break
            spool.flush()
            if not spool.tell():
                return Binary()
            with contextlib.closing(mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ)) as data:
                return read_binary(data)


def _library(name: str, item: Binary, whole: bool, targets: tuple[str, ...]) -> LibraryReport:
    row = LibraryReport(
        name=name,
        sm=tuple(f"sm_{number}" for number in sorted(item.sm)),
        ptx=tuple(f"compute_{number}" for number in sorted(item.ptx)),
        gfx=tuple(sorted(item.gfx)),
        whole=whole,
    )
    have = {target.rstrip("af") for target in (*row.sm, *row.ptx)} | {*row.gfx}
    lacks = [
        target for target in targets if (target if target[0] == "g" else target.rstrip("af")) not in have
    ]
    return structs.replace(row, lacks=tuple(lacks) if whole and have else ())
