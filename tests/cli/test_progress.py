"""Nothing is silent: a line for each step, a drawing on a terminal, and the last word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.cli.support import RunResult, run
from tests.exports.support import H100, MINOR, index
from tests.support.faults import slow
from tests.support.index_server import IndexServer
from tests.support.installing import a_plan, an_environment, pin
from torchinstall.cli.text import works_text
from torchinstall.core.machine import Vendor
from torchinstall.core.plan import GpuVerdict
from torchinstall.install.verify import Check, Report

DRAWN = "\x1b[?25l"
"""A drawing hides the cursor first."""

ERASED = "\x1b[2K"


@pytest.fixture
def server() -> Iterator[IndexServer]:
    with index() as running:
        yield running


def plan(folder: Path, server: IndexServer, *argv: str, terminal: bool = False) -> RunResult:
    where = (f"--index-base={server.index_base}", "--python-version", MINOR, *H100)
    said = run(folder, "plan", "torch", *where, *argv, env=an_environment(folder), terminal=terminal)
    assert said.code == 0, said.err
    return said


def test_a_line_for_each_step_where_nobody_watches(tmp_path: Path, server: IndexServer) -> None:
    said = plan(tmp_path, server)
    assert said.err.splitlines().count(f"reading the index: {server.index_base}") == 1
    assert "reading" not in plan(tmp_path, server).err, "the pages are in the cache"
    assert "reading" not in plan(tmp_path, server, "--refresh", "-q").err


def test_a_terminal_shows_what_takes_long_and_is_clean_again(tmp_path: Path, server: IndexServer) -> None:
    assert DRAWN not in plan(tmp_path, server, terminal=True).err, "it took no second"
    server.fault("*", slow(1.8))
    said = plan(tmp_path, server, "--refresh", terminal=True)
    before, _, drawn = said.err.partition(DRAWN)
    assert "reading the index" not in before
    assert f"reading the index: {server.index_base}" in drawn
    assert "\x1b[?25h" in drawn
    assert drawn.rindex(ERASED) > drawn.rindex("reading the index")
    plain = plan(tmp_path, server, "--refresh", "--no-progress", terminal=True)
    assert DRAWN not in plain.err
    assert f"reading the index: {server.index_base}" in plain.err


@pytest.mark.e2e
def test_a_bundle_counts_its_bytes(tmp_path: Path, server: IndexServer) -> None:
    where = (f"--index-base={server.index_base}", "--python-version", MINOR, *H100, "torch")
    env = an_environment(tmp_path, server)
    assert "downloading torch-" in run(tmp_path, "bundle", "-o", "one", *where, env=env).err
    for path in [path for path in server.paths() if path.endswith(".whl")]:
        server.fault(path, slow(1.8))
    said = run(tmp_path, "bundle", "-o", "two", *where, env=env, terminal=True)
    assert said.code == 0, said.err
    drawn = said.err.partition(DRAWN)[2]
    assert re.search(r"downloading 2 files.*\d+/[\d?.]+ \w?B", drawn, re.DOTALL), drawn
    assert "downloading torch-" not in said.err


@pytest.mark.parametrize(
    ("vendor", "name", "backend", "check", "said"),
    [
        ("nvidia", "NVIDIA GeForce RTX 3060", "cu126", "matrix-product-cuda-0", "RTX 3060 (0.4 s)"),
        ("amd", "AMD Instinct MI300X", "rocm6.4", "matrix-product-cuda-0", "AMD Instinct MI300X (0.4 s)"),
        ("intel", "Intel Arc B580", "xpu", "matrix-product-xpu-0", "Intel Arc B580 (0.4 s)"),
        ("apple", "Apple M3", "cpu-mps", "matrix-product-mps", "Apple M3 (0.4 s)"),
        ("nvidia", "NVIDIA GeForce RTX 3060", "cpu", "matrix-product-cpu", "CPU (0.4 s)"),
    ],
)
def test_the_last_line_says_what_works_and_what_to_type(
    tmp_path: Path, vendor: Vendor, name: str, backend: str, check: str, said: str
) -> None:
    verdict = GpuVerdict(index=0, vendor=vendor, name=name, covered=True, by="sm_86")
    made = a_plan(
        pin("torch", f"2.14.1+{backend}"), python="/opt/env/bin/python", backend=backend, gpus=(verdict,)
    )
    checks = (Check(name=check, ok=True, wanted="", found=""),)
    report = Report(ok=True, checks=checks, seconds=0.42)
    shown = click.unstyle(works_text(made, report, {}, tmp_path))
    assert f"works on the {said}. Try: /opt/env/bin/python -c" in shown
    device = {"intel": "torch.xpu", "apple": "mps"}.get(vendor, "torch.cuda")
    assert (device if "CPU" not in said else "torch.rand") in shown
    assert "Try: python -c" in click.unstyle(works_text(made, report, {"VIRTUAL_ENV": "/env"}, tmp_path))
