"""Exports of plans for machines that are only described: no index, no uv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.planning import shipped
from torchinstall.core.machine import Machine
from torchinstall.core.request import Request, requirement
from torchinstall.core.target import foreign_target
from torchinstall.export.containers import container_machine
from torchinstall.export.formats import CONTAINERS, FORMATS
from torchinstall.export.inputs import ExportInput, LockedProject, export_input
from torchinstall.install.uv import Uv
from torchinstall.planner.selection import plan
from torchinstall.planning.inputs import Prepared

UV = Uv(path="uv", version="0.13.9", source="tests")


def exported(
    machine: Machine,
    *requirements: str,
    python: str = "3.12",
    lock: LockedProject | None = None,
    uv_args: tuple[str, ...] = (),
    constraint_files: tuple[str, ...] = (),
    base: Path = Path("/project"),
    pylock: str | None = None,
    **more: Any,
) -> ExportInput:
    """What formats are made from, for a machine in values; `pylock` is what uv would answer."""
    request = Request(requirements=tuple(map(requirement, requirements or ("torch", "torchvision"))), **more)
    target = foreign_target(machine, python)
    catalog = shipped()
    made = plan(request, machine, target, catalog)
    assert made.error is None, made.error
    prepared = Prepared(
        machine=machine,
        target=target,
        catalog=catalog,
        request=request,
        uv_args=uv_args,
        constraint_files=constraint_files,
        plan=made,
    )

    def resolve() -> str:
        assert pylock is not None, "this format was not to ask uv"
        return pylock

    return export_input(prepared, resolve=resolve, uv=UV, lock=lock, base=base)


def rendered(name: str, machine: Machine, *requirements: str, **more: Any) -> str:
    """The text of one format."""
    there = container_machine(machine) if name in CONTAINERS else machine
    return FORMATS[name](exported(there, *requirements, **more))
