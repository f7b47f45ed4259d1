"""Where it installs: real environments in real folders, asked by their own interpreters."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.installing import FAMILY, an_environment, here, uv_path
from tests.support.systems import POSIX
from tests.support.wheelhouse import torch_wheel, wheel
from torchinstall.core.errors import TargetError
from torchinstall.index.wheels import backend_of
from torchinstall.install.environment import Running, Search, create, require_changeable
from torchinstall.install.interpreter import PythonEnvironment, inspect_python

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
NO_ENVIRONMENT = Running(prefix="/usr", base_prefix="/usr")


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three environments with different names; tests only look at them."""
    root = tmp_path_factory.mktemp("envs")
    return {
        name: here(root / name, an_environment(root)).folder for name in ("active", "conda", "project/.venv")
    }


def locate_in(
    cwd: Path,
    env: dict[str, str],
    *,
    running: Running = NO_ENVIRONMENT,
    python: str | None = None,
    venv: str | None = None,
) -> PythonEnvironment:
    env = {**an_environment(cwd), **env}
    return Search(env=env, cwd=cwd, running=running, python=python, venv=venv).locate(uv_path(), FAMILY)


def slug_of(cwd: Path, env: dict[str, str], *, python: str | None = None, venv: str | None = None) -> str:
    with pytest.raises(TargetError) as caught:
        locate_in(cwd, env, python=python, venv=venv)
    assert caught.value.exit_code == 6
    assert caught.value.hints
    return caught.value.slug


def test_the_active_environment_wins_over_dot_venv(environments: dict[str, Path]) -> None:
    cwd = environments["project/.venv"].parent
    active, conda = str(environments["active"]), str(environments["conda"])

    found = locate_in(cwd, {"VIRTUAL_ENV": active, "CONDA_PREFIX": conda})
    assert (found.target.prefix, found.target.why) == (active, "the active environment (VIRTUAL_ENV)")

    found = locate_in(cwd, {"CONDA_PREFIX": conda, "CONDA_DEFAULT_ENV": "mine"})
    assert (found.target.prefix, found.target.why) == (conda, "the active environment (CONDA_PREFIX)")


def test_the_base_environment_of_conda_yields_to_dot_venv(
    environments: dict[str, Path], tmp_path: Path
) -> None:
    cwd = environments["project/.venv"].parent
    env = {"CONDA_PREFIX": str(environments["conda"]), "CONDA_DEFAULT_ENV": "base"}

    assert locate_in(cwd, env).target.prefix == str(cwd / ".venv")
    assert locate_in(tmp_path, env).target.prefix == env["CONDA_PREFIX"]


def test_dot_venv_is_found_here_and_above(environments: dict[str, Path]) -> None:
    project = environments["project/.venv"].parent
    deep = project / "src" / "deep"
    deep.mkdir(parents=True, exist_ok=True)

    for cwd in (project, deep, project / ".venv" / "lib"):
        found = locate_in(cwd, {})
        assert found.target.prefix == str(project / ".venv")
        assert found.base is None
    assert locate_in(deep, {}).target.why == f".venv in {project}"


def test_our_own_environment_comes_last(environments: dict[str, Path], tmp_path: Path) -> None:
    own = Running(prefix=str(environments["active"]), base_prefix="/usr")

    assert (
        locate_in(tmp_path, {}, running=own).target.why == "the environment that torchinstall is installed in"
    )


@pytest.mark.parametrize("mark", ["uv-receipt.toml", "pipx_metadata.json", None])
def test_the_private_environment_of_a_tool_is_nobodys_place(tmp_path: Path, mark: str | None) -> None:
    if mark is None:
        cache = tmp_path / "uv-cache"
        made = here(cache / "archive-v0" / "abc", an_environment(tmp_path)).folder
        (cache / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    else:
        made = here(tmp_path / "tool", an_environment(tmp_path)).folder
        (made / mark).write_text("")
    running = Running(prefix=str(made), base_prefix="/usr")

    for env in ({}, {"VIRTUAL_ENV": str(made)}):
        with pytest.raises(TargetError) as caught:
            locate_in(tmp_path, env, running=running)
        assert caught.value.slug == "no-environment"
        assert len(caught.value.hints) == 3


def test_an_active_environment_that_is_gone(tmp_path: Path) -> None:
    assert slug_of(tmp_path, {"VIRTUAL_ENV": str(tmp_path / "gone")}) == "environment-broken"


@pytest.mark.only_on(POSIX, "a shell script stands in for a program")
def test_an_environment_whose_base_is_gone(tmp_path: Path) -> None:
    made = here(tmp_path / ".venv", an_environment(tmp_path)).folder
    for name in ("python", "python3", f"python{VERSION}"):
        (made / "bin" / name).unlink(missing_ok=True)
    (made / "bin" / "python").symlink_to(tmp_path / "no-python")

    assert slug_of(tmp_path, {}) == "environment-broken"


@pytest.mark.only_on(POSIX, "a shell script stands in for a program")
def test_an_interpreter_that_says_nonsense(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho hello\n")
    fake.chmod(0o755)

    assert slug_of(tmp_path, {}, python=str(fake)) == "python-broken"


@pytest.mark.only_on(POSIX, "a shell script stands in for a program")
def test_an_interpreter_that_hangs(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexec sleep 30\n")
    fake.chmod(0o755)

    with pytest.raises(TargetError) as caught:
        inspect_python(str(fake), env={"PATH": "/bin:/usr/bin"}, family=(), timeout=0.5)
    assert caught.value.slug == "python-broken"


@pytest.mark.parametrize("wanted", ["9.9", "no-such-python", "./nowhere/bin/python"])
def test_a_python_that_is_not_there(tmp_path: Path, wanted: str) -> None:
    assert slug_of(tmp_path, {}, python=wanted) == "python-not-found"


def test_a_python_by_path_and_by_environment(environments: dict[str, Path], tmp_path: Path) -> None:
    active = environments["active"]

    for name in (str(active / "bin" / "python"), str(active)):
        found = locate_in(tmp_path, {"VIRTUAL_ENV": "/ignored"}, python=name)
        assert found.target.prefix == str(active)
        assert found.target.why == f"--python {name}"


def test_a_python_by_version(tmp_path: Path) -> None:
    folder = Path(sys.base_prefix) / "bin"

    found = locate_in(tmp_path, {"PATH": f"{folder}:/usr/bin:/bin"}, python=VERSION)

    assert found.target.python_version.startswith(VERSION)


def test_an_environment_is_made_only_when_asked_to(tmp_path: Path) -> None:
    env = {**an_environment(tmp_path), "PATH": f"{Path(sys.base_prefix) / 'bin'}:/usr/bin:/bin"}
    base = str(Path(sys.base_prefix) / "bin" / f"python{VERSION}")

    search = Search(env=env, venv="new env", python=base, cwd=tmp_path)
    found = search.locate(uv_path(), FAMILY)

    assert found.base == base
    assert found.target.prefix == str(tmp_path / "new env")
    assert not (tmp_path / "new env").exists()

    made = create(found, uv=uv_path(), env=env)

    assert made.base is None
    assert made.target.prefix == found.target.prefix
    again = search.locate(uv_path(), FAMILY)
    assert again.target.prefix == found.target.prefix
    assert create(again, uv=uv_path(), env=env) is again


def test_a_folder_with_other_things_is_not_made_into_an_environment(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.tex").write_text("")

    assert slug_of(tmp_path, {}, venv="data") == "not-an-environment"
    assert slug_of(tmp_path, {}, venv="data/thesis.tex") == "not-an-environment"


@pytest.mark.only_on(POSIX, "a shell script stands in for a program")
def test_an_externally_managed_python_is_refused_unless_forced(tmp_path: Path) -> None:
    """A prefix of its own around this interpreter's program and library, with the marker of PEP 668."""
    program = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    copy = tmp_path / "bin" / program.name
    copy.parent.mkdir()
    shutil.copy2(program, copy)
    for source, folder in ((library, tmp_path / "lib" / library.name), (library.parent, tmp_path / "lib")):
        folder.mkdir(parents=True, exist_ok=True)
        for entry in source.iterdir():
            if not (folder / entry.name).exists() and entry.name != "site-packages":
                (folder / entry.name).symlink_to(entry)
    (tmp_path / "lib" / library.name / "EXTERNALLY-MANAGED").write_text("[externally-managed]\n")

    place = locate_in(tmp_path, {}, python=str(copy))

    assert place.target.prefix == str(tmp_path)
    with pytest.raises(TargetError) as caught:
        require_changeable(place, {})
    assert caught.value.slug == "externally-managed"
    require_changeable(place, {"UV_BREAK_SYSTEM_PACKAGES": "1"})
    require_changeable(place, {}, ("--break-system-packages",))
    # An environment made from it is the user's own.
    require_changeable(locate_in(tmp_path, {}, python=sys.executable), {})


def test_the_answer_describes_the_interpreter(environments: dict[str, Path], tmp_path: Path) -> None:
    target = locate_in(tmp_path, {"VIRTUAL_ENV": str(environments["active"])}).target

    assert target.python_version == sys.version.split()[0]
    assert target.abi == f"cp3{sys.version_info[1]}"
    assert (target.os, target.implementation) == ("linux", "cpython")
    assert target.libc is not None
    assert target.platform_tags
    assert target.installed == ()


def test_the_interpreter_that_runs_us_answers_without_a_child() -> None:
    env = {"PATH": "/nowhere"}
    at_once = inspect_python(sys.executable, env=env, family=FAMILY, why="test")

    assert at_once == inspect_python(sys.executable, env=env, family=FAMILY, why="test", running="")


def test_another_environment_of_the_same_python_is_asked_itself(environments: dict[str, Path]) -> None:
    python = environments["active"] / "bin" / "python"

    answer = inspect_python(str(python), env={"PATH": "/nowhere"}, family=FAMILY)

    assert answer.target.prefix == str(environments["active"])


def test_installed_packages_are_read_without_importing_them(tmp_path: Path) -> None:
    place = here(tmp_path / "env", an_environment(tmp_path))
    site = Path(place.ask().site_packages[0])
    bomb = {"torch/__init__.py": "raise SystemExit('imported')"}
    for item in (
        torch_wheel("2.9.1", "py3-none-any", cuda="12.8", files=bomb),
        wheel("torchvision", "0.24.1+cu128"),
        wheel("numpy", "2.3.0"),
    ):
        archive = tmp_path / item.filename
        archive.write_bytes(item.content())
        shutil.unpack_archive(archive, site, "zip")

    answer = place.ask()

    assert [(item.name, item.version, item.backend) for item in answer.target.installed] == [
        ("torch", "2.9.1", "cu128"),
        ("torchvision", "0.24.1+cu128", "cu128"),
    ]
    assert place.versions()["numpy"] == "2.3.0"


@pytest.mark.parametrize(
    ("version", "text", "backend"),
    [
        ("2.9.1+cu128", None, "cu128"),
        ("2.9.1", "__version__ = '2.9.1+cu128'\ncuda = '12.8'\n", "cu128"),
        (
            "2.9.1",
            "from typing import Optional\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None",
            "cu130",
        ),
        ("2.9.1", "cuda: Optional[str] = None\nhip: Optional[str] = '6.4.43482-0f2d60242'", "rocm6.4"),
        ("2.9.1", "cuda: Optional[str] = None\nhip = None\nxpu: Optional[str] = '20250301'", "xpu"),
        ("2.9.1", "cuda: Optional[str] = None\nhip: Optional[str] = None\n", "cpu"),
        ("1.13.1+cu117.with.pypi.cudnn", None, "cu117"),
        ("2.7.0a0+nv25.4", "cuda = '12.9'", "cu129"),
        ("2.9.1", None, None),
        ("0.24.1", "__version__ = '0.24.1'\n", None),
        ("2.10.0.dev20251101+rocm7.0", None, "rocm7.0"),
    ],
)
def test_the_backend_of_an_installed_build(version: str, text: str | None, backend: str | None) -> None:
    assert backend_of(version, text) == backend


def old_pythons() -> list[str]:
    """Those from before our own floor that are here; names on PATH may be launchers with nothing behind."""
    names = (shutil.which(f"python3.{minor}") for minor in (7, 8, 9))
    runs = (
        path
        for path in names
        if path and not subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode
    )
    return list(runs) or [sys.executable]


@pytest.mark.parametrize("python", old_pythons())
def test_the_script_runs_on_old_pythons(python: str) -> None:
    answer = inspect_python(python, env={"PATH": "/usr/bin:/bin"}, family=FAMILY)

    assert answer.target.python_version.startswith("3.")
