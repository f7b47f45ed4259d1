"""A few kills of the harness, several runs at once, and signals; `python -m tests.crash` kills more often."""

from __future__ import annotations

import copy
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.__main__ import kills
from tests.crash.harness import NEW, OLD, OPERATIONS, ROOT, Harness
from tests.support.systems import LINUX_X86
from torchinstall.install.distributions import distributions

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.xdist_group("crash"),
    pytest.mark.only_on(LINUX_X86, "it sends signals to groups, and installs wheels that are built for it"),
]


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    return Harness(tmp_path_factory.mktemp("crash"), seed=7)


@pytest.fixture(scope="module", autouse=True)
def default_signals() -> Iterator[None]:
    """What `nohup` ignores is ignored by every child, and rightly by torchinstall."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def upgraded(harness: Harness) -> Iterator[Harness]:
    """An environment with the old torch."""
    harness.reset("old")
    yield harness
    harness.reset("old")


def torch_of(harness: Harness) -> str:
    (torch,) = (dist for dist in distributions([harness.site]) if dist.name == "torch")
    assert torch.lacking is None
    return torch.version


def test_killed_at_any_moment_the_next_run_makes_it_whole(harness: Harness) -> None:
    for row in kills(harness, 8, OPERATIONS):
        assert not row.problem, f"{row}: {row.problem}"


def test_five_at_once_with_conflicting_pins(upgraded: Harness) -> None:
    """Each does what it was asked to, one after the other, or says that the environment is busy."""
    asked = [NEW, OLD, NEW, OLD, NEW]
    running = [
        subprocess.Popen(
            upgraded.argv(*upgraded.auto(torch), *(["--no-wait"] if number == 4 else [])),
            env=upgraded.env,
            cwd=upgraded.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, torch in enumerate(asked)
    ]
    told = [process.communicate(timeout=120) for process in running]
    for torch, process, (out, err) in zip(asked, running, told, strict=True):
        busy = process.returncode == 1 and "error[environment-busy]" in err
        done = process.returncode == 0 and f"installed: torch {torch}" in out
        assert busy or done, err
    assert any("waiting for " in err for _, err in told)
    assert torch_of(upgraded) in (OLD, NEW)
    assert not list(upgraded.prefix.glob(".torchinstall*"))


def patient_uv(harness: Harness) -> dict[str, str]:
    """The environment of a run whose uv says that it begins to install and then waits for `go`."""
    script, begun, go = (harness.folder / name for name in ("patient-uv", "begun", "go"))
    begun.unlink(missing_ok=True)
    go.unlink(missing_ok=True)
    wait = f"touch {begun}; while [ ! -e {go} ]; do sleep 0.05; done"
    script.write_text(
        f'#!/bin/sh\ncase " $* " in *" --dry-run "*) ;; *" pip install "*) {wait} ;; esac\n'
        f'exec {harness.uv} "$@"\n'
    )
    script.chmod(0o755)
    return {**harness.env, "TORCHINSTALL_UV": str(script)}


def waiting(harness: Harness, *words: str) -> tuple[int, str]:
    """Start a run that has to wait, let the other one go on; how this one ended and what it said."""
    process = subprocess.Popen(
        harness.argv(*words),
        env=harness.env,
        cwd=harness.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = process.stderr.readline()
    while said and "waiting for " not in said:
        more = process.stderr.readline()
        assert more, said
        said += more
    (harness.folder / "go").touch()
    _, rest = process.communicate(timeout=60)
    return process.returncode, said + rest


def begin(harness: Harness, *words: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """A run that is in the middle of its installation."""
    process = subprocess.Popen(
        harness.argv(*words),
        env=patient_uv(harness),
        cwd=harness.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (harness.folder / "begun").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_the_doctor_waits_for_a_running_installation_and_readers_name_it(upgraded: Harness) -> None:
    process = begin(upgraded, *upgraded.auto(NEW))
    read = upgraded.run("plan", "--offline", "--find-links", str(upgraded.house), "--backend", "cpu", "torch")
    busy = upgraded.run(*upgraded.auto(OLD), "--no-wait")
    code, said = waiting(upgraded, *upgraded.doctor())
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert "warning[environment-busy]" in read.stderr
    assert busy.returncode == 1
    assert "error[environment-busy]" in busy.stderr
    assert f"process {process.pid}" in busy.stderr
    assert f"waiting for process {process.pid}" in said
    assert code == 0, said
    assert torch_of(upgraded) == NEW


def test_a_killed_run_is_named_by_who_reads_and_put_right_by_who_changes(upgraded: Harness) -> None:
    process = begin(upgraded, *upgraded.auto(NEW))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    read = upgraded.run("plan", "--offline", "--find-links", str(upgraded.house), "--backend", "cpu", "torch")
    assert "warning[interrupted-install]" in read.stderr
    again = upgraded.run(*upgraded.auto(None))
    assert "an earlier run was killed" in again.stderr
    assert torch_of(upgraded) == OLD
    assert not list(upgraded.prefix.glob(".torchinstall*"))


def test_a_killed_run_is_put_right_where_the_packages_lie_elsewhere(upgraded: Harness) -> None:
    """As on a larger disk, in a folder of any name that is linked."""
    site, elsewhere = upgraded.site, upgraded.folder / "on another disk"
    shutil.move(site, elsewhere)
    site.symlink_to(elsewhere)
    process = begin(upgraded, *upgraded.auto(NEW))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    (site / "torch/version.py").unlink()
    again = upgraded.run(*upgraded.auto(None))
    assert f"put back as it was: torch {OLD}" in again.stderr
    assert torch_of(upgraded) == OLD
    site.unlink()
    shutil.rmtree(elsewhere)


def test_a_killed_run_in_an_environment_that_was_emptied_since(upgraded: Harness) -> None:
    """`rm -rf .venv/*` leaves our folder, and files of uv, as their names begin with a dot."""
    process = begin(upgraded, *upgraded.auto(NEW))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    for path in upgraded.prefix.glob("[!.]*"):
        path.unlink() if path.is_file() or path.is_symlink() else shutil.rmtree(path)
    verb, *words = upgraded.auto(OLD)
    again = upgraded.run(verb, "--venv", ".venv", *words)
    assert again.returncode == 0, again.stderr
    assert "the environment is gone" in again.stderr
    assert "interrupted-install" not in again.stderr
    assert torch_of(upgraded) == OLD
    assert not list(upgraded.prefix.glob(".torchinstall*"))


def test_what_is_seen_before_the_repair_does_not_count_after_it(upgraded: Harness) -> None:
    """Uv says which environment a version of Python means; the lock, and with it the repair, come after."""
    process = begin(upgraded, *upgraded.auto(NEW))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    half = ("pip", "install", "--python", str(upgraded.prefix), "--offline", "--no-deps", f"torch=={NEW}")
    subprocess.run([upgraded.uv, *half, "-f", str(upgraded.house)], env=upgraded.env, check=True)
    again = upgraded.run(*upgraded.auto(NEW), "--python", f"3.{sys.version_info[1]}")
    assert again.returncode == 0, again.stderr
    assert f"put back as it was: torch {OLD}" in again.stderr
    assert torch_of(upgraded) == NEW
    assert f"installed: torch {NEW}" in again.stdout


def test_names_that_are_not_utf_8_are_kept_too(upgraded: Harness) -> None:
    odd = os.fsencode(upgraded.site) + b"/caf\xe9.py"
    Path(os.fsdecode(odd)).touch()
    process = begin(upgraded, *upgraded.auto(NEW))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    again = upgraded.run(*upgraded.auto(NEW), "--find-links", os.fsdecode(b"f\xffr"))
    assert again.returncode == 2, again.stderr  # there is no such folder
    assert "an earlier run was killed" in again.stderr
    assert Path(os.fsdecode(odd)).exists()


def without_locks(harness: Harness) -> dict[str, str]:
    """An environment on a file system that refuses locks, as Lustre does and NFS may."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the file system without locks")
    library = harness.folder / "nolock.so"
    code = f"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int flock(int fd, int how) {{
    char link[64], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) > 0 && strstr(path, "{harness.prefix}/")) {{
        errno = ENOSYS;
        return -1;
    }}
    return syscall(SYS_flock, fd, how);
}}
"""
    command = [compiler, "-shared", "-fPIC", "-x", "c", "-o", str(library), "-"]
    subprocess.run(command, input=code, text=True, check=True)
    return {**harness.env, "LD_PRELOAD": str(library)}


def test_a_file_system_without_locks(upgraded: Harness) -> None:
    """The journal's owner is looked for then; its number may be another's by now."""
    bare = copy.copy(upgraded)
    bare.env = without_locks(upgraded)
    process = begin(bare, *bare.auto(NEW))
    busy = bare.run(*bare.auto(OLD), "--no-wait")
    assert "error[environment-busy]" in busy.stderr
    assert f"process {process.pid}" in busy.stderr
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    path = bare.prefix / ".torchinstall/journal.json"
    path.write_text(path.read_text().replace(f'"pid":{process.pid}', f'"pid":{os.getpid()}'))
    os.utime(path, (0, 0))
    again = bare.run(*bare.auto(NEW))
    assert again.returncode == 0, again.stderr
    assert "has no locks" in again.stderr
    assert "an earlier run was killed" in again.stderr
    assert torch_of(bare) == NEW
    assert not list(bare.prefix.glob(".torchinstall*"))


def test_a_uv_that_outlives_its_run_is_waited_for(upgraded: Harness) -> None:
    process = begin(upgraded, *upgraded.auto(NEW))
    process.kill()  # the process alone: its uv goes on and installs
    process.communicate(timeout=60)
    code, said = waiting(upgraded, *upgraded.auto(None))
    assert code == 0, said
    assert "waiting for the uv of a run that was ended" in said
    assert "its work is kept" in said
    assert torch_of(upgraded) == NEW


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle(upgraded: Harness, number: signal.Signals) -> None:
    process = begin(upgraded, *upgraded.auto(NEW))
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "error[interrupted]" in err
    assert torch_of(upgraded) == OLD
    assert not list(upgraded.prefix.glob(".torchinstall*"))


def test_a_terminal_that_is_closed_in_the_middle(upgraded: Harness) -> None:
    """What can be said to nobody changes neither the rollback nor the exit code."""
    ours, its = pty.openpty()
    process = begin(upgraded, *upgraded.auto(NEW), stderr=its)
    os.close(its)
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGHUP
    assert torch_of(upgraded) == OLD
    assert not list(upgraded.prefix.glob(".torchinstall*"))


@pytest.mark.parametrize("closed", [False, True], ids=["a pipe", "closed stdout"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_the_very_start(tmp_path: Path, number: signal.Signals, *, closed: bool) -> None:
    """Also while the first modules are imported: no traceback, and the code that a shell expects."""
    words = [sys.executable, "-X", "importtime", "-m", "torchinstall", "plan", "--offline"]
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *words] if closed else words
    for awaited in ("click.types", "torchinstall.planning.context"):
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        for line in process.stderr:
            if line.rstrip().endswith(awaited):
                break
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode in (128 + number, 0, 3, 4)
        assert "Traceback" not in said


_STRUCK = """
import contextlib, functools, io, os, signal, sys, threading
import psutil
from torchinstall.install import signals, stream

WATCHED = {module.__file__ for module in (contextlib, signals, stream, threading)}

def strike(turn, run):
    # Python looks for signals where a function is entered or left: strike at the turn-th of these places.
    left = turn

    def look(frame, event, _):
        nonlocal left
        if event != "c_call" and frame.f_code.co_filename in WATCHED:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGTERM)

    sys.setprofile(look)
    try:
        run()
    except SystemExit as leaving:
        assert leaving.code == 143
    finally:
        sys.setprofile(None)
    return left <= 0

child = {"argv": ["sleep", "0.05"], "env": dict(os.environ)}
for run in (
    functools.partial(stream.attach, **child),
    functools.partial(stream.stream, **child, sink=io.BytesIO(), grace=0.02),
):
    turn = 1
    with signals.leave_on_signals():
        while strike(turn, run):
            for alone in psutil.Process().children():
                print(turn, "left", alone)
                alone.kill()
                alone.wait()
            turn += 1
    print(turn > 50)
"""


def test_a_signal_leaves_no_child_wherever_it_strikes(tmp_path: Path) -> None:
    """A uv that was started and never known would go on while its work is put back."""
    done = subprocess.run(
        [sys.executable, "-c", _STRUCK],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("True\nTrue\n", "")


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """Under `nohup` a hangup is nothing."""
    code = (
        "import signal, os\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from torchinstall.install.signals import leave_on_signals\n"
        "with leave_on_signals():\n    os.kill(os.getpid(), signal.SIGHUP)\n    print('goes on')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "goes on\n"
