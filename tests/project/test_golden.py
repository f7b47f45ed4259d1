"""Before and after: every folder of `golden/` is a project, and what configuring makes of it.

`case.json` holds the layout and what must be said: `notes` (slugs) or `error` (slug). Without `after.toml`
the file must stay as it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.project.small import small_catalog
from torchinstall.core.errors import TorchInstallError
from torchinstall.project.choices import choices
from torchinstall.project.configure import Configured, FileEdit, ProjectChange, edit_files
from torchinstall.project.files import loads
from torchinstall.project.model import PLATFORMS, Layout
from torchinstall.project.pyproject import project_view

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())


def case_of(name: str) -> tuple[str, dict[str, Any]]:
    folder = GOLDEN / name
    return (folder / "before.toml").read_bytes().decode(), json.loads(
        (folder / "case.json").read_text("utf-8")
    )


def pinned(text: str) -> tuple[tuple[str, str], ...]:
    """What the choices of a file ask for on each platform."""
    found = choices(project_view(text), small_catalog())
    on = {item: row.backend for row in found if row.package == "torch" for item in row.platforms}
    return tuple((item, on[item]) for item in PLATFORMS[:3] if item in on)


def layout_of(case: dict[str, Any], text: str) -> Layout:
    wanted: dict[str, Any] = dict(case["layout"])
    on = tuple(tuple(pair) for pair in wanted.pop("on", ())) or (
        pinned(text) if wanted["name"] == "markers" else ()
    )
    backends = tuple(wanted.pop("backends", ())) or tuple(dict.fromkeys(backend for _, backend in on))
    caps = tuple(tuple(pair) for pair in wanted.pop("caps", ()))
    lists: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in wanted.items()
    }
    return Layout(backends=backends, on=on, caps=caps, **lists)


def configure(text: str, case: dict[str, Any]) -> Configured:
    change = ProjectChange(layout_of=lambda _view: layout_of(case, text), migrate=case.get("migrate", False))
    return edit_files((FileEdit(Path("pyproject.toml"), text, text),), change, small_catalog())


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 25


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, update_golden: bool) -> None:
    before, case = case_of(name)
    path = GOLDEN / name / "after.toml"
    if "error" in case:
        with pytest.raises(TorchInstallError) as caught:
            configure(before, case)
        assert caught.value.slug == case["error"]
        assert caught.value.hints
        return
    done = configure(before, case)
    if update_golden:
        path.write_bytes(done.text.encode())
    assert done.text == path.read_bytes().decode()
    assert sorted({note.slug for note in done.notes}) == sorted(case.get("notes", []))


@pytest.mark.parametrize("name", [name for name in CASES if (GOLDEN / name / "after.toml").exists()])
def test_twice_is_once(name: str) -> None:
    _, case = case_of(name)
    after = (GOLDEN / name / "after.toml").read_bytes().decode()
    before, _ = case_of(name)
    if case["layout"]["name"] == "markers" and "on" not in case["layout"]:
        case["layout"]["on"] = pinned(before)
    assert configure(after, case).text == after


@pytest.mark.parametrize("name", [name for name in CASES if (GOLDEN / name / "after.toml").exists()])
def test_nothing_that_a_person_wrote_is_lost(name: str) -> None:
    before, case = case_of(name)
    after = (GOLDEN / name / "after.toml").read_bytes().decode()
    for line in before.splitlines():
        if "#" in line and not case.get("migrate"):
            comment = line[line.index("#") :].strip()
            assert comment in after
    lost = _lost(loads(before.removeprefix("\ufeff")), loads(after.removeprefix("\ufeff")))
    assert lost <= set(case.get("changes", []))


def _lost(before: Any, after: Any, path: str = "") -> set[str]:
    """Paths whose value is gone or has become another one (lists may grow)."""
    if isinstance(before, dict):
        found: set[str] = set()
        for key, value in before.items():
            here = f"{path}.{key}" if path else key
            if not isinstance(after, dict) or key not in after:
                found.add(here)
            else:
                found |= _lost(value, after[key], here)
        return found
    if isinstance(before, list):
        return set() if isinstance(after, list) and all(item in after for item in before) else {path}
    return set() if before == after else {path}
