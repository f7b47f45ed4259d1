"""What the user asked for: settings with their sources, made into one value that the planner reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torchinstall.values import dataclass

if TYPE_CHECKING:
    from torchinstall.machine import Gpu
    from torchinstall.requirement import Wanted

__all__ = ["Channel", "Request", "Setting"]

Channel = Literal["stable", "test", "nightly"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One effective setting and who said so.

    Attributes:
        source: `flag --backend`, `environment TORCHINSTALL_BACKEND`, `config pyproject.toml`, `default`.
    """

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
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
    index_base: str = "https://download.pytorch.org/whl"
    find_links: tuple[str, ...] = ()
    offline: bool = False
    upgrade: bool = False
    only: tuple[str, str] | None = None
    failed: tuple[tuple[str, str], ...] = ()
    settings: tuple[Setting, ...] = ()
