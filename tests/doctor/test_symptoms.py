"""Every row of the symptom table recognises what people really paste, and nothing else."""

from __future__ import annotations

import re
import string
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.planning import shipped
from torchinstall.doctor.symptoms import LOOK_UPS, Match, normalise, symptoms
from torchinstall.doctor.symptoms import explain as explain_with

HERE = Path(__file__).parent


def sections(name: str) -> list[tuple[str, str]]:
    """(heading, text) of a file whose texts begin with `#### heading`."""
    text = (HERE / name).read_text(encoding="utf-8")
    parts = re.split(r"^#### (.*)\n", text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def explain(text: str) -> tuple[Match, ...]:
    return explain_with(text, shipped())


ERRORS = sections("error_texts.txt")
UNRELATED = sections("unrelated_texts.txt")


def as_printed(text: str) -> str:
    return text


def with_crlf(text: str) -> str:
    return text.replace("\n", "\r\n")


def with_colours(text: str) -> str:
    """Every line in two colours, with a hyperlink, as terminals record them."""
    return "\n".join(
        f"\x1b[1m\x1b[38;5;203m{line[:9]}\x1b[0m\x1b]8;;https://e.org\x1b\\{line[9:]}\x1b]8;;\x1b\\"
        for line in text.split("\n")
    )


def in_a_box(text: str) -> str:
    """Wrapped at words to 90 columns inside a box, as rich prints it."""
    lines = [
        part
        for line in text.split("\n")
        for part in textwrap.wrap(line, 90, break_long_words=False, break_on_hyphens=False) or [""]
    ]
    return "\n".join(f"│ {line:<90} │" for line in lines)


@pytest.mark.parametrize("dress", [as_printed, with_crlf, with_colours, in_a_box])
@pytest.mark.parametrize(("heading", "text"), ERRORS, ids=[f"{i}-{h}" for i, (h, _) in enumerate(ERRORS)])
def test_recognised_from_the_original_text(heading: str, text: str, dress: Callable[[str], str]) -> None:
    slug, _, rest = heading.partition(" ")
    expected = dict(re.findall(r"(\w+)=(.*?)(?= \w+=|$)", rest))

    matches = explain(dress(text))

    assert matches, f"{slug} was not recognised"
    assert matches[0].slug == slug
    values = dict(matches[0].values)
    assert {name: values.get(name) for name in expected} == expected


def test_every_row_has_an_original_text() -> None:
    assert {heading.split()[0] for heading, _ in ERRORS} == {row.slug for row in symptoms()}


@pytest.mark.parametrize(("heading", "text"), UNRELATED, ids=[heading for heading, _ in UNRELATED])
def test_unrelated_texts_are_left_alone(heading: str, text: str) -> None:
    assert explain(text) == (), heading


def test_there_are_fifty_unrelated_texts() -> None:
    assert len(UNRELATED) >= 50
    assert len({text for _, text in UNRELATED}) == len(UNRELATED)


def test_rows_are_complete() -> None:
    slugs = [row.slug for row in symptoms()]
    assert len(slugs) == len(set(slugs))
    for row in symptoms():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", row.slug)
        assert row.sources, row.slug
        assert row.commands or any(item.commands for item in row.when), row.slug
        assert row.look_up is None or row.look_up in LOOK_UPS
        for text in (row.cause, row.advice or "", *row.commands):
            assert not text.endswith("."), row.slug


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def test_wordings_name_only_values_that_they_need() -> None:
    """A wording with a value that may be missing would print `unknown` where a command should be."""
    for row in symptoms():
        for item in row.when:
            for template in (item.cause or "", item.advice or "", *(item.commands or ())):
                assert fields(template) <= set(item.needs), row.slug


def test_commands_of_a_row_need_nothing_that_a_pattern_may_lack() -> None:
    for row in symptoms():
        always = set.intersection(*(set(re.compile(pattern).groupindex) for pattern in row.patterns))
        for command in row.commands:
            assert fields(command) <= always, row.slug


def test_never_a_library_from_a_download_site() -> None:
    for row in symptoms():
        words = " ".join((row.cause, row.advice or "", *row.commands))
        assert "System32" not in words
        assert not re.search(r"https?://(?!download\.pytorch\.org)", words), row.slug
    (match,) = explain('OSError: [WinError 126] Error loading "C:\\v\\torch\\lib\\fbgemm.dll"')
    assert "Microsoft" in match.cause
    assert match.commands == ("winget install --id Microsoft.VCRedist.2015+.x64",)


def test_most_telling_match_comes_first() -> None:
    """The warning that names the GPU says more than the error that follows it."""
    text = "\n".join(
        text for heading, text in ERRORS if heading in ("no-kernel-image", "arch-not-supported sm=61")
    )
    assert [match.slug for match in explain(text)][:2] == ["arch-not-supported", "no-kernel-image"]


def test_nothing_in_nothing() -> None:
    assert explain("") == ()
    assert explain("\x1b[0m\r\n \n") == ()


def test_normalise_joins_lines_and_drops_decoration() -> None:
    assert normalise("\x1b[31m│ a\r\n│   ╰─▶ \u2018b\u2019\x1b[0m") == "a 'b'"


def test_long_text_is_searched_in_reasonable_time() -> None:
    """A megabyte of log is not a reason to wait: patterns look a bounded way ahead."""
    log = "torch nvidia-cublas WinError version `GLIBC_2.x' site-packages No matching\n" * 14_000
    assert explain(log) == ()
