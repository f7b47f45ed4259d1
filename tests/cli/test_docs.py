"""The reference pages say what the source says."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import torchinstall
from scripts.render_cli_docs import PAGES
from torchinstall.cli.app import LazyGroup, build
from torchinstall.cli.flags import FLAGS
from torchinstall.cli.verb import Verb
from torchinstall.core import errors
from torchinstall.planner.explain import RULE_WORDS

SOURCE = Path(torchinstall.__file__).parent
DOCS = SOURCE.parent / "docs"
ERRORS = {name: kind for name, kind in vars(errors).items() if name.endswith("Error")}
RAISED = {
    *ERRORS,
    "FetchError",
    "Finding",
    "Message",
    "Diagnosis",
}
SLUG = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


def literals(node: ast.expr) -> Iterator[str]:
    """The texts that an expression can be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from literals(node.body)
        yield from literals(node.orelse)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from literals(value)


def slugs_of(path: Path) -> set[str]:
    """Every slug that a module raises, warns with or finds."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in RAISED:
            named = [word.value for word in node.keywords if word.arg == "slug"]
            for value in named or node.args[:1]:
                found |= set(literals(value))
    return found


def in_source() -> set[str]:
    found = {slug for path in SOURCE.rglob("*.py") for slug in slugs_of(path)}
    hints = json.loads((SOURCE / "install" / "hints.json").read_text(encoding="utf-8"))
    return found | {row["slug"] for row in hints["rows"]} | set(RULE_WORDS)


def in_pages(*names: str) -> set[str]:
    """The slugs in the first column of tables."""
    found: set[str] = set()
    for name in names or [str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")]:
        for line in (DOCS / name).read_text(encoding="utf-8").splitlines():
            if line.startswith("| `"):
                found |= set(re.findall(r"`([a-z][a-z0-9-]*)`", line.split("|")[1]))
    return found


def test_every_slug_is_written_down() -> None:
    assert in_source() - in_pages() == set()


def test_every_slug_of_the_page_is_in_the_source() -> None:
    text = "\n".join(
        path.read_text(encoding="utf-8") for path in SOURCE.rglob("*") if path.suffix in (".py", ".json")
    )
    # `unsupported-os` is put together from two parts.
    gone = {slug for slug in in_pages("reference/errors.md") if slug not in text}
    assert {slug for slug in gone if not slug.startswith("unsupported-")} == set()


def test_slugs_are_kebab_case() -> None:
    assert [slug for slug in in_source() if not SLUG.fullmatch(slug)] == []


def test_exit_codes_are_written_down() -> None:
    page = (DOCS / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    for name, kind in ERRORS.items():
        assert f"| {kind.exit_code} | `{name}` |" in page
        assert f"{kind.exit_code} " in (build().epilog or "")


@pytest.mark.parametrize("name", sorted(PAGES))
def test_generated_pages_are_up_to_date(name: str) -> None:
    page = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert page == PAGES[name](), "run: python -m scripts.render_cli_docs --write"


def verbs(group: LazyGroup | None = None) -> list[Verb]:
    """Every verb there is."""
    group = group or build()
    found: list[Verb] = []
    for name in group.table:
        command = group.get_command(None, name)  # type: ignore[arg-type]  # no context is needed
        if isinstance(command, LazyGroup):
            found += verbs(command)
        else:
            assert isinstance(command, Verb)
            found.append(command)
    return found


@pytest.mark.parametrize("verb", verbs(), ids=lambda verb: str(verb.name))
def test_help_has_three_examples_that_parse(verb: Verb) -> None:
    assert len(verb.examples) >= 3
    spellings = {option for param in verb.params for option in (*param.opts, *param.secondary_opts)}
    for command, purpose in verb.examples:
        assert purpose
        ours = re.split(r"[|>]", command)
        words = next(part for part in ours if "torchinstall" in part).partition(" -- ")[0].split()
        for word in words:
            if word.startswith("-") and word != "-":
                assert word.partition("=")[0] in spellings, command


def test_help_fits_80_columns() -> None:
    page = PAGES["cli.md"]()
    for block in re.findall(r"```text\n(.*?)```", page, re.DOTALL):
        assert [line for line in block.splitlines() if len(line) > 80] == []


def test_every_flag_is_declared_once_and_belongs_to_a_verb() -> None:
    used = {param.name for verb in verbs() for param in verb.params}
    assert set(FLAGS) <= used
