"""Libraries of a few hundred bytes with right headers: ELF, PE and Mach-O, and the GPU code in them."""

from __future__ import annotations

import struct
from collections.abc import Iterable

_PTX, _CUBIN = 1, 2


def fatbin(sm: Iterable[int] = (), ptx: Iterable[int] = ()) -> bytes:
    """A CUDA fat binary: a header of 16 bytes, then one entry with a header of 64 bytes for each target."""
    entries = b""
    for kind, targets in ((_CUBIN, sm), (_PTX, ptx)):
        for capability in targets:
            code = b"\x90" * 24
            head = (
                struct.pack("<HHIQ", kind, 0x101, 64, len(code)) + bytes(12) + struct.pack("<I", capability)
            )
            entries += head.ljust(64, b"\0") + code
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


def amd_bundle(*targets: str) -> bytes:
    """An uncompressed bundle of the clang offload bundler with empty code objects."""
    names = ["host-x86_64-unknown-linux-gnu-", *(f"hipv4-amdgcn-amd-amdhsa--{name}" for name in targets)]
    rows = b"".join(struct.pack("<QQQ", 4096, 0, len(name)) + name.encode() for name in names)
    return b"__CLANG_OFFLOAD_BUNDLE__" + struct.pack("<Q", len(names)) + rows


def compressed_bundle() -> bytes:
    """The head of a compressed bundle, version 2."""
    return b"CCOB" + struct.pack("<HHIIQ", 2, 1, 64, 512, 0)


def elf(payload: bytes = b"", *, needed: Iterable[str] = (), glibc: Iterable[str] = ()) -> bytes:
    """A 64-bit ELF library that needs others, and symbols of these versions from libc."""
    strings = b"\0"

    def name(text: str) -> int:
        nonlocal strings
        at = len(strings)
        strings += text.encode() + b"\0"
        return at

    libraries = [name(text) for text in needed]
    versions = [name(f"GLIBC_{text}") for text in glibc]
    rows = b"".join(
        struct.pack("<IHHII", 0, 0, number, at, 16 if number + 1 < len(versions) else 0)
        for number, at in enumerate(versions)
    )
    verneed = struct.pack("<HHIII", 1, len(versions), name("libc.so.6"), 16, 0) + rows if versions else b""
    start = 64 + 2 * 56
    tags = [(1, at) for at in libraries]
    tags += [(5, start), (0x6FFFFFFE, start + len(strings)), (0x6FFFFFFF, 1)] if versions else [(5, start)]
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in [*tags, (0, 0)])
    at = start + len(strings) + len(verneed)
    size = at + len(dynamic) + len(payload)
    head = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    )
    segments = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, size, size, 4096)
    segments += struct.pack("<IIQQQQQQ", 2, 6, at, at, at, len(dynamic), len(dynamic), 8)
    return head + segments + strings + verneed + dynamic + payload


def pe(payload: bytes = b"", *, needed: Iterable[str] = ()) -> bytes:
    """A 64-bit Windows library with an import table."""
    names = list(needed)
    base, start, table = 0x1000, 0x200, 20 * (len(names) + 1)
    texts, rows = b"", b""
    for text in names:
        rows += struct.pack("<5I", 0, 0, 0, base + table + len(texts), 0)
        texts += text.encode() + b"\0"
    section = rows + bytes(20) + texts
    optional = struct.pack("<H", 0x20B).ljust(120, b"\0") + struct.pack(
        "<II", base if names else 0, len(section)
    )
    optional = optional.ljust(240, b"\0")
    head = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64) + b"PE\0\0"
    head += struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, len(optional), 0x2022) + optional
    head += b".rdata\0\0" + struct.pack("<IIII", len(section), base, len(section), start) + bytes(16)
    return head.ljust(start, b"\0") + section + payload


def mach_o(payload: bytes = b"", *, needed: Iterable[str] = (), macos: str = "14.0") -> bytes:
    """A 64-bit macOS library that loads others and asks for a version of macOS."""
    commands = []
    for text in needed:
        name = text.encode() + b"\0"
        name = name.ljust(-(-len(name) // 8) * 8, b"\0")
        commands.append(struct.pack("<6I", 0xC, 24 + len(name), 24, 0, 0, 0) + name)
    major, minor = map(int, macos.split("."))
    commands.append(struct.pack("<6I", 0x32, 24, 1, major << 16 | minor << 8, 0, 0))
    size = sum(map(len, commands))
    head = struct.pack("<IIIIIIII", 0xFEEDFACF, 0x0100000C, 0, 6, len(commands), size, 0, 0)
    return head + b"".join(commands) + payload
