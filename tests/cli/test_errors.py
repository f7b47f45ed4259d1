"""Failures: one shape on stderr, one envelope on stdout, one exit code."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import torchinstall
from tests.cli.support import run
from tests.support.planning import linux, nvidia
from tests.support.systems import POSIX
from torchinstall.core import errors
from torchinstall.core.machine import machine_to_json
from torchinstall.probe.system import System

pytestmark = pytest.mark.follow_hints


@pytest.mark.parametrize(
    ("word", "hint"), [("torch 2.9", "torchinstall auto 'torch==2.9.*'"), (" ", "torchinstall auto --help")]
)
def test_a_word_with_a_space_or_nothing_in_it(tmp_path: Path, word: str, hint: str) -> None:
    error = run(tmp_path, "plan", word, "--json").json["error"]
    assert (error["slug"], error["hint"]) == ("bad-requirement", hint)


@pytest.mark.parametrize(
    ("argv", "slug", "hint"),
    [
        ("--target-cuda 128", "bad-value", "--target-cuda 12.8"),
        ("--target-cuda cu126", "bad-value", "--target-cuda 12.6"),
        ("--target-cuda 12,8", "bad-value", "--target-cuda 12.8"),
        ("--target-cuda newest", "bad-value", "--target-cuda 12.8"),
        ("--target-driver 12.8", "bad-value", "omit --target-driver, and add --target-cuda 12.8"),
        ("--target-driver 32.0.15.8095", "bad-value", "--target-driver 580.95"),
        ("--target-driver latest", "bad-value", "--target-driver 580.95"),
        ("--target-gpu", "bad-usage", "torchinstall plan --help"),
        ("--backend --json", "bad-usage", "torchinstall plan --help"),
        ("--why-not --offline", "bad-usage", "torchinstall plan --help"),
        ("--allow-build --target-gpu=sm_90", "bad-usage", "torchinstall plan --help"),
        (
            "--index-base download.pytorch.org/whl",
            "bad-index-base",
            "--index-base https://download.pytorch.org/whl",
        ),
        ("--find-links wheel.whl", "find-links-not-a-folder", "--find-links {here}"),
        ("-r missing.txt", "bad-requirements-file", "ls {here}"),
        ("torch==2.9.1cu128", "bad-requirement", "torchinstall auto torch==2.9.1+cu128"),
        ("torch==2.9.1-cpu", "bad-requirement", "torchinstall auto torch==2.9.1+cpu"),
        ("torch==2.9.1;", "bad-requirement", "torchinstall auto torch==2.9.1"),
        ("torch>=2.9.*", "bad-requirement", "torchinstall auto 'torch>=2.9'"),
        ("torch==2.9.1,torchvision", "bad-requirement", "torchinstall auto torch==2.9.1 torchvision"),
        ("torch===2.9.1", "pinned-out", "ask for another version; torch==2.9.1 would fit"),
        ("torch --no-backend", "unknown-option", "torchinstall plan --help"),
        ("torch-2.9.1", "bad-requirement", "'torch==2.9.1.*'"),
        ("torchvision0.24", "bad-requirement", "'torchvision==0.24.*'"),
        ("torch@latest", "bad-requirement", "torch"),
        ("torch@2.9", "bad-requirement", "'torch==2.9.*'"),
        (
            "torch==2.9.1+cu126 --backend cu128",
            "pinned-out",
            "ask for another version; torch==2.9.1 would fit",
        ),
    ],
)
def test_a_hint_names_what_was_meant(tmp_path: Path, argv: str, slug: str, hint: str) -> None:
    (tmp_path / "wheel.whl").touch()
    said = run(tmp_path, "plan", *argv.split(), "--python-version=3.12")
    assert f"error[{slug}]:" in said.err
    assert f"hint: {hint.format(here=tmp_path)}\n" in said.err


def test_a_gpu_that_is_not_there_cannot_be_preferred(tmp_path: Path) -> None:
    machine = linux(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="580.95.05")
    (tmp_path / "box.json").write_text(json.dumps(machine_to_json(machine)), encoding="utf-8")
    plan = ("plan", "--machine", "box.json", "--python-version", "3.12", "--offline", "--prefer-gpu")
    assert "hint: --prefer-gpu 0\n" in run(tmp_path, *plan, "7").err
    assert run(tmp_path, *plan, "0").code == 0


@pytest.mark.parametrize(
    ("argv", "slug"),
    [
        (("nope",), "unknown-verb"),
        ((), "no-verb"),
        (("--nope",), "unknown-option"),
        (("probe", "--nope"), "unknown-option"),
        (("probe", "--anon"), "unknown-option"),
        (("completion",), "missing-argument"),
        (("completion", "tcsh"), "bad-value"),
        (("plan", "--channel", "beta"), "bad-value"),
        (("probe", "--root"), "bad-usage"),
        (("probe", "extra"), "bad-usage"),
    ],
)
def test_bad_usage(tmp_path: Path, argv: tuple[str, ...], slug: str) -> None:
    said = run(tmp_path, *argv)
    assert said.code == 2
    assert f"error[{slug}]:" in said.err
    assert said.out == ""


@pytest.mark.parametrize("argv", [("nope",), ("probe", "--nope"), ("completion",)])
def test_envelope_before_dispatch(tmp_path: Path, argv: tuple[str, ...]) -> None:
    said = run(tmp_path, *argv, env={"TORCHINSTALL_JSON": "1"})
    assert said.json["status"] == "error"
    assert said.json["schema_version"] == 1
    assert said.json["error"]["exit_code"] == 2
    assert said.json["error"]["hint"]


def test_json_after_two_dashes_is_not_ours(tmp_path: Path) -> None:
    assert run(tmp_path, "nope", "--", "--json").out == ""


def test_unknown_verb_suggests(tmp_path: Path) -> None:
    assert "torchinstall probe" in run(tmp_path, "prob").err


def test_unknown_option_suggests(tmp_path: Path) -> None:
    assert "--anonymous" in run(tmp_path, "probe", "--anonymus").err


def broken(_env: Mapping[str, str]) -> System:
    raise ZeroDivisionError("a bug")


def test_a_bug_is_70_and_short(tmp_path: Path) -> None:
    said = run(tmp_path, "probe", doors={"system": broken})
    assert said.code == 70
    assert "error[internal-error]: torchinstall itself failed: ZeroDivisionError: a bug" in said.err
    assert "Traceback" not in said.err
    assert "Traceback" in run(tmp_path, "-v", "probe", doors={"system": broken}).err
    assert "Traceback" in run(tmp_path, "probe", "-v", doors={"system": broken}).err


def test_a_bug_speaks_json(tmp_path: Path) -> None:
    said = run(tmp_path, "probe", "--json", doors={"system": broken})
    assert said.json["error"]["slug"] == "internal-error"
    assert said.json["error"]["exit_code"] == 70


def forbidden(_env: Mapping[str, str]) -> System:
    raise PermissionError(errno.EACCES, "Permission denied", "/srv/other/bin/python")


def test_what_this_user_may_not_use_is_no_bug(tmp_path: Path) -> None:
    said = run(tmp_path, "probe", doors={"system": forbidden})
    assert said.code == 2
    assert "error[no-permission]: this user may not use /srv/other/bin/python" in said.err


def interrupted(_env: Mapping[str, str]) -> System:
    raise KeyboardInterrupt


def test_ctrl_c_is_130(tmp_path: Path) -> None:
    said = run(tmp_path, "probe", "--json", doors={"system": interrupted})
    assert said.code == 130
    assert said.json["error"] == {
        "slug": "interrupted",
        "message": "stopped by Ctrl-C",
        "wanted": None,
        "found": None,
        "hint": None,
        "exit_code": 130,
    }


def classes() -> list[type[errors.TorchInstallError]]:
    return [errors.TorchInstallError, *errors.TorchInstallError.__subclasses__()]


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_each_class_ends_with_its_code(tmp_path: Path, kind: type[errors.TorchInstallError]) -> None:
    def fails(_env: Mapping[str, str]) -> System:
        raise kind(
            "some-slug", "it failed", wanted="this", found="that\nand more", hints=("type a", "type b")
        )

    said = run(tmp_path, "probe", doors={"system": fails})
    assert said.code == kind.exit_code
    assert said.err == (
        "error[some-slug]: it failed\n"
        "  needed: this\n"
        "  found:  that\n"
        "          and more\n"
        "hint: type a\n"
        "hint: type b\n"
    )


def test_codes_are_those_of_the_contract() -> None:
    assert sorted(kind.exit_code for kind in classes()) == [1, 2, 3, 4, 5, 6, 7, 8, 70]


@pytest.mark.only_on(POSIX, "a pipe of bash")
def test_a_reader_who_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m torchinstall catalog show wheels"
    # Unbuffered, Python itself drops what a pipe did not take, and nobody hears of it.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["/bin/bash", "-c", f"{command} | head -c 1; code=${{PIPESTATUS[0]}}; echo; echo $code"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(torchinstall.__file__).parents[1],
        env=env,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "141"
