"""Hints of container images: read where they are plain, ignored where they say nothing."""

from __future__ import annotations

import pytest

from tests.support.planning import decide, linux
from torchinstall.planning.gpus import ImageHint, image_hint

REQUIRE = "cuda>=12.6 brand=unknown,driver>=470,driver<471 brand=tesla,driver>=535,driver<536"


@pytest.mark.parametrize(
    ("env", "hint"),
    [
        ({}, None),
        ({"CUDA_VERSION": "12.8.1"}, ImageHint("12.8", "CUDA_VERSION")),
        ({"NVIDIA_REQUIRE_CUDA": REQUIRE}, ImageHint("12.6", "NVIDIA_REQUIRE_CUDA")),
        (
            {"NVIDIA_REQUIRE_CUDA": REQUIRE, "CUDA_VERSION": "12.6.3"},
            ImageHint("12.6", "NVIDIA_REQUIRE_CUDA"),
        ),
        ({"NVIDIA_REQUIRE_CUDA": "brand=tesla", "CUDA_VERSION": "11.8.0"}, ImageHint("11.8", "CUDA_VERSION")),
        ({"CUDA_VERSION": "12.8.1", "NVIDIA_VISIBLE_DEVICES": "void"}, None),
        ({"CUDA_VERSION": "12.8.1", "NVIDIA_VISIBLE_DEVICES": "all"}, ImageHint("12.8", "CUDA_VERSION")),
        ({"CUDA_VERSION": "latest"}, None),
    ],
)
def test_hint(env: dict[str, str], hint: ImageHint | None) -> None:
    assert image_hint(env) == hint


def test_a_declared_cuda_version_plans_a_gpu_build_where_no_gpu_is_visible() -> None:
    plan = decide(linux(environment=("container",)), target_cuda="12.6")
    assert plan.backend == "cu126"
    assert "capability-unknown" in {item.slug for item in plan.warnings}
    assert decide(linux(), target_cuda="").backend == "cpu"
