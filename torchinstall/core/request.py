"""What the user asked for: settings with their sources, made into one value that the planner reads."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from torchinstall.core.machine import Gpu

if TYPE_CHECKING:
    from packaging import requirements
    from packaging.specifiers import SpecifierSet

DEFAULT_INDEX_BASE = "https://download.pytorch.org/whl"

Channel = Literal["stable", "test", "nightly"]

CompanionSource = Literal["makers", "trusted", "community"]


class Setting(Struct, frozen=True, kw_only=True):
    """One effective setting and who said so.

    Attributes:
        source: `flag --backend`, `environment TORCHINSTALL_BACKEND`, `config pyproject.toml`, `default`.
    """

    name: str
    value: str
    source: str


class Requirement(Struct, frozen=True):
    """One requirement (PEP 508), taken apart.

    Attributes:
        name: as written; `package` compares.
        extras: sorted.
        specifier: version bounds as text, empty for none.
        url: of a direct reference, `torch @ https://…`.
        marker: as text.
    """

    name: str
    extras: tuple[str, ...] = ()
    specifier: str = ""
    url: str | None = None
    marker: str | None = None

    def __str__(self) -> str:
        """As `packaging` writes it."""
        url = f" @ {self.url}" if self.url else ""
        text = f"{self.name}{extras_text(self.extras)}{self.specifier}{url}"
        return f"{text}{' ' if url else ''}; {self.marker}" if self.marker else text

    @property
    def package(self) -> str:
        """Its name as indexes spell it."""
        return canonical_name(self.name)

    @property
    def bounds(self) -> SpecifierSet:
        """The versions that it allows."""
        return specifiers(self.specifier)

    def holds(self, environment: dict[str, str]) -> bool:
        """Whether its marker holds where markers have these values; without one it always does."""
        marker = _parse(str(self)).marker if self.marker else None
        return marker is None or marker.evaluate(environment)


@lru_cache(maxsize=256)
def _parse(text: str) -> requirements.Requirement:
    # Importing packaging's parser costs as much as making a plan, and most requirements are bare names.
    from packaging import requirements

    return requirements.Requirement(text)


@lru_cache(maxsize=512)
def specifiers(text: str) -> SpecifierSet:
    """Version bounds (PEP 440); releases in preparation count."""
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(text, prereleases=True)


def extras_text(extras: Iterable[str]) -> str:
    """`[device-gfx1151]`, sorted; nothing for none."""
    names = ",".join(sorted(extras))
    return f"[{names}]" if names else ""


_BARE = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"


def requirement(text: str) -> Requirement:
    """Parse one requirement (PEP 508).

    Raises:
        packaging.requirements.InvalidRequirement: it does not parse.
    """
    bare = text.strip()
    if re.fullmatch(_BARE, bare):
        return Requirement(bare)
    parsed = _parse(text)
    marker = str(parsed.marker) if parsed.marker else None
    return Requirement(parsed.name, tuple(sorted(parsed.extras)), str(parsed.specifier), parsed.url, marker)


@lru_cache(maxsize=1024)
def canonical_name(name: str) -> str:
    """A project name as indexes spell it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


class Request(Struct, frozen=True, kw_only=True):
    """What is requested, with every default already applied.

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
        allow_build: packages that may be built from source.
        companion_source: whose builds of companions may be taken: only their makers', also Astral's
            (`trusted`), or those of anybody.
        failed: builds (torch release, backend) that were installed here and did not compute; without a
            release, the whole backend.
        need: what must work besides computing: `compile` (torch.compile).
        only: the one build (torch release, backend) that may be chosen, for machines that share it.
        wanted: packages among `requirements` that nobody named: they never stop torch.
    """

    requirements: tuple[Requirement, ...]
    constraints: tuple[Requirement, ...] = ()
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
    allow_build: tuple[str, ...] = ()
    companion_source: CompanionSource = "trusted"
    only: tuple[str, str] | None = None
    failed: tuple[tuple[str | None, str], ...] = ()
    need: str | None = None
    wanted: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()

    @property
    def describes(self) -> bool:
        """Whether GPUs or their driver were declared in place of the machine's."""
        return bool(self.target_gpus or self.target_driver) or self.target_cuda is not None
