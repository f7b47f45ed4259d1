"""Bare names are read without packaging's parser, and mean the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from torchinstall.core.request import BareName, canonical_name, requirement

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)


@given(NAMES)
def test_a_name_means_what_packaging_reads(text: str) -> None:
    try:
        standard = Requirement(text)
    except InvalidRequirement:
        with pytest.raises(InvalidRequirement):
            requirement(text)
        return
    ours = requirement(f" {text} ")
    for what in ("name", "url", "marker"):
        assert getattr(ours, what) == getattr(standard, what)
    assert set(ours.extras) == standard.extras
    assert str(ours) == str(standard)


@given(NAMES)
def test_names_are_spelled_as_packaging_spells_them(text: str) -> None:
    assert canonical_name(text) == canonicalize_name(text)


@pytest.mark.parametrize(
    "text", ["torch>=2", "torch[opt]", "torch @ https://a/b.whl", "torch; os_name=='nt'"]
)
def test_everything_else_is_packagings(text: str) -> None:
    assert requirement(text) == Requirement(text)


def test_equal_by_name() -> None:
    assert requirement("Torch_Vision") == BareName("torch-vision")
    assert len({BareName("torch"), BareName("Torch"), BareName("torchvision")}) == 2
    assert BareName("torch") != "torch"
