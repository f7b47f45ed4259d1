"""What the user asked for: settings with their sources, made into one value that the planner reads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, Union

from msgspec import Struct

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from torchinstall.core.machine import Gpu

__all__ = [
    "DEFAULT_INDEX_BASE",
    "BareName",
    "Channel",
    "Request",
    "Setting",
    "Wanted",
    "canonical_name",
    "requirement",
]


DEFAULT_INDEX_BASE = "https://download.pytorch.org/whl"

Channel = Literal["stable", "test", "nightly"]


class Setting(Struct, frozen=True, kw_only=True):
    """One effective setting and who said so.

    Attributes:
        source: `flag --backend`, `environment TORCHINSTALL_BACKEND`, `config pyproject.toml`, `default`.
    """

    name: str
    value: str
    source: str


class Request(Struct, frozen=True, kw_only=True):
    """What is wanted, with every default already applied.

    Attributes:
        requirements: as asked; torch is added by the planner where it is missing.
        constraints: from `-c` files: they bound versions and add nothing.
        backend: `auto`, or the backend that must be used.
        prefer_gpu: index of the GPU that wins on a mixed machine.
        visible: GPUs that `--respect-visible-devices` leaves, as (vendor, index); None: all.
        target_gpus: GPUs declared with `--target-gpu`; they replace those of the machine.
        target_driver: declared driver version; it replaces the machine's.
        target_cuda: declared driver CUDA version (`CONDA_OVERRIDE_CUDA`); empty text means absent.
        index_base: base URL of the PyTorch index, or a template with `{backend}`.
        find_links: folders of wheels that are a source of builds.
        upgrade: replace a build that is right already by a newer one.
        failed: builds (torch release, backend) that were installed here and did not compute.
        only: the one build (torch release, backend) that may be chosen, for machines that share it.
    """

    requirements: tuple[Wanted, ...]
    constraints: tuple[Wanted, ...] = ()
    backend: str = "auto"
    channel: Channel = "stable"
    require_gpu: bool = False
    allow_cpu: bool = False
    prefer_gpu: int | None = None
    visible: tuple[tuple[str, int], ...] | None = None
    target_gpus: tuple[Gpu, ...] = ()
    target_driver: str | None = None
    target_cuda: str | None = None
    index_base: str = DEFAULT_INDEX_BASE
    find_links: tuple[str, ...] = ()
    offline: bool = False
    upgrade: bool = False
    only: tuple[str, str] | None = None
    failed: tuple[tuple[str, str], ...] = ()
    settings: tuple[Setting, ...] = ()


Wanted = Union["Requirement", "BareName"]

_BARE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


class BareName:
    """A requirement that bounds nothing; what it has is read as from `packaging.requirements.Requirement`."""

    __slots__ = ("name",)

    extras: frozenset[str] = frozenset()
    url: str | None = None
    marker: None = None

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self.name!r})>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BareName) and canonical_name(self.name) == canonical_name(other.name)

    def __hash__(self) -> int:
        return hash(canonical_name(self.name))


def requirement(text: str) -> Wanted:
    """Parse one requirement (PEP 508).

    Raises:
        packaging.requirements.InvalidRequirement: it does not parse.
    """
    bare = text.strip()
    if _BARE.fullmatch(bare):
        return BareName(bare)
    from packaging.requirements import Requirement

    return Requirement(text)


def canonical_name(name: str) -> str:
    """A project name as indexes spell it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
