"""What other tools' files say beside the index of torch comes along, or is named: nothing goes in silence."""

from __future__ import annotations

import sys

import pytest

from tests.project.conftest import Place
from tests.project.test_cases import configure, text_of, torch, unchanged_twice
from tests.project.test_kept import group
from tests.project.test_sync import HEAD, NONE
from torchinstall.project.pyproject import view_in

pytestmark = pytest.mark.e2e

if sys.platform != "linux" or sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13), (3, 14)):
    pytest.skip("the small index has wheels for CPython 3.11 to 3.14 on Linux", allow_module_level=True)

NO_PACKAGE = "\n[tool.uv]\npackage = false\n"


def migrated(place: Place, text: str) -> str:
    folder = place.project(
        text.replace("BASE", place.index.index_base).replace("PYPI", place.index.default_index)
    )
    said = configure(place, folder, "--migrate", *NONE)
    assert said.code == 0, said.err
    unchanged_twice(place, folder)
    return said.err


def test_sources_of_poetry_2_for_any_package(place: Place) -> None:
    (place.folder / "demo" / "libs").mkdir(parents=True)
    (place.folder / "demo" / "libs" / "pyproject.toml").write_text(
        '[project]\nname = "accelerate"\nversion = "9"\n'
    )
    migrated(
        place,
        HEAD
        + 'dependencies = ["torch (>=2.8)", "accelerate", "numpy"]\n\n[tool.poetry.dependencies]\n'
        + 'torch = { source = "gpu" }\naccelerate = { path = "libs", develop = true }\n'
        + 'numpy = { source = "ours" }\n\n[[tool.poetry.source]]\nname = "gpu"\nurl = "BASE/cu128"\n'
        + 'priority = "explicit"\n\n[[tool.poetry.source]]\nname = "ours"\nurl = "PYPI"\n'
        + 'priority = "explicit"\n',
    )
    view = view_in(place.folder / "demo")
    assert view.sources["accelerate"] == [{"path": "libs", "editable": True}]
    assert view.sources["numpy"] == [{"index": "ours"}]
    assert {row.name: row.explicit for row in view.indexes} == {"ours": True, "pytorch-cu128": True}
    assert torch(place.folder / "demo")["linux_x86_64"] == "2.11.0+cu128"


def test_dynamic_lists_of_poetry_2(place: Place) -> None:
    migrated(
        place,
        HEAD
        + 'dynamic = ["dependencies"]\n\n[tool.poetry]\npackage-mode = false\n\n[tool.poetry.dependencies]\n'
        + 'torch = { version = ">=2.8+cu126", source = "gpu" }  # the cluster\nnumpy = "^2.0"\n\n'
        + '[[tool.poetry.source]]\nname = "gpu"\nurl = "BASE/cu126"\npriority = "explicit"\n',
    )
    view = view_in(place.folder / "demo")
    assert view.lists[next(iter(view.lists))] == ["torch>=2.8", "numpy>=2.0,<3.0"]
    assert torch(place.folder / "demo")["linux_x86_64"] == "2.10.0+cu126"


def test_a_pin_keeps_its_marker_and_its_bounds(place: Place) -> None:
    """What is required on one platform is not required on the others afterwards."""
    migrated(
        place,
        HEAD
        + "dependencies = [\n    \"torch==2.9.1+cu126 ; sys_platform == 'linux'\",  # cluster\n"
        + "    \"torchvision!=0.23.0,==0.24.1+cu126 ; sys_platform == 'linux'\",\n]\n"
        + NO_PACKAGE,
    )
    text = text_of(place.folder / "demo")
    assert "\"torch==2.9.1 ; sys_platform == 'linux'\",  # cluster" in text
    assert "\"torchvision!=0.23.0,==0.24.1 ; sys_platform == 'linux'\"" in text
    assert set(torch(place.folder / "demo")) == {"linux_x86_64", "linux_aarch64"}


def test_pdm_and_rye_beside_torch(place: Place) -> None:
    said = migrated(
        place,
        HEAD
        + 'dependencies = ["torch>=2.8", "torchvision"]\n\n[[tool.pdm.source]]\nname = "gpu"\n'
        + 'url = "BASE/cu128"\ninclude_packages = ["torch*"]\nexclude_packages = ["torchvision"]\n\n'
        + "[[tool.pdm.source]]\n"
        + 'type = "find_links"\nname = "pyg"\nurl = "PYPI/numpy/"\n\n'
        + '[tool.pdm.resolution.overrides]\nnumpy = ">=2.0"\n\n[tool.rye.workspace]\nmembers = ["libs/*"]\n'
        + NO_PACKAGE,
    )
    view = view_in(place.folder / "demo")
    assert "numpy = '>=2.0' in tool.pdm.resolution.overrides stays there" in said
    assert view.texts("find-links") == (f"{place.index.default_index}/numpy/",)
    assert view.tool("uv", "workspace") == {"members": ["libs/*"]}


def test_constraints_files(place: Place) -> None:
    folder = place.folder / "demo"
    folder.mkdir()
    base = place.index.index_base
    (folder / "requirements.txt").write_text(
        f"-c pins.txt\n--extra-index-url {base}/cu126\ntorch\ntorchvision\nnumpy\n"
    )
    (folder / "pins.txt").write_text("torch==2.9.1+cu126\ntorchvision<0.25\nnumpy<3\n")
    said = configure(place, folder, "--migrate", *NONE)
    assert said.code == 0, said.err
    assert view_in(folder).texts("constraint-dependencies") == ("numpy<3",)
    assert torch(folder)["linux_x86_64"] == "2.9.1+cu126"
    assert torch(folder, package="torchvision")["linux_x86_64"] == "0.24.1+cu126"


@pytest.mark.parametrize(
    ("needs", "build"), [("torch>=2.8", "2.11.0+cpu"), ("torch==2.9.1+cu126", "2.9.1+cu126")]
)
def test_the_old_form_of_the_dev_group(place: Place, needs: str, build: str) -> None:
    dev = f'dev-dependencies = [\n    # for all\n    "{needs}",  # tests\n    "numpy",\n]\n'
    text = HEAD + f"dependencies = []\n\n[tool.uv]\n{dev}"
    folder = place.project(text)
    said = configure(place, folder, *NONE)
    assert said.code == 2
    assert "error[needs-migration]" in said.err
    assert text_of(folder) == text
    migrated(place, text)
    assert "    # for all\n" in text_of(folder)
    assert '",  # tests\n' in text_of(folder)
    assert torch(folder, group("dev"))["linux_x86_64"] == build
    assert torch(folder) == {}


def test_a_requirement_that_uv_cannot_read_is_named(place: Place) -> None:
    folder = place.project(HEAD + 'dependencies = ["torch>=2.8.0+cu126"]\n')
    said = configure(place, folder, *NONE)
    assert said.code == 2
    assert "'torch>=2.8.0+cu126' in project.dependencies is not a requirement" in said.err


def test_remove_says_how_to_go_back_to_what_uv_could_not_read(place: Place) -> None:
    text = HEAD + 'dependencies = ["torch==2.9.1+cu126"]\n'
    migrated(place, text)
    folder = place.folder / "demo"
    said = configure(place, folder, "--remove", *NONE)
    assert said.code == 1
    assert "hint: torchinstall configure --remove --no-lock" in said.err
    assert configure(place, folder, "--remove", "--no-lock", *NONE).code == 0
    assert text_of(folder) == text


def test_a_layout_of_a_project_whose_lists_were_in_files(place: Place) -> None:
    folder = place.project(
        HEAD + 'dynamic = ["optional-dependencies"]\ndependencies = []\n\n[tool.setuptools.dynamic]\n'
        'optional-dependencies.gpu = { file = ["gpu.txt"] }\n' + NO_PACKAGE
    )
    (folder / "gpu.txt").write_text(
        f"--extra-index-url {place.index.index_base}/cu126\ntorch==2.9.1\nnumpy\n"
    )
    assert configure(place, folder, "--migrate", *NONE).code == 0
    said = configure(place, folder, "--layout", "groups", "--with", "cpu", "--with", "cu128", *NONE)
    assert said.code == 0, said.err
    assert "dynamic" not in text_of(folder)
    assert torch(folder, group("cu128"))["linux_x86_64"] == "2.9.1+cu128"
