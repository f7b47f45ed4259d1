"""Several machines at once: one build for all, or the fewest that serve them."""

from __future__ import annotations

import math
import random
import time
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.planning import amd, linux, mac, nvidia, shipped, windows
from torchinstall.core.machine import Machine
from torchinstall.core.request import Request, requirement
from torchinstall.fleet.classes import Fleet, fewest, kinds_of, plan_fleet

PASCAL = linux(nvidia("NVIDIA GeForce GTX 1080 Ti", "6.1"), driver="580.95.05")
ADA = linux(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="615.10")
ADA_WINDOWS = windows(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="581.15")
BLACKWELL = linux(nvidia("NVIDIA GeForce RTX 5090", "12.0"), driver="580.95.05")
RADEON = linux(amd("gfx1100"))


def fleet(**machines: Machine) -> Fleet:
    kinds = kinds_of(machines.items(), "3.12")
    return plan_fleet(Request(requirements=(requirement("torch"),)), kinds, shipped())


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


BUILDS = [(f"2.{minor}.0", f"cu12{minor}") for minor in range(7)]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.frozensets(st.sampled_from(BUILDS), min_size=1, max_size=4), max_size=12))
def test_the_cover_is_minimal_against_brute_force(serves: list[frozenset[tuple[str, str]]]) -> None:
    found = fewest(serves)
    assert found.proven
    assert all(set(found.keys) & keys for keys in serves), "everyone is served"
    smaller = (chosen for size in range(len(found.keys)) for chosen in combinations(BUILDS, size))
    assert not any(all(set(chosen) & keys for keys in serves) for chosen in smaller)
    assert found.at_least == len(found.keys)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.frozensets(st.sampled_from([(f"2.{n}.0", "cpu") for n in range(14)]), min_size=1, max_size=3),
        min_size=21,
        max_size=60,
    )
)
def test_above_the_limit_the_bound_is_true(serves: list[frozenset[tuple[str, str]]]) -> None:
    found = fewest(serves)
    assert all(set(found.keys) & keys for keys in serves)
    exact = next(
        size
        for size in range(15)
        if any(
            all(set(chosen) & keys for keys in serves)
            for chosen in combinations([(f"2.{n}.0", "cpu") for n in range(14)], size)
        )
    )
    assert found.at_least <= exact <= len(found.keys)
    assert len(found.keys) <= exact * (1 + math.log(len(set(serves))))
    assert not found.proven or len(found.keys) == exact


def test_twenty_kinds_are_proven_in_no_time() -> None:
    """The worst kind of case: many builds, each for some, none for most."""
    chance = random.Random(15)  # noqa: S311  reproducible on purpose
    builds = [(f"2.{n}.0", "cpu") for n in range(150)]
    serves = [frozenset(chance.sample(builds, 30)) for _ in range(20)]
    started = time.process_time()
    found = fewest(serves)
    assert found.proven
    assert time.process_time() - started < 2


def test_the_newest_among_the_fewest() -> None:
    old, new, other = ("2.1.0", "cu118"), ("2.9.0", "cu128"), ("2.14.1", "cu126")
    assert fewest([frozenset({old, new}), frozenset({old, new})]).keys == (new,)
    assert fewest([frozenset({old, new}), frozenset({old}), frozenset({other})]).keys == (other, old)
    assert fewest([]).keys == ()
    assert fewest([frozenset()]).keys == ()
