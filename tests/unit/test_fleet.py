"""Several machines at once: one build for all, or the fewest that serve them."""

from __future__ import annotations

from tests.support.planning import amd, linux, mac, nvidia, shipped, windows
from torchinstall.core.machine import Machine
from torchinstall.core.request import Request, requirement
from torchinstall.core.target import foreign_target
from torchinstall.fleet.classes import Fleet, Member, plan_fleet

PASCAL = linux(nvidia("NVIDIA GeForce GTX 1080 Ti", "6.1"), driver="580.95.05")
ADA = linux(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="615.10")
ADA_WINDOWS = windows(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="581.15")
BLACKWELL = linux(nvidia("NVIDIA GeForce RTX 5090", "12.0"), driver="580.95.05")
RADEON = linux(amd("gfx1100"))


def fleet(**machines: Machine) -> Fleet:
    members = tuple(
        Member(name, machine, foreign_target(machine, "3.12")) for name, machine in machines.items()
    )
    return plan_fleet(Request(requirements=(requirement("torch"),)), members, shipped())


def test_one_build_serves_old_and_new() -> None:
    found = fleet(pascal=PASCAL, ada=ADA, windows=ADA_WINDOWS)
    assert [(group.torch, group.backend) for group in found.groups] == [("2.14.1", "cu126")]
    assert {name for name, _ in found.groups[0].plans} == {"pascal", "ada", "windows"}
    assert all(plan.backend == "cu126" and plan.status == "ready" for _, plan in found.groups[0].plans)


def test_the_smallest_set_when_one_does_not_do() -> None:
    found = fleet(pascal=PASCAL, blackwell=BLACKWELL, ada=ADA, radeon=RADEON)
    assert len(found.groups) == 3
    backends = {group.backend: {name for name, _ in group.plans} for group in found.groups}
    assert backends["cu126"] >= {"pascal"}
    assert any(name.startswith("rocm") for name in backends)
    assert sum(len(group.plans) for group in found.groups) == 4


def test_a_machine_that_nothing_serves_keeps_its_error() -> None:
    found = fleet(ada=ADA, translated=mac(rosetta=True))
    assert [name for name, _ in found.impossible] == ["translated"]
    assert found.impossible[0][1].error is not None
    assert len(found.groups) == 1
