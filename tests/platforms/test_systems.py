"""The suite runs on Windows, macOS and Arm: a test that cannot says so, and nothing else is skipped there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.systems import LINUX, LINUX_X86, POSIX, missing, systems

ROOT = Path(__file__).parents[2]
NEEDS = {
    r"#!/bin/sh": "a shell script",
    r"os\.kill\((?!os\.getpid)|os\.mkfifo\(|import pty\b": "signals, pipes or terminals of POSIX",
}


@pytest.mark.parametrize(
    ("name", "machine", "expected"),
    [
        ("linux", "x86_64", {POSIX, LINUX, LINUX_X86}),
        ("linux", "aarch64", {POSIX, LINUX}),
        ("darwin", "arm64", {POSIX}),
        ("win32", "AMD64", set()),
    ],
)
def test_what_a_system_is(name: str, machine: str, expected: set[str]) -> None:
    assert systems(name, machine) == expected


def test_a_test_that_cannot_run_is_told_with_its_reason() -> None:
    marks = [pytest.mark.only_on(POSIX, "it opens a pseudo-terminal").mark]
    assert missing(marks, (), systems("win32")) == "only on Linux or macOS: it opens a pseudo-terminal"
    assert missing(marks, (), systems("darwin")) is None
    assert (
        missing([], ("fake_nvml",), systems("darwin"))
        == "only on Linux: the fake driver is a library of Linux"
    )
    assert missing([], ("fake_nvml", "tmp_path"), systems("linux", "aarch64")) is None


@pytest.mark.parametrize("pattern", NEEDS)
def test_who_needs_a_system_is_marked(pattern: str) -> None:
    modules = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    using = [path for path in modules if re.search(pattern, path.read_text(encoding="utf-8"))]
    assert using
    assert [path.name for path in using if "only_on(" not in path.read_text(encoding="utf-8")] == []


@pytest.mark.only_on(POSIX, "it runs with a PATH of its own")
def test_the_check_does_not_end_where_there_is_no_apt(tmp_path: Path) -> None:
    """Windows and macOS have no apt-get; a compiler that is missing there is the tests' to tell."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".ci" / "run").write_bytes((ROOT / ".ci" / "run").read_bytes())
    script = tmp_path / "scripts" / "test"
    script.write_text('#!/bin/sh\necho "tests run, CI=$CI"\n', encoding="utf-8")
    script.chmod(0o755)
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "sh", "env"):
        (tools / tool).symlink_to(f"/bin/{tool}" if Path(f"/bin/{tool}").exists() else f"/usr/bin/{tool}")
    done = subprocess.run(
        ["/bin/bash", ".ci/run"],
        cwd=tmp_path,
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "tests run, CI=true\n"), done.stderr
