"""An install that fails leaves the environment as it was, or puts it back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.support.systems import LINUX
from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel, write_wheels
from torchinstall.core.errors import InstallFailedError, UsageError
from torchinstall.install.backup import Backup, Due, plan_backup
from torchinstall.install.environment import STATE
from torchinstall.install.journal import Journal, Owner, protected, read_journal, recover
from torchinstall.install.lock import EnvironmentLock
from torchinstall.install.uv import uv_beside_us

pytestmark = pytest.mark.only_on(LINUX, "folders of an environment on Linux")

UV = uv_beside_us() or "uv"
TAG = "py3-none-any"
OLD = (
    torch_wheel(
        "2.8.0+cpu", TAG, files={"torch/lib/libtorch_cpu.so": "old library", "torch/old_only.py": ""}
    ),
    wheel("nvidia-cublas-cu12", "12.8", files={"nvidia/cublas/lib/libcublas.so.12": "old"}),
    wheel("torchvision", "0.23.0+cpu"),
    wheel("six", "1.17.0"),
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


@pytest.fixture
def venv(tmp_path: Path) -> Venv:
    made = Venv(tmp_path)
    made.install(*OLD)
    return made


def due(*wheels: TinyWheel) -> Due:
    return {item.normalised: item.version for item in wheels}


def fail(_keep: tuple[int, ...] = ()) -> None:
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


def interrupted(venv: Venv, version: str) -> None:
    """A uv killed between the last file of a wheel and its own list of them.

    It puts the wheel's list in place with the other files, then writes what it adds, each under a temporary
    name first, then its own list.
    """
    (info,) = venv.site.glob(f"torch-{version}.dist-info")
    ours = {f"{info.name}/{name}" for name in ("INSTALLER", "REQUESTED", "uv_cache.json")}
    for name in ours:
        (venv.site / name).unlink()
    rows = (info / "RECORD").read_text().splitlines(keepends=True)
    (info / "RECORD").unlink()
    (info / "RECORD").write_text("".join(row for row in rows if row.split(",")[0] not in ours))
    (info / ".tmpAbCdEf").write_text("uv")


def interrupted_before_its_list(venv: Venv) -> None:
    all_of_the_new(venv)
    interrupted(venv, "2.9.0+cpu")


def list_cut_short(venv: Venv) -> None:
    """A uv killed while it wrote its list: what is left names only files that are there."""
    all_of_the_new(venv)
    (info,) = venv.site.glob("torch-2.9.0+cpu.dist-info")
    text = (info / "RECORD").read_text()
    (info / "RECORD").unlink()
    (info / "RECORD").write_text(text[: text.index("torch/version.py") + len("torch/version.py,sha256=")])


def other_bytes_of_the_same_size(venv: Venv) -> None:
    """A machine that lost its power: the file has its size, and not its content."""
    all_of_the_new(venv)
    file = venv.site / "torch/version.py"
    size = file.stat().st_size
    file.unlink()
    file.write_bytes(bytes(size))


def files_of_others_replaced(venv: Venv) -> None:
    """A wheel may name files of another package, and the environment's own."""
    data = "torch-2.9.0+cpu.data/data"
    others = (*("six/__init__.py", f"{data}/pyvenv.cfg"), f"{data}/bin/activate", f"{data}/etc/new.toml")
    venv.install(torch_wheel("2.9.0+cpu", TAG, files=dict.fromkeys(others, "from torch")))
    assert (venv.prefix / "bin/activate").read_text() == "from torch"


BREAKAGES = [
    files_of_others_replaced,
    half_of_torch_gone,
    all_of_torch_gone,
    new_files_without_metadata,
    all_of_the_new,
    both_versions,
    library_cut_short,
    interrupted_before_its_list,
    list_cut_short,
    other_bytes_of_the_same_size,
]


@pytest.mark.e2e
@pytest.mark.parametrize("breakage", BREAKAGES)
def test_put_back_to_the_last_byte(venv: Venv, breakage: Callable[[Venv], None]) -> None:
    before = venv.listing()
    heard: list[str] = []

    def work(_keep: tuple[int, ...]) -> None:
        breakage(venv)
        assert venv.listing() != before, "the breakage broke nothing"
        fail()

    with pytest.raises(InstallFailedError) as caught:
        protected(work, sites=[venv.site], prefix=venv.prefix, due=due(*NEW), tell=heard.append)

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
    protected(lambda _keep: venv.install(*NEW), sites=[venv.site], prefix=venv.prefix, due=due(*NEW))
    assert venv.torch() == "2.9.0+cpu"
    assert not list((venv.prefix / STATE).iterdir())


@pytest.mark.e2e
def test_what_lost_its_list_is_cleared_only_for_what_takes_its_place(venv: Venv) -> None:
    (info,) = venv.site.glob("torch-*.dist-info")
    (info / "RECORD").unlink()
    before = venv.listing()
    others: Due = {"torchvision": "0.23.0+cpu"}
    for wanted in (None, others):
        protected(lambda _keep: None, sites=[venv.site], prefix=venv.prefix, due=wanted)
        assert venv.listing() == before
    protected(lambda _keep: None, sites=[venv.site], prefix=venv.prefix, due={"torch": None})
    gone = {name for name in before if "/torch/" in name or "/torch-2.8.0+cpu.dist-info/" in name}
    assert before.keys() - venv.listing().keys() == gone


@pytest.mark.e2e
def test_ctrl_c_puts_back_too(venv: Venv) -> None:
    def work(_keep: tuple[int, ...]) -> None:
        all_of_torch_gone(venv)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        protected(work, sites=[venv.site], prefix=venv.prefix)
    assert venv.torch() == "2.8.0+cpu"


@pytest.mark.e2e
def test_packages_that_were_not_there_are_removed(venv: Venv) -> None:
    extra = wheel("triton", "3.5.0", files={"triton/runtime.py": ""})
    before = venv.listing()

    def work(_keep: tuple[int, ...]) -> None:
        venv.install(extra)
        (venv.site / "torchaudio").mkdir()
        (venv.site / "torchaudio/__init__.py").write_text("half of it")
        fail()

    wanted: Due = {"triton": "3.5.0", "torchaudio": "2.9.0", "torch": None}
    with pytest.raises(InstallFailedError):
        protected(work, sites=[venv.site], prefix=venv.prefix, due=wanted)
    assert venv.listing() == before


@pytest.mark.e2e
def test_a_neighbour_in_a_shared_folder_is_left_alone(venv: Venv) -> None:
    """NVIDIA's packages share the folder `nvidia`; another process may install there meanwhile."""
    other = wheel("nvidia-cudnn-cu12", "9.1", files={"nvidia/cudnn/lib/libcudnn.so.9": "x"})

    def work(_keep: tuple[int, ...]) -> None:
        venv.install(other)
        all_of_the_new(venv)
        fail()

    with pytest.raises(InstallFailedError):
        protected(work, sites=[venv.site], prefix=venv.prefix, due=due(*NEW))
    assert (venv.site / "nvidia/cudnn/lib/libcudnn.so.9").read_text() == "x"
    assert (venv.site / "nvidia/cublas/lib/libcublas.so.12").read_text() == "old"


def begun(venv: Venv, wanted: Due) -> Backup:
    """A run that has written its journal, kept the old files, and is then killed."""
    store = venv.prefix / STATE / "backup-x"
    backup = plan_backup([venv.site], venv.prefix, store, wanted)
    store.parent.mkdir(exist_ok=True)
    nobody = Owner(pid=2**22 + 1, command="torchinstall auto")
    journal = Journal(owner=nobody, prefix=venv.prefix, due=wanted, backup=backup)
    with journal.open():
        backup.save()
    return backup


def recovered(venv: Venv) -> str:
    heard: list[str] = []
    recover(venv.prefix, heard.append)
    assert not list((venv.prefix / STATE).iterdir()), "nothing is left"
    return " ".join(heard)


@pytest.mark.e2e
@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_killed_run_is_undone_by_the_next(venv: Venv, breakage: Callable[[Venv], None]) -> None:
    before = venv.listing()
    begun(venv, {**due(*NEW), "not-yet": "1"})
    breakage(venv)
    assert "was killed before it finished; the environment was put back" in recovered(venv)
    assert venv.listing() == before


@pytest.mark.e2e
def test_a_run_killed_after_its_end_is_not_undone(venv: Venv) -> None:
    begun(venv, due(*NEW))
    venv.install(*NEW)
    new = venv.listing()
    assert "its work is kept" in recovered(venv)
    assert venv.torch() == "2.9.0+cpu"
    assert {name for name in new if STATE not in name} == set(venv.listing())


@pytest.mark.e2e
def test_a_reinstall_killed_before_its_list_is_not_taken_for_done(venv: Venv) -> None:
    """As the doctor restores a file: the version is the same before and after."""
    (venv.site / "torch/version.py").unlink()
    before = venv.listing()
    begun(venv, {"torch": "2.8.0+cpu"})
    venv.uv("pip", "uninstall", "-q", "--python", venv.python, "torch")
    venv.install(OLD[0])
    interrupted(venv, "2.8.0+cpu")
    assert "put back as it was: torch 2.8.0+cpu" in recovered(venv)
    assert venv.listing() == before


@pytest.mark.e2e
def test_what_somebody_else_installed_since_is_kept(venv: Venv) -> None:
    begun(venv, due(*NEW))
    venv.install(torch_wheel("2.10.0+cpu", TAG))
    assert "changed since" in recovered(venv)
    assert venv.torch() == "2.10.0+cpu"


@pytest.mark.e2e
def test_a_run_killed_before_its_backup_was_complete_had_changed_nothing(venv: Venv) -> None:
    before = venv.listing()
    backup = begun(venv, due(*NEW))
    (backup.store / "complete").unlink()
    (backup.store / "0").unlink()
    assert "the environment is as it was before" in recovered(venv)
    assert venv.listing() == before


@pytest.mark.e2e
def test_a_file_of_an_odd_name_stays_in_the_environment(venv: Venv) -> None:
    """A folder that looks like an escape is a folder."""
    odd = wheel("odd", "1", files={"@up/@up/@up/@up/odd.py": "x = 1\n"})
    venv.install(odd)
    before = venv.listing()
    begun(venv, {"odd": "2", "torch": "9"})
    venv.uv("pip", "uninstall", "-q", "--python", venv.python, "odd")
    assert "odd 1" in recovered(venv)
    assert venv.listing() == before
    assert not (venv.folder / "odd.py").exists()


@pytest.mark.e2e
def test_the_files_of_the_user_stay(venv: Venv) -> None:
    (venv.site / "torch/mine.txt").write_text("notes")
    before = venv.listing()
    begun(venv, due(*NEW))
    both_versions(venv)
    recovered(venv)
    assert venv.listing() == before


@pytest.mark.e2e
def test_a_journal_that_a_wheel_brought_is_none(venv: Venv) -> None:
    begun(venv, due(*NEW))
    journal = venv.prefix / STATE / "journal.json"
    record = next(venv.site.glob("torch-*.dist-info")) / "RECORD"
    record.write_text(record.read_text() + f"../../../{STATE}/journal.json,,\n")
    assert read_journal(venv.prefix) is None
    assert recovered(venv) == ""
    assert not journal.exists()


@pytest.mark.e2e
def test_an_environment_that_was_moved_since_is_put_right(venv: Venv) -> None:
    before = venv.listing()
    begun(venv, due(*NEW))
    half_of_torch_gone(venv)
    place, venv.prefix = venv.prefix, venv.folder / "moved"
    place.rename(venv.prefix)
    assert "put back as it was: torch 2.8.0+cpu" in recovered(venv)
    assert venv.listing() == before
    assert not place.exists()


@pytest.mark.e2e
def test_a_journal_that_leads_out_of_its_environment_is_none(venv: Venv) -> None:
    begun(venv, due(*NEW))
    journal = venv.prefix / STATE / "journal.json"
    text = journal.read_text()
    here = f"{venv.site.relative_to(venv.prefix)}/torch/"
    for line in (f"{venv.folder}/elsewhere", f"{venv.prefix}/../elsewhere", "../elsewhere"):
        for was, now in ((here, f"{line}/"), ('"prefix":""', f'"prefix":"{line}"')):
            assert was in text
            journal.write_text(text.replace(was, now))
            assert read_journal(venv.prefix) is None


@pytest.mark.e2e
def test_an_environment_with_packages_was_not_just_being_made(venv: Venv) -> None:
    """Or a file that anybody left there would empty it."""
    before = venv.listing()
    nobody = Owner(pid=2**22 + 1, command="torchinstall auto")
    for prefix in (venv.prefix, venv.folder / "elsewhere"):
        journal = Journal(owner=nobody, prefix=prefix, created=True)
        (venv.prefix / STATE).mkdir(exist_ok=True)
        (venv.prefix / STATE / "journal.json").write_bytes(msgspec.json.encode(journal, enc_hook=str))
        assert recovered(venv) == ""
        assert venv.listing() == before


def something_else(state: Path) -> None:
    state.write_text("")


def leads_elsewhere(state: Path) -> None:
    state.symlink_to("elsewhere")


def folder_for_the_lock(state: Path) -> None:
    (state / "lock").mkdir(parents=True)


def folder_for_the_journal(state: Path) -> None:
    (state / "journal.json").mkdir(parents=True)


@pytest.mark.parametrize(
    "in_the_way", [something_else, leads_elsewhere, folder_for_the_lock, folder_for_the_journal]
)
def test_what_lies_in_the_way_of_the_lock_is_named(
    tmp_path: Path, in_the_way: Callable[[Path], None]
) -> None:
    kept = tmp_path / "elsewhere/backup-1"
    kept.mkdir(parents=True)
    in_the_way(tmp_path / STATE)
    with EnvironmentLock(wait=True, tell=lambda _text: None) as lock, pytest.raises(UsageError) as caught:
        lock.take(tmp_path)
    assert caught.value.slug == "cannot-write"
    assert str(tmp_path / STATE) in caught.value.hints[0]
    assert kept.is_dir()


@pytest.mark.e2e
def test_environment_that_was_removed(venv: Venv) -> None:
    def work(_keep: tuple[int, ...]) -> None:
        shutil.rmtree(venv.prefix)
        fail()

    with pytest.raises(InstallFailedError) as caught:
        protected(work, sites=[venv.site], prefix=venv.prefix)
    assert caught.value.hints[0].startswith("the environment is gone")
    assert str(venv.prefix) in caught.value.hints[0]


@pytest.mark.e2e
def test_nothing_is_begun_without_a_backup(venv: Venv) -> None:
    """Here the place of the journal is taken; a full disk ends the same way."""
    before = venv.listing()
    (venv.prefix / STATE).write_text("")
    with pytest.raises(InstallFailedError) as caught:
        protected(all_of_torch_gone_first, sites=[venv.site], prefix=venv.prefix)
    assert caught.value.slug == "no-backup"
    (venv.prefix / STATE).unlink()
    assert venv.listing() == before


def all_of_torch_gone_first(_keep: tuple[int, ...]) -> None:
    raise AssertionError("it was begun")


@pytest.mark.e2e
def test_without_hard_links_files_are_copied(venv: Venv) -> None:
    """As on a file system that has none: the kept files are files of their own."""
    before = venv.listing()
    backup = begun(venv, due(*NEW))
    for path in backup.store.iterdir():
        copy = path.with_name("copy")
        shutil.copy2(path, copy, follow_symlinks=False)
        copy.replace(path)
    assert not backup.lost(), "a copy is the same file"
    library_cut_short(venv)
    recovered(venv)
    assert venv.listing() == before


def test_fresh_environment_has_nothing_to_keep(tmp_path: Path) -> None:
    site = tmp_path / "lib/python3.12/site-packages"
    site.mkdir(parents=True)
    with pytest.raises(InstallFailedError) as caught:
        protected(fail, sites=[site], prefix=tmp_path)
    assert caught.value.hints[0] == "the environment is as it was before"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.e2e
def test_one_file_that_cannot_be_put_back_stops_no_other(venv: Venv) -> None:
    """A folder lies in its place; what is left to do is done by the next run, once that is possible."""
    before = venv.listing()
    place = venv.site / "torch/__init__.py"

    def work(_keep: tuple[int, ...]) -> None:
        all_of_torch_gone(venv)
        (place / "in the way").mkdir(parents=True)
        fail()

    with pytest.raises(InstallFailedError) as caught:
        protected(work, sites=[venv.site], prefix=venv.prefix, due=due(*NEW))
    assert "could not be put back" in caught.value.hints[0]
    gone = before.keys() - venv.listing().keys()
    assert gone == {str(place.relative_to(venv.prefix))}
    with pytest.raises(InstallFailedError) as again:
        recover(venv.prefix, lambda _text: None)
    assert again.value.slug == "not-put-back"
    assert str(place) in again.value.message
    shutil.rmtree(place)
    assert "put back as it was: torch 2.8.0+cpu" in recovered(venv)
    assert venv.listing() == before
