"""What may come between a plan and its environment: settings of uv, older damage, files in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.support import RunResult, run
from tests.support.installing import Place, an_environment, here
from tests.support.planning import linux
from tests.support.sdists import sdist
from tests.support.systems import LINUX_X86
from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel, write_wheels
from torchinstall.core.machine import machine_to_json
from torchinstall.install.distributions import distributions

pytestmark = [pytest.mark.e2e, pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")]

PYTHON = f"cp3{sys.version_info[1]}"
TAG = f"{PYTHON}-{PYTHON}-manylinux_2_17_x86_64"
OLD, NEW = "2.8.0+cpu", "2.9.1+cpu"


def beside(name: str, version: str, torch: str) -> TinyWheel:
    return wheel(name, version, TAG, requires=(f"torch=={torch}",))


HOUSE = (
    torch_wheel(OLD, TAG),
    torch_wheel(NEW, TAG),
    beside("torchvision", "0.23.0+cpu", "2.8.0"),
    beside("torchvision", "0.24.1+cpu", "2.9.1"),
    beside("torchaudio", "2.8.0+cpu", "2.8.0"),
    wheel("six", "1.17.0"),
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    write_wheels(tmp_path / "house", HOUSE)
    (tmp_path / "machine.json").write_text(json.dumps(machine_to_json(linux())), encoding="utf-8")
    return here(tmp_path / ".venv", an_environment(tmp_path))


FLAGS = ("--machine", "machine.json", "--backend", "cpu", "--no-verify", "--offline", "--find-links", "house")


def typed(place: Place, verb: str, *words: str) -> RunResult:
    return run(place.folder.parent, verb, *FLAGS, *words, env=place.env)


def auto(place: Place, *words: str) -> RunResult:
    return typed(place, "auto", *words)


def site(place: Place) -> Path:
    return next(place.folder.glob("lib/python3*/site-packages"))


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not path.is_symlink() and path.name != ".lock"
    }


@pytest.fixture
def old(place: Place) -> Place:
    """With torch 2.8.0 and nothing else."""
    said = auto(place, "torch==2.8.0")
    assert said.code == 0, said.err
    return place


def project(place: Place, settings: str) -> None:
    (place.folder.parent / "pyproject.toml").write_text(
        f'[project]\nname = "demo"\nversion = "1"\n{settings}\n', encoding="utf-8"
    )


@pytest.mark.parametrize("dry", [False, True], ids=["for good", "dry run"])
@pytest.mark.parametrize(
    ("settings", "culprit"),
    [
        (
            '[tool.uv]\noverride-dependencies = ["torch==2.8.0+cpu"]',
            "override-dependencies: torch==2.8.0+cpu",
        ),
        ('[tool.uv.pip]\ntarget = "elsewhere"', "`target`"),
        ('[tool.uv.pip]\nprefix = "elsewhere"', "`prefix`"),
    ],
)
def test_a_setting_that_would_change_the_plan_is_named_before_anything_is_touched(
    old: Place, settings: str, culprit: str, *, dry: bool
) -> None:
    project(old, settings)
    before = files(old.folder)
    said = auto(old, "torch==2.9.1", *(["--dry-run"] if dry else []))
    assert said.code == 1
    assert "error[plan-not-kept]" in said.err
    assert culprit in said.err
    assert "pyproject.toml" in said.err
    assert files(old.folder) == before
    assert not (old.folder.parent / "elsewhere").exists()


def test_another_origin_of_the_same_version_is_rolled_back(old: Place, tmp_path: Path) -> None:
    """Uv does not say beforehand where a file comes from; afterwards the environment does."""
    (evil,) = write_wheels(tmp_path / "evil", [torch_wheel(NEW, TAG, files={"torch/evil.py": "x = 1\n"})])
    project(old, f'[tool.uv]\noverride-dependencies = ["torch @ {evil.as_uri()}"]')
    before = files(old.folder)
    said = auto(old, "torch==2.9.1")
    assert said.code == 1, said.err
    assert "error[plan-not-kept]" in said.err
    assert "override-dependencies: torch @ " in said.err
    assert "put back as it was" in said.err
    assert files(old.folder) == before


def test_a_wheel_that_writes_into_our_folder_is_refused(old: Place, tmp_path: Path) -> None:
    odd = {"six-2.0.data/data/.torchinstall/journal.json": "{}"}
    write_wheels(tmp_path / "house", [wheel("six", "2.0", files=odd)])
    before = files(old.folder)
    said = auto(old, "torch==2.8.0", "six==2.0")
    assert said.code == 1, said.err
    assert "error[plan-not-kept]" in said.err
    assert files(old.folder) == before
    assert not (old.folder / ".torchinstall").exists()


def test_a_right_torch_is_kept_and_what_fits_it_is_added(old: Place) -> None:
    for words in ((), ("torchvision",), ("torch", "torchvision", "torchaudio")):
        said = auto(old, *words)
        assert said.code == 0, said.err
        assert old.versions()["torch"] == OLD
        assert old.versions()["torchvision"] == "0.23.0+cpu"
    assert old.versions()["torchaudio"] == "2.8.0+cpu"
    assert "nothing was changed" in auto(old).out
    assert "installs" not in auto(old, "torch", "torchvision", "six").err


def test_what_is_beside_torch_changes_with_it_or_stops_it(old: Place) -> None:
    assert auto(old, "torchvision").code == 0
    said = auto(old, "torch==2.9.1")
    assert said.code == 0, said.err
    assert (old.versions()["torch"], old.versions()["torchvision"]) == (NEW, "0.24.1+cpu")
    assert auto(old, "torch==2.8.0", "torchaudio").code == 0

    before = files(old.folder)
    stopped = auto(old, "torch==2.9.1")
    assert stopped.code == 1, stopped.err
    assert "torchaudio depend on torch==2.8.0" in stopped.err
    assert files(old.folder) == before


def test_a_torch_that_is_there_twice_becomes_one(old: Place) -> None:
    """As a killed pip leaves it, without a journal of ours."""
    (info,) = site(old).glob("torch-*.dist-info")
    other = info.with_name("torch-2.7.0.dist-info")
    other.mkdir()
    for name in ("METADATA", "WHEEL", "RECORD"):
        text = (info / name).read_text(encoding="utf-8")
        (other / name).write_text(text.replace("2.8.0+cpu", "2.7.0"), encoding="utf-8")
    said = auto(old, "torch")
    assert said.code == 0, said.err
    (torch,) = [dist for dist in distributions([site(old)]) if dist.name == "torch"]
    assert torch.lacking is None


def interrupt(place: Place, torch: str) -> Path:
    """As a uv of the user's that was killed before its own list leaves it, without a journal of ours."""
    (info,) = site(place).glob(f"torch-{torch}.dist-info")
    ours = ("INSTALLER", "REQUESTED", "uv_cache.json")
    for name in ours:
        (info / name).unlink()
    rows = (info / "RECORD").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [row for row in rows if not any(f"{info.name}/{name}," in row for name in ours)]
    (info / "RECORD").write_text("".join(kept), encoding="utf-8")
    (info / ".tmpAbCdEf").write_text("uv", encoding="utf-8")
    return info


@pytest.mark.parametrize("words", [("auto", "torch"), ("doctor", "--fix"), ("auto", "torch==2.9.1")])
def test_an_install_that_was_interrupted_is_finished(old: Place, words: tuple[str, ...]) -> None:
    whole = {name for name in files(site(old)) if OLD in name}
    info = interrupt(old, OLD)
    said = typed(old, *words)
    assert said.code == 0, said.err
    (torch,) = [dist for dist in distributions([site(old)]) if dist.name == "torch"]
    assert torch.lacking is None
    if "torch==2.9.1" in words:
        assert torch.version == NEW
        assert not info.exists(), "nothing of the old version is left"
    else:
        assert {name for name in files(site(old)) if OLD in name} == whole


@pytest.mark.parametrize("words", [("auto", "torch"), ("doctor", "--fix"), ("auto", "torch==2.9.1")])
@pytest.mark.parametrize("twice", [True, False], ids=["twice", "once"])
def test_a_torch_that_lost_its_list_is_replaced(old: Place, words: tuple[str, ...], *, twice: bool) -> None:
    """No installer can take it away; what lies in its folders goes, and what others list there stays."""
    (info,) = site(old).glob("torch-*.dist-info")
    other = info.with_name("torch-2.7.0.dist-info")
    if twice:
        other.mkdir()
        (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.7.0\n")
        (other / "INSTALLER").write_text("pip\n")
        (site(old) / "torch/of_the_other.py").write_text("")
    else:
        (info / "RECORD").unlink()
    said = typed(old, *words)
    assert said.code == 0, said.err
    (torch,) = [dist for dist in distributions([site(old)]) if dist.name == "torch"]
    assert torch.lacking is None
    assert torch.version == (NEW if "torch==2.9.1" in words else OLD)
    assert not (site(old) / "torch/of_the_other.py").exists()


def _copied_list(info: Path) -> None:
    """A second folder of metadata, whose list is that of the first."""
    other = info.with_name("torch-2.7.0.dist-info")
    other.mkdir()
    for name in ("METADATA", "INSTALLER", "RECORD"):
        (other / name).write_bytes((info / name).read_bytes())


def _silent_list(info: Path) -> None:
    """A list that does not name itself."""
    rows = (info / "RECORD").read_text(encoding="utf-8").splitlines(keepends=True)
    (info / "RECORD").write_text("".join(row for row in rows if "/RECORD" not in row), encoding="utf-8")


def _zeros(info: Path) -> None:
    for name in ("RECORD", "INSTALLER", "entry_points.txt"):
        (info / name).write_bytes(b"\0" * 900)


def _hole(info: Path, hole: bytes) -> None:
    """Other bytes in the middle of the list."""
    whole = (info / "RECORD").read_bytes()
    (info / "RECORD").write_bytes(whole[:200] + hole + whole[200 + len(hole) :])


@pytest.mark.parametrize(
    "damage",
    [
        _copied_list,
        _silent_list,
        _zeros,
        lambda info: _hole(info, b"\0" * 100),
        lambda info: _hole(info, b"\xff\xfe\x80"),
        lambda info: (info / ".DS_Store").write_bytes(b"1"),
        lambda info: (info / "RECORD").write_bytes((info / "RECORD").read_bytes()[:-9]),
    ],
    ids=[
        "the list of another",
        "a list without itself",
        "zeros",
        "zeros in the list",
        "no text in the list",
        "a file of nobody",
        "cut off",
    ],
)
def test_metadata_that_no_installer_takes_away_is_no_obstacle(
    old: Place, damage: Callable[[Path], object]
) -> None:
    (info,) = site(old).glob("torch-*.dist-info")
    damage(info)
    examined = typed(old, "doctor")
    assert examined.code in (0, 7), examined.err
    for torch in (NEW, OLD):
        said = auto(old, f"torch=={torch}")
        assert said.code == 0, said.err
        (found,) = (dist for dist in distributions([site(old)]) if dist.name == "torch")
        assert (found.version, found.lacking) == (torch, None)


def test_a_torch_of_the_operating_system_is_left_to_it(old: Place) -> None:
    """Its list lies elsewhere. A right one is kept; nobody writes another one over it."""
    (info,) = site(old).glob("torch-*.dist-info")
    (info / "RECORD").unlink()
    (info / "INSTALLER").write_text("rpm\n")
    before = files(old.folder)
    kept = auto(old, "torch")
    assert kept.code == 0, kept.err
    assert "already installed: torch" in kept.out
    refused = auto(old, "torch==2.9.1")
    assert refused.code == 1, refused.err
    assert files(old.folder) == before


def test_what_images_leave_out_is_not_installed_again(old: Place) -> None:
    write_wheels(old.folder.parent / "house", [torch_wheel(NEW, TAG, files={"torch/test/a.py": "x = 1\n"})])
    assert auto(old, "torch==2.9.1").code == 0
    (site(old) / "torch/test/a.py").unlink()
    assert "nothing was changed" in auto(old, "torch").out


def test_what_uv_cannot_take_away_is_named(old: Place) -> None:
    """As `python setup.py install` leaves it: a file of metadata, and no list."""
    (site(old) / "torch-2.7.0.egg-info").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.7.0\n")
    before = files(old.folder)
    said = auto(old, "torch==2.9.1")
    assert said.code == 1
    assert "error[cannot-uninstall]" in said.err
    assert "Unable to uninstall `torch==2.7.0`" in said.err
    assert files(old.folder) == before


@pytest.mark.may_skip(reason="root that may not mount cannot be kept from writing")
def test_a_right_environment_need_not_be_writable(old: Place) -> None:
    """What is yet to be built is no less missing, though all that the build needs is there."""
    tools = ("setuptools", "wheel", "packaging", "ninja", "numpy")
    built = [*(wheel(name, "80.0.0") for name in tools), sdist("ownops", "1.0")]
    write_wheels(old.folder.parent / "house", built)
    assert auto(old, "torch", *tools).code == 0
    if os.geteuid() == 0:
        bind = ["mount", "--bind", str(old.folder), str(old.folder)]
        if subprocess.run(bind, check=False).returncode != 0:
            pytest.skip("root may write everywhere and mount nothing here")
        subprocess.run(["mount", "-o", "remount,ro,bind", str(old.folder)], check=True)
    else:
        old.folder.chmod(0o555)
    try:
        kept = auto(old, "torch")
        source = ("torch", "ownops", "--allow-build", "ownops")
        asked = (("torch==2.9.1",), ("torch==2.9.1", "--dry-run"), ("six",), source)
        refused = [auto(old, *words) for words in asked]
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", str(old.folder)], check=True)
        else:
            old.folder.chmod(0o755)
    assert kept.code == 0, kept.err
    assert "already installed: torch" in kept.out
    for said in refused:
        assert said.code == 6, said.err
        assert "error[read-only-environment]" in said.err
        assert "--venv .venv-new" in said.err


def test_a_torch_whose_metadata_is_gone_is_damaged(old: Place) -> None:
    """As another installer leaves it that was killed while it took the old files away."""
    (info,) = site(old).glob("torch-*.dist-info")
    for path in info.iterdir():
        path.unlink()
    (site(old) / "torch/version.py").unlink()
    said = typed(old, "doctor")
    assert said.code == 7
    assert "error[damaged-files]" in said.out
    fixed = typed(old, "doctor", "--fix")
    assert fixed.code == 0, fixed.err
    (torch,) = [dist for dist in distributions([site(old)]) if dist.name == "torch"]
    assert torch.lacking is None


def test_what_tells_a_whole_package_is_written_whatever_is_set(old: Place) -> None:
    said = run(old.folder.parent, "auto", *FLAGS, "six", env={**old.env, "UV_NO_INSTALLER_METADATA": "1"})
    assert said.code == 0, said.err


def test_what_uv_says_shows_no_credentials(old: Place) -> None:
    """It hides a password, and none of the secrets that stand in a query."""
    words = [word for word in FLAGS if word != "--offline"]
    secret = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple?api_key=s3cr3t"}
    said = run(old.folder.parent, "auto", *words, "einops", env={**old.env, **secret})
    assert said.code == 1
    assert "api_key=****" in said.err
    assert "s3cr3t" not in said.err + said.out


@pytest.mark.may_skip(reason="a small disk has to be mounted")
def test_a_disk_without_room_for_anything(old: Place) -> None:
    """The lock finds its place there, and nothing else does."""
    state = old.folder / ".torchinstall"
    state.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(state)], check=False)
    if mounted.returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        before = files(site(old))
        said = auto(old, "torch==2.9.1")
        assert said.code == 2, said.err
        assert "error[cannot-write]" in said.err
        assert "No space left on device" in said.err
        assert files(site(old)) == before
    finally:
        subprocess.run(["umount", str(state)], check=True)


def test_what_has_no_list_is_put_back_where_its_replacement_fails(old: Place, tmp_path: Path) -> None:
    (info,) = site(old).glob("torch-*.dist-info")
    (info / "RECORD").unlink()
    (site(old) / "torch/mine.py").write_text("x = 1\n")
    (evil,) = write_wheels(tmp_path / "evil", [torch_wheel(NEW, TAG)])
    project(old, f'[tool.uv]\noverride-dependencies = ["torch @ {evil.as_uri()}"]')
    before = files(old.folder)
    said = auto(old, "torch==2.9.1")
    assert said.code == 1, said.err
    assert "put back as it was" in said.err
    assert files(old.folder) == before


def test_the_doctor_looks_again_after_each_remedy(old: Place) -> None:
    """Two faults that one remedy mends: the second is not mended again, and the torch stays what it was."""
    (site(old) / "torch/version.py").unlink()
    (info,) = site(old).glob("torch-*.dist-info")
    other = info.with_name("torch-2.8.1.dist-info")
    other.mkdir()
    for name in ("METADATA", "RECORD"):
        text = (info / name).read_text(encoding="utf-8")
        (other / name).write_text(text.replace("2.8.0+cpu", "2.8.1"), encoding="utf-8")
    said = typed(old, "doctor", "--fix")
    assert said.code == 0, said.err
    assert said.err.count("> torchinstall auto") == 1
    assert old.versions()["torch"] == OLD
    assert "nothing that --fix can safely do" in typed(old, "doctor", "--fix").err


def test_a_module_in_the_current_folder_is_not_run(old: Place) -> None:
    for name in ("click", "msgspec", "torchinstall", "filelock"):
        trap = f"open({str(old.folder.parent / 'sprung')!r}, 'w')\n"
        (old.folder.parent / f"{name}.py").write_text(trap, encoding="utf-8")
    (site(old) / "torch/version.py").unlink()
    said = typed(old, "doctor", "--fix")
    assert said.code == 0, said.err
    assert "> torchinstall auto" in said.err
    assert not (old.folder.parent / "sprung").exists()


def test_a_dry_run_chooses_what_the_run_would_choose(place: Place) -> None:
    """The index cannot be reached: both stop, or both take what lies here."""
    words = ("auto", "--machine", "machine.json", "--no-verify", "--index-base", "http://127.0.0.1:9/whl")
    folder = place.folder.parent
    for more in ((), ("--find-links", "house"), ("--backend", "cpu", "--find-links", "house")):
        dry = run(folder, *words, *more, "--dry-run", "--json", "torch", env=place.env)
        real = run(folder, *words, *more, "--json", "torch", env=place.env)
        assert dry.code == real.code
        assert dry.json.get("plan", {}).get("packages") == real.json.get("plan", {}).get("packages")
