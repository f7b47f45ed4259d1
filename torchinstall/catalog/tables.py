"""What the catalog asks of its tables, and the keys under which facts are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torchinstall.catalog.model import (
        Advice,
        BackendKind,
        Code,
        CodeRule,
        Companion,
        Family,
        Floor,
        GpuFact,
        GpuService,
        Wheels,
    )

__all__ = ["PageKey", "Tables", "platform_of"]

PageKey = tuple[str, str]
"""A page of the index: (package, backend)."""

_GLIBC_OR_PLAIN = re.compile(r"(?:manylinux\w*?|linux)_(x86_64|aarch64)$")


def platform_of(platform_tag: str) -> str | None:
    """The table key of a wheel platform tag: `manylinux_2_28_x86_64` -> `linux_x86_64`.

    `any` for wheels that run everywhere, None for platforms that nobody plans for (s390x, musllinux, i686).
    A compressed tag (`manylinux_2_17_aarch64.manylinux2014_aarch64`) is one platform, that of its last part.
    """
    platform_tag = platform_tag.rpartition(".")[2]
    if platform_tag == "any":
        return "any"
    if match := _GLIBC_OR_PLAIN.match(platform_tag):
        return f"linux_{match[1]}"
    if platform_tag in ("win_amd64", "win_arm64"):
        return platform_tag
    if platform_tag.startswith("macosx_"):
        if platform_tag.endswith("_arm64"):
            return "macos_arm64"
        if platform_tag.endswith("_x86_64"):
            return "macos_x86_64"
    return None


class Tables(Protocol):
    """The shipped tables, each read when first asked for (see `catalog.load.ShippedTables`)."""

    @property
    def snapshot(self) -> str:
        """Date of the newest table, `2026-11-22`."""

    @property
    def kinds(self) -> tuple[BackendKind, ...]:
        """Lines of backends."""

    @property
    def retired(self) -> Mapping[str, str | None]:
        """Backend name -> last torch release published for it, None while it lives (`backends.json`)."""

    @property
    def wheels(self) -> tuple[Wheels, ...]:
        """What is published."""

    @property
    def companions(self) -> tuple[Companion, ...]:
        """Which package version belongs to which torch."""

    @property
    def code(self) -> tuple[Code, ...]:
        """What builds carry for GPUs."""

    @property
    def code_rules(self) -> tuple[CodeRule, ...]:
        """Exceptions to who runs what."""

    @property
    def floors(self) -> tuple[Floor, ...]:
        """Lowest drivers of toolkits."""

    @property
    def branch_cuda(self) -> Mapping[int, str]:
        """NVIDIA driver branch -> newest CUDA it speaks (`driver_branches.json`)."""

    @property
    def gpu_service(self) -> tuple[GpuService, ...]:
        """Driver branches by compute capability."""

    @property
    def families(self) -> tuple[Family, ...]:
        """Packages that move with torch."""

    @property
    def advice(self) -> tuple[Advice, ...]:
        """Vendors' own indexes."""

    def gpus(self, vendor: str) -> tuple[GpuFact, ...]:
        """The product table of one vendor (`gpus_<vendor>.json`)."""

    def sha256(self, backend: str, filename: str) -> str | None:
        """The hash of a wheel on the stable index, where known (`hashes.json`); backend `""`: PyPI."""
