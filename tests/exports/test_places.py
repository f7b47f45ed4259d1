"""Where a build comes from, other than the PyTorch index: a folder, a mirror with a password, a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import run
from tests.exports.pure import exported, rendered
from tests.exports.support import BACKEND, H100, MINOR, TAG, call, export, ran, uv_env
from tests.support.index_server import IndexServer
from tests.support.installing import Place, uv_path
from tests.support.planning import amd, intel, linux, mac, nvidia, windows
from tests.support.wheelhouse import torch_wheel, wheel, write_wheels
from torchinstall.core.errors import TorchInstallError
from torchinstall.export.formats import FORMATS
from torchinstall.export.inputs import LockedProject
from torchinstall.project.files import loads

H100_HERE = linux(nvidia("NVIDIA H100", "9.0"), driver="580.95.05")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of wheels with a build that no index has."""
    write_wheels(
        tmp_path / "wheels",
        [
            torch_wheel("2.9.1+cu124", TAG, requires=("filelock",)),
            wheel("torchvision", "0.24.1+cu124", TAG, requires=("torch==2.9.1",)),
        ],
    )
    return tmp_path / "wheels"


FILES = {
    "pip": "commands",
    "requirements": "requirements.txt",
    "uv": "pyproject.toml",
    "pylock": "pylock.toml",
}
FROM_FOLDER = ("torch==2.9.1+cu124", "torchvision", "-f", "wheels")


@pytest.mark.e2e
@pytest.mark.parametrize("name", FILES)
def test_a_folder_is_installed_from(
    tmp_path: Path, server: IndexServer, env: dict[str, str], place: Place, pip: str, folder: Path, name: str
) -> None:
    said = export(tmp_path, server, env, name, *FROM_FOLDER, "-p", place.python)
    assert said.code == 0, said.err
    file = tmp_path / FILES[name]
    file.write_text(said.out, encoding="utf-8")
    if name == "pip":
        ran(said.out, {**env, "PIP_INDEX_URL": server.default_index}, tmp_path, place.python, pip=pip)
    else:
        call([uv_path(), "pip", "install", "--python", place.python, "-r", str(file)], env, tmp_path)
    assert place.versions() == {"torch": "2.9.1+cu124", "torchvision": "0.24.1+cu124", "filelock": "3.20.0"}


@pytest.mark.parametrize("name", ["poetry", "pdm", "pixi"])
def test_tools_that_know_no_folders_get_the_file(
    tmp_path: Path, server: IndexServer, env: dict[str, str], folder: Path, name: str
) -> None:
    said = export(tmp_path, server, env, name, *FROM_FOLDER, "--python-version", MINOR)
    assert said.code == 0, said.err
    data = loads(said.out) or {}
    (path,) = folder.glob("torch-*.whl")
    if name == "pixi":
        assert data["pypi-dependencies"]["torch"] == {"path": str(path)}
    else:
        assert data["project"]["dependencies"][0] == f"torch @ {path.as_uri()}"


def test_passwords_are_not_written_down(tmp_path: Path, server: IndexServer, env: dict[str, str]) -> None:
    secret = server.index_base.replace("http://", "http://user:hunter2@")
    for name in FORMATS:
        argv = ("--python-version", MINOR, f"--index-base={secret}", *H100, "torch")
        said = run(tmp_path, "export", "--format", name, *argv, env=env)
        if name != "conda":  # it names no index of PyTorch
            assert said.code == 0, said.err
            assert server.index_base in said.out or name in ("constraints",)
        assert "hunter2" not in said.out + said.err
        assert "credentials-left-out" in said.err


def test_ones_own_indexes_and_switches_are_kept() -> None:
    args = ("--default-index", "https://mirror.example/simple", "--prerelease", "allow")
    said = rendered("pip", H100_HERE, "torch==2.9.1", "einops", uv_args=args, constraint_files=("/c.txt",))
    first, last = said.splitlines()
    assert "mirror.example" not in first
    assert last.endswith(
        "--index-url https://mirror.example/simple --pre -c /c.txt torch==2.9.1+cu130 einops"
    )


@pytest.mark.parametrize("argument", ["--editable", "./a-folder"])
def test_what_no_file_can_hold_is_refused(argument: str) -> None:
    with pytest.raises(TorchInstallError) as caught:
        exported(H100_HERE, "torch==2.9.1", uv_args=(argument, "x"))
    assert caught.value.slug == "not-exportable"


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("conda", {"machine": linux(amd("gfx1100"))}),
        ("conda", {"machine": linux(intel("8086:e20b", integrated=False))}),
        ("pixi", {"machine": linux(), "constraint_files": ("/c.txt",)}),
        ("devcontainer", {"machine": linux(), "constraint_files": ("/c.txt",)}),
        ("github-actions", {"machine": linux(), "constraint_files": ("/c.txt",)}),
        ("dockerfile", {"machine": linux(), "python": "3.13t"}),
        ("pip", {"machine": linux(), "uv_args": ("--index-strategy", "first-index")}),
    ],
)
def test_what_a_format_cannot_say_is_an_error(name: str, more: dict[str, object]) -> None:
    machine = more.pop("machine")
    with pytest.raises(TorchInstallError) as caught:
        rendered(name, machine, "torch", **more)  # type: ignore[arg-type]  # values of the table above
    assert caught.value.slug in ("not-exportable", "outside-build-context")
    assert caught.value.hints


def test_a_mac_needs_no_index() -> None:
    for name in ("uv", "poetry", "pdm"):
        text = rendered(name, mac(), "torch==2.9.1")
        assert "whl/" not in text
        assert "torch==2.9.1" in text
    assert rendered("pip", mac(), "torch==2.9.1") == "python -m pip install torch==2.9.1\n"


def test_windows_gets_quotes_that_its_shells_know() -> None:
    machine = windows(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="581.15")
    text = rendered("pip", machine, "torch==2.9.1", "einops ; python_version > '3.8'")
    assert '"einops; python_version > \\"3.8\\""' in text
    assert "'" not in text


def test_a_package_that_torch_itself_pins_is_pinned_as_uv_resolves_it() -> None:
    machine = linux(amd("gfx1100"))
    made = exported(machine, "torch", backend="rocm7.14", pylock="")
    assert [pin for pin in made.pins if pin.version is None and pin.index], "the plan leaves it to uv"
    pin = next(pin for pin in made.pins if pin.version is None)
    file = f"{pin.name.replace('-', '_')}-3.9.9-cp312-cp312-linux_x86_64.whl"
    pylock = (
        f'[[packages]]\nname = "{pin.name}"\nversion = "3.9.9"\n'
        f'wheels = [{{ url = "https://x.example/{file}", hashes = {{ sha256 = "00" }} }}]\n'
    )
    text = FORMATS["constraints"](exported(machine, "torch", backend="rocm7.14", pylock=pylock))
    assert f"{pin.name}==3.9.9" in text.splitlines()


@pytest.mark.e2e
def test_the_steps_of_a_workflow_run(
    tmp_path: Path, server: IndexServer, env: dict[str, str], readers: str
) -> None:
    said = export(tmp_path, server, env, "github-actions", "--python-version", MINOR, "torch", "torchvision")
    assert said.code == 0, said.err
    (tmp_path / "w.yml").write_text(said.out, encoding="utf-8")
    code = (
        "import yaml; steps = yaml.safe_load(open('w.yml'))['jobs']['tests']['steps']; "
        "print(*(step['run'] for step in steps if 'run' in step), sep=chr(10))"
    )
    steps = call([readers, "-c", code], {}, tmp_path).stdout
    script = "set -e\n" + steps
    done = call(["bash", "-c", script], uv_env(env, UV_PYTHON=MINOR), tmp_path)
    assert done.stdout.strip().splitlines()[-1] == f"2.9.1+{BACKEND}"


@pytest.mark.parametrize("name", ["dockerfile", "devcontainer", "github-actions"])
def test_a_locked_project_is_synced_and_nothing_is_named_again(name: str) -> None:
    lock = LockedProject(flags=("--extra", "cpu"))
    text = rendered(name, linux(), "torch==2.9.1", "einops", lock=lock)
    assert "uv sync --frozen" in text
    assert "--extra cpu" in text
    assert "einops" not in text
    assert "torch==" not in text


def test_a_project_with_a_build_backend_is_installed_and_not_copied() -> None:
    app = rendered("dockerfile", linux(), "torch", lock=LockedProject())
    package = rendered("dockerfile", linux(), "torch", lock=LockedProject(package=True))
    first, _, last = package.rpartition("\nFROM ")
    assert "uv sync --frozen --no-dev --no-editable" in first
    assert "COPY --chown=app:app . ." not in last
    assert "COPY --chown=app:app . ." in app.rpartition("\nFROM ")[2]
