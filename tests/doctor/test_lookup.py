"""Advice adapts to the values in an error text, by the shipped tables."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doctor.test_symptoms import ERRORS
from tests.support.planning import shipped
from torchinstall.core.versions import dotted
from torchinstall.doctor.symptoms import Match, explain


def first(text: str, platform: str = "linux_x86_64") -> Match:
    return explain(text, shipped(), platform=platform)[0]


def text_of(heading: str) -> str:
    return next(text for name, text in ERRORS if name == heading)


def value(match: Match, name: str) -> str:
    return dict(match.values)[name]


def test_too_new_gpu_is_sent_to_newer_builds_only() -> None:
    match = first(text_of("arch-not-supported sm=120"))
    named = value(match, "backends").split(", ")
    assert "cu128" in named
    assert not {"cu118", "cu121", "cu124", "cu126"} & set(named)
    assert dotted(value(match, "first_torch")) >= (2, 7)
    assert match.commands == ("torchinstall auto",)


@pytest.mark.parametrize("heading", ["arch-not-supported sm=61", "gpu-too-old capability=6.1"])
def test_pascal_is_sent_to_the_last_build_that_has_its_code(heading: str) -> None:
    match = first(text_of(heading))
    assert match.commands == ("torchinstall auto --backend cu126",)
    assert value(match, "torch") == "2.14"


def test_a_gpu_that_nothing_serves_is_told_so() -> None:
    match = first(text_of("gpu-too-old capability=3.0"))
    assert "no published CUDA build" in match.cause
    assert match.commands == ("torchinstall auto --allow-cpu",)


def test_found_version_is_the_cuda_that_the_driver_supports() -> None:
    match = first(text_of("driver-too-old found=12080"))
    assert "CUDA 12.8" in match.cause
    assert value(match, "backend") == "cu128"
    assert match.advice is not None
    assert "driver 580" in match.advice


def test_driver_floor_is_that_of_the_platform() -> None:
    windows = first(text_of("driver-too-old found=12080"), "win_amd64")
    assert dotted(value(windows, "next_driver")) >= (580,)
    older = first("The NVIDIA driver on your system is too old (found version 11040).")
    assert value(older, "driver_cuda") == "11.4"
    assert value(older, "next_driver") == "525.60.13"


def test_text_of_windows_is_matched_with_windows_builds() -> None:
    """Windows cu128 of torch 2.7 and 2.8 reaches down to Pascal, Linux cu128 never did."""
    told = (
        "NVIDIA GeForce GTX 1080 with CUDA capability sm_61 is not compatible with "
        "the current PyTorch installation."
    )
    linux, windows = first(told), first("C:\\venv\\torch " + told)
    assert "cu128" not in value(linux, "backends").split(", ")
    assert "cu128" in value(windows, "backends").split(", ")


@pytest.mark.parametrize(("major", "family"), [("12", "cu12"), ("13", "cu13")])
def test_missing_runtime_names_a_backend_of_its_cuda(major: str, family: str) -> None:
    match = first(f"ImportError: libcudart.so.{major}: cannot open shared object file: No such file")
    assert value(match, "backend").startswith(family)


def test_python_is_the_nearest_with_wheels() -> None:
    match = first(text_of("python-too-new python=3.14 package=torch version=2.6.0"))
    assert match.commands[0] == "uv venv --clear --python 3.13"


PIECES = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.builds(
            lambda text, start, length: text[start % (len(text) or 1) :][:length],
            st.sampled_from([text for _, text in ERRORS]),
            st.integers(0, 2000),
            st.integers(0, 400),
        ),
    ),
    max_size=8,
)


@given(PIECES)
@settings(max_examples=150, deadline=None)
def test_any_text_is_explained_or_left_alone(pieces: list[str]) -> None:
    """Pasted texts are cut anywhere; every match has a cause and something to type, all values filled in."""
    for match in explain("".join(pieces), shipped()):
        assert match.cause
        assert match.commands
        assert "{" not in match.cause + "".join(match.commands)
        assert "unknown" not in " ".join(match.commands)
