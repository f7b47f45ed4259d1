"""Worked examples: for a machine and a request the set that is planned, or what is in its way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from tests.cli.support import run
from tests.stack.machines import MACHINES
from tests.support.planning import amd, decide, intel, linux, shipped
from torchinstall.core.machine import machine_to_json
from torchinstall.core.request import Request, requirement
from torchinstall.core.target import Installed, foreign_target
from torchinstall.planner.explain import explain
from torchinstall.planner.selection import plan

if TYPE_CHECKING:
    from torchinstall.core.machine import Machine
    from torchinstall.core.plan import Plan


def planned(machine: str, request: str, python: str = "3.12", **more: Any) -> Plan:
    return decide(MACHINES[machine], *request.split(), python=python, **more)


def versions(plan: Plan) -> dict[str, str | None]:
    return {package.name: package.version for package in plan.packages}


NEW_ABI = "+cu12torch2.6cxx11abiTRUE"

SETS: list[tuple[str, str, str, dict[str, Any], dict[str, str | None]]] = [
    ("rtx4090", "torch vllm", "3.12", {}, {"torch": "2.14.0+cu130", "vllm": "0.33.0"}),
    ("rtx5090-r610", "torch vllm", "3.12", {}, {"torch": "2.14.0+cu130", "torchaudio": "2.11.0+cu130"}),
    ("h100-r550", "torch vllm", "3.12", {}, {"torch": "2.13.0+cu129", "vllm": "0.30.0+cu129"}),
    ("rtx4090", "torch vllm", "3.10", {}, {"torch": "2.13.0+cu130", "vllm": "0.31.0"}),
    (
        "rtx4090",
        "torch flash-attn",
        "3.12",
        {},
        {"torch": "2.12.1+cu130", "flash-attn": "2.8.3+cu.13.0.torch.2.12"},
    ),
    (
        "rtx4090",
        "torch flash-attn",
        "3.12",
        {"companion_source": "community"},
        {"torch": "2.13.0+cu130", "flash-attn": "2.8.3+cu130torch2.13"},
    ),
    (
        "rtx4090",
        "torch flash-attn vllm bitsandbytes",
        "3.12",
        {},
        {
            "torch": "2.11.0+cu130",
            "vllm": "0.26.0",
            "flash-attn": "2.8.3+cu.13.0.torch.2.11",
            "bitsandbytes": "0.50.2",
        },
    ),
    (
        "rtx4090",
        "torch flash-attn vllm bitsandbytes",
        "3.12",
        {"companion_source": "community"},
        {"torch": "2.13.0+cu130", "vllm": "0.32.0"},
    ),
    ("gtx1080ti", "torch bitsandbytes", "3.12", {}, {"torch": "2.14.1+cu126", "bitsandbytes": "0.50.2"}),
    (
        "rtx4090-windows",
        "torch triton",
        "3.12",
        {},
        {"torch": "2.14.1+cu130", "triton-windows": "3.8.0.post29"},
    ),
    ("rtx4090", "torch xformers", "3.12", {}, {"torch": "2.15.0+cu130", "xformers": "0.0.35"}),
    ("rtx5090-r610", "torch xformers", "3.12", {}, {"torch": "2.15.0+cu130", "xformers": "0.0.35"}),
    (
        "rtx4090",
        "torch mamba-ssm causal-conv1d",
        "3.12",
        {},
        {
            "torch": "2.11.0+cu130",
            "mamba-ssm": "2.3.2.post1+cu.13.0.torch.2.11",
            "causal-conv1d": "1.6.2.post1+cu.13.0.torch.2.11",
        },
    ),
    (
        "rtx4090",
        "torch mamba-ssm causal-conv1d",
        "3.12",
        {"companion_source": "makers"},
        {"torch": "2.10.0+cu130", "mamba-ssm": "2.3.2.post1+cu13torch2.10cxx11abiTRUE"},
    ),
    ("rtx4090", "torch mamba-ssm vllm", "3.12", {}, {"torch": "2.10.0+cu129", "vllm": "0.19.1"}),
    (
        "rtx4090",
        "torch sglang",
        "3.12",
        {},
        {
            "torch": "2.14.1+cu130",
            "sglang": "0.5.23",
            "sglang-kernel": "0.4.10",
            "torchaudio": "2.11.0+cu130",
            "torchcodec": "0.17.0",
        },
    ),
    (
        "h100-r550",
        "torch sglang",
        "3.12",
        {},
        {"torch": "2.13.0+cu129", "sglang": "0.5.19", "sglang-kernel": "0.4.6.post1+cu129"},
    ),
    ("rtx4090", "torch unsloth", "3.12", {}, {"torch": "2.14.1+cu130", "unsloth": "2026.10.9"}),
    ("h100-r550", "torch onnxruntime-gpu", "3.12", {}, {"torch": "2.14.1+cu126", "onnxruntime-gpu": None}),
    ("rtx4090", "torch onnxruntime-gpu", "3.12", {}, {"torch": "2.15.0+cu130", "onnxruntime-gpu": "1.31.1"}),
    ("h100-r550", "torch cupy", "3.12", {}, {"torch": "2.14.1+cu126", "cupy-cuda12x": "14.2.0"}),
    ("no-gpu", "torch vllm", "3.12", {}, {"torch": "2.13.0+cpu", "vllm": "0.29.0+cpu"}),
    # Older pins, by what their metadata or their makers' releases say.
    ("rtx4090", "vllm==0.10.1.1", "3.12", {}, {"torch": "2.7.1+cu128", "torchvision": "0.22.1+cu128"}),
    ("rtx4090", "vllm<0.11.1", "3.12", {}, {"torch": "2.8.0+cu129", "vllm": "0.11.0"}),
    ("rtx4090", "vllm==0.6.3", "3.12", {}, {"torch": "2.4.0+cu124"}),
    ("rtx4090", "vllm==0.5.2", "3.11", {}, {"torch": "2.3.1+cu121"}),
    ("rtx4090", "sglang==0.5.18", "3.12", {}, {"torch": "2.13.0+cu130", "sglang-kernel": "0.4.6.post1"}),
    ("rtx4090", "sglang==0.5.16", "3.12", {}, {"torch": "2.11.0+cu130", "sglang-kernel": "0.4.5"}),
    ("rtx4090", "torch==2.4.0 xformers", "3.12", {}, {"xformers": "0.0.27.post2"}),
    ("rtx4090", "xformers==0.0.28.post3", "3.11", {}, {"torch": "2.5.1+cu124"}),
    ("rtx4090-windows", "torch==2.3.0 xformers", "3.11", {}, {"xformers": "0.0.26.post1"}),
    (
        "rtx4090",
        "torch==2.4.0 flash-attn==2.6.3",
        "3.10",
        {},
        {"torch": "2.4.0+cu124", "flash-attn": "2.6.3+cu123torch2.4cxx11abiFALSE"},
    ),
    ("rtx4090", "flash-attn==2.5.8", "3.10", {}, {"flash-attn": "2.5.8+cu122torch2.3cxx11abiFALSE"}),
    # torch 2.6.0 has the new C++ ABI with CUDA 12.6 only.
    ("rtx4090", "torch==2.6.0 flash-attn==2.7.4.post1", "3.12", {}, {"flash-attn": f"2.7.4.post1{NEW_ABI}"}),
    (
        "rtx4090",
        "torch==2.6.0+cu124 flash-attn==2.7.4.post1",
        "3.12",
        {},
        {"flash-attn": f"2.7.4.post1{NEW_ABI.replace('TRUE', 'FALSE')}"},
    ),
    ("rtx4090", "torch==2.4.0 torch-scatter", "3.12", {}, {"torch-scatter": "2.1.2+pt24cu124"}),
    ("a100-r470", "torch flash-attn", "3.12", {}, {"flash-attn": "2.7.3+cu11torch2.5cxx11abiFALSE"}),
    ("rtx4090-windows", "torch torch-sparse", "3.11", {}, {"torch": "2.9.1+cu130"}),
    # Its CUDA 12 files go with every torch for CUDA 12.
    ("h100-r550", "torch llama-cpp-python", "3.12", {}, {"torch": "2.14.1+cu126"}),
]


@pytest.mark.parametrize(("machine", "request_", "python", "more", "expected"), SETS)
def test_the_set_is_the_newest_that_goes_together(
    machine: str, request_: str, python: str, more: dict[str, Any], expected: dict[str, str | None]
) -> None:
    made = planned(machine, request_, python, **more)
    assert made.error is None, made.error
    found = versions(made)
    assert {name: found.get(name, "missing") for name in expected} == expected


REFUSALS: list[tuple[str, str, str, str, str, str]] = [
    ("t4", "torch flash-attn", "3.12", "companion-no-code", "needs sm_80 or newer", "torch 2.14.1+cu126"),
    ("rtx2080", "torch flash-attn", "3.12", "companion-no-code", "needs sm_80 or newer", "2.15.0+cu130"),
    ("v100", "torch xformers", "3.12", "companion-no-code", "needs sm_75 or newer", "torch 2.14.1+cu126"),
    ("rtx4090-windows", "torch vllm", "3.12", "companion-missing", "vllm has no ready files", "WSL 2"),
    ("mi300x", "torch vllm", "3.11", "companion-missing", "vllm has no ready files", "--python 3.12"),
    ("rtx4090", "torch apex", "3.12", "companion-missing", "apex has no ready files", "without apex"),
    ("spark", "torch llama-cpp-python", "3.12", "needs-build", "built from source", "--allow-build llama"),
    ("rtx4090", "torch==2.15.0 vllm", "3.12", "companion-missing", "vllm has no ready", "without vllm"),
    ("h100-r550", "torch jax[cuda13]", "3.12", "companion-missing", "jax has no ready", "without jax"),
]


@pytest.mark.parametrize(("machine", "request_", "python", "slug", "message", "hint"), REFUSALS)
def test_where_no_set_exists_it_says_who_is_in_the_way_and_what_works(
    machine: str, request_: str, python: str, slug: str, message: str, hint: str
) -> None:
    made = planned(machine, request_, python)
    assert made.status == "impossible"
    assert made.error is not None
    assert (made.error.slug, made.error.exit_code) == (slug, 3)
    assert message in made.error.message
    assert any(hint in text for text in made.error.hints), made.error.hints


def test_torch_of_a_package_that_brings_its_own_comes_from_there() -> None:
    made = planned("mi300x", "torch vllm")
    places = {package.name: package.index_url for package in made.packages}
    assert places["vllm"] == places["torch"] == "https://wheels.vllm.ai/rocm/0.30.0/rocm723"
    assert versions(made)["vllm"] == "0.30.0+rocm723"


def test_a_file_of_a_release_page_comes_from_its_release() -> None:
    made = planned("rtx4090", "torch flash-attn", companion_source="community")
    (url,) = [package.url for package in made.packages if package.name == "flash-attn"]
    assert url == (
        "https://github.com/mjun0812/flash-attention-prebuild-wheels/releases/download/v0.9.47/flash_attn-2.8.3"
        "+cu130torch2.13-cp312-cp312-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl"
    )


REASONS = [
    ("v100", "torch vllm>=0.30", "vllm>=0.30", "vllm 0.1", "without vllm"),
    ("rtx4090", "torch flash-attn==9.9", "flash-attn==9.9", "flash-attn 2.8.3", "another flash-attn"),
    (
        "a100-r470",
        "torch flash-attn==2.8.3",
        "flash-attn for cu118",
        "files for cu12",
        "update the driver to 525.60.13",
    ),
    (
        "h100-r550",
        "torch jax[cuda13]",
        "jax for cu126",
        "files for cu13",
        "update the driver to 580 or newer",
    ),
    ("rtx4090", "torch nvdiffrast", "the nvdiffrast that", "PyPI has none", "from its repository"),
    ("rtx4090", "torch==2.15.0 pytorch3d", "torch 2.15.0", "torch ==2.12.*", "without pytorch3d"),
    ("rtx4090", "sglang vllm", "outlines-core==0.2.14", "outlines-core==0.1.26", "without sglang"),
    ("rtx5090-r610", "flash-attn-3", "sm_90", "RTX 5090 (sm_120)", "without flash-attn-3"),
    (
        "rtx5090-r610",
        "flash-attn==2.7.4.post1",
        "--allow-build flash-attn",
        "no ready",
        "--allow-build flash",
    ),
]


@pytest.mark.parametrize(("machine", "request_", "wanted", "found", "hint"), REASONS)
def test_the_reason_that_is_named_is_the_one_that_counts(
    machine: str, request_: str, wanted: str, found: str, hint: str
) -> None:
    error = planned(machine, request_).error
    assert error is not None
    assert wanted in (error.wanted or "")
    assert found in (error.found or "")
    assert any(hint in text for text in error.hints), error.hints


def test_a_gpu_that_a_package_has_no_code_for_is_named() -> None:
    made = planned("v100+a100", "torch flash-attn")
    said = [item.message for item in made.warnings if item.slug == "companion-not-for-gpu"]
    assert said == ["flash-attn has no code for Tesla V100; it runs on the other GPUs only"]


def test_what_it_costs_is_said() -> None:
    made = planned("rtx4090", "torch flash-attn vllm bitsandbytes")
    (said,) = [item.message for item in made.warnings if item.slug == "torch-held-back"]
    assert "torch 2.11.0+cu130 and not 2.15.0+cu130" in said
    assert "without flash-attn torch 2.14.0+cu130, without vllm torch 2.12.1+cu130" in said
    uses = {use.name: use for use in made.companions}
    assert uses["flash-attn"].held_back == uses["vllm"].held_back == "2.15.0"
    assert uses["bitsandbytes"].held_back is None
    assert uses["flash-attn"].allows[0] == "2.12.1"
    assert uses["vllm"].allows[:3] == ("2.14.0", "2.13.0", "2.11.0")


def test_a_limit_of_the_gpu_is_noted() -> None:
    made = planned("gtx1080ti", "torch bitsandbytes")
    assert any(item.slug == "companion-note" and "LLM.int8()" in item.message for item in made.warnings)
    assert not [item for item in planned("rtx4090", "torch bitsandbytes").warnings if "int8" in item.message]


def test_a_bound_is_kept_where_uv_chooses_within_it() -> None:
    made = planned("h100-r550", "torch onnxruntime-gpu>=1.20")
    assert [text for text in made.requirements if text.startswith("onnx")] == [
        "onnxruntime-gpu<1.27,>=1.19,>=1.20"
    ]


def test_every_constraint_of_a_companion_counts_where_its_marker_holds() -> None:
    texts = ("vllm<0.33", "vllm<0.27", "vllm<0.1; python_version < '3.8'")
    made = planned("rtx4090", "torch vllm", constraints=tuple(map(requirement, texts)))
    assert versions(made)["vllm"] == "0.26.0"


def test_sources_are_taken_only_where_they_are_allowed() -> None:
    made = planned("spark", "torch llama-cpp-python", allow_build=("llama-cpp-python",))
    assert made.error is None
    assert "builds-from-source" in {item.slug for item in made.warnings}


def test_ready_files_come_before_sources_that_are_allowed() -> None:
    made = planned("rtx4090", "torch flash-attn", allow_build=("flash-attn",))
    assert versions(made)["torch"] == "2.12.1+cu130"


def test_look_and_do_not_compute() -> None:
    """One file of a row that has all others is missing: Python 3.13 on Windows."""
    more = {"companion_source": "community", "backend": "cu126"}
    assert planned("rtx4090-windows", "torch==2.12.* flash-attn", "3.12", **more).error is None
    error = planned("rtx4090-windows", "torch==2.12.* flash-attn", "3.13", **more).error
    assert error is not None
    assert error.found == "Python 3.13 (cp313)"


def installed_beside(torch: str, *others: str, ask: str = "torch", box: str = "rtx4090", **more: Any) -> Plan:
    """The plan for an environment that has these packages already."""
    machine = MACHINES[box]
    rows = [text.split("==") for text in (torch, *others)]
    there = tuple(Installed(name=name, version=version, backend=None) for name, version in rows)
    there = (structs.replace(there[0], backend=there[0].version.partition("+")[2]), *there[1:])
    target = structs.replace(foreign_target(machine, "3.12"), installed=there)
    asked = tuple(map(requirement, ask.split()))
    return plan(Request(requirements=asked, **more), machine, target, shipped())


def test_an_installed_package_goes_on_working() -> None:
    made = installed_beside("torch==2.11.0+cu130", "vllm==0.26.0", upgrade=True)
    assert versions(made)["torch"] == "2.11.0+cu130"
    assert "vllm" not in versions(made)
    (said,) = [item.message for item in made.warnings if item.slug == "torch-held-back"]
    assert "vllm 0.26.0 is installed and goes on working" in said
    assert "torchinstall auto -U torch vllm" in said


@pytest.mark.parametrize(
    ("there", "asked", "right"),
    [
        ("bitsandbytes==0.45.0", "bitsandbytes==0.48.1", "0.48.1"),
        ("bitsandbytes==0.45.0", "bitsandbytes!=0.45.0,<0.49", "0.48.2"),
        ("bitsandbytes==0.48.1", "bitsandbytes", "0.48.1"),
        # It is built for a CUDA that this torch does not have.
        ("bitsandbytes==0.45.0", "bitsandbytes<0.49", "0.48.2"),
        ("xformers==0.0.32.post1", "xformers", "0.0.33.post2"),
    ],
)
def test_what_is_installed_gives_way_to_what_was_asked_for(there: str, asked: str, right: str) -> None:
    """With the torch that is installed; only a version that fits both stays."""
    made = installed_beside("torch==2.9.1+cu128", there, ask=f"torch==2.9.1 {asked}")
    assert versions(made) == {"torch": "2.9.1+cu128", requirement(asked).package: right}


def test_an_installed_package_that_is_asked_for_is_updated() -> None:
    made = installed_beside("torch==2.11.0+cu130", "vllm==0.26.0", ask="torch vllm", upgrade=True)
    assert (versions(made)["torch"], versions(made)["vllm"]) == ("2.14.0+cu130", "0.33.0")


def test_what_does_not_go_together_already_decides_nothing() -> None:
    made = installed_beside("torch==2.15.0+cu130", "vllm==0.26.0", "xformers==0.0.33.post2", upgrade=True)
    assert versions(made)["torch"] == "2.15.0+cu130"
    broken = [item.message.split()[0] for item in made.warnings if item.slug == "companion-breaks"]
    assert broken == ["vllm", "xformers"]


def test_what_was_built_here_holds_the_torch_that_it_was_built_for() -> None:
    made = installed_beside("torch==2.13.0+cu130", "flash-attn==2.8.3", upgrade=True)
    assert versions(made)["torch"] == "2.13.0+cu130"


@pytest.mark.parametrize(
    "others",
    [
        ("jax==0.11.2", "jax-cuda13-plugin==0.11.2"),
        ("jax==0.13.1", "jax-cuda13-plugin==0.13.1"),
        ("jax==0.11.2",),
        ("cupy-cuda13x==13.6.0",),
        ("cupy==13.6.0",),
        ("onnxruntime-gpu==1.99",),
        ("onnxruntime-gpu==1.17.0",),
        ("faiss-gpu==1.7.2",),
        ("ctranslate2==4.4.0",),
        ("bitsandbytes==0.99.0",),
        ("transformer-engine==2.99.0",),
        ("gsplat==1.9.9",),
        ("tensorflow==2.19.0",),
        ("tensorrt-llm==1.9",),
        ("flash-attn==2.8.1+of.our.own",),
    ],
)
def test_an_installed_version_that_no_row_knows_breaks_nothing_and_holds_nothing(
    others: tuple[str, ...],
) -> None:
    """Rows list the newest versions: of others nobody knows which torch they are built for."""
    for upgrade, torch in ((False, "2.11.0+cu130"), (True, "2.15.0+cu130")):
        made = installed_beside("torch==2.11.0+cu130", *others, upgrade=upgrade)
        assert versions(made)["torch"] == torch
        assert not {"companion-breaks", "torch-held-back"} & {item.slug for item in made.warnings}


@pytest.mark.parametrize(
    ("others", "again"),
    [
        (("jax==0.11.2", "jax-cuda12-plugin==0.11.2"), "torch 'jax[cuda12]'"),
        (("cupy-cuda12x==13.6.0",), "torch cupy-cuda12x"),
        (("faiss-gpu-cu12==1.10.0",), "torch faiss-gpu-cu12"),
        (("cudf-cu12==27.2",), "torch cudf-cu12"),
        (("nvidia-dali-cuda120==1.2",), "torch nvidia-dali-cuda120"),
    ],
)
def test_what_depends_on_the_cuda_major_only_is_judged_by_that_whatever_its_version(
    others: tuple[str, ...], again: str
) -> None:
    name = others[0].partition("==")[0]
    made = installed_beside("torch==2.11.0+cu126", *others, upgrade=True)
    assert versions(made)["torch"] == "2.14.1+cu126"
    (held,) = [item.message for item in made.warnings if item.slug == "torch-held-back"]
    assert f"because of {name} (what is installed goes with torch 2.14.1)" in held
    assert held.endswith(f"torchinstall auto -U {again}")
    way = "without faiss" if name.startswith("faiss") else f"in place of {name}"
    assert way in held.partition(" would be possible")[0]
    made = installed_beside("torch==2.11.0+cu130", *others, backend="cu130")
    (broken,) = [item.message for item in made.warnings if item.slug == "companion-breaks"]
    assert broken.endswith(f"torchinstall auto {again}")
    cpu = installed_beside("torch==2.11.0+cpu", *others, backend="cpu")
    assert not [item for item in cpu.warnings if item.slug == "companion-breaks"]


@pytest.mark.parametrize(
    ("other", "instead"),
    [
        ("cupy-cuda12x==13.6.0", "cupy-cuda13x is, and can take its place"),
        ("cudf-cu12==27.2", "cudf-cu13 is, and can take its place"),
        ("jax==0.11.2 jax-cuda12-plugin==0.11.2", "'jax[cuda13]' is, and can take its place"),
        ("faiss-gpu-cu12==1.10.0", None),
        ("bitsandbytes==0.43.3", None),
    ],
)
def test_an_installed_torch_is_not_moved_for_what_did_not_go_with_it_before(
    other: str, instead: str | None
) -> None:
    made = installed_beside("torch==2.11.0+cu130", *other.split())
    assert (made.status, versions(made)["torch"]) == ("satisfied", "2.11.0+cu130")
    (message,) = [item.message for item in made.warnings if item.slug == "companion-breaks"]
    assert (instead or "torch 2.11.0+cu130; to update both") in message
    assert message.startswith(f"{other.split('==')[0]} {other.split()[0].split('==')[1]} is installed")


@pytest.mark.parametrize("other", ["bitsandbytes==0.48.2", "xformers==0.0.33.post2"])
def test_a_torch_for_the_cpu_is_not_moved_for_what_needs_a_gpu_that_is_not_there(other: str) -> None:
    made = installed_beside("torch==2.9.1+cpu", other, box="no-gpu")
    assert (made.status, versions(made)["torch"]) == ("satisfied", "2.9.1+cpu")
    (message,) = [item.message for item in made.warnings if item.slug == "companion-breaks"]
    assert message.startswith(other.replace("==", " "))


def test_an_installed_torch_is_moved_to_what_an_installed_package_pins() -> None:
    made = installed_beside("torch==2.15.0+cu130", "vllm==0.26.0")
    assert versions(made)["torch"] == "2.11.0+cu130"
    assert "torch-held-back" in {item.slug for item in made.warnings}


@pytest.mark.parametrize("there", ["torch==2.11.0+cpu", "torch==2.11.0+cu126"])
def test_a_torch_that_has_to_be_chosen_anew_goes_with_what_is_installed(there: str) -> None:
    made = installed_beside(there, "cupy-cuda12x==13.6.0")
    expected = "2.11.0+cu126" if "cu126" in there else "2.14.1+cu126"
    assert versions(made)["torch"] == expected


def test_a_local_version_says_which_torch_an_unknown_version_is_built_for() -> None:
    made = installed_beside("torch==2.13.0+cu130", "flash-attn==2.9.1+cu.13.0.torch.2.13", upgrade=True)
    assert versions(made)["torch"] == "2.13.0+cu130"
    made = installed_beside("torch==2.15.0+cu130", "flash-attn==2.9.1+cu.13.0.torch.2.16")
    assert [item.slug for item in made.warnings if item.slug.startswith("companion")] == ["companion-breaks"]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("torch cupy-cuda12x==13.6.0", {"torch": "2.14.1+cu126", "cupy-cuda12x": "13.6.0"}),
        ("torch cupy<14", {"torch": "2.15.0+cu130", "cupy-cuda13x": None}),
        ("torch jax[cuda13]==0.11.2", {"torch": "2.15.0+cu130", "jax": "0.11.2"}),
        ("torch jax==0.11.2", {"torch": "2.15.0+cu130", "jax": "0.11.2"}),
        ("torch bitsandbytes==0.46.1", {"torch": "2.14.1+cu126", "bitsandbytes": "0.46.1"}),
        ("torch bitsandbytes==0.48.0", {"torch": "2.15.0+cu130", "bitsandbytes": "0.48.0"}),
        ("vllm==0.11.0", {"torch": "2.8.0+cu129", "vllm": "0.11.0"}),
        ("torch onnxruntime-gpu==1.20.*", {"torch": "2.14.1+cu126", "onnxruntime-gpu": None}),
    ],
)
def test_an_older_version_is_planned_where_it_is_known_what_it_goes_with(
    request_: str, expected: dict[str, str | None]
) -> None:
    assert expected.items() <= versions(planned("rtx4090", request_)).items()


@pytest.mark.parametrize(
    ("request_", "message", "found"),
    [
        (
            "torch onnxruntime-gpu>1.20,<1.20",
            "no release of onnxruntime-gpu",
            "bounds that no version can meet",
        ),
        ("torch vllm==0.26.0 vllm==0.25.1", "no release of vllm", "bounds that no version can meet"),
        ("torch transformers<4,>5", "no release of transformers", "bounds that no version can meet"),
        ("torch jax[cuda12] onnxruntime-gpu>=1.27", "no build of torch", "files for cu12*"),
        ("torch vllm>=0.40", "no release of vllm", "vllm 0.33.0"),
    ],
)
def test_bounds_that_no_known_release_meets_are_refused(request_: str, message: str, found: str) -> None:
    error = planned("rtx4090", request_).error
    assert error is not None
    assert error.message.startswith(message)
    assert error.found == found
    assert not any("--allow-build" in hint for hint in error.hints)


def test_a_refusal_names_the_set_without_the_bounds_that_are_in_its_way() -> None:
    error = planned("rtx4090", "torch==2.15.0 vllm").error
    assert error is not None
    assert "torchinstall auto torch vllm  # another torch: torch 2.14.0+cu130 has them all" in error.hints
    # Sources of vllm name the same torch as its files.
    assert not any("--allow-build" in hint for hint in error.hints)


def test_a_package_of_the_family_without_files_for_the_system_is_not_planned() -> None:
    error = planned("m3", "torch triton").error
    assert error is not None
    assert error.found == "no files of triton 3.9.0 for macos_arm64"


def test_what_is_installed_in_place_of_a_package_is_not_missed() -> None:
    made = planned("rtx4090-windows", "torch triton")
    assert versions(made)["triton-windows"] == "3.8.0.post29"
    assert "works-in-part" not in {item.slug for item in made.warnings}


def test_which_torch_each_allows_is_explained() -> None:
    made = planned("rtx4090", "torch flash-attn vllm")
    text = " ".join(explain(made, "cu130"))
    assert (
        "flash-attn (2.8.3+cu.13.0.torch.2.11 is planned) has ready files here for torch 2.12.1, 2.12.0"
        in text
    )
    assert "vllm (0.26.0 is planned) has ready files here for torch 2.14.0, 2.13.0, 2.11.0" in text
    assert explain(made, "vllm")[1] == "It keeps torch 2.15.0 out."
    refused = planned("t4", "torch flash-attn")
    assert explain(refused, "flash-attn") == ("flash-attn has no ready files here for any torch.",)


@pytest.mark.parametrize(
    ("request_", "format_", "lines"),
    [
        (
            "torch flash-attn",
            "pip",
            ["--index-url https://wheels.astral.sh/simple/cu130 --no-deps flash"],
        ),
        ("torch torch-scatter", "pip", ["--find-links https://data.pyg.org/whl/torch-2.13.0+cu130.html"]),
        ("torch torch-scatter", "uv", ['format = "flat"', 'torch-scatter = { index = "links-1" }']),
        ("torch flash-attn", "uv", ['url = "https://wheels.astral.sh/simple/cu130"\nexplicit = true']),
        ("torch flash-attn", "constraints", ["flash-attn==2.8.3+cu.13.0.torch.2.12"]),
    ],
)
def test_exports_take_each_package_from_its_place(
    request_: str, format_: str, lines: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "machine.json"
    file.write_text(json.dumps(machine_to_json(MACHINES["rtx4090"])), encoding="utf-8")
    more = ("--offline", "--python-version", "3.12", "--machine", str(file), "--format", format_)
    said = run(tmp_path, "export", *request_.split(), *more)
    assert said.code == 0, said.err
    assert [line for line in lines if line not in said.out] == []


@pytest.mark.parametrize(
    ("machine", "brought"),
    [(linux(amd("gfx1100")), "triton-rocm"), (linux(intel("8086:e20b", integrated=False)), "triton-xpu")],
)
@pytest.mark.parametrize("asked", ["triton", "triton==3.8.0"])
def test_what_torch_brings_under_another_name_is_not_installed_over_it(
    machine: Machine, brought: str, asked: str
) -> None:
    made = decide(machine, "torch", "torchvision", asked)
    assert brought in versions(made)
    assert "triton" not in versions(made)
    assert made.requirements == ("torch", "torchvision")
    assert any(brought in item.message for item in made.warnings if item.slug == "companion-renamed")


HELD_BACK = [
    ("torch torchtext", "torchtext"),
    ("torch torch-tensorrt", "torch-tensorrt"),
    ("torch torchrec fbgemm-gpu", "torchrec"),
    ("torch==2.3.1 torchtext", ""),
    ("torch torchvision torchaudio", ""),
]


@pytest.mark.parametrize(("request_", "holder"), HELD_BACK)
def test_a_package_of_the_family_that_keeps_torch_back_is_named(request_: str, holder: str) -> None:
    made = planned("rtx4090", request_)
    said = [item.message for item in made.warnings if item.slug == "torch-held-back"]
    assert [f"because of {holder}:" in text for text in said] == [True] * bool(holder), said


@pytest.mark.parametrize(
    ("numpy", "said"), [("numpy", True), ("numpy>=1.21", True), ("numpy==2.1.0", True), ("numpy<2", False)]
)
def test_numpy_is_settled_only_by_a_version_that_works(numpy: str, *, said: bool) -> None:
    made = decide(MACHINES["rtx4090"], "torch==2.1.2", numpy, python="3.11")
    assert any("NumPy 1" in item.message for item in made.warnings) == said
    limited = decide(
        MACHINES["rtx4090"], "torch==2.1.2", "numpy", python="3.11", constraints=(requirement("numpy<2"),)
    )
    assert not any("NumPy 1" in item.message for item in limited.warnings)


def test_sources_are_forbidden_beside_what_is_compiled_not_beside_pure_packages() -> None:
    assert "rouge-score" not in planned("rtx4090", "torch transformers rouge-score").ready_only
    assert "rouge-score" in planned("rtx4090", "torch bitsandbytes rouge-score").ready_only
