"""What an index, a disk or a uv does wrong: one clear slug, and the environment as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import faults
from tests.support.faults import Answer, Fault
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import Place, an_environment, here, pin
from tests.support.systems import LINUX_X86
from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel
from torchinstall.core.errors import InstallFailedError, TargetError, ToolMissingError
from torchinstall.install.command import command
from torchinstall.install.environment import Search, require_writable
from torchinstall.install.transaction import execute

pytestmark = [pytest.mark.e2e, pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")]

TAG = f"cp3{sys.version_info[1]}-cp3{sys.version_info[1]}-linux_x86_64"
BEFORE, AFTER = torch_wheel("2.9.1+cu126", TAG), torch_wheel("2.9.1+cpu", TAG)
PAGE = "/whl/cpu/torch/"
WHEEL = f"/whl/cpu/{AFTER.filename}"


def status(code: int) -> Fault:
    return lambda _right: Answer(status=code, body=b"no")


@pytest.fixture
def server() -> Iterator[IndexServer]:
    default = IndexTree({"": [wheel("filelock", "3.20.0")]}, kind="pypi")
    with IndexServer(IndexTree({"cpu": [AFTER], "cu126": [BEFORE]}), default=default) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, server: IndexServer) -> Place:
    """An environment with the CUDA build in it."""
    made = here(tmp_path / "env", an_environment(tmp_path, server, UV_HTTP_TIMEOUT="2"))
    made.install(made.plan(pin("torch", BEFORE.version, f"{server.index_base}/cu126")))
    return made


def failing(place: Place, server: IndexServer, *more: str) -> InstallFailedError:
    """Try to change to the CPU build; the environment must be as it was."""
    before = place.versions()
    plan = place.plan(pin("torch", AFTER.version, f"{server.index_base}/cpu"), requirements=("torch", *more))
    with pytest.raises(InstallFailedError) as caught:
        place.install(plan)
    assert place.versions() == before
    assert place.imports("import torch; print(torch.__version__)") == BEFORE.version
    assert caught.value.hints
    return caught.value


def truncated(right: Answer) -> Answer:
    """A wheel that ends in its middle with an honest length."""
    body = right.body[: len(right.body) // 2]
    return Answer(headers={"Content-Type": "binary/octet-stream"}, body=body)


def other_bytes(right: Answer) -> Answer:
    """A sound wheel, but another one than the page promised."""
    other: TinyWheel = torch_wheel(AFTER.version, TAG, files={"torch/extra.py": "x = 1\n"})
    return Answer(headers={"Content-Type": "binary/octet-stream"}, body=other.content())


@pytest.mark.parametrize(
    ("path", "fault", "slug"),
    [
        (PAGE, status(401), "build-not-found"),
        (PAGE, status(403), "build-not-found"),
        (PAGE, status(404), "build-not-found"),
        (PAGE, status(500), "server-error"),
        (PAGE, faults.garbage(), "build-not-found"),
        (PAGE, faults.drop(), "index-unreachable"),
        (PAGE, faults.never(), "network-timeout"),
        (WHEEL, status(403), "index-forbids"),
        (WHEEL, status(404), "not-found"),
        (WHEEL, status(503), "server-error"),
        (WHEEL, truncated, "download-cut"),
        (WHEEL, faults.cut_in_half(), "download-cut"),
        (WHEEL, faults.never(), "network-timeout"),
        (WHEEL, other_bytes, "hash-mismatch"),
    ],
)
def test_an_index_that_misbehaves(
    place: Place, server: IndexServer, path: str, fault: Fault, slug: str
) -> None:
    server.fault(path, fault)

    error = failing(place, server)

    assert (error.slug, error.exit_code) == (slug, 1), place.said
    assert (error.found or "nothing") in " ".join(place.said.split()), "uv's own words come first"


def test_a_conflict_between_requirements(place: Place, server: IndexServer) -> None:
    server.default.add("", wheel("old-thing", "1.0", requires=("torch<2",)))

    error = failing(place, server, "old-thing")

    assert error.slug == "requirements-conflict"
    assert "old-thing" in (error.found or "")


def test_a_package_without_a_wheel_for_this_python(place: Place, server: IndexServer) -> None:
    server.default.add("", wheel("fresh", "1.0", "cp39-cp39-linux_x86_64"))

    assert failing(place, server, "fresh").slug == "no-wheel-for-this-python"


def test_no_network_asked_for_and_nothing_cached(place: Place, server: IndexServer) -> None:
    plan = place.plan(pin("torch", AFTER.version, f"{server.index_base}/cpu"))

    with pytest.raises(InstallFailedError) as caught:
        place.install(plan, offline=True)

    assert caught.value.slug == "offline"


def test_a_full_disk(place: Place, server: IndexServer, tmp_path: Path) -> None:
    """A file-size limit of the process stands for the disk: uv cannot finish the file in its cache."""
    big = torch_wheel(AFTER.version, TAG, files={"torch/big.txt": "x" * 400_000})
    server.tree.add("cpu", big)
    small = tmp_path / "uv-on-a-small-disk"
    small.write_text(f'#!/bin/sh\ntrap "" XFSZ\nulimit -f 100\nexec "{place.uv}" "$@"\n')
    small.chmod(0o755)
    place.uv = str(small)

    assert failing(place, server).slug == "disk-full"


@pytest.mark.may_skip(reason="root that may not mount cannot be kept from writing")
def test_an_environment_that_cannot_be_written(tmp_path: Path, server: IndexServer) -> None:
    """Made in a folder that is then seen through a read-only mount, which stops even root."""
    place = here(tmp_path / "env", an_environment(tmp_path, server))
    site = Path(place.ask().site_packages[0])
    if os.geteuid() == 0:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(site)], check=False)
        if mounted.returncode != 0:
            pytest.skip("root may write everywhere and mount nothing here")
    else:
        site.chmod(0o555)
    try:
        found = Search(env=place.env, cwd=tmp_path, venv=str(place.folder)).locate(place.uv, ())
        with pytest.raises(TargetError) as caught:
            require_writable(found)
        assert caught.value.slug == "read-only-environment"
        with pytest.raises(InstallFailedError) as failed:
            place.install(place.plan(pin("torch", AFTER.version, f"{server.index_base}/cpu")))
        assert failed.value.slug in ("read-only", "permission-denied")
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", str(site)], check=True)
        else:
            site.chmod(0o755)


def test_a_uv_that_does_not_start(place: Place, server: IndexServer, tmp_path: Path) -> None:
    plan = place.plan(pin("torch", AFTER.version, f"{server.index_base}/cpu"))
    filled = command(plan, uv=str(tmp_path / "no-uv"), env=place.env)

    with pytest.raises(ToolMissingError) as caught:
        execute(filled, env=place.env, sink=place.talk)

    assert caught.value.slug == "uv-broken"


def test_a_uv_that_something_kills(place: Place, server: IndexServer, tmp_path: Path) -> None:
    doomed = tmp_path / "doomed"
    doomed.write_text("#!/bin/sh\nkill -KILL $$\n")
    doomed.chmod(0o755)
    place.uv = str(doomed)

    assert failing(place, server).slug == "uv-killed"


INTERRUPTED = """
import pathlib, sys, tempfile
from tests.support.installing import Place, pin
place = Place(folder=pathlib.Path(sys.argv[1]), env={env!r})
print("started", flush=True)
try:
    place.install(place.plan(pin("torch", "2.9.1+cpu", sys.argv[2])))
except KeyboardInterrupt:
    raise SystemExit(130)
except SystemExit as leaving:
    print("left with", leaving.code, flush=True)
    raise
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_ends_uv_first_and_leaves_nothing(
    place: Place, server: IndexServer, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    server.fault(WHEEL, faults.never(60))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    env = {**place.env, "UV_HTTP_TIMEOUT": "60", "TMPDIR": str(scratch)}
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.format(env=env), str(place.folder), f"{server.index_base}/cpu"],
        stdout=subprocess.PIPE,
        env={**env, "PYTHONPATH": str(Path(__file__).parents[2])},
        text=True,
    )
    deadline = time.monotonic() + 30
    while ("GET", WHEEL.replace("+", "%2B")) not in server.log and time.monotonic() < deadline:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()

    # To our process alone, as `kill` does it: uv hears of it through us.
    process.send_signal(number)
    process.communicate(timeout=30)

    assert process.returncode == code
    assert children
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
    assert list(scratch.iterdir()) == []
    assert place.versions()["torch"] == BEFORE.version
