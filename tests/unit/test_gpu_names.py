"""Names of GPUs and backends as people and tools write them, and names that nothing has."""

from __future__ import annotations

import pytest

from tests.support.planning import amd, decide, linux, mac, nvidia, rejection, shipped
from torchinstall.core.errors import UsageError
from torchinstall.core.machine import Finding, Machine, capability
from torchinstall.planning.gpus import declared_gpus, gpu_named
from torchinstall.planning.request import plain_backend


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("sm_90", "9.0"),
        ("sm_90a", "9.0"),
        ("SM90", "9.0"),
        ("compute_120", "12.0"),
        ("9.0", "9.0"),
        ("9.0+PTX", "9.0"),
        ("12.0a", "12.0"),
        ("90-real", "9.0"),
        ("86-virtual", "8.6"),
        ("Tesla V100", "7.0"),
        ("NVIDIA Tesla V100-SXM2-32GB", "7.0"),
        ("NVIDIA H100 80GB HBM3", "9.0"),
        ("RTX 4090", "8.9"),
        ("1080ti", "6.1"),
        ("NVIDIA-A100-SXM4-40GB", "8.0"),
        ("B200", "10.0"),
        ("10de:2684", "8.9"),
        ("GRID V100D-8Q", "7.0"),
        ("GRID A100D-7-80C", "8.0"),
        ("NVIDIA H100XM-80C", "9.0"),
        ("NVIDIA L40S-48Q", "8.9"),
        ("GeForce GTX 1060 with Max-Q Design", "6.1"),
        ("GT 1030", "6.1"),
        ("GT 710", "3.5"),
        ("DGX Spark", "12.1"),
        ("M60", "5.2"),
    ],
)
def test_nvidia(text: str, code: str) -> None:
    (gpu,) = declared_gpus((text,), "flag --target-gpu", shipped())
    assert (gpu.vendor, gpu.compute_capability) == ("nvidia", capability(code))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("gfx1100", "gfx1100"),
        ("GFX90A", "gfx90a"),
        ("gfx942:sramecc+:xnack-", "gfx942"),
        ("gfx90a:xnack-", "gfx90a"),
        ("gfx9-generic", "gfx900"),
        ("gfx9-4-generic", "gfx942"),
        ("gfx10-3-generic", "gfx1030"),
        ("gfx11-generic", "gfx1100"),
        ("GFX12-generic", "gfx1200"),
        ("AMD Instinct MI300X", "gfx942"),
        ("Radeon VII", "gfx906"),
        ("Radeon 780M", "gfx1103"),
        ("MI300X", "gfx942"),
        ("RX 6900 XT", "gfx1030"),
        ("Radeon Instinct MI25", "gfx900"),
        ("Radeon 660M", "gfx1035"),
        ("Ryzen AI Max+ 395", "gfx1151"),
    ],
)
def test_amd(text: str, code: str) -> None:
    (gpu,) = declared_gpus((text,), "flag --target-gpu", shipped())
    assert (gpu.vendor, gpu.gfx_target) == ("amd", code)


@pytest.mark.parametrize(
    "text", ["Intel Arc A770", "Arc B580", "Arc Pro B60", "Intel(R) Arc(TM) A770 Graphics"]
)
def test_intel(text: str) -> None:
    (gpu,) = declared_gpus((text,), "flag --target-gpu", shipped())
    assert gpu.vendor == "intel"
    assert gpu.pci_id is not None


@pytest.mark.parametrize("text", ["M1", "m2 max", "Apple M4", "Apple M3 Ultra"])
def test_apples_chips_are_no_others_product(text: str) -> None:
    gpus = declared_gpus((text,), "flag --target-gpu", shipped())
    assert gpus[0].vendor == "apple"
    assert decide(mac(), target_gpus=gpus).gpus[0].by == "mps"
    elsewhere = decide(linux(), target_gpus=gpus)
    assert elsewhere.backend == "cpu"
    assert any("PyTorch publishes nothing for it on linux" in row.message for row in elsewhere.warnings)


@pytest.mark.parametrize("text", ["AMD Radeon HD 5500 Series", "ATI Radeon HD 4600", "Radeon HD 6000"])
def test_an_old_radeon_is_no_graphics_of_intel_with_that_number(text: str) -> None:
    assert gpu_named(text, shipped(), within=True) is None
    beside = gpu_named("Intel(R) HD Graphics 5500, driver 20.19", shipped(), within=True)
    assert beside is not None
    assert beside.vendor == "intel"


@pytest.mark.parametrize(
    ("text", "hints"),
    [
        ("M4", ("Tesla M4", "Apple M4")),
        ("GTX 860M", ("GeForce GTX 860M (GK104M)", "GeForce GTX 860M (GM107M)")),
    ],
)
def test_a_name_of_several_chips_is_asked_back(text: str, hints: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        declared_gpus((text,), "flag --target-gpu", shipped())
    assert caught.value.hints == tuple(f"--target-gpu {name!r}" for name in hints)
    for name in hints:
        declared_gpus((name,), "flag --target-gpu", shipped())


@pytest.mark.parametrize(
    ("text", "other"), [("H300", "HD Graphics"), ("5090 Ti", "3090 Ti"), ("Apple M0", "AlderLake")]
)
def test_what_is_near_in_letters_and_another_thing_is_no_hint(text: str, other: str) -> None:
    with pytest.raises(UsageError) as caught:
        declared_gpus((text,), "flag --target-gpu", shipped())
    assert not any(other in hint for hint in caught.value.hints), caught.value.hints


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("gfx110", "gfx1100"),
        ("gfx9999", "gfx942"),
        ("gfx11-1-generic", "gfx1100"),
        ("sm_900", "sm_90"),
        ("sm_12", "sm_120"),
        ("9.9", "sm_90"),
        ("RTX 4091", "RTX 4090"),
        ("Jetson Orin", "Jetson AGX Orin"),
    ],
)
def test_what_nothing_has_is_refused_with_what_is_near(text: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        declared_gpus((text,), "flag --target-gpu", shipped())
    assert caught.value.slug == "unknown-gpu"
    assert any(near in hint for hint in caught.value.hints), caught.value.hints


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("RTX 40900", "GeForce RTX 4090"),
        ("RTX 9070XTT", "RX 9070 XT"),
        ("nvidia", "sm_90"),
        ("\N{SNOWMAN}", "sm_90"),
    ],
)
def test_the_nearest_name_comes_first(text: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        declared_gpus((text,), "flag --target-gpu", shipped())
    assert near in caught.value.hints[0]


@pytest.mark.parametrize(("text", "code"), [("rtx4090", (8, 9)), ("RTX 4090", (8, 9)), ("gtx1060", (6, 1))])
def test_spaces_in_a_name_do_not_matter(text: str, code: tuple[int, int]) -> None:
    (gpu,) = declared_gpus((text,), "flag --target-gpu", shipped())
    assert gpu.compute_capability == code


@pytest.mark.parametrize("vendor", ["nvidia", "amd", "intel"])
def test_every_name_of_the_tables_is_known(vendor: str) -> None:
    for row in shipped().tables.gpus(vendor)[::7]:
        if row.name:
            declared_gpus((row.name,), "flag --target-gpu", shipped())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cuda12.4", "cu124"),
        ("cu12.4", "cu124"),
        ("cuda-12.4.1", "cu124"),
        ("cuda124", "cu124"),
        ("rocm-6.4", "rocm6.4"),
        ("rocm7.14", "rocm7.14"),
        ("cpu", "cpu"),
    ],
)
def test_backends(text: str, name: str) -> None:
    assert plain_backend(text) == name
    assert shipped().backend(name) is not None


@pytest.mark.parametrize(
    ("words", "slug", "wanted"),
    [
        (("torch==2.0.1",), "python-not-published", "--python-version 3.11"),
        (("torch==2.9.1", "torchvision==0.2.0"), "pinned-out", "ask for torchvision without a version"),
        (("torch==9.9",), "pinned-out", "torch=="),
    ],
)
def test_a_refusal_names_what_is_really_in_the_way(words: tuple[str, ...], slug: str, wanted: str) -> None:
    error = decide(linux(), *words).error
    assert error is not None
    assert (error.slug, wanted in error.hints[0]) == (slug, True), error.hints


def test_an_old_glibc_is_not_told_to_buy_a_gpu() -> None:
    error = decide(linux(glibc="2.27"), "torch==2.9.1").error
    assert error is not None
    assert error.slug == "glibc-too-old"
    assert error.hints[0].startswith("ask for torch==")


def test_a_backend_that_was_asked_for_is_why_a_gpu_stays_unused() -> None:
    hopper = linux(nvidia("NVIDIA H100", "9.0"), driver="580.95.05")
    assert decide(hopper, backend="cpu").gpus[0].by == "the backend cpu was asked for"
    old = decide(linux(nvidia("NVIDIA B200", "10.0"), driver="580.95.05"), "torch==2.4.0", allow_cpu=True)
    assert old.gpus[0].by.startswith("what was asked for rules out the builds that could")


def test_a_python_of_old_is_no_hint() -> None:
    plan = decide(linux(nvidia("NVIDIA GeForce RTX 3090", "8.6"), driver="580.95.05"), backend="cu113")
    assert plan.error is not None
    assert plan.error.hints == ("use another Python: --python-version 3.10",)


@pytest.mark.parametrize(("vendor", "wanted"), [("amd", "--backend rocm"), ("nvidia", "--backend cu126")])
def test_hints_for_hardware_that_cannot_be_read_name_its_own_backends(vendor: str, wanted: str) -> None:
    finding = Finding(probe=vendor, status="denied", detail="may not be opened", slug="kfd-permission")
    plan = decide(linux(findings=(finding,)))
    assert plan.error is not None
    assert any(wanted in hint for hint in plan.error.hints)


@pytest.mark.parametrize(
    ("backend", "version"),
    [("cu126", "0.18.0+cu126"), ("cpu", "0.18.0+cpu"), ("xpu", "0.18.0+xpu"), ("cu130", "0.18.0")],
)
def test_torchao_comes_from_the_index_where_that_has_it(backend: str, version: str) -> None:
    plan = decide(linux(), "torch", "torchao", backend=backend)
    package = next(item for item in plan.packages if item.name == "torchao")
    assert package.version == version
    assert (package.index_url is not None) is ("+" in version)


def test_torchao_with_driver_550_loads_there() -> None:
    plan = decide(linux(nvidia("NVIDIA H100", "9.0"), driver="550.54.14"), "torch", "torchao")
    assert {item.name: item.version for item in plan.packages} == {
        "torch": "2.14.1+cu126",
        "torchao": "0.18.0+cu126",
    }
    assert rejection(plan, "cu130").rule == "driver-too-old"


@pytest.mark.parametrize(
    ("machine", "package", "said"),
    [
        (linux(amd("gfx1100")), "torchao", True),
        (linux(amd("gfx1100")), "triton", False),  # torch brings triton-rocm in its place
        (linux(amd("gfx1100")), "torchvision", False),
        (linux(nvidia("GTX 1080 Ti", "6.1"), driver="580.95.05"), "triton", False),
    ],
)
def test_a_backend_that_the_file_of_pypi_is_not_for_is_said(
    machine: Machine, package: str, *, said: bool
) -> None:
    plan = decide(machine, "torch", package)
    assert any(w.slug == "companion-not-for-backend" for w in plan.warnings) == said


FROM_THE_INDEX = """
fbgemm-gpu fbgemm-gpu-genai pytorch-triton pytorch-triton-rocm pytorch-triton-xpu torch torch-tensorrt torchao
torcharrow torchaudio torchcodec torchcsprng torchdistx torchrec torchserve torchtext torchtune torchvision
triton triton-rocm triton-xpu
"""
"""Packages that `uv --torch-backend` takes from the PyTorch index (xformers pins torch itself)."""


@pytest.mark.parametrize("package", FROM_THE_INDEX.split())
def test_what_uv_takes_from_the_pytorch_index_is_looked_up_there(package: str) -> None:
    family = shipped().family(package)
    assert family is not None
    assert family.routed or family.index_first
