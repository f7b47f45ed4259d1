"""A file is the old one or the new one, whatever happens in between."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.small import small_catalog
from tests.support.systems import POSIX
from torchinstall.core.errors import UsageError
from torchinstall.core.files import write_file
from torchinstall.project.configure import ProjectChange, configure
from torchinstall.project.files import read_text, unified_diff
from torchinstall.project.model import Layout

PROJECT = '[project]\nname = "demo"\nversion = "1"\ndependencies = ["torch"]\n'
LAYOUT = Layout(name="this-machine", backends=("cu128",))


def child(code: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=False)


@pytest.mark.only_on(POSIX, "modes, links and signals of POSIX")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """The kernel itself refuses to write more than 100 bytes: the same OSError as on a full disk."""
    path = tmp_path / "pyproject.toml"
    path.write_text(PROJECT, encoding="utf-8")
    code = (
        "import resource, signal, sys, pathlib\n"
        "from torchinstall.core.files import write_file\n"
        "from torchinstall.core.errors import UsageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n"
        "    write_file(pathlib.Path(sys.argv[1]), 'x' * 5000)\n"
        "except UsageError as error:\n"
        "    print(error.slug)\n"
    )
    done = child(code, str(path))
    assert done.stdout.strip() == "cannot-write", done.stderr
    assert path.read_text("utf-8") == PROJECT
    assert os.listdir(tmp_path) == ["pyproject.toml"]  # noqa: PTH208  # names only


@pytest.mark.only_on(POSIX, "modes, links and signals of POSIX")
def test_ctrl_c_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(PROJECT, encoding="utf-8")
    code = (
        "import signal, sys, pathlib\n"
        "from torchinstall.core.files import write_file\n"
        "text = 'x' * 200_000_000\n"
        "def stop(*_): raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGALRM, stop)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.005)\n"
        "try:\n"
        "    write_file(pathlib.Path(sys.argv[1]), text)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    done = child(code, str(path))
    assert done.stdout.strip() == "interrupted", done.stderr
    assert path.read_text("utf-8") == PROJECT
    assert os.listdir(tmp_path) == ["pyproject.toml"]  # noqa: PTH208  # names only


@pytest.mark.parametrize("had_lock", [True, False])
def test_ctrl_c_while_uv_locks_puts_everything_back(tmp_path: Path, had_lock: bool) -> None:
    path, lock = tmp_path / "pyproject.toml", tmp_path / "uv.lock"
    path.write_text(PROJECT, encoding="utf-8")
    if had_lock:
        lock.write_text("version = 1\n", encoding="utf-8")

    def interrupted(folder: Path) -> None:
        assert "pytorch-cu128" in (folder / "pyproject.toml").read_text("utf-8")
        lock.write_text("half", encoding="utf-8")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        configure(tmp_path, ProjectChange(layout_of=lambda _view: LAYOUT), small_catalog(), lock=interrupted)
    assert path.read_text("utf-8") == PROJECT
    assert lock.exists() == had_lock
    assert not had_lock or lock.read_text("utf-8") == "version = 1\n"


@pytest.mark.only_on(POSIX, "modes, links and signals of POSIX")
def test_mode_is_kept_and_a_link_is_followed(tmp_path: Path) -> None:
    real = tmp_path / "elsewhere" / "project.toml"
    real.parent.mkdir()
    real.write_text(PROJECT, encoding="utf-8")
    real.chmod(0o640)
    link = tmp_path / "pyproject.toml"
    link.symlink_to(real)
    write_file(link, "new = 1\n")
    assert link.is_symlink()
    assert real.read_text("utf-8") == "new = 1\n"
    assert real.stat().st_mode & 0o777 == 0o640


def test_a_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    path = tmp_path / "new.toml"
    old = os.umask(0o027)
    try:
        write_file(path, "x = 1\n")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


def test_line_ends_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_bytes(b"x = 1\r\n")
    assert read_text(path) == "x = 1\r\n"


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_what_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "pyproject.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_text(path)
    assert caught.value.slug == ("bad-pyproject" if content is not None else "no-pyproject")


def test_not_toml_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_bytes(b'[project]\nname = "x\n')
    with pytest.raises(UsageError) as caught:
        configure(tmp_path, ProjectChange(layout_of=lambda _view: LAYOUT), small_catalog())
    assert caught.value.slug == "bad-pyproject"
    assert "line 2" in caught.value.message
    assert path.read_bytes() == b'[project]\nname = "x\n'


def test_an_unchanged_file_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(PROJECT, encoding="utf-8")
    configure(tmp_path, ProjectChange(layout_of=lambda _view: LAYOUT), small_catalog())
    written = path.stat()
    configure(tmp_path, ProjectChange(layout_of=lambda _view: LAYOUT), small_catalog())
    assert path.stat().st_ino == written.st_ino
    assert path.stat().st_mtime_ns == written.st_mtime_ns


def test_diff_says_where_the_last_line_has_no_end() -> None:
    text = unified_diff("a = 1", "a = 2\n", "pyproject.toml")
    assert text.splitlines()[-3:] == ["-a = 1", "\\ No newline at end of file", "+a = 2"]
    assert unified_diff("a = 1\r\n", "a = 1\n", "x") == ""
