"""Exports that pip and uv read: the real programs install from them into real environments."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exports.support import BACKEND, call, export, ran, uv_env
from tests.support.index_server import IndexServer
from tests.support.installing import Place, uv_path
from tests.support.wheelhouse import torch_wheel
from torchinstall.project.files import loads

pytestmark = pytest.mark.e2e

RIGHT = {"torch": f"2.9.1+{BACKEND}", "torchvision": f"0.24.1+{BACKEND}", "filelock": "3.20.0"}


def written(folder: Path, server: IndexServer, env: dict[str, str], name: str, file: str, *argv: str) -> Path:
    """Export to a file."""
    said = export(folder, server, env, name, "-o", file, *argv)
    assert said.code == 0, said.err
    assert said.out == ""
    return folder / file


def put_in(place: Place, server: IndexServer, env: dict[str, str], backend: str) -> None:
    """Install a build, as an earlier export would have."""
    head = [uv_path(), "pip", "install", "--quiet", "--python", place.python]
    call([*head, "filelock==3.20.0"], env, place.folder)
    what = ["--no-deps", f"torch==2.9.1+{backend}", f"torchvision==0.24.1+{backend}"]
    call([*head, "--default-index", f"{server.index_base}/{backend}", *what], env, place.folder)


def test_pip_gets_each_package_from_its_own_index(
    tmp_path: Path, server: IndexServer, env: dict[str, str], place: Place, pip: str
) -> None:
    said = export(tmp_path, server, env, "pip", "torch", "torchvision", "einops>=0.8", "-p", place.python)
    assert said.code == 0, said.err
    assert "--extra-index-url" not in said.out
    ran(said.out, {**env, "PIP_INDEX_URL": server.default_index}, tmp_path, place.python, pip=pip)
    assert place.versions() == {**RIGHT, "einops": "0.8.1"}
    assert not [path for path in server.paths() if path.startswith("/whl/") and "/filelock" in path]


def test_uv_gets_each_package_from_its_own_index(
    tmp_path: Path, server: IndexServer, env: dict[str, str], place: Place
) -> None:
    said = export(tmp_path, server, env, "uv-pip", "torch", "torchvision", "einops>=0.8", "-p", place.python)
    assert said.code == 0, said.err
    here = uv_env({**env, "UV_DEFAULT_INDEX": server.default_index}, VIRTUAL_ENV=str(place.folder))
    for line in said.out.splitlines():
        assert line.startswith("uv pip install "), line
        call(["sh", "-c", line], here, tmp_path)
    assert place.versions() == {**RIGHT, "einops": "0.8.1"}


@pytest.mark.parametrize("reader", ["pip", "uv"])
def test_requirements_install_with_every_hash_checked(
    tmp_path: Path, server: IndexServer, env: dict[str, str], place: Place, pip: str, reader: str
) -> None:
    path = written(tmp_path, server, env, "requirements", "requirements.txt", "-p", place.python)
    text = path.read_text(encoding="utf-8")
    assert text.count("--hash=sha256:") == len(RIGHT)
    call(_install(reader, place, pip, path), {**env, "PIP_INDEX_URL": server.default_index}, tmp_path)
    assert place.versions() == RIGHT


@pytest.mark.parametrize("reader", ["pip", "uv"])
def test_requirements_refuse_a_file_that_was_changed(
    tmp_path: Path, server: IndexServer, env: dict[str, str], place: Place, pip: str, reader: str
) -> None:
    path = written(tmp_path, server, env, "requirements", "requirements.txt", "-p", place.python)
    name = next(key for key in server.tree.stored if "/cu128/torch-" in key)
    changed = torch_wheel(f"2.9.1+{BACKEND}", server.tree.stored[name].wheel.tag, files={"evil.py": ""})
    server.tree.remove(changed.filename)
    server.tree.add(BACKEND, changed)
    (tmp_path / "cache").rename(tmp_path / "old-cache")
    done = call(
        _install(reader, place, pip, path),
        {**env, "PIP_INDEX_URL": server.default_index},
        tmp_path,
        check=False,
    )
    assert done.returncode != 0
    assert "hash" in (done.stdout + done.stderr).lower()
    assert place.versions() == {}


def _install(reader: str, place: Place, pip: str, path: Path) -> list[str]:
    if reader == "pip":
        head = [pip, "-m", "pip", "--python", place.python, "--no-cache-dir", "install"]
    else:
        head = [uv_path(), "pip", "install", "--python", place.python]
    return [*head, "--require-hashes", "-r", str(path)]


def test_requirements_say_which_hash_is_only_that_of_a_download(
    tmp_path: Path, server: IndexServer, env: dict[str, str], place: Place
) -> None:
    name = next(key for key in server.tree.stored if "/cu128/torch-" in key)
    unhashed = server.tree.stored[name].wheel
    server.tree.add(BACKEND, unhashed, hashed=False)
    path = written(tmp_path, server, env, "requirements", "requirements.txt", "-p", place.python)
    lines = path.read_text(encoding="utf-8").splitlines()
    said = [number for number, line in enumerate(lines) if "lists no hash" in line]
    assert [lines[number + 1].split(" @ ")[0] for number in said] == ["torch"]
    assert unhashed.sha256 in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("reader", ["pip", "uv"])
def test_constraints_keep_a_later_install_from_swapping_the_build(
    tmp_path: Path, server: IndexServer, env: dict[str, str], place: Place, pip: str, reader: str
) -> None:
    path = written(tmp_path, server, env, "constraints", "constraints.txt", "-p", place.python)
    pip_env = {**env, "PIP_INDEX_URL": server.default_index}
    put_in(place, server, env, BACKEND)
    head = (
        [pip, "-m", "pip", "--python", place.python, "install"]
        if reader == "pip"
        else [uv_path(), "pip", "install", "--python", place.python]
    )
    kept = call([*head, "-c", str(path), "wants-old-torch"], pip_env, tmp_path, check=False)
    assert kept.returncode != 0
    assert place.versions()["torch"] == RIGHT["torch"]
    call([*head, "-c", str(path), "einops"], pip_env, tmp_path)
    assert place.versions()["torch"] == RIGHT["torch"]
    # Without the constraints the same command does swap it: that is what they are for.
    call([*head, "wants-old-torch"], pip_env, tmp_path)
    assert place.versions()["torch"] == "2.8.0"


def test_project_file_is_locked_and_synced_by_uv(
    tmp_path: Path, server: IndexServer, env: dict[str, str], place: Place
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    written(
        project, server, env, "uv", "pyproject.toml", "torch", "torchvision", "einops", "-p", place.python
    )
    there = {**uv_env(env), "UV_PROJECT_ENVIRONMENT": str(place.folder)}
    call([uv_path(), "lock", "--python", place.python], there, project)
    call([uv_path(), "lock", "--check", "--python", place.python], there, project)
    call([uv_path(), "sync", "--frozen", "--python", place.python], there, project)
    assert place.versions() == {**RIGHT, "einops": "0.8.1"}
    lock = loads((project / "uv.lock").read_text(encoding="utf-8")) or {}
    assert {row["version"] for row in lock["package"] if row["name"] == "torch"} == {RIGHT["torch"]}


@pytest.mark.parametrize("reader", ["pip", "uv"])
def test_pylock_is_installed_without_an_index(
    tmp_path: Path, server: IndexServer, env: dict[str, str], place: Place, pip: str, reader: str
) -> None:
    path = written(tmp_path, server, env, "pylock", "pylock.toml", "-p", place.python)
    data = loads(path.read_text(encoding="utf-8")) or {}
    assert data["lock-version"] == "1.0"
    assert all(file["hashes"]["sha256"] for row in data["packages"] for file in row["wheels"])
    without = {name: value for name, value in env.items() if name != "UV_DEFAULT_INDEX"}
    if reader == "pip":
        argv = [pip, "-m", "pip", "--python", place.python, "install", "--no-index", "-r", str(path)]
    else:
        argv = [uv_path(), "pip", "sync", "--no-index", "--python", place.python, str(path)]
    call(argv, without, tmp_path)
    assert place.versions() == RIGHT


def test_what_is_installed_here_does_not_steer_an_export(
    tmp_path: Path, server: IndexServer, env: dict[str, str], place: Place
) -> None:
    put_in(place, server, env, "cpu")
    said = export(tmp_path, server, env, "constraints", "-p", place.python)
    assert f"torch==2.9.1+{BACKEND}" in said.out.splitlines()


def test_folders_are_made_and_a_place_that_cannot_be_is_an_error(
    tmp_path: Path, server: IndexServer, env: dict[str, str], place: Place
) -> None:
    path = written(tmp_path, server, env, "constraints", "new/folder/c.txt", "-p", place.python)
    before = path.read_text(encoding="utf-8")
    said = export(tmp_path, server, env, "constraints", "-o", f"{path}/below", "-p", place.python)
    assert (said.code, "cannot-write" in said.err) == (2, True)
    said = export(tmp_path, server, env, "constraints", "-o", str(path), "-p", place.python, "torch==1.0")
    assert said.code == 3
    assert path.read_text(encoding="utf-8") == before
