"""The Dockerfile: its steps are run in a bare root (see `rootfs`), and its container is started."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.cli.support import run
from tests.exports.dockerfile import Image, build, parse
from tests.exports.pure import rendered
from tests.exports.rootfs import make_root, run_in, seed_uv
from tests.exports.support import BACKEND, MINOR, TAG, call, export
from tests.support.index_server import IndexServer
from tests.support.installing import uv_path
from tests.support.planning import linux, mac, nvidia
from tests.support.systems import LINUX
from tests.support.wheelhouse import torch_wheel, write_wheels
from torchinstall.install.uv import find_uv, uv_beside_us

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.xdist_group("bare-root"),  # the root is made once
    pytest.mark.only_on(LINUX, "chroot"),
    pytest.mark.skipif(sys.platform == "linux" and os.getuid() != 0, reason="chroot needs root"),
]

LOCKED = """\
[project]
name = "an-app"
version = "0"
requires-python = "=={minor}.*"
dependencies = ["einops"]

[project.optional-dependencies]
cpu = ["torch==2.9.1"]
{backend} = ["torch==2.9.1"]

[tool.uv]
package = false
conflicts = [[{{ extra = "cpu" }}, {{ extra = "{backend}" }}]]

[[tool.uv.index]]
name = "pytorch-cpu"
url = "{base}/cpu"
explicit = true

[[tool.uv.index]]
name = "pytorch-{backend}"
url = "{base}/{backend}"
explicit = true

[tool.uv.sources]
torch = [{{ index = "pytorch-cpu", extra = "cpu" }}, {{ index = "pytorch-{backend}", extra = "{backend}" }}]
"""


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_root(tmp_path_factory.mktemp("bare") / "root")
    seed_uv(root / "seed", uv_path(), find_uv({"PATH": ""}, beside=uv_beside_us).version)
    return root


def outside(server: IndexServer) -> dict[str, str]:
    """What a builder behind a mirror sets."""
    return {
        "PIP_INDEX_URL": server.default_index,
        "PIP_FIND_LINKS": "/seed",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "UV_DEFAULT_INDEX": server.default_index,
    }


def made(text: str, context: Path, bare: Path, work: Path, server: IndexServer) -> Image:
    return build(text, context, bare, work, outside(server))


def versions(image: Image) -> dict[str, str]:
    """What the container's Python finds."""
    code = (
        "import json, importlib.metadata as m; "
        "print(json.dumps({d.name: d.version for d in m.distributions()}))"
    )
    found: dict[str, str] = json.loads(image.run(f"python -c '{code}'"))
    return found


def test_bare_root_is_bare(bare: Path) -> None:
    for program in ("gcc", "git", "curl", "uv", "nvidia-smi"):
        assert run_in(bare, f"command -v {program}", check=False).returncode != 0


def test_image_of_a_plan(tmp_path: Path, server: IndexServer, env: dict[str, str], bare: Path) -> None:
    argv = ("--python-version", MINOR, "torch", "torchvision", "einops>=0.8")
    said = export(tmp_path, server, env, "dockerfile", *argv)
    assert said.code == 0, said.err
    image = made(said.out, tmp_path, bare, tmp_path, server)
    assert image.start() == f"2.9.1+{BACKEND}"
    assert versions(image) == {
        "torch": f"2.9.1+{BACKEND}",
        "torchvision": f"0.24.1+{BACKEND}",
        "filelock": "3.20.0",
        "einops": "0.8.1",
    }
    assert image.base == f"python:{MINOR}-slim-bookworm"
    assert image.run("id -u").strip() != "0"
    assert image.env["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert run_in(image.root, "command -v uv", check=False).returncode != 0, "only the build needs uv"


def test_image_of_a_project_installs_from_its_lock(
    tmp_path: Path, server: IndexServer, env: dict[str, str], bare: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    text = LOCKED.format(minor=MINOR, backend=BACKEND, base=server.index_base)
    (project / "pyproject.toml").write_text(text, encoding="utf-8")
    (project / "main.py").write_text("import torch; print('app', torch.__version__)", encoding="utf-8")
    call([uv_path(), "lock", "--python", sys.executable], env, project)
    said = export(project, server, env, "dockerfile", "-o", "Dockerfile")
    assert said.code == 0, said.err
    text = (project / "Dockerfile").read_text(encoding="utf-8")
    assert f"uv sync --frozen --no-dev --extra {BACKEND}" in text
    assert "torch==" not in text.replace(f"torch {'2.9.1'}", "")
    assert "einops" not in text
    image = made(text, project, bare, tmp_path, server)
    assert versions(image) == {"torch": f"2.9.1+{BACKEND}", "filelock": "3.20.0", "einops": "0.8.1"}
    assert image.run("python main.py").strip() == f"app 2.9.1+{BACKEND}"


def test_image_of_a_workspace(tmp_path: Path, server: IndexServer, env: dict[str, str], bare: Path) -> None:
    project = tmp_path / "project"
    head = f'[project]\nname = "{{}}"\nversion = "0"\nrequires-python = "=={MINOR}.*"\n'
    for name, needs in (("a", "einops"), ("b", "torch==2.9.1")):
        (project / "packages" / name).mkdir(parents=True)
        member = head.format(name) + f'dependencies = ["{needs}"]\n\n[tool.uv]\npackage = false\n'
        (project / "packages" / name / "pyproject.toml").write_text(member, encoding="utf-8")
    text = (
        head.format("an-app")
        + 'dependencies = ["a", "b", "torch==2.9.1"]\n\n[tool.uv]\npackage = false\n\n'
        + '[tool.uv.workspace]\nmembers = ["packages/*"]\n\n[tool.uv.sources]\n'
        + 'a = { workspace = true }\nb = { workspace = true }\ntorch = { index = "pt" }\n\n'
        + f'[[tool.uv.index]]\nname = "pt"\nurl = "{server.index_base}/{BACKEND}"\nexplicit = true\n'
    )
    (project / "pyproject.toml").write_text(text, encoding="utf-8")
    call([uv_path(), "lock", "--python", sys.executable], env, project)
    said = export(project, server, env, "dockerfile")
    assert said.code == 0, said.err
    image = made(said.out, project, bare, tmp_path, server)
    assert versions(image) == {"torch": f"2.9.1+{BACKEND}", "filelock": "3.20.0", "einops": "0.8.1"}


def test_project_whose_lock_fits_no_target_is_refused(
    tmp_path: Path, server: IndexServer, env: dict[str, str]
) -> None:
    text = LOCKED.format(minor=MINOR, backend="cu130", base=server.index_base).replace("cpu", BACKEND)
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    call([uv_path(), "lock", "--python", sys.executable], env, tmp_path)
    gtx_1080 = ("--target-gpu", "sm_61", "--target-driver", "570.86")
    where = f"--index-base={server.index_base}"
    said = run(tmp_path, "export", "--format", "dockerfile", where, *gtx_1080, env=env)
    assert (said.code, "nothing-offered-fits" in said.err) == (3, True), said.err


def test_project_without_a_lock_is_told_to_make_one(
    tmp_path: Path, server: IndexServer, env: dict[str, str]
) -> None:
    text = LOCKED.format(minor=MINOR, backend=BACKEND, base=server.index_base)
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    said = export(tmp_path, server, env, "dockerfile")
    assert (said.code, "no-lock" in said.err, "uv lock" in said.err) == (2, True, True)


def test_image_with_a_wheel_of_ones_own(
    tmp_path: Path, server: IndexServer, env: dict[str, str], bare: Path
) -> None:
    (path,) = write_wheels(tmp_path / "wheels", [torch_wheel("2.9.1+cu126", TAG, requires=("filelock",))])
    said = export(tmp_path, server, env, "dockerfile", "--python-version", MINOR, f"torch @ {path.as_uri()}")
    assert said.code == 0, said.err
    image = made(said.out, tmp_path, bare, tmp_path, server)
    assert image.start() == "2.9.1+cu126"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    said = export(elsewhere, server, env, "dockerfile", "--python-version", MINOR, f"torch @ {path.as_uri()}")
    assert (said.code, "outside-build-context" in said.err) == (2, True)


def test_development_container_is_made_in_the_same_root(
    tmp_path: Path, server: IndexServer, env: dict[str, str], bare: Path
) -> None:
    said = export(tmp_path, server, env, "devcontainer", "--python-version", MINOR, "torch")
    assert said.code == 0, said.err
    data = json.loads(said.out)
    text = f"FROM {data['image']}\nWORKDIR /workspaces/x\nRUN {data['postCreateCommand']}\n"
    image = made(text, tmp_path, bare, tmp_path, server)
    assert (
        image.run(".venv/bin/python -c 'import torch; print(torch.__version__)'").strip()
        == f"2.9.1+{BACKEND}"
    )


def test_on_a_mac_the_image_is_for_linux_on_its_own_architecture() -> None:
    text = rendered("dockerfile", mac(), "torch==2.9.1")
    assert "/whl/cpu" in text
    assert "for CPython 3.12 on Linux aarch64" in text
    assert "NVIDIA" not in text


def test_every_image_parses() -> None:
    for machine in (linux(), linux(nvidia("NVIDIA H100", "9.0"), driver="580.95.05")):
        assert [step.word for step in parse(rendered("dockerfile", machine, "torch==2.9.1"))].count(
            "FROM"
        ) == 2
