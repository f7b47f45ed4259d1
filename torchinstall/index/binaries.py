"""What a shared library carries, read from its own bytes: GPU code, needed libraries, the oldest glibc.

Three formats: ELF (Linux), PE (Windows), Mach-O (macOS). Nothing is loaded or run. Layouts: the System V ABI
(gabi.xinuos.com), Microsoft's PE specification, `<mach-o/loader.h>`; CUDA's fat binary is not documented by
NVIDIA, its header is the one that `cuobjdump` prints from (magic 0xBA55ED50, entries of 64 bytes and more);
HIP's bundle is LLVM's (clang.llvm.org/docs/ClangOffloadBundler.html).
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from typing import TypeAlias

from msgspec import Struct

Bytes: TypeAlias = bytes | mmap.mmap

_FATBIN = b"\x50\xed\x55\xba"
_PTX, _CUBIN = 1, 2
_BUNDLE = b"__CLANG_OFFLOAD_BUNDLE__"
_COMPRESSED_BUNDLE = b"CCOB"
_GFX = re.compile(rb"amdgcn-amd-amdhsa--(gfx[0-9a-f]+(?:-generic)?)")
_LISTED = re.compile(rb"(?:(?:(?:sm|compute)_\d+[af]?|gfx[0-9a-f]{3,4})[ ;]?){2,}")
_PIECE = 32 << 20


class Binary(Struct, frozen=True, kw_only=True):
    """One library.

    Attributes:
        sm: capabilities (10 * major + minor) with native code.
        ptx: capabilities with PTX.
        gfx: targets of AMD code objects.
        listed: the list of targets that was compiled in as text (what `torch.cuda.get_arch_list()` prints).
        needed: libraries that the loader must find.
        glibc: newest glibc symbol version that is asked for, (2, 28).
        macos: oldest macOS that it declares, (14, 0).
        packed: holds AMD code in compressed bundles, whose targets cannot be read here.
    """

    sm: frozenset[int] = frozenset()
    ptx: frozenset[int] = frozenset()
    gfx: frozenset[str] = frozenset()
    listed: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    glibc: tuple[int, ...] | None = None
    macos: tuple[int, ...] | None = None
    packed: bool = False


def read_binary(data: Bytes) -> Binary:
    """Read a library, or as much of its beginning as was handed in."""
    sm, ptx = _cuda_code(data)
    gfx, packed = _amd_code(data)
    needed: tuple[str, ...] = ()
    glibc = macos = None
    try:
        if data[:4] == b"\x7fELF":
            needed, glibc = _elf(data)
        elif data[:2] == b"MZ":
            needed = _pe(data)
        elif data[:4] == b"\xcf\xfa\xed\xfe":
            needed, macos = _mach_o(data)
    except (struct.error, LookupError, ValueError, OverflowError):
        pass  # cut off, or not what it seems: what was found so far still holds
    return Binary(
        sm=frozenset(sm),
        ptx=frozenset(ptx),
        gfx=frozenset(gfx),
        listed=_listed(data),
        needed=needed,
        glibc=glibc,
        macos=macos,
        packed=packed,
    )


def _positions(data: Bytes, mark: bytes) -> Iterator[int]:
    """Every place of a mark; in pieces, since `mmap.find` compares byte by byte."""
    for start in range(0, len(data), _PIECE):
        piece = data[start : start + _PIECE + len(mark) - 1]
        at = piece.find(mark)
        while at >= 0:
            yield start + at
            at = piece.find(mark, at + len(mark))


def _cuda_code(data: Bytes) -> tuple[set[int], set[int]]:
    found: dict[int, set[int]] = {_PTX: set(), _CUBIN: set()}
    for start in _positions(data, _FATBIN):
        if start + 16 > len(data):
            break
        _, header, size = struct.unpack_from("<HHQ", data, start + 4)
        at, end = start + header, min(start + header + size, len(data))
        while header >= 16 and at + 64 <= end:
            kind, _, entry, length = struct.unpack_from("<HHIQ", data, at)
            (capability,) = struct.unpack_from("<I", data, at + 28)
            if entry < 32 or not 10 <= capability <= 999:
                break
            if kind in found:
                found[kind].add(capability)
            at += entry + length
    return found[_CUBIN], found[_PTX]


def _amd_code(data: Bytes) -> tuple[set[str], bool]:
    found: set[str] = set()
    for start in _positions(data, _BUNDLE):
        # The names stand in the table at the head of a bundle.
        found |= {match[1].decode() for match in _GFX.finditer(data[start : start + 16384])}
    packed = any(
        int.from_bytes(data[at + 4 : at + 6], "little") in (1, 2, 3)
        for at in _positions(data, _COMPRESSED_BUNDLE)
    )
    return found, packed


def _listed(data: Bytes) -> tuple[str, ...]:
    """The longest list of targets that stands in the file as one text between zero bytes."""
    best: tuple[str, ...] = ()
    for mark in (b"\0sm_", b"\0gfx"):
        for at in _positions(data, mark):
            match = _LISTED.fullmatch(data[at + 1 : at + 1024].partition(b"\0")[0])
            if match:
                best = max(best, tuple(re.split(r"[ ;]", match[0].decode().strip(" ;"))), key=len)
    return best


def _text(data: Bytes, at: int) -> str:
    return data[at : data.find(b"\0", at)].decode("ascii", "replace")


def _elf(data: Bytes) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """NEEDED and the newest GLIBC version of a 64-bit little-endian ELF file."""
    if data[4:6] != b"\x02\x01":
        return (), None
    (headers,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments = [struct.unpack_from("<IIQQQQ", data, headers + size * number) for number in range(count)]

    def offset(address: int) -> int:
        for kind, _, start, virtual, _, length in segments:
            if kind == 1 and virtual <= address < virtual + length:
                return int(start + address - virtual)
        raise ValueError("an address outside the file")

    dynamic = next((row for row in segments if row[0] == 2), None)
    if dynamic is None:
        return (), None
    tags: dict[int, list[int]] = {}
    for at in range(dynamic[2], dynamic[2] + dynamic[5], 16):
        tag, value = struct.unpack_from("<QQ", data, at)
        tags.setdefault(tag, []).append(value)
        if tag == 0:
            break
    strings = offset(tags[5][0])
    needed = tuple(_text(data, strings + value) for value in tags.get(1, ()))
    versions: set[tuple[int, int]] = set()
    if 0x6FFFFFFE in tags:
        versions = _glibc_versions(data, offset(tags[0x6FFFFFFE][0]), strings)
    return needed, max(versions, default=None)


def _glibc_versions(data: Bytes, at: int, strings: int) -> set[tuple[int, int]]:
    """The versions in the table of symbol versions that a library needs (a list of lists)."""
    versions: set[tuple[int, int]] = set()
    following = -1
    while following:
        _, entries, _, first, following = struct.unpack_from("<HHIII", data, at)
        row = at + first
        for _ in range(entries):
            _, _, _, name, after = struct.unpack_from("<IHHII", data, row)
            match = re.fullmatch(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?", _text(data, strings + name))
            if match:
                versions.add((int(match[1]), int(match[2])))
            row += after
        at += following
    return versions


def _pe(data: Bytes) -> tuple[str, ...]:
    """The DLLs that a 64-bit Windows library imports."""
    (head,) = struct.unpack_from("<I", data, 60)
    sections, optional = struct.unpack_from("<H12xH", data, head + 6)
    (imports,) = struct.unpack_from("<I", data, head + 24 + 120)
    table = [
        struct.unpack_from("<III", data, head + 24 + optional + 40 * number + 12)
        for number in range(sections)
    ]

    def offset(address: int) -> int:
        for virtual, size, start in table:
            if virtual <= address < virtual + size:
                return int(start + address - virtual)
        raise ValueError("an address outside the file")

    names, at = [], offset(imports) if imports else None
    while at is not None:
        name = struct.unpack_from("<5I", data, at)[3]
        if not name:
            break
        names.append(_text(data, offset(name)))
        at += 20
    return tuple(names)


def _mach_o(data: Bytes) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """The dylibs that a 64-bit macOS library loads, and the oldest macOS it is built for."""
    (count,) = struct.unpack_from("<I", data, 16)
    at, names, oldest = 32, [], None
    for _ in range(count):
        command, size = struct.unpack_from("<II", data, at)
        if command in (0xC, 0x80000018, 0x8000001F):
            (name,) = struct.unpack_from("<I", data, at + 8)
            names.append(_text(data, at + name))
        elif command in (0x24, 0x32):  # LC_VERSION_MIN_MACOSX, LC_BUILD_VERSION
            (version,) = struct.unpack_from("<I", data, at + (8 if command == 0x24 else 12))
            oldest = (version >> 16, version >> 8 & 0xFF)
        if size < 8:
            break
        at += size
    return tuple(names), oldest
