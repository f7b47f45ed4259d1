"""Files of the user: replaced whole or not at all, read within bounds."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from tests.cli.support import run
from tests.support.systems import POSIX
from torchinstall.core.decoding import load, store
from torchinstall.core.errors import UsageError
from torchinstall.core.files import parse_toml, read_text, user_path, venv_python, write_file

PLAN = ("torch", "--offline", "--python-version", "3.12", "--backend", "cpu", "--root", ".")
REQUIREMENTS = ("export", "--format", "constraints", *PLAN)


@pytest.mark.only_on(POSIX, "modes, links and device files of POSIX")
def test_a_file_is_replaced_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old", encoding="utf-8")
    path.chmod(0o640)
    write_file(path, "new")
    assert (path.read_text(encoding="utf-8"), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o640)
    assert [item.name for item in tmp_path.iterdir()] == ["f"]


@pytest.mark.only_on(POSIX, "modes, links and device files of POSIX")
def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "pyproject.toml"
    target.write_text("old", encoding="utf-8")
    link = tmp_path / "pyproject.toml"
    link.symlink_to(target)
    write_file(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_mark_of_utf8_stays_and_a_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "f"
    write_file(path, "a\r\n")
    assert path.read_bytes() == b"a\r\n"
    path.write_bytes(b"\xef\xbb\xbfold")
    write_file(path, "new")
    assert path.read_bytes() == b"\xef\xbb\xbfnew"
    write_file(path, b"as they are")
    assert path.read_bytes() == b"as they are"


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _device(path: Path) -> None:
    path.symlink_to(os.devnull)


def _circle(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [_fifo, _folder, _device, _circle])
def test_what_is_no_file_is_refused(tmp_path: Path, make: object) -> None:
    path = tmp_path / "out"
    make(path)  # type: ignore[operator]  # one of the four above
    before = path.lstat()
    null = os.stat(os.devnull)  # noqa: PTH116  # the device itself
    with pytest.raises(UsageError) as caught:
        write_file(path, "text")
    assert caught.value.slug == "cannot-write"
    result = run(tmp_path, *REQUIREMENTS, "-o", "out")
    assert (result.code, result.out) == (2, "")
    assert "error[cannot-write]" in result.err
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)  # noqa: PTH116  # as above
    assert os.stat(os.devnull).st_ino == null.st_ino  # noqa: PTH116  # as above
    assert [item.name for item in tmp_path.iterdir()] == ["out"]


@pytest.mark.only_on(POSIX, "modes, links and device files of POSIX")
def test_devices_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("/dev/null", "/dev/full"):
        assert run(tmp_path, *REQUIREMENTS, "-o", name).code == 2
        assert stat.S_ISCHR(Path(name).stat().st_mode)


def test_a_dash_is_stdout(tmp_path: Path) -> None:
    shown = run(tmp_path, *REQUIREMENTS, "-o", "-")
    assert (shown.code, shown.out) == (0, run(tmp_path, *REQUIREMENTS).out)
    assert list(tmp_path.iterdir()) == []
    assert "error[no-output]" in run(tmp_path, "bundle", "torch", "-o", "-").err


@pytest.mark.parametrize(
    "text",
    [
        "a" + ".a" * 150_000 + "=1",
        "[a" + ".'a'" * 60_000 + "]",
        "a=" + "[" * 100_000,
        "a=" + "{a=" * 50_000,
        "a=" + "9" * 5000,
        '"' * 200_000,
        "\ud800",
        "a='\0'",
    ],
)
def test_toml_that_runs_away_is_refused_at_once(text: str) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"."):
        parse_toml(text)
    assert time.monotonic() - start < 2


def test_a_file_is_read_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"\xef\xbb\xbftorch\r\n")
    assert read_text(path) == "torch\r\n"
    with pytest.raises(OSError, match="larger than"):
        read_text(Path("/dev/zero"))
    with pytest.raises(ValueError, match="null byte"):
        read_text(tmp_path / "a\0b")
    assert user_path(tmp_path, "~nobody-of-that-name/x") == tmp_path / "~nobody-of-that-name/x"


@pytest.mark.parametrize("text", ["", "{}", "[1", '["1"]', "\x00", "[" * 100_000])
def test_a_value_is_kept_and_what_is_none_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "new" / "f"
    assert load(path, list[int]) is None
    assert store(path, [1, 2]) is None
    assert load(path, list[int]) == [1, 2]
    path.write_text(text)
    assert load(path, list[int]) is None
    assert str(path) in str(store(path / "below", [1]))


def test_a_virtual_environment_says_its_python(tmp_path: Path) -> None:
    assert venv_python(tmp_path) == ""
    for text in ("version = 3.12.4\n", "home = /x\nVersion_Info=3.12.4.final.0\nuv = 0.9\n"):
        (tmp_path / "pyvenv.cfg").write_text(text)
        assert venv_python(tmp_path) == "3.12"


def test_what_powershell_writes_is_read(tmp_path: Path) -> None:
    for name, text in (("machine.json", "{\r\n}"), ("requirements.txt", "torch==2.9.1\r\n")):
        (tmp_path / name).write_bytes(text.encode("utf-16"))
        assert read_text(tmp_path / name) == text
    (tmp_path / "table.toml").write_bytes("[project]".encode("utf-16"))
    with pytest.raises(UnicodeDecodeError):
        read_text(tmp_path / "table.toml")
    error = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
    (tmp_path / "error.txt").write_bytes(error.encode("utf-16"))
    assert "no-kernel-image" in run(tmp_path, "doctor", "--explain", "error.txt").out
