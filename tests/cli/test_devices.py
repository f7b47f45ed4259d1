"""GPUs that were declared, and GPUs that variables leave visible."""

from __future__ import annotations

import pytest
from msgspec import structs

from tests.support.planning import amd, intel, linux, nvidia, shipped
from torchinstall.core.errors import UsageError
from torchinstall.planning.gpus import declared_gpus, visible_gpus


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("sm_90", (9, 0)),
        ("SM_120", (12, 0)),
        ("sm90a", (9, 0)),
        ("compute_61", (6, 1)),
        ("8.6", (8, 6)),
        ("10.3", (10, 3)),
    ],
)
def test_capabilities(name: str, capability: tuple[int, int]) -> None:
    (gpu,) = declared_gpus((name,), "flag --target-gpu", shipped())
    assert (gpu.vendor, gpu.compute_capability, gpu.source) == ("nvidia", capability, "flag --target-gpu")


def test_gfx_targets_and_names_are_numbered_by_maker() -> None:
    names = ("gfx1100", "NVIDIA H100 PCIe", "GeForce RTX 4090", "gfx90a")
    found = declared_gpus(names, "flag --target-gpu", shipped())
    assert [(gpu.vendor, gpu.index) for gpu in found] == [
        ("amd", 0),
        ("nvidia", 0),
        ("nvidia", 1),
        ("amd", 1),
    ]
    assert found[1].compute_capability == (9, 0)
    assert found[2].compute_capability == (8, 9)


@pytest.mark.parametrize("name", ["H1000", "GeForce RTX 40900", "", "gfx", "sm_"])
def test_unknown_names_are_refused_with_a_way_on(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        declared_gpus((name,), "flag --target-gpu", shipped())
    assert caught.value.slug == "unknown-gpu"
    assert caught.value.hints


def test_part_of_a_name_suggests_the_whole_ones() -> None:
    with pytest.raises(UsageError) as caught:
        declared_gpus(("4090 Ti Super",), "flag --target-gpu", shipped())
    assert caught.value.slug == "unknown-gpu"
    with pytest.raises(UsageError) as caught:
        declared_gpus(("B200 192",), "flag --target-gpu", shipped())
    assert caught.value.hints


FOUR = linux(
    *(
        structs.replace(nvidia(f"GPU {index}", "8.0", index=index), uuid=f"GPU-{index}{index}aa-bb")
        for index in range(4)
    )
)


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("0", [0]),
        ("2,0", [2, 0]),
        ("0,0", [0]),
        ("", []),
        ("-1", []),
        ("1,-1,2", [1]),
        ("1,9,2", [1]),
        ("nonsense", []),
        ("GPU-22aa", [2]),
        ("GPU-ff", []),
        ("MIG-GPU-33aa-bb/1/0", [3]),
        ("MIG-4a5b6c", [0, 1, 2, 3]),
        (" 3 , 1 ", [3, 1]),
    ],
)
def test_cuda_visible_devices(value: str, left: list[int]) -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": value}, FOUR) == tuple(("nvidia", index) for index in left)


def test_no_variable_leaves_everything() -> None:
    assert visible_gpus({"PATH": "/bin"}, FOUR) is None


@pytest.mark.parametrize(
    ("env", "left"),
    [
        ({"ROCR_VISIBLE_DEVICES": "1,2", "HIP_VISIBLE_DEVICES": "1"}, [2]),
        ({"ROCR_VISIBLE_DEVICES": "1"}, [1]),
        ({"HIP_VISIBLE_DEVICES": "0"}, [0]),
        ({"CUDA_VISIBLE_DEVICES": "2"}, [2]),
        ({"HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "2"}, [0]),
    ],
)
def test_amd_variables_build_on_each_other(env: dict[str, str], left: list[int]) -> None:
    machine = linux(*(amd("gfx1100", index) for index in range(3)))
    assert visible_gpus(env, machine) == tuple(("amd", index) for index in left)


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("level_zero:0", [0]),
        ("level_zero:*", [0, 1]),
        ("opencl:gpu", [0, 1]),
        ("level_zero:1.0", [1]),
        ("!level_zero:0", [1]),
        ("*:*;!level_zero:1", [0]),
        ("cuda:0", []),
    ],
)
def test_oneapi_device_selector(value: str, left: list[int]) -> None:
    machine = linux(*(structs.replace(intel("8086:e20b", integrated=False), index=index) for index in (0, 1)))
    assert visible_gpus({"ONEAPI_DEVICE_SELECTOR": value}, machine) == tuple(
        ("intel", index) for index in left
    )


def test_one_makers_variable_leaves_the_others_gpus() -> None:
    machine = linux(nvidia("GPU", "8.0"), intel("8086:e20b", integrated=False))
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}, machine) == (("intel", 0),)
