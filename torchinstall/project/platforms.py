"""The platforms that a lock serves, and the markers that tell them apart.

A lock is for every platform at once, so a source entry must say where it holds. Windows is one platform here:
where a backend has no wheel for Windows on ARM, the default index has none either, and the plain
`sys_platform == 'win32'` is what people expect to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

PLATFORMS = ("linux_x86_64", "linux_aarch64", "win_amd64", "macos_arm64")
"""Platform keys as `catalog.platform_of` spells them."""

_MARKERS = {
    "linux_x86_64": ("linux", "x86_64"),
    "linux_aarch64": ("linux", "aarch64"),
    "win_amd64": ("win32", "AMD64"),
    "macos_arm64": ("darwin", "arm64"),
}
"""Platform key -> `sys_platform` and `platform_machine`."""


def marker_of(platforms: Iterable[str]) -> str | None:
    """The marker that holds on these platforms; None where that is all of them.

    Raises:
        ValueError: no platform at all; such an entry must not be written.
    """
    wanted = frozenset(platforms)
    if not wanted:
        raise ValueError("a marker for no platform")
    return None if wanted >= frozenset(PLATFORMS) else " or ".join(_clauses(wanted, "==", "and"))


def complement(platforms: Iterable[str]) -> str | None:
    """The marker that holds everywhere else, platforms that nobody named included; None: everywhere."""
    return " and ".join(_clauses(frozenset(platforms), "!=", "or")) or None


def _clauses(wanted: frozenset[str], operator: str, joint: str) -> Iterator[str]:
    """One clause a system; its machine is named only where the system's other machine is not wanted too."""
    linux = [platform for platform in PLATFORMS[:2] if platform in wanted]
    text = f"sys_platform {operator} 'linux'"
    if len(linux) == 1:
        text += f" {joint} platform_machine {operator} '{_MARKERS[linux[0]][1]}'"
        text = f"({text})" if len(wanted) > 1 else text
    if linux:
        yield text
    for platform in PLATFORMS[2:]:
        if platform in wanted:
            yield f"sys_platform {operator} '{_MARKERS[platform][0]}'"


def required_marker(platform: str) -> str:
    """One platform exactly, as `required-environments` wants it."""
    system, machine = _MARKERS[platform]
    return f"sys_platform == '{system}' and platform_machine == '{machine}'"


def partition(served: Iterable[frozenset[str]]) -> tuple[str, ...]:
    """Disjoint markers that cover every platform, so that no source's platforms are split by one of them.

    uv lets the index of an extra or group leak to platforms where its source does not hold when the same
    package is also a plain dependency; resolving these environments separately (`tool.uv.environments`)
    stops that. Empty where there is nothing to separate.

    Args:
        served: for each source the platforms it holds on.
    """
    sets = tuple(dict.fromkeys(served))
    classes: dict[tuple[bool, ...], list[str]] = {}
    for platform in PLATFORMS:
        classes.setdefault(tuple(platform in item for item in sets), []).append(platform)
    routed = [platforms for signature, platforms in classes.items() if any(signature)]
    markers = [marker for platforms in routed if (marker := marker_of(platforms)) is not None]
    rest = complement(platform for platforms in routed for platform in platforms)
    return (*markers, rest) if markers and rest else ()


def marker_environment(platform: str, python_version: str) -> dict[str, str]:
    """The marker variables of a platform, as PEP 508 names them.

    Args:
        platform: platform key.
        python_version: `3.12`.
    """
    system, machine = _MARKERS[platform]
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
