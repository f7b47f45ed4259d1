"""The platforms that a lock serves, and the markers that tell them apart.

A lock is for every platform at once, so a source entry must say where it holds. Windows is one platform here:
where a backend has no wheel for Windows on ARM, the default index has none either, and the plain
`sys_platform == 'win32'` is what people expect to read.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["CELLS", "complement", "marker_environment", "marker_of", "partition", "required_marker"]

CELLS = ("linux_x86_64", "linux_aarch64", "win_amd64", "macos_arm64")
"""Platform keys as `catalog.platform_of` spells them."""

_LINUX = ("linux_x86_64", "linux_aarch64")
_SYSTEM = {"win_amd64": "win32", "macos_arm64": "darwin"}
_MACHINE = {
    "linux_x86_64": ("linux", "x86_64"),
    "linux_aarch64": ("linux", "aarch64"),
    "win_amd64": ("win32", "AMD64"),
    "macos_arm64": ("darwin", "arm64"),
}


def marker_of(cells: Iterable[str]) -> str | None:
    """The marker that holds on these platforms; None where that is all of them.

    Raises:
        ValueError: no platform at all; such an entry must not be written.
    """
    wanted = frozenset(cells)
    if not wanted:
        raise ValueError("a marker for no platform")
    if wanted >= frozenset(CELLS):
        return None
    linux = [cell for cell in _LINUX if cell in wanted]
    parts = []
    if len(linux) == len(_LINUX):
        parts.append("sys_platform == 'linux'")
    elif linux:
        text = f"sys_platform == 'linux' and platform_machine == '{_MACHINE[linux[0]][1]}'"
        parts.append(f"({text})" if len(wanted) > 1 else text)
    parts += [f"sys_platform == '{system}'" for cell, system in _SYSTEM.items() if cell in wanted]
    return " or ".join(parts)


def complement(cells: Iterable[str]) -> str | None:
    """The marker that holds everywhere else, platforms that nobody named included; None: everywhere."""
    wanted = frozenset(cells)
    linux = [cell for cell in _LINUX if cell in wanted]
    parts = []
    if len(linux) == len(_LINUX):
        parts.append("sys_platform != 'linux'")
    elif linux:
        text = f"sys_platform != 'linux' or platform_machine != '{_MACHINE[linux[0]][1]}'"
        parts.append(f"({text})" if len(wanted) > 1 else text)
    parts += [f"sys_platform != '{system}'" for cell, system in _SYSTEM.items() if cell in wanted]
    return " and ".join(parts) or None


def required_marker(cell: str) -> str:
    """One platform exactly, as `required-environments` wants it."""
    system, machine = _MACHINE[cell]
    return f"sys_platform == '{system}' and platform_machine == '{machine}'"


def partition(served: Iterable[frozenset[str]]) -> tuple[str, ...]:
    """Disjoint markers that cover the world, so that no source's platforms are cut by one of them.

    uv lets the index of an extra or group leak to platforms where its source does not hold when the same
    package is also a plain dependency; resolving these environments apart (`tool.uv.environments`) stops
    that. Empty where there is nothing to part.

    Args:
        served: for each source the platforms it holds on.
    """
    sets = tuple(dict.fromkeys(served))
    classes: dict[tuple[bool, ...], list[str]] = {}
    for cell in CELLS:
        classes.setdefault(tuple(cell in item for item in sets), []).append(cell)
    routed = [cells for signature, cells in classes.items() if any(signature)]
    markers = [marker for cells in routed if (marker := marker_of(cells)) is not None]
    rest = complement(cell for cells in routed for cell in cells)
    return (*markers, rest) if markers and rest else ()


def marker_environment(cell: str, python_version: str) -> dict[str, str]:
    """The marker variables of a platform, as PEP 508 names them.

    Args:
        cell: platform key.
        python_version: `3.12`.
    """
    system, machine = _MACHINE[cell]
    names = {"linux": ("posix", "Linux"), "win32": ("nt", "Windows"), "darwin": ("posix", "Darwin")}[system]
    return {
        "sys_platform": system,
        "platform_machine": machine,
        "os_name": names[0],
        "platform_system": names[1],
        "python_version": python_version,
        "python_full_version": f"{python_version}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "implementation_version": f"{python_version}.0",
        "platform_release": "",
        "platform_version": "",
        "extra": "",
    }
