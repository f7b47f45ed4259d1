"""An install that fails leaves the environment as it was, or puts it back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel, write_wheels
from torchinstall.core.errors import InstallFailedError
from torchinstall.install.backup import BACKUP_PREFIX, load_backup, take_backup
from torchinstall.install.transaction import Outcome, Reinstall, protected, restore
from torchinstall.install.uv import uv_beside_us

UV = uv_beside_us() or "uv"
TAG = "py3-none-any"
OLD = (
    torch_wheel(
        "2.8.0+cpu", TAG, files={"torch/lib/libtorch_cpu.so": "old library", "torch/old_only.py": ""}
    ),
    wheel("nvidia-cublas-cu12", "12.8", files={"nvidia/cublas/lib/libcublas.so.12": "old"}),
    wheel("torchvision", "0.23.0+cpu"),
)
NEW = (
    torch_wheel(
        "2.9.0+cpu", TAG, files={"torch/lib/libtorch_cpu.so": "new library", "torch/new_only.py": ""}
    ),
    wheel("nvidia-cublas-cu12", "12.9", files={"nvidia/cublas/lib/libcublas.so.12": "new"}),
    wheel("torchvision", "0.24.0+cpu"),
)


class Venv:
    """A real environment, made by uv, with tiny wheels in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))},
            "UV_CACHE_DIR": str(folder / "cache"),
            "UV_NO_CONFIG": "1",
            "UV_PYTHON_DOWNLOADS": "never",
        }
        self.prefix = folder / "venv"
        self.uv("venv", "-q", "--python", sys.executable, str(self.prefix))
        self.python = str(self.prefix / "bin" / "python")
        self.site = next(self.prefix.glob("lib/python*/site-packages"))

    def uv(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([UV, *arguments], env=self.env, check=True, capture_output=True, text=True)

    def install(self, *wheels: TinyWheel) -> None:
        house = self.folder / "wheels"
        write_wheels(house, wheels)
        pins = [f"{item.normalised}=={item.version}" for item in wheels]
        self.uv(
            "pip", "install", "-q", "--python", self.python, "--no-index", "--find-links", str(house), *pins
        )

    def torch(self) -> str:
        """What `import torch` says, in the environment itself."""
        code = "import torch; print(torch.__version__)"
        done = subprocess.run([self.python, "-I", "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def listing(self) -> dict[str, bytes]:
        """Every file but bytecode, with its content."""
        return {
            str(path.relative_to(self.prefix)): path.read_bytes()
            for path in self.prefix.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and not path.is_symlink()
        }

    @property
    def reinstall(self) -> Reinstall:
        places = ("--no-index", "--find-links", str(self.folder / "wheels"))
        return Reinstall(uv=UV, python=self.python, env=self.env, sources=places)


@pytest.fixture
def venv(tmp_path: Path) -> Venv:
    made = Venv(tmp_path)
    made.install(*OLD)
    return made


def names(*wheels: TinyWheel) -> list[str]:
    return [item.normalised for item in wheels]


def fail() -> None:
    raise InstallFailedError("disk-full", "uv could not install torch 2.9.0", hints=("free some space",))


def half_of_torch_gone(venv: Venv) -> None:
    """A uv killed while it took the old files away."""
    (venv.site / "torch/__init__.py").unlink()
    (venv.site / "torch/version.py").unlink()


def all_of_torch_gone(venv: Venv) -> None:
    venv.uv("pip", "uninstall", "-q", "--python", venv.python, "torch")


def new_files_without_metadata(venv: Venv) -> None:
    """A uv killed while it put the new files in: they lie there and no list names them."""
    all_of_torch_gone(venv)
    (venv.site / "torch/lib").mkdir(parents=True)
    (venv.site / "torch/lib/libtorch_cpu.so").write_text("new library, half of i")
    (venv.site / "torch/new_only.py").write_text("")


def all_of_the_new(venv: Venv) -> None:
    """The second of two packages failed; the first had been replaced completely."""
    venv.install(*NEW)


def both_versions(venv: Venv) -> None:
    """New files and metadata beside the old metadata, as when taking away was skipped."""
    house = venv.folder / "more"
    write_wheels(house, NEW)
    with zipfile.ZipFile(house / NEW[0].filename) as archive:
        for name in archive.namelist():
            (venv.site / name).unlink(missing_ok=True)
            archive.extract(name, venv.site)


def library_cut_short(venv: Venv) -> None:
    library = venv.site / "torch/lib/libtorch_cpu.so"
    library.unlink()
    library.write_text("old")


BREAKAGES = [
    half_of_torch_gone,
    all_of_torch_gone,
    new_files_without_metadata,
    all_of_the_new,
    both_versions,
    library_cut_short,
]


@pytest.mark.e2e
@pytest.mark.parametrize("breakage", BREAKAGES)
def test_put_back_to_the_last_byte(venv: Venv, breakage: Callable[[Venv], None]) -> None:
    before = venv.listing()
    heard: list[str] = []

    def work() -> None:
        breakage(venv)
        assert venv.listing() != before, "the breakage broke nothing"
        fail()

    with pytest.raises(InstallFailedError) as caught:
        protected(work, sites=[venv.site], prefix=venv.prefix, changing=names(*NEW), tell=heard.append)

    assert venv.listing() == before
    assert venv.torch() == "2.8.0+cpu"
    assert caught.value.slug == "disk-full"
    assert "put back as it was" in caught.value.hints[0]
    assert "torch 2.8.0+cpu" in caught.value.hints[0]
    assert heard == [caught.value.hints[0]]


@pytest.mark.e2e
def test_untouched_is_said(venv: Venv) -> None:
    before = venv.listing()
    with pytest.raises(InstallFailedError) as caught:
        protected(fail, sites=[venv.site], prefix=venv.prefix)
    assert caught.value.hints == ("the environment is as it was before", "free some space")
    assert venv.listing() == before


@pytest.mark.e2e
def test_success_keeps_the_new_and_leaves_nothing_behind(venv: Venv) -> None:
    protected(lambda: venv.install(*NEW), sites=[venv.site], prefix=venv.prefix, changing=names(*NEW))
    assert venv.torch() == "2.9.0+cpu"
    assert not list(venv.prefix.glob(BACKUP_PREFIX + "*"))


@pytest.mark.e2e
def test_ctrl_c_puts_back_too(venv: Venv) -> None:
    def work() -> None:
        all_of_torch_gone(venv)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        protected(work, sites=[venv.site], prefix=venv.prefix)
    assert venv.torch() == "2.8.0+cpu"


@pytest.mark.e2e
def test_packages_that_were_not_there_are_removed(venv: Venv) -> None:
    extra = wheel("triton", "3.5.0", files={"triton/runtime.py": ""})
    before = venv.listing()

    def work() -> None:
        venv.install(extra)
        (venv.site / "torchaudio").mkdir()
        (venv.site / "torchaudio/__init__.py").write_text("half of it")
        fail()

    with pytest.raises(InstallFailedError):
        protected(work, sites=[venv.site], prefix=venv.prefix, changing=["triton", "torchaudio", "torch"])
    assert venv.listing() == before


@pytest.mark.e2e
def test_a_neighbour_in_a_shared_folder_is_left_alone(venv: Venv) -> None:
    """NVIDIA's packages share the folder `nvidia`; another process may install there meanwhile."""
    other = wheel("nvidia-cudnn-cu12", "9.1", files={"nvidia/cudnn/lib/libcudnn.so.9": "x"})

    def work() -> None:
        venv.install(other)
        all_of_the_new(venv)
        fail()

    with pytest.raises(InstallFailedError):
        protected(work, sites=[venv.site], prefix=venv.prefix, changing=names(*NEW))
    assert (venv.site / "nvidia/cudnn/lib/libcudnn.so.9").read_text() == "x"
    assert (venv.site / "nvidia/cublas/lib/libcublas.so.12").read_text() == "old"


@pytest.mark.e2e
def test_without_links_uv_puts_it_back_from_its_cache(venv: Venv) -> None:
    """A filesystem that has no hard links: the record of versions is all there is."""
    with_links = take_backup([venv.site], venv.prefix, ["torch"])
    shutil.rmtree(with_links.links or Path())
    bare = type(with_links)(
        **{name: getattr(with_links, name) for name in with_links.__struct_fields__ if name != "links"},
        links=None,
    )
    all_of_torch_gone(venv)
    outcome = restore(bare, venv.reinstall)
    assert outcome.status == "restored"
    assert venv.torch() == "2.8.0+cpu"


@pytest.mark.e2e
def test_broken_names_the_command_that_fixes(venv: Venv) -> None:
    kept = take_backup([venv.site], venv.prefix, ["torch"])
    assert kept.links is not None
    all_of_torch_gone(venv)
    shutil.rmtree(kept.links)
    outcome = restore(kept, venv.reinstall)
    assert outcome.status == "broken"
    assert outcome.command is not None
    subprocess.run([UV, *outcome.command.split()[1:]], env=venv.env, check=True, capture_output=True)
    assert venv.torch() == "2.8.0+cpu"


@pytest.mark.e2e
def test_environment_that_was_removed(venv: Venv) -> None:
    kept = take_backup([venv.site], venv.prefix, ["torch"])
    shutil.rmtree(venv.prefix)
    outcome = restore(kept)
    assert outcome.status == "broken"
    assert outcome.message.startswith("the environment is gone")
    assert str(venv.prefix) in (outcome.command or "")


@pytest.mark.e2e
def test_a_killed_run_can_be_undone_later(venv: Venv) -> None:
    """Nobody was left to restore: what was kept says by itself what belongs where."""
    before = venv.listing()
    taken = take_backup([venv.site], venv.prefix, names(*NEW))
    new_files_without_metadata(venv)
    (found,) = venv.prefix.glob(BACKUP_PREFIX + "*")
    again = load_backup(found)
    assert again == taken
    assert again is not None
    assert restore(again).status == "restored"
    assert venv.listing() == before


@pytest.mark.e2e
def test_a_run_killed_after_its_end_is_not_undone(venv: Venv) -> None:
    taken = take_backup([venv.site], venv.prefix, names(*NEW))
    assert not taken.finished(), "nothing was done yet"
    venv.install(*NEW)
    assert taken.finished()
    (venv.site / "torch/lib/libtorch_cpu.so").unlink()
    assert not taken.finished(), "a successor is not whole"


def test_fresh_environment_has_nothing_to_keep(tmp_path: Path) -> None:
    site = tmp_path / "lib/python3.12/site-packages"
    site.mkdir(parents=True)
    taken = take_backup([site], tmp_path, None)
    assert taken.links is None
    assert restore(taken) == Outcome(status="untouched", message="the environment is as it was before")
    assert list(tmp_path.iterdir()) == [tmp_path / "lib"]


def test_half_written_keep_folder_is_not_trusted(tmp_path: Path) -> None:
    folder = tmp_path / (BACKUP_PREFIX + "x")
    folder.mkdir()
    assert load_backup(folder) is None
    (folder / "manifest.json").write_text('{"prefix": 1')
    assert load_backup(folder) is None
