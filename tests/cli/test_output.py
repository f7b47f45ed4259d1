"""What reaches a terminal, a pipe and a file: nothing that is obeyed, and never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.support import run
from torchinstall.core.messages import json_text, printable

ATTACK = "\x1b]0;title\x07\x1b]8;;http://evil\x1b\\\x9b31m\x9d0;t\x9c\x07\u202eevil\u2066\x1b[8mhidden\x1b[2J\rOK\x7f"
MACHINE = json.dumps(
    {
        "schema_version": 1,
        "os": "linux",
        "arch": "x86_64",
        "libc": {"family": "glibc", "version": "2.39"},
        "drivers": [{"vendor": "nvidia", "version": "580.95.05", "source": ATTACK}],
        "gpus": [{"vendor": "nvidia", "name": f"NVIDIA{ATTACK} H100", "compute_capability": "9.0"}],
        "findings": [
            {"probe": "nvidia", "status": "broken", "detail": ATTACK, "slug": ATTACK, "hint": ATTACK}
        ],
    }
)
PLAN = ("plan", "torch", "--offline", "--python-version", "3.12", "--machine", "-")
CONTROL = {chr(code) for code in (*range(9), 11, 12, *range(13, 32), *range(127, 160), 0x202E, 0x2066)}


@pytest.mark.parametrize("terminal", [False, True])
def test_names_from_elsewhere_are_no_orders(tmp_path: Path, terminal: bool) -> None:
    result = run(tmp_path, *PLAN, "-v", stdin=MACHINE, terminal=terminal)
    assert result.code in (0, 4), result.err
    shown = result.out + result.err
    assert "NVIDIA" in shown
    for own in ("\x1b[0m", "\x1b[1m", "\x1b[2m", *(f"\x1b[3{digit}m" for digit in range(1, 7))):
        shown = shown.replace(own, "") if terminal else shown
    assert not CONTROL & set(shown)
    assert terminal == ("\x1b[1m" in result.out)


def test_json_keeps_such_names_as_data(tmp_path: Path) -> None:
    result = run(tmp_path, *PLAN, "--allow-cpu", "--json", stdin=MACHINE)
    assert not CONTROL & set(result.out)
    assert result.json["gpus"][0]["name"] == f"NVIDIA{ATTACK} H100"


@pytest.mark.parametrize("text", ["\x1b]", "\x1b[3", "\x9d", "\x1b", "\x1b[1m", "\u202e"])
def test_long_attacks_take_one_pass(text: str) -> None:
    start = time.process_time()
    assert not CONTROL & set(printable(text * 100_000))
    printable(text * 100_000, colour=True)
    assert json.loads(json_text(text * 100_000)) == text * 100_000
    assert time.process_time() - start < 2


def test_values_of_files_and_unknown_keys_too(tmp_path: Path) -> None:
    text = '[tool.torchinstall]\n"\\u001b]0;t\\u0007\\u202e" = 1\n'
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    result = run(tmp_path, *PLAN, stdin=MACHINE)
    assert result.code == 2
    assert not CONTROL & set(result.err)


def process(shell: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A real process with the streams that a shell gives it."""
    (folder / "m.json").write_text(MACHINE, encoding="utf-8")
    command = f"'{sys.executable}' -m torchinstall {' '.join(PLAN[:-1])} m.json --allow-cpu"
    return subprocess.run(
        ["bash", "-c", shell.replace("PLAN", command)],
        cwd=folder,
        env={**os.environ, "HOME": str(folder), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("shell", "code"),
    [
        ("PLAN", 0),
        ("PLAN --json", 0),
        ("PLAN >&-", 0),
        ("PLAN 2>&-", 0),
        ("PLAN <&- >&- 2>&-", 0),
        ("PLAN --json >&-", 0),
        ("PLAN > /dev/full", 2),
        ("PLAN --json > /dev/full", 2),
        ("PLAN > /dev/full 2>&1", 2),
        ("set -o pipefail; PLAN | true", 141),
        ("set -o pipefail; PLAN 2>&1 -vv | head -c 1 > /dev/null", 141),
        ("PLAN --backend nonsense >&- 2>&-", 2),
    ],
)
def test_streams_that_are_ascii_closed_full_or_gone(tmp_path: Path, shell: str, code: int) -> None:
    done = process(shell, tmp_path, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "internal-error" not in done.stderr
    assert done.returncode in (code, 0) if code == 141 else done.returncode == code, done.stderr
    if "json" in shell and ">" not in shell:
        assert json.loads(done.stdout)["gpus"][0]["name"] == f"NVIDIA{ATTACK} H100"
    if "/dev/full" in shell and "2>" not in shell:
        assert "error[cannot-write]: stdout cannot be written" in done.stderr


def test_a_terminal_without_an_ellipsis_gets_three_dots(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torchinstall", "plan", "--help"]
    env = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert "--backend auto|cpu|cu126|..." in said
    assert "\\u" not in said


def test_quiet_and_verbose_take_each_other_back(tmp_path: Path) -> None:
    plan = (
        "plan",
        "--offline",
        "--python-version",
        "3.12",
        "--target-gpu",
        "sm_90",
        "--target-driver",
        "580",
    )
    plain = run(tmp_path, *plan)
    assert plain.code == 0, plain.err
    assert run(tmp_path, *plan, "-q", "-v").err == plain.err == run(tmp_path, "-qqv", *plan, "-v").err
    assert run(tmp_path, *plan, "-v").err != plain.err
