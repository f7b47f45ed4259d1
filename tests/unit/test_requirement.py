"""Bare names are read without packaging's parser, and mean the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from torchinstall.core.request import canonical_name, requirement

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
    assert (ours.name, ours.url, ours.marker, set(ours.extras)) == (
        standard.name,
        None,
        None,
        standard.extras,
    )
    assert str(ours) == str(standard)


@given(NAMES)
def test_names_are_spelled_as_packaging_spells_them(text: str) -> None:
    assert canonical_name(text) == canonicalize_name(text)


@pytest.mark.parametrize(
    "text",
    [
        "torch>=2,<3",
        "torch[opt,all]==2.9.*",
        "torch @ https://a/b.whl",
        "torch>=2; os_name == 'nt'",
        "torch @ https://a/b.whl ; os_name=='nt'",
    ],
)
def test_everything_else_is_packagings(text: str) -> None:
    ours, standard = requirement(text), Requirement(text)
    assert Requirement(str(ours)) == standard
    assert ours.specifier == str(standard.specifier)
    assert ours.marker == (str(standard.marker) if standard.marker else None)
    assert set(ours.extras) == standard.extras
