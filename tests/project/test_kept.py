"""What a person chose stays: companions in lists of their own, names of their own, lists that others name."""

from __future__ import annotations

import sys

import pytest

from tests.project.conftest import Place
from tests.project.test_cases import configure, extra, text_of, torch, unchanged_twice
from tests.project.test_sync import GPU, HEAD, NONE, typed
from torchinstall.project.model import Scope

pytestmark = pytest.mark.e2e

if sys.platform != "linux" or sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13), (3, 14)):
    pytest.skip("the small index has wheels for CPython 3.11 to 3.14 on Linux", allow_module_level=True)

INDEX = """
[[tool.uv.index]]
name = "{name}"
url = "{base}/{backend}"
explicit = true
"""


def index(place: Place, backend: str, name: str = "") -> str:
    return INDEX.format(name=name or f"pytorch-{backend}", base=place.index.index_base, backend=backend)


def group(name: str) -> Scope:
    return Scope("group", name)


def test_a_companion_in_a_group_has_a_source_of_its_own(place: Place) -> None:
    folder = place.project(
        HEAD
        + 'dependencies = ["torch>=2.8"]\n\n[dependency-groups]\ndev = ["torchvision", "pytest"]\n\n'
        + '[tool.uv.sources]\ntorch = { index = "pt", marker = "sys_platform == \'linux\'" }\n'
        + 'torchvision = { index = "pt", marker = "sys_platform == \'linux\'", group = "dev" }\n'
        + index(place, "cu128", "pt")
    )
    start = text_of(folder)
    unchanged_twice(place, folder)
    assert torch(folder, group("dev"), package="torchvision")["linux_x86_64"] == "0.26.0+cu128"
    # It goes with torch to another layout, and comes back.
    said = configure(place, folder, "--layout", "groups", "--with", "cpu", "--with", "cu128", *NONE)
    assert said.code == 0, said.err
    assert torch(folder, group("cpu"), group("dev"), package="torchvision")["win_amd64"] == "0.26.0+cpu"
    assert configure(place, folder, "--remove", *NONE).code == 0
    assert text_of(folder) == start


def test_no_source_for_a_group_that_does_not_list_the_package(place: Place) -> None:
    folder = place.project(
        HEAD
        + 'dependencies = []\n\n[dependency-groups]\ngpu = ["torch>=2.8"]  # workstations\n'
        + 'ci = ["torch>=2.8", "torchvision"]\ndev = ["pytest", { include-group = "gpu" }]\n\n'
        + '[tool.uv]\nconflicts = [[{ group = "ci" }, { group = "gpu" }], '
        + '[{ group = "ci" }, { group = "dev" }]]\n\n[tool.uv.sources]\n'
        + 'torch = [{ index = "pytorch-cpu", group = "ci" }, { index = "pytorch-cu126", group = "gpu" }]\n'
        + index(place, "cpu")
        + index(place, "cu126")
    )
    start = text_of(folder)
    said = configure(place, folder, *NONE)
    assert said.code == 0, said.err
    assert torch(folder, group("gpu"))["linux_x86_64"] == "2.10.0+cu126"
    assert torch(folder, group("ci"), package="torchvision")["linux_x86_64"] == "0.26.0+cpu"
    unchanged_twice(place, folder)
    # A group that another one includes is empty afterwards, not gone.
    said = configure(place, folder, "--layout", "extras", "--with", "cpu", "--with", "cu126", *NONE)
    assert said.code == 0, said.err
    assert torch(folder, extra("cu126"))["linux_x86_64"] == "2.10.0+cu126"
    assert torch(folder, group("dev")) == {}
    assert configure(place, folder, "--remove", *NONE).code == 0
    assert text_of(folder) == start


@pytest.mark.parametrize("seen", [True, False])
def test_what_a_person_wrote_is_not_taken_out(place: Place, seen: bool) -> None:
    """Neither where configure had nothing to write, nor where it has never been and the names are others."""
    name = "cu126" if seen else "torch-cu126"
    folder = place.project(
        HEAD
        + f'dependencies = []\n\n[project.optional-dependencies]\n{name} = ["torch>=2.8"]\n'
        + 'cpu-build = ["torch>=2.8"]\n\n[tool.uv]\n'
        + f'conflicts = [[{{ extra = "{name}" }}, {{ extra = "cpu-build" }}]]\n\n[tool.uv.sources]\n'
        + f'torch = [{{ index = "pytorch-cu126", extra = "{name}" }}, '
        + '{ index = "pytorch-cpu", extra = "cpu-build" }]\n'
        + index(place, "cpu")
        + index(place, "cu126")
    )
    start = text_of(folder)
    if seen:
        unchanged_twice(place, folder)
    said = configure(place, folder, "--remove", *NONE)
    assert said.code == 2
    assert "error[nothing-to-remove]" in said.err
    assert text_of(folder) == start


def test_a_source_without_a_marker_is_no_choice_for_macos(place: Place) -> None:
    folder = place.project(
        HEAD
        + 'dependencies = ["torch>=2.8"]\n\n[tool.uv.sources]\ntorch = { index = "pt" }\n'
        + index(place, "cu126", "pt")
    )
    said = configure(place, folder, "--on", "linux=cu128", *NONE)
    assert said.code == 0, said.err
    found = torch(folder)
    assert found["linux_x86_64"].endswith("+cu128")
    assert found["win_amd64"].endswith("+cu126")
    assert found["macos_arm64"] == "2.11.0"


def test_a_member_keeps_what_its_workspace_chose(place: Place) -> None:
    root = HEAD.replace("demo", "root") + (
        'dependencies = ["demo"]\n\n[tool.uv]\npackage = false\n\n[tool.uv.workspace]\n'
        'members = ["members/*"]\n\n'
        "[tool.uv.sources]\ndemo = { workspace = true }\n"
        'torch = { index = "ours", marker = "sys_platform == \'linux\'" }  # every member\n'
    )
    place.project(root + index(place, "cu126", "ours"), "work")
    text = HEAD + 'dependencies = ["torch>=2.8", "torchvision"]\n\n[tool.uv]\npackage = false\n'
    member = place.project(text, "work/members/demo")
    said = configure(place, member, *NONE)
    assert said.code == 0, said.err
    assert "torch = " not in text_of(member)
    assert "\ntorchvision = [\n" in text_of(member)
    assert text_of(place.folder / "work") == root + index(place, "cu126", "ours")
    unchanged_twice(place, member)
    # Another choice of the member's own is said to be one.
    said = configure(place, member, "--backend", "cu128", *NONE)
    assert said.code == 0, said.err
    assert "torch came from the index ours" in said.err
    assert "+cu128" in said.out
    assert configure(place, member, "--remove", *NONE).code == 0
    assert text_of(member) == text


def test_files_of_a_project_that_takes_a_package_from_a_folder(place: Place) -> None:
    folder = place.project(
        HEAD
        + 'dependencies = ["torch>=2.8", "lib"]\n\n[tool.uv]\npackage = false\n\n[tool.uv.sources]\n'
        + 'lib = { path = "libs/lib" }\ntorch = { index = "pt", marker = "sys_platform == \'linux\'" }\n'
        + index(place, "cu128", "pt")
    )
    place.project(HEAD.replace("demo", "lib") + "dependencies = []\n", "demo/libs/lib")
    unchanged_twice(place, folder)
    said = typed(place, folder, "export", "--format", "dockerfile", *GPU)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    syncs = [line for line in lines if "uv sync" in line or line == "COPY . ."]
    assert syncs[0].endswith("uv sync --frozen --no-dev --no-install-local")
    assert syncs[1] == "COPY . ."
    assert syncs[2].endswith("uv sync --frozen --no-dev --no-editable")
    said = typed(place, folder, "export", "--format", "requirements", *GPU)
    assert said.code == 2
    assert "a list of files cannot express lib from libs/lib" in said.err
    assert "hint: torchinstall export --format pylock" in said.err
    assert typed(place, folder, "export", "--format", "pylock", *GPU).code == 0
    said = typed(place, folder, "export", "--format", "constraints", *GPU)
    assert said.out.splitlines()[-1] == "torch==2.11.0+cu128"
    # Nothing is installed yet: what uv will keep is advised.
    assert "type: torchinstall sync" in typed(place, folder, "doctor", *NONE).out


def test_a_group_requires_nothing_where_the_project_does_not(place: Place) -> None:
    folder = place.project(
        HEAD + 'dependencies = ["torch>=2.8", "torchvision ; sys_platform == \'linux\'"]\n'
    )
    said = configure(place, folder, "--layout", "groups", "--with", "cpu", "--with", "cu128", *NONE)
    assert said.code == 0, said.err
    assert set(torch(folder, group("cpu"), package="torchvision")) == {"linux_x86_64", "linux_aarch64"}
    assert set(torch(folder, group("cpu"))) == {"linux_x86_64", "linux_aarch64", "win_amd64", "macos_arm64"}
    unchanged_twice(place, folder)


@pytest.mark.parametrize("table", ['extra-index-url = ["{}"]', 'index = [{{ name = "cu", url = "{}" }}]'])
def test_an_index_for_everything_is_a_choice_too(place: Place, table: str) -> None:
    folder = place.project(
        HEAD
        + 'dependencies = ["torch>=2.8"]\n\n[tool.uv]\n'
        + table.format(f"{place.index.index_base}/cu126")
        + "\n"
    )
    said = configure(place, folder, *NONE)
    assert said.code == 0, said.err
    assert torch(folder)["linux_x86_64"] == "2.10.0+cu126"
    unchanged_twice(place, folder)
    assert configure(place, folder, "--backend", "cu128", *NONE).code == 0
    assert torch(folder)["linux_x86_64"] == "2.11.0+cu128"


def test_groups_need_a_project(place: Place) -> None:
    folder = place.project('[dependency-groups]\nml = ["torch>=2.8"]\n')
    said = configure(place, folder, "--layout", "groups", "--with", "cpu", "--with", "cu128", *NONE)
    assert said.code == 2
    assert "error[not-supported]" in said.err
    assert "hint: torchinstall configure --layout markers" in said.err
    assert configure(place, folder, "--layout", "markers", *NONE).code == 0


def test_systems_that_are_left_out_are_named(place: Place) -> None:
    not_mac = "sys_platform != 'darwin'"
    folder = place.project(
        HEAD
        + 'dependencies = ["torch>=2.8"]\n\n[project.optional-dependencies]\n'
        + 'cpu = ["torch"]\ncu126 = ["torch"]\n\n'
        + '[tool.uv]\nconflicts = [[{ extra = "cpu" }, { extra = "cu126" }]]\n\n[tool.uv.sources]\n'
        + f'torch = [{{ index = "pytorch-cpu", extra = "cpu", marker = "{not_mac}" }}, '
        + f'{{ index = "pytorch-cu126", extra = "cu126", marker = "{not_mac}" }}]\n'
        + index(place, "cpu")
        + index(place, "cu126")
    )
    said = configure(place, folder, "--with", "cu128", *NONE)
    assert said.code == 0, said.err
    assert "environments = " in text_of(folder)
    assert "warning[environments-narrowed]" in said.err


ON_X86 = "sys_platform == 'linux' and platform_machine == 'x86_64'"


@pytest.mark.parametrize("pin", ["torch==2.8.0", "torch==2.8.0+cu126"])
def test_a_pin_may_name_what_one_platform_lacks(place: Place, pin: str) -> None:
    """There is no such file for ARM, and nobody asks for one."""
    folder = place.project(
        HEAD
        + f'dependencies = ["numpy"]\n\n[project.optional-dependencies]\ngpu = ["{pin}"]\n'
        + 'cpu = ["torch==2.8.0"]\n\n[tool.uv]\nconflicts = [[{ extra = "cpu" }, { extra = "gpu" }]]\n\n'
        + '[tool.uv.sources]\ntorch = [{ index = "pytorch-cu126", extra = "gpu" }, '
        + '{ index = "pytorch-cpu", extra = "cpu" }]\n'
        + index(place, "cpu")
        + index(place, "cu126")
    )
    start = text_of(folder)
    unchanged_twice(place, folder)
    assert torch(folder, extra("gpu"))["linux_x86_64"] == "2.8.0+cu126"
    # In another layout the version stays, not the build; a backend that never had it is refused.
    said = configure(place, folder, "--layout", "groups", "--with", "cpu", "--with", "cu121", *NONE)
    assert said.code == 3
    assert "error[bounds-unsatisfiable]: 'torch==2.8.0' in group cu121" in said.err
    assert text_of(folder) == start
    said = configure(place, folder, "--layout", "groups", "--with", "cpu", "--with", "cu128", *NONE)
    assert said.code == 0, said.err
    assert torch(folder, group("cu128"))["linux_x86_64"] == "2.8.0+cu128"
    unchanged_twice(place, folder)
    assert configure(place, folder, "--remove", *NONE).code == 0
    assert text_of(folder) == start


def test_a_place_of_its_own_for_one_platform_stays(place: Place) -> None:
    """Beside the choice of a build for the others."""
    folder = place.project(
        HEAD
        + 'dependencies = ["torch>=2.8"]\n\n[tool.uv.sources]\n'
        + f'torch = [{{ index = "pytorch-cu128", marker = "{ON_X86}" }}, {{ index = "usual", '
        + "marker = \"sys_platform == 'linux' and platform_machine == 'aarch64'\" }]\n"
        + index(place, "cu128")
        + f'\n[[tool.uv.index]]\nname = "usual"\nurl = "{place.index.default_index}"\nexplicit = true\n'
    )
    unchanged_twice(place, folder)
    found = torch(folder)
    assert (found["linux_x86_64"], found["linux_aarch64"]) == ("2.11.0+cu128", "2.11.0")
    said = configure(place, folder, "--backend", "cu130", "--no-lock", *GPU)
    assert "error[source-conflict]" in said.err


def test_a_source_of_what_torch_needs_stays_as_it_is_written(place: Place) -> None:
    folder = place.project(
        HEAD
        + 'dependencies = ["torch>=2.8,<2.10", "pytorch-triton-rocm>=3.4 ; sys_platform == \'linux\'"]\n\n'
        + '[tool.uv.sources]\ntorch = { index = "rocm", marker = "sys_platform == \'linux\'" }\n'
        + 'pytorch-triton-rocm = { index = "rocm" }\n'
        + index(place, "rocm6.4", "rocm")
    )
    unchanged_twice(place, folder)
    assert torch(folder, package="pytorch-triton-rocm")["linux_x86_64"] == "3.5.1"


@pytest.mark.parametrize("marker", ["'gpu' in dependency_groups", "'gpu' in extras", "extra == 'gpu'"])
def test_a_marker_that_no_platform_answers(place: Place, marker: str) -> None:
    folder = place.project(
        HEAD
        + 'dependencies = ["torch>=2.8"]\n\n[tool.uv.sources]\n'
        + f'torch = [{{ index = "pytorch-cu128", marker = "{marker}" }}]\n'
        + index(place, "cu128")
    )
    said = configure(place, folder, "--no-lock", "--offline", *NONE)
    assert said.code == 0, said.err
    assert f'marker = "{marker}"' in text_of(folder)


def test_a_bound_that_other_builds_meet_is_not_newer_than_the_tables(place: Place) -> None:
    folder = place.project(HEAD + 'dependencies = ["torch>=2.15"]\n')
    said = configure(place, folder, "--no-lock", "--offline", "--backend", "cu128", *GPU)
    assert said.code == 3
    assert "warning" not in said.err


def test_words_for_what_was_typed(place: Place) -> None:
    folder = place.project(HEAD + 'dependencies = ["torch"]\n')
    said = configure(place, folder, "torch_vision", *NONE)
    assert (said.code, "hint: torchinstall configure torchvision" in said.err) == (2, True)
    said = configure(place, folder, "--default", "cpu", *NONE)
    assert "error[bad-default]" in said.err
    assert "hint: torchinstall configure --layout groups --default cpu" in said.err
    layout = ("--layout", "groups", "--with", "CPU", "--with", "cuda12.8", "--default", "cuda-12.8")
    said = configure(place, folder, "--no-lock", "--offline", *layout, *NONE)
    assert said.code == 0, said.err
    assert 'default-groups = ["cu128"]' in text_of(folder)
    said = configure(place, folder, "--no-lock", "--on", "linux=quda", *NONE)
    assert "error[unknown-backend]" in said.err
    said = configure(place, folder, "--script", "train.py", *NONE)
    assert "error[no-pyproject]: there is no file train.py" in said.err
    assert "hint: uv init --script train.py" in said.err
    (folder / "train.py").write_text("# /// script\n# dependencies = [\n# ///\n", encoding="utf-8")
    said = configure(place, folder, "--script", "train.py", *NONE)
    assert "error[bad-pyproject]: the metadata in train.py is not valid TOML" in said.err
    (folder / "pyproject.toml").write_text("[project\n", encoding="utf-8")
    said = configure(place, folder, *NONE)
    assert "is not valid TOML" in said.err
    assert "permissions" not in said.err


def test_a_backend_for_every_platform_is_the_same_twice(place: Place) -> None:
    """Where each platform had another, and with a package that is built against torch."""
    folder = place.project(
        HEAD
        + 'dependencies = ["torch>=2.8"]\n\n[tool.uv.sources]\n'
        + f'torch = [{{ index = "pytorch-cu126", marker = "{ON_X86}" }}, '
        + '{ index = "pytorch-cpu", marker = "sys_platform == \'win32\'" }]\n'
        + index(place, "cpu")
        + index(place, "cu126")
    )
    for start in (text_of(folder), HEAD + 'dependencies = ["torch>=2.6", "flash-attn"]\n'):
        (folder / "pyproject.toml").write_text(start, encoding="utf-8")
        once = ""
        for _ in range(2):
            said = configure(place, folder, "--no-lock", "--offline", "--backend", "cu128", *GPU)
            assert said.code == 0, said.err
            once = once or text_of(folder)
        assert text_of(folder) == once
        assert "sys_platform == 'linux' or sys_platform == 'win32'" in once
        assert configure(place, folder, "--remove", "--no-lock", *NONE).code == 0
        assert text_of(folder) == start


def test_two_indexes_of_a_requirements_file_are_no_choice(place: Place) -> None:
    """Of two builds pip takes the one whose name sorts last; uv asks for one index."""
    folder = place.folder / "listed"
    folder.mkdir()
    base = place.index.index_base
    text = f"--extra-index-url {base}/cu126\n--extra-index-url {base}/cpu\ntorch==2.8.0\n"
    (folder / "requirements.txt").write_text(text, encoding="utf-8")
    said = configure(place, folder, "--migrate", "--no-lock", "--offline", *NONE)
    assert "error[not-carried]" in said.err
    assert not (folder / "pyproject.toml").exists()
