"""Projects as people have them: what they chose is what each extra, group and platform gets in uv's lock."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.support import RunResult
from tests.project.conftest import Place
from tests.project.test_sync import GPU, HEAD, NONE, typed, uv
from torchinstall.project.lock import read_lock
from torchinstall.project.model import PLATFORMS, Scope

pytestmark = pytest.mark.e2e

if sys.platform != "linux" or sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13), (3, 14)):
    pytest.skip("the small index has wheels for CPython 3.11 to 3.14 on Linux", allow_module_level=True)

EXTRAS = """
[project.optional-dependencies]
cpu = ["torch>=2.8"]
{gpu} = ["torch>=2.8"]

[tool.uv]
conflicts = [[{{ extra = "cpu" }}, {{ extra = "{gpu}" }}]]

[tool.uv.sources]
torch = [
    {{ index = "pytorch-cpu", extra = "cpu" }},
    {{ index = "pytorch-gpu", extra = "{gpu}" }},  # the workstations
]

[[tool.uv.index]]
name = "pytorch-cpu"
url = "{base}/cpu"
explicit = true

[[tool.uv.index]]
name = "pytorch-gpu"
url = "{base}/cu126"
explicit = true
"""


def configure(place: Place, folder: Path, *argv: str) -> RunResult:
    return typed(place, folder, "configure", "--index-base", place.index.index_base, *argv)


def torch(folder: Path, *scopes: Scope, package: str = "torch") -> dict[str, str]:
    """What each platform gets, read from the lock anew."""
    lock = read_lock(folder / "uv.lock", "demo")
    assert lock is not None
    python = f"3.{sys.version_info[1]}"
    trees = {platform: lock.tree(platform, python, scopes) for platform in PLATFORMS}
    return {platform: tree[package].version for platform, tree in trees.items() if package in tree}


def extra(name: str) -> Scope:
    return Scope("extra", name)


def text_of(folder: Path) -> str:
    return (folder / "pyproject.toml").read_bytes().decode()


def unchanged_twice(place: Place, folder: Path) -> None:
    """A second run changes nothing."""
    before = text_of(folder)
    said = configure(place, folder, *NONE)
    assert said.code == 0, said.err
    assert "nothing to change" in said.out
    assert text_of(folder) == before


@pytest.mark.parametrize("gpu", ["cuda", "cu124", "torch-cu126"])
@pytest.mark.parametrize("base", ["", "torch>=2.8"])
def test_extras_under_any_name_are_kept(place: Place, gpu: str, base: str) -> None:
    plain = HEAD + f"dependencies = {[base] if base else []}\n".replace("'", '"')
    folder = place.project(plain + EXTRAS.format(gpu=gpu, base=place.index.index_base))
    unchanged_twice(place, folder)
    assert torch(folder, extra(gpu))["linux_x86_64"] == "2.10.0+cu126"
    assert torch(folder, extra("cpu"))["win_amd64"] == "2.11.0+cpu"
    said = typed(place, folder, "sync", "--dry-run", *GPU)
    assert said.out.strip() == f"uv sync --extra {gpu}"


def test_only_the_platforms_that_the_project_names_are_checked(place: Place) -> None:
    text = HEAD + "dependencies = []\n" + EXTRAS.format(gpu="cu126", base=place.index.index_base)
    linux = "sys_platform == 'linux' and platform_machine == 'x86_64'"
    folder = place.project(text.replace("[tool.uv]\n", f'[tool.uv]\nenvironments = ["{linux}"]\n'))
    unchanged_twice(place, folder)
    said = configure(place, folder, "--with", "cu128", *NONE)
    assert said.code == 0, said.err
    assert torch(folder, extra("cu128"))["linux_x86_64"] == "2.11.0+cu128"
    assert torch(folder, extra("cu126"))["linux_x86_64"] == "2.10.0+cu126"


def test_an_extra_from_the_default_index_stays(place: Place) -> None:
    text = HEAD + "dependencies = []\n" + EXTRAS.format(gpu="cu126", base=place.index.index_base)
    text = text.replace('cpu = ["torch>=2.8"]', 'cpu = ["torch>=2.8"]\nplain = ["torch>=2.8"]')
    text = text.replace('{ extra = "cpu" },', '{ extra = "cpu" }, { extra = "plain" },')
    text = text.replace("torch = [\n", 'torch = [\n    { index = "usual", extra = "plain" },\n')
    text += f'\n[[tool.uv.index]]\nname = "usual"\nurl = "{place.index.default_index}"\nexplicit = true\n'
    folder = place.project(text)
    unchanged_twice(place, folder)
    assert torch(folder, extra("plain"))["linux_x86_64"] == "2.11.0"
    assert torch(folder, extra("cu126"))["linux_x86_64"] == "2.10.0+cu126"


def test_pins_in_extras_keep_a_backend_each(place: Place) -> None:
    folder = place.project(
        HEAD
        + "dependencies = []\n"
        + '[project.optional-dependencies]\ncpu = ["torch==2.9.1+cpu", "torchvision==0.24.1+cpu"]\n'
        + 'gpu = ["torch==2.9.1+cu126", "torchvision==0.24.1+cu126"]\n\n'
        + '[tool.uv]\nfind-links = ["https://download.pytorch.org/whl/torch_stable.html"]\n'
        + 'conflicts = [[{ extra = "cpu" }, { extra = "gpu" }]]\n'
    )
    said = configure(place, folder, "--migrate", *NONE)
    assert said.code == 0, said.err
    assert torch(folder, extra("cpu"))["linux_x86_64"] == "2.9.1+cpu"
    assert torch(folder, extra("gpu"))["linux_x86_64"] == "2.9.1+cu126"
    assert torch(folder, extra("gpu"), package="torchvision")["linux_x86_64"] == "0.24.1+cu126"
    unchanged_twice(place, folder)


def test_a_pin_without_markers_is_that_build_where_it_is_published(place: Place) -> None:
    head = HEAD.replace(f">=3.{sys.version_info[1]}", ">=3.10,<3.13")
    folder = place.project(
        head
        + 'dependencies = ["torch==2.5.1+cu121", "torchvision==0.20.1+cu121"]\n\n'
        + '[tool.uv]\nfind-links = ["https://download.pytorch.org/whl/torch_stable.html"]\n'
    )
    place.env.pop("UV_PYTHON")
    said = configure(place, folder, "--migrate", *NONE)
    assert said.code == 0, said.err
    lock = read_lock(folder / "uv.lock", "demo")
    assert lock is not None
    found = {platform: lock.tree(platform, "3.12")["torch"].version for platform in PLATFORMS}
    assert found == {
        "linux_x86_64": "2.5.1+cu121",
        "linux_aarch64": "2.5.1",
        "win_amd64": "2.5.1+cu121",
        "macos_arm64": "2.5.1",
    }


RYE = """dependencies = [
    # as on the cluster
    "torch==2.9.1+cu126",  # CUDA 12 only
    "filelock",
]

[tool.rye]
managed = true
"""
RYE_SOURCE = '\n[[tool.rye.sources]]\nname = "pytorch"\nurl = "{base}/cu126"\n'


def test_the_simplest_rye_project(place: Place) -> None:
    text = HEAD + RYE + "dev-dependencies = []\n" + RYE_SOURCE.format(base=place.index.index_base)
    folder = place.project(text)
    said = configure(place, folder, "--migrate", *NONE)
    assert said.code == 0, said.err
    assert torch(folder)["linux_x86_64"] == "2.9.1+cu126"
    assert torch(folder)["macos_arm64"] == "2.9.1"
    assert "tool.rye" not in text_of(folder)
    unchanged_twice(place, folder)


@pytest.mark.parametrize("argv", [(), ("--layout", "this-machine", "--backend", "cu126", "--no-lock")])
@pytest.mark.parametrize("apart", [False, True])
def test_comments_of_rye_lists_survive(place: Place, argv: tuple[str, ...], apart: bool) -> None:
    dev = 'dev-dependencies = [\n    "numpy",   # arrays\n    "pytest",\n]\n'
    text = HEAD + RYE + dev + RYE_SOURCE.format(base=place.index.index_base)
    text += '\n[tool.rye.scripts]\ntrain = "python -m demo"\n'
    if apart:  # the sources before the table that they belong to, with one of links
        source = RYE_SOURCE.format(base=place.index.index_base)
        links = (
            '\n[[tool.rye.sources]]\nname = "pyg"\nurl = "https://pyg.example/t.html"\ntype = "find-links"\n'
        )
        text = text.replace(source, "").replace("[tool.rye]", f"{source}{links}\n[tool.rye]", 1)
        argv = (*argv, "--no-lock")
    folder = place.project(text)
    said = configure(place, folder, "--migrate", *argv, *NONE)
    assert said.code == 0, said.err
    assert all(
        comment in text_of(folder) for comment in ("# arrays", "# as on the cluster", "# CUDA 12 only")
    )
    assert 'train = "python -m demo"' in text_of(folder)


def test_a_folder_of_pdm_is_left_where_it_is(place: Place) -> None:
    folder = place.project(
        HEAD
        + 'dependencies = ["torch==2.9.1+cu126"]\n\n[[tool.pdm.source]]\nname = "pytorch"\n'
        + f'url = "{place.index.index_base}/cu126"\ninclude_packages = ["torch"]  # nothing else\n\n'
        + '[tool.pdm.dev-dependencies]\n# for everyone\ndev = [\n    "numpy",  # arrays\n    # "pytest",\n]\n'
        + 'local = ["-e file:///${PROJECT_ROOT}/sub"]\n'
    )
    said = configure(place, folder, "--migrate", *NONE)
    assert said.code == 0, said.err
    assert "warning[not-migrated]" in said.err
    assert '\nlocal = ["-e file:///${PROJECT_ROOT}/sub"]\n' in text_of(folder)
    for comment in ("# arrays", '# "pytest"', "# nothing else", "# for everyone"):
        assert comment in text_of(folder)
    assert torch(folder)["linux_x86_64"] == "2.9.1+cu126"
    unchanged_twice(place, folder)


POETRY = """[tool.poetry]
name = "demo"
version = "0.1.0"
package-mode = false

[tool.poetry.dependencies]
python = ">=3.{python},<3.15"
"""
POETRY_SOURCE = '\n[[tool.poetry.source]]\nname = "{name}"\nurl = "{url}"\npriority = "explicit"\n'


def poetry_text(place: Place, rest: str, **sources: str) -> str:
    rows = (
        POETRY_SOURCE.format(name=name, url=f"{place.index.index_base}/{backend}")
        for name, backend in sources.items()
    )
    return POETRY.format(python=sys.version_info[1]) + rest + "".join(rows)


def test_poetry_caret_with_a_build(place: Place) -> None:
    rest = 'torch = { version = "^2.9.1+cu126", source = "pt" }\nfilelock = "*"\n'
    folder = place.project(poetry_text(place, rest, pt="cu126"))
    said = configure(place, folder, "--migrate", *NONE)
    assert said.code == 0, said.err
    assert '"torch>=2.9.1,<3' in text_of(folder)
    assert torch(folder)["linux_x86_64"] == "2.10.0+cu126"
    unchanged_twice(place, folder)


def test_poetry_markers_about_extras(place: Place) -> None:
    cpu = """{ version = "^2.8", source = "pt-cpu", markers = "extra=='cpu' and extra!='cuda'" }"""
    gpu = cpu.replace("cpu", "cuda", 2).replace("extra!='cuda'", "extra!='cpu'").replace("pt-cuda", "pt-cuda")
    rest = (
        f"torch = {cpu}\nfilelock = '*'\n\n[tool.poetry.group.cuda]\noptional = true\n\n"
        f"[tool.poetry.group.cuda.dependencies]\ntorch = {gpu}\n\n"
        '[tool.poetry.extras]\ncpu = ["torch"]\ncuda = ["torch"]\n'
    )
    folder = place.project(poetry_text(place, rest, **{"pt-cpu": "cpu", "pt-cuda": "cu126"}))
    said = configure(place, folder, "--migrate", *NONE)
    assert said.code == 0, said.err
    assert torch(folder, extra("cpu"))["linux_x86_64"] == "2.11.0+cpu"
    assert torch(folder, extra("cuda"))["linux_x86_64"] == "2.10.0+cu126"
    assert torch(folder) == {}
    unchanged_twice(place, folder)


def test_sources_of_poetry_2_belong_to_extras(place: Place) -> None:
    names = {"cpu": "cpu", "cu126": "cu126", "cu128": "cu128"}
    lists = "".join(f'{name} = ["torch (>=2.8)", "torchvision (>=0.23)"]\n' for name in names)
    rows = "".join(f"""    {{ source = "pt-{name}", markers = "extra == '{name}'" }},\n""" for name in names)
    text = HEAD + f"dependencies = []\n\n[project.optional-dependencies]\n{lists}\n"
    text += f"[tool.poetry.dependencies]\ntorch = [\n{rows}]\n"
    for name in names:
        text += POETRY_SOURCE.format(name=f"pt-{name}", url=f"{place.index.index_base}/{name}")
    folder = place.project(text)
    said = configure(place, folder, *NONE)
    assert said.code == 2
    assert "error[needs-migration]" in said.err
    assert text_of(folder) == text
    said = configure(place, folder, "--migrate", *NONE)
    assert said.code == 0, said.err
    found = {name: torch(folder, extra(name))["linux_x86_64"] for name in names}
    assert found == {"cpu": "2.11.0+cpu", "cu126": "2.10.0+cu126", "cu128": "2.11.0+cu128"}
    assert torch(folder, extra("cu128"), package="torchvision")["linux_x86_64"] == "0.26.0+cu128"
    unchanged_twice(place, folder)


def test_pixi_is_not_uv(place: Place) -> None:
    text = HEAD + '[tool.pixi.project]\nchannels = ["conda-forge"]\nplatforms = ["linux-64"]\n\n'
    text += (
        '[tool.pixi.feature.gpu.pypi-dependencies]\ntorch = { version = "*", index = "https://x/cu124" }\n'
    )
    folder = place.project(text)
    said = configure(place, folder, *NONE)
    assert said.code == 2
    assert "error[not-supported]" in said.err
    assert "--format pixi" in said.err
    assert text_of(folder) == text


BOTH = (
    HEAD
    + """dependencies = ["numpy"]

[project.optional-dependencies]
torch = ["torch>=2.8", "torchvision"]
torch-cpu = ["torch>=2.8", "torchvision"]
dev = ["demo[torch]", "pytest"]

[tool.uv]
conflicts = [
    [{{ extra = "torch" }}, {{ extra = "torch-cpu" }}],
    [{{ extra = "dev" }}, {{ extra = "torch-cpu" }}],
]

[tool.uv.sources]
torch = [{{ index = "pytorch-cpu", extra = "torch-cpu", marker = "sys_platform == 'linux'" }}]
torchvision = [{{ index = "pytorch-cpu", extra = "torch-cpu", marker = "sys_platform == 'linux'" }}]

[[tool.uv.index]]
name = "pytorch-cpu"
url = "{base}/cpu"
explicit = true
"""
)


def test_the_default_index_has_a_gpu_build_too(place: Place) -> None:
    folder = place.project(BOTH.format(base=place.index.index_base))
    unchanged_twice(place, folder)
    said = typed(place, folder, "sync", "--dry-run", *GPU)
    assert said.code == 0, said.err
    assert said.out.strip() == "uv sync --extra torch"
    assert "warning" not in said.err
    said = typed(place, folder, "sync", "--dry-run", *NONE)
    assert said.out.strip() == "uv sync --extra torch-cpu"


def test_a_file_for_a_backend_that_the_lock_does_not_have(place: Place) -> None:
    text = HEAD + 'dependencies = ["torch==2.9.1+cu126", "numpy"]\n\n[tool.uv.sources]\n'
    text += 'torch = { index = "pytorch" }\n\n[[tool.uv.index]]\nname = "pytorch"\n'
    folder = place.project(text + f'url = "{place.index.index_base}/cu126"\nexplicit = true\n')
    unchanged_twice(place, folder)
    for name in ("dockerfile", "devcontainer", "github-actions"):
        said = typed(place, folder, "export", "--format", name, "--backend", "cpu", *NONE)
        assert said.code == 3, said.err
        assert "error[backend-not-offered]" in said.err
    said = typed(place, folder, "export", "--format", "dockerfile", *GPU)
    assert said.code == 0, said.err
    assert said.out.splitlines()[1].startswith("# torch 2.9.1+cu126 for CPython")
    assert "from uv.lock" in said.out


def test_files_for_pip_say_what_the_lock_says(place: Place) -> None:
    folder = place.project(HEAD + 'dependencies = ["numpy", "torch>=2.8"]\n')
    argv = ("--layout", "groups", "--with", "cpu", "--with", "cu126", "--default", "cpu")
    assert configure(place, folder, *argv, *GPU).code == 0
    said = typed(place, folder, "export", "--format", "requirements", *GPU)
    assert said.code == 0, said.err
    assert said.out.startswith("# torch 2.10.0+cu126 for CPython")
    assert "from uv.lock" in said.out.splitlines()[0]
    assert f"torch @ {place.index.index_base}/cu126/torch-2.10.0%2Bcu126-" in said.out
    assert "numpy==2.3.0 \\\n    --hash=sha256:" in said.out
    assert "macosx" not in said.out
    said = typed(place, folder, "export", "--format", "constraints", "--backend", "cpu", *NONE)
    assert said.out.splitlines()[-1] == "torch==2.11.0+cpu"
    said = typed(place, folder, "export", "--format", "pylock", *GPU)
    assert "+cu126" in said.out
    assert "+cpu" not in said.out
    said = typed(place, folder, "export", "--format", "pylock", "--backend", "cu130", *GPU)
    assert said.code == 3
    assert "error[backend-not-offered]" in said.err


def workspace(place: Place) -> Path:
    folder = place.project(
        HEAD
        + 'dependencies = ["a", "b", "torch>=2.8"]\n\n[tool.uv]\npackage = false\n\n'
        + '[tool.uv.workspace]\nmembers = ["packages/*"]\n\n[tool.uv.sources]\n'
        + "a = { workspace = true }\nb = { workspace = true }\n"
        + 'torch = [{ index = "pt", marker = "sys_platform != \'darwin\'" }]\n\n'
        + f'[[tool.uv.index]]\nname = "pt"\nurl = "{place.index.index_base}/cu128"\nexplicit = true\n'
    )
    for name, needs in (("a", "numpy"), ("b", "torch>=2.8")):
        member = folder / "packages" / name
        member.mkdir(parents=True)
        text = HEAD.replace('"demo"', f'"{name}"') + f'dependencies = ["{needs}"]\n'
        (member / "pyproject.toml").write_text(text, encoding="utf-8")
    return folder


def test_a_file_for_a_workspace(place: Place) -> None:
    folder = workspace(place)
    unchanged_twice(place, folder)
    said = typed(place, folder, "export", "--format", "dockerfile", *GPU)
    assert said.code == 0, said.err
    syncs = [line for line in said.out.splitlines() if "uv sync" in line]
    assert syncs[0].endswith("uv sync --frozen --no-dev --no-install-workspace")
    assert syncs[1].endswith("uv sync --frozen --no-dev --no-editable")
    said = typed(place, folder / "packages" / "b", "export", "--format", "dockerfile", *GPU)
    assert said.code == 0, said.err
    assert "uv sync --frozen --no-dev --package b --no-install-workspace" in said.out
    said = typed(place, folder / "packages" / "b", "sync", "--dry-run", *GPU)
    assert said.out.strip() == "uv sync"
    assert said.err.startswith("cu128 ")


@pytest.mark.parametrize("layout", ["groups", "extras"])
def test_the_doctor_knows_the_choice_of_a_project(place: Place, layout: str) -> None:
    folder = place.project(HEAD + 'dependencies = ["torch>=2.8"]\n')
    argv = ("--layout", layout, "--with", "cpu", "--with", "cu128")
    default = ("--default", "cpu") if layout == "groups" else ()
    said = configure(place, folder, *argv, *default, *GPU)
    assert said.code == 0, said.err
    assert typed(place, folder, "sync", *GPU).code == 0
    said = typed(place, folder, "doctor", "--no-verify", "--json", *GPU)
    slugs = {item["slug"]: item for item in said.json["findings"]}
    assert "project-would-undo" not in slugs
    assert slugs["project-choice"]["severity"] == "warning"
    assert "cu128" in slugs["project-choice"]["message"]


def test_run_needs_no_dashes(place: Place) -> None:
    folder = place.project(HEAD + "dependencies = []\n")
    said = typed(place, folder, "run", "--dry-run", *NONE, "python", "main.py", "--json", "--", "-x")
    assert said.out.strip() == "uv run -- python main.py --json -- -x"


def test_auto_in_a_project_says_who_will_undo_it(place: Place) -> None:
    folder = place.project(HEAD + 'dependencies = ["torch>=2.8"]\n')
    place.env["VIRTUAL_ENV"] = str(folder / ".venv")
    uv(place, folder, "venv", "-q")
    argv = ("auto", "--dry-run", "--index-base", place.index.index_base, "--backend", "cu128", "torch")
    said = typed(place, folder, *argv, *GPU)
    assert said.code == 0, said.err
    assert "warning[project-would-undo]" in said.err
    assert "torchinstall configure" in said.err
    assert configure(place, folder, "--backend", "cu128", *GPU).code == 0
    assert "project-would-undo" not in typed(place, folder, *argv, *GPU).err
    elsewhere = place.folder / "elsewhere"
    elsewhere.mkdir()
    assert "project-would-undo" not in typed(place, elsewhere, *argv, *GPU).err
    (folder / "uv.lock").unlink()
    (folder / "pyproject.toml").write_text(HEAD + "dependencies = []\n")
    assert "project-would-undo" not in typed(place, folder, *argv, *GPU).err, "not a project of uv's"


@pytest.mark.parametrize(
    ("needs", "hint"),
    [("nowhere-to-be-found", "check the spelling"), ("numpy<2", "uv names above")],
)
def test_a_lock_that_fails_says_why(place: Place, needs: str, hint: str) -> None:
    text = HEAD + f'dependencies = ["torch>=2.9", "{needs}"]\n'
    folder = place.project(text)
    said = configure(place, folder, "--backend", "cu128", "--require-platform", "none", *GPU)
    assert said.code == 1, said.err
    assert "error[lock-failed]" in said.err
    assert "--require-platform" not in said.err
    assert hint in said.err
    assert needs in said.err.partition("found:")[2].splitlines()[0]
    assert text_of(folder) == text
