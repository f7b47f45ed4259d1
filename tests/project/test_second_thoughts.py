"""From each layout to each other and back: the file is what it was, and the lock is right at each step."""

from __future__ import annotations

import re
import sys

import pytest

from tests.project.conftest import Place
from tests.project.test_cases import configure, extra, text_of, torch, unchanged_twice
from tests.project.test_sync import GPU, HEAD, NONE, PROJECT, uv
from tests.support.systems import POSIX
from torchinstall.project.model import Scope

pytestmark = pytest.mark.e2e

if sys.platform != "linux" or sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13), (3, 14)):
    pytest.skip("the small index has wheels for CPython 3.11 to 3.14 on Linux", allow_module_level=True)

LAYOUTS = {
    "this-machine": ("--layout", "this-machine", "--backend", "cu128"),
    "markers": ("--layout", "markers", "--on", "linux=cu128", "--on", "windows=cpu"),
    "groups": ("--layout", "groups", "--with", "cpu", "--with", "cu128", "--default", "cpu"),
    "extras": ("--layout", "extras", "--with", "cpu", "--with", "cu128"),
}
COMMENTED = (
    "# the project\n"
    + HEAD
    + """# what it needs
dependencies = [
    "numpy",  # arrays
    # keep torch below in step with the cluster
{torch}]

# tools
[dependency-groups]
dev = [
    "pytest",  # tests
]

[tool.other]
key = 1  # not ours
"""
)


def is_right(place: Place, layout: str) -> None:
    folder = place.folder / "demo"
    if layout == "this-machine":
        assert torch(folder)["linux_x86_64"] == "2.11.0+cu128"
    elif layout == "markers":
        found = torch(folder)
        assert (found["linux_x86_64"], found["win_amd64"]) == ("2.11.0+cu128", "2.11.0+cpu")
    else:
        kind = layout.removesuffix("s")
        assert torch(folder, Scope(kind, "cu128"))["linux_x86_64"] == "2.11.0+cu128"  # type: ignore[arg-type]  # a literal that comes as plain text
        assert torch(folder, Scope(kind, "cpu"))["win_amd64"].endswith("+cpu")  # type: ignore[arg-type]  # a literal that comes as plain text


@pytest.mark.parametrize("line", ['    "torch>=2.8",  # by hand\n', ""])
@pytest.mark.parametrize("first", LAYOUTS)
def test_there_and_back(place: Place, first: str, line: str) -> None:
    start = COMMENTED.format(torch=line)
    folder = place.project(start)
    said = configure(place, folder, *LAYOUTS[first], *NONE)
    assert said.code == 0, said.err
    before = text_of(folder)
    is_right(place, first)
    for other in LAYOUTS:
        if other == first:
            continue
        said = configure(place, folder, *LAYOUTS[other], *NONE)
        assert said.code == 0, said.err
        is_right(place, other)
        assert set(re.findall("#.*", start)) <= set(re.findall("#.*", text_of(folder)))
        said = configure(place, folder, *LAYOUTS[first], *NONE)
        assert said.code == 0, said.err
        assert text_of(folder) == before
    is_right(place, first)
    said = configure(place, folder, "--remove", *NONE)
    assert said.code == 0, said.err
    assert text_of(folder) == start


def test_one_backend_more_and_one_less(place: Place) -> None:
    folder = place.project(COMMENTED.format(torch='    "torch>=2.8",\n'))
    assert configure(place, folder, *LAYOUTS["extras"], *NONE).code == 0
    two = text_of(folder)
    said = configure(place, folder, "--with", "cu126", *NONE)
    assert said.code == 0, said.err
    assert torch(folder, extra("cu126"))["linux_x86_64"] == "2.10.0+cu126"
    assert torch(folder, extra("cu128"))["linux_x86_64"] == "2.11.0+cu128"
    said = configure(place, folder, "--without", "cu126", *NONE)
    assert said.code == 0, said.err
    assert text_of(folder) == two
    said = configure(place, folder, "--without", "cu126", *NONE)
    assert said.code == 2
    assert "error[not-offered]" in said.err


def test_nothing_to_take_out(place: Place) -> None:
    folder = place.project(COMMENTED.format(torch=""))
    said = configure(place, folder, "--without", "cpu", *NONE)
    assert said.code == 2
    assert "error[not-offered]" in said.err
    assert "it chooses no build" in said.err


def test_a_backend_is_replaced_and_a_platform_changed(place: Place) -> None:
    folder = place.project(COMMENTED.format(torch='    "torch>=2.8",\n'))
    assert configure(place, folder, *LAYOUTS["this-machine"], *NONE).code == 0
    said = configure(place, folder, "--backend", "cu126", *NONE)
    assert said.code == 0, said.err
    assert torch(folder)["linux_x86_64"] == "2.10.0+cu126"
    assert "cu128" not in text_of(folder)
    said = configure(place, folder, "--on", "windows=cpu", *NONE)
    assert said.code == 0, said.err
    found = torch(folder)
    assert (found["linux_x86_64"], found["linux_aarch64"]) == ("2.10.0+cu126", "2.10.0+cu126")
    assert found["win_amd64"] == "2.11.0+cpu"
    unchanged_twice(place, folder)


def test_remove_keeps_what_others_wrote_since(place: Place) -> None:
    folder = place.project(COMMENTED.format(torch=""))
    assert configure(place, folder, *LAYOUTS["groups"], *NONE).code == 0
    path = folder / "pyproject.toml"
    path.write_text(text_of(folder).replace("key = 1", "key = 2"), encoding="utf-8")
    assert configure(place, folder, "--remove", *NONE).code == 0
    assert text_of(folder) == COMMENTED.format(torch="").replace("key = 1", "key = 2")
    said = configure(place, folder, "--remove", *NONE)
    assert said.code == 2
    assert "error[nothing-to-remove]" in said.err


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("layout", ["groups", "extras"])
def test_remove_without_a_memory(place: Place, layout: str, seen: bool) -> None:
    """On another machine, where nobody knows what the file was, not even if `configure` ran there."""
    start = COMMENTED.format(torch='    "torch>=2.8",  # by hand\n')
    folder = place.project(start)
    assert configure(place, folder, *LAYOUTS[layout], *NONE).code == 0
    place.env["TORCHINSTALL_CACHE_DIR"] = str(place.folder / "elsewhere")
    if seen:
        unchanged_twice(place, folder)
    said = configure(place, folder, "--remove", *NONE)
    assert said.code == 0, said.err
    assert "warning[not-remembered]" in said.err
    assert text_of(folder) == start


@pytest.mark.only_on(POSIX, "a shell script stands in for a program")
def test_a_script_gets_its_sources(place: Place) -> None:
    script = place.folder / "train.py"
    start = "#!/usr/bin/env python\nimport torch\nprint(torch.__version__)\n"
    script.write_text(start, encoding="utf-8")
    said = configure(place, place.folder, "--script", "train.py", "--backend", "cu126", *GPU)
    assert said.code == 0, said.err
    once = script.read_text("utf-8")
    assert once.startswith("#!/usr/bin/env python\n# /// script\n# requires-python = ")
    assert once.endswith("# ///\n\nimport torch\nprint(torch.__version__)\n")
    assert uv(place, place.folder, "run", "--script", "train.py") == "2.10.0+cu126"
    assert configure(place, place.folder, "--script", "train.py", *NONE).code == 0
    assert script.read_text("utf-8") == once
    said = configure(place, place.folder, "--script", "train.py", *LAYOUTS["extras"], *NONE)
    assert said.code == 2
    assert "error[script-has-one-build]" in said.err
    assert script.read_text("utf-8") == once
    for argv in (("--on", "linux=cu128", "--on", "windows=cpu"), ("--backend", "cu126")):
        said = configure(place, place.folder, "--script", "train.py", *argv, "--no-lock", *GPU)
        assert said.code == 0, said.err
        assert (script.read_text("utf-8") == once) == ("--backend" in argv)
    assert configure(place, place.folder, "--script", "train.py", "--remove", *NONE).code == 0
    assert script.read_text("utf-8") == start


PDM = (
    HEAD
    + 'dependencies = ["torch>=2.8"]\n\n[tool.pdm.dev-dependencies]\ntest = ["pytest"]  # tests\n\n'
    + '[[tool.pdm.source]]\nname = "pt"\nurl = "https://download.pytorch.org/whl/cu126"\n'
)


@pytest.mark.parametrize("layout", ["this-machine", "markers"])
def test_a_second_run_does_not_migrate_what_the_first_left(place: Place, layout: str) -> None:
    folder = place.project(PDM)
    argv = ("--no-lock", "--offline", *LAYOUTS[layout], *NONE)
    assert configure(place, folder, *argv).code == 0
    once = text_of(folder)
    assert "[tool.pdm.dev-dependencies]" in once
    assert configure(place, folder, *argv).code == 0
    assert text_of(folder) == once


def test_a_choice_becomes_another_backend_for_every_platform(place: Place) -> None:
    folder = place.project(PROJECT)
    assert configure(place, folder, *LAYOUTS["extras"], *NONE).code == 0
    said = configure(place, folder, "--layout", "markers", "--with", "cu126", *NONE)
    assert said.code == 0, said.err
    found = torch(folder)
    assert {found[key] for key in ("linux_x86_64", "linux_aarch64", "win_amd64")} == {"2.10.0+cu126"}
