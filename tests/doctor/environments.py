"""Environments for the checks of the doctor: a healthy one, and what breaks it."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from tests.support.planning import linux, nvidia, shipped
from torchinstall.core.machine import Machine
from torchinstall.core.request import Request, requirement
from torchinstall.core.target import Installed, Target, foreign_target
from torchinstall.doctor.model import Environment, Surroundings
from torchinstall.install.interpreter import Dist, Inventory
from torchinstall.planner.selection import plan

ADA = linux(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="580.95.05", memory_bytes=64 * 2**30)


TORCH_NEEDS = (
    "filelock",
    "nvidia-cublas-cu12==12.8.4.1; platform_system == 'Linux' and platform_machine == 'x86_64'",
    "triton==3.5.1; platform_system == 'Linux' and platform_machine == 'x86_64'",
    "opt-einsum>=3.3; extra == 'opt-einsum'",
    "pyreadline3; sys_platform == 'win32'",
)


def dist(name: str, version: str, *requires: str, **more: Any) -> Dist:
    """An installed distribution."""
    return Dist(
        name=name, version=version, requires=requires, site="/venv/lib/python3.12/site-packages", **more
    )


def target_with(machine: Machine, *installed: tuple[str, str, str | None]) -> Target:
    """An environment with these packages: (name, version, backend)."""
    return structs.replace(
        foreign_target(machine, "3.12"),
        python="/venv/bin/python",
        prefix="/venv",
        why="the active environment (VIRTUAL_ENV)",
        installed=tuple(
            Installed(name=name, version=version, backend=backend) for name, version, backend in installed
        ),
    )


def environment(
    machine: Machine = ADA,
    installed: tuple[tuple[str, str, str | None], ...] = (
        ("torch", "2.9.1+cu128", "cu128"),
        ("torchvision", "0.24.1+cu128", "cu128"),
    ),
    dists: tuple[Dist, ...] | None = None,
    **more: Any,
) -> Environment:
    """An environment; its plans are the planner's own, for what is installed."""
    target = target_with(machine, *installed)
    there = dists if dists is not None else tuple(dist(name, version) for name, version, _ in installed)
    torch = next((version for name, version, _ in installed if name == "torch"), None)
    names = [name for name, _, _ in installed if name in ("torchvision", "torchaudio")]

    def planned(*requirements: str, upgrade: bool = False) -> Any:
        asked = tuple(requirement(text) for text in requirements)
        return plan(Request(requirements=asked, upgrade=upgrade), machine, target, shipped())

    values: dict[str, Any] = {
        "inventory": Inventory(dists=there),
        "surroundings": Surroundings(),
        "choice": None if torch is None else planned(f"torch=={torch.partition('+')[0]}", *names),
        "free": planned("torch", upgrade=True),
        **more,
    }
    return Environment(machine=machine, target=target, catalog=shipped(), **values)


def healthy(*more_dists: Dist, **more: Any) -> Environment:
    """A right build with all that it needs, and what is added to it."""
    return environment(
        dists=(
            dist("torch", "2.9.1+cu128", *TORCH_NEEDS),
            dist("torchvision", "0.24.1+cu128", "torch==2.9.1", "numpy"),
            dist("filelock", "3.20.0"),
            dist("numpy", "2.3.0"),
            dist("nvidia-cublas-cu12", "12.8.4.1"),
            dist("triton", "3.5.1"),
            *more_dists,
        ),
        **more,
    )


def project(**files: str) -> Any:
    """The project's files by stem, `pyproject=…`, `uv=…`."""
    from torchinstall.doctor.model import Project

    return Project(root="/home/me", files={f"{name}.toml": text for name, text in files.items()})
