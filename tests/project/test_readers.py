"""Other tools' tables and requirements files: what they say is in uv's lock after a migration."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.project.conftest import Place
from tests.project.test_cases import configure, text_of, torch, unchanged_twice
from tests.project.test_sync import HEAD, NONE, typed
from torchinstall.project.lock import read_lock
from torchinstall.project.model import Scope

pytestmark = pytest.mark.e2e

if sys.platform != "linux" or sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13), (3, 14)):
    pytest.skip("the small index has wheels for CPython 3.11 to 3.14 on Linux", allow_module_level=True)


def migrated(place: Place, folder: Path) -> str:
    said = configure(place, folder, "--migrate", *NONE)
    assert said.code == 0, said.err
    once = text_of(folder)
    unchanged_twice(place, folder)
    said = configure(place, folder, "--migrate", *NONE)
    assert said.code == 0, said.err
    assert text_of(folder) == once
    return said.err


def group(name: str) -> Scope:
    return Scope("group", name)


def test_environments_of_hatch(place: Place) -> None:
    base = place.index.index_base
    text = (
        HEAD + 'dependencies = ["numpy"]\n\n[tool.hatch.envs.gpu]\ndependencies = ["torch>=2.9", "pytest"]\n'
    )
    text += f'[tool.hatch.envs.gpu.env-vars]\nUV_INDEX = "pytorch={base}/cu126"\n\n'
    text += '[tool.hatch.envs.cpu]\nextra-dependencies = ["torch==2.9.1+cpu"]\n\n'
    text += '[tool.hatch.envs.lint]\ndependencies = ["pytest"]\n'
    folder = place.project(text)
    migrated(place, folder)
    assert torch(folder, group("gpu"))["linux_x86_64"] == "2.10.0+cu126"
    assert torch(folder, group("cpu"))["win_amd64"] == "2.9.1+cpu"
    assert torch(folder) == {}
    assert "lint = [" not in text_of(folder)


def test_a_page_of_links_stands_for_its_index(place: Place) -> None:
    base = place.index.index_base
    text = HEAD + 'dependencies = ["torch>=2.9"]\n\n[[tool.pdm.source]]\nname = "links"\n'
    text += f'type = "find_links"\nurl = "{base}/cu126/torch_stable.html"\n'
    folder = place.project(text)
    migrated(place, folder)
    assert torch(folder)["linux_x86_64"] == "2.10.0+cu126"
    folder = place.project(
        HEAD
        + f'dependencies = ["torch>=2.9"]\n\n[tool.uv]\nfind-links = ["{base}/cu128/torch_stable.html"]\n'
    )
    migrated(place, folder)
    assert torch(folder)["linux_x86_64"] == "2.11.0+cu128"


PIXI = """dependencies = ["numpy"]

[tool.pixi.workspace]
channels = ["conda-forge"]
platforms = ["linux-64", "win-64"]

[tool.pixi.dependencies]
python = ">=3.11"
{conda}
[tool.pixi.pypi-dependencies]
demo = {{ path = ".", editable = true }}
filelock = ">=3"

[tool.pixi.feature.cpu.pypi-dependencies]
torch = {{ version = ">=2.9", index = "{base}/cpu" }}

[tool.pixi.feature.gpu.target.linux-64.pypi-dependencies]
torch = {{ version = ">=2.9", index = "{base}/cu126" }}

[tool.pixi.environments]
cpu = ["cpu"]
gpu = ["gpu"]
"""


def test_features_of_pixi(place: Place) -> None:
    folder = place.project(HEAD + PIXI.format(base=place.index.index_base, conda=""))
    migrated(place, folder)
    assert torch(folder, group("cpu"))["win_amd64"] == "2.11.0+cpu"
    assert torch(folder, group("gpu")) == {"linux_x86_64": "2.10.0+cu126"}
    assert torch(folder, package="filelock")["macos_arm64"] == "3.20.0"


def test_a_conda_package_of_pixi_is_not_a_wheel(place: Place) -> None:
    text = HEAD + PIXI.format(base=place.index.index_base, conda='pytorch-gpu = ">=2.5"\n')
    folder = place.project(text)
    said = configure(place, folder, "--migrate", *NONE)
    assert said.code == 2
    assert "error[not-carried]" in said.err
    assert text_of(folder) == text


DYNAMIC = HEAD + 'dynamic = ["dependencies", "optional-dependencies"]\n\n'
SETUPTOOLS = """[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[tool.setuptools.dynamic]
dependencies = { file = ["requirements.txt"] }
optional-dependencies = { gpu = { file = "gpu.txt" }, cpu = { file = "cpu.txt" } }
"""
HATCH = """[tool.hatch.metadata.hooks.requirements_txt]
files = ["requirements.txt"]

[tool.hatch.metadata.hooks.requirements_txt.optional-dependencies]
gpu = ["gpu.txt"]
cpu = ["cpu.txt"]
"""


@pytest.mark.parametrize("tool", [SETUPTOOLS, HATCH])
def test_dynamic_dependencies(place: Place, tool: str) -> None:
    text = DYNAMIC + tool + "\n[tool.uv]\npackage = false\n"
    folder = place.project(text)
    base = place.index.index_base
    (folder / "requirements.txt").write_text("numpy  # arrays\n", "utf-8")
    (folder / "gpu.txt").write_text(f"--extra-index-url {base}/cu126\ntorch>=2.9\n", "utf-8")
    (folder / "cpu.txt").write_text(f"-f {base}/torch_stable.html\ntorch==2.9.1+cpu\n", "utf-8")
    said = configure(place, folder, *NONE)
    assert said.code == 2, said.err
    assert "error[needs-migration]" in said.err
    assert text_of(folder) == text
    migrated(place, folder)
    assert torch(folder, Scope("extra", "gpu"))["linux_x86_64"] == "2.10.0+cu126"
    assert torch(folder, Scope("extra", "cpu"))["linux_aarch64"] == "2.9.1+cpu"
    assert torch(folder, package="numpy")["macos_arm64"] == "2.3.0"
    assert "dynamic" not in text_of(folder)


def test_requirements_files_become_a_project(place: Place) -> None:
    folder = place.folder / "demo"
    folder.mkdir()
    base = place.index.index_base
    (folder / "requirements.txt").write_text(f"--index-url {place.index.default_index}\nnumpy\n", "utf-8")
    (folder / "requirements-gpu.txt").write_text(
        f"-r requirements.txt\n--extra-index-url {base}/cu126\ntorch>=2.9\n", "utf-8"
    )
    (folder / "requirements_cpu.txt").write_text("torch==2.9.1+cpu\n", "utf-8")
    said = configure(place, folder, *NONE)
    assert said.code == 2
    assert "configure --migrate" in said.err
    said = configure(place, folder, "--migrate", "--dry-run", *NONE)
    assert said.code == 0, said.err
    assert not (folder / "pyproject.toml").exists()
    migrated(place, folder)
    assert torch(folder, group("gpu"))["linux_x86_64"] == "2.10.0+cu126"
    assert torch(folder, group("cpu"))["linux_x86_64"] == "2.9.1+cpu"
    assert torch(folder, package="numpy")["win_amd64"] == "2.3.0"


def test_a_project_that_cannot_be_locked_is_not_made(place: Place) -> None:
    folder = place.folder / "demo"
    folder.mkdir()
    (folder / "requirements.txt").write_text("torch==2.9.1+cpu\nnowhere-to-be-found\n", "utf-8")
    said = configure(place, folder, "--migrate", *NONE)
    assert said.code == 1, said.err
    assert not (folder / "pyproject.toml").exists()
    assert not (folder / "uv.lock").exists()


def test_versions_of_python_have_builds_of_their_own(place: Place) -> None:
    place.env.pop("UV_PYTHON")
    head = HEAD.replace(f">=3.{sys.version_info[1]}", ">=3.11,<3.14")
    text = head + "dependencies = [\n    \"torch==2.5.1+cu121 ; python_version < '3.13'\",\n"
    text += "    \"torch==2.9.1+cu128 ; python_version >= '3.13' and sys_platform == 'linux'\",\n]\n"
    folder = place.project(text)
    said = configure(place, folder, "--migrate", *NONE)
    assert said.code == 0, said.err
    lock = read_lock(folder / "uv.lock", "demo")
    assert lock is not None

    def build(platform: str, python: str) -> str | None:
        found = lock.tree(platform, python).get("torch")
        return found.version if found else None

    assert build("linux_x86_64", "3.11") == build("linux_x86_64", "3.12") == "2.5.1+cu121"
    assert build("linux_x86_64", "3.13") == "2.9.1+cu128"
    assert build("win_amd64", "3.12") == "2.5.1+cu121"
    assert build("win_amd64", "3.13") is None
    said = typed(place, folder, "sync", "--dry-run", *NONE)
    assert said.code == 0, said.err
    once = text_of(folder)
    said = configure(place, folder, *NONE)
    assert said.code == 0, said.err
    said = configure(place, folder, "--on", "windows=cpu", *NONE)
    assert said.code == 2
    assert "error[not-carried]" in said.err
    assert text_of(folder) == once
