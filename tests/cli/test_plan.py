"""`plan` and `probe`: what they print, and that what one writes the other reads."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from msgspec import structs

from tests.cli.support import RunResult, run
from tests.support.planning import linux, mac, nvidia, windows
from torchinstall.core.machine import Machine, decode_machine, machine_to_json

GTX_1080_TI = linux(nvidia("NVIDIA GeForce GTX 1080 Ti", "6.1"), driver="580.95.05")
RTX_4090 = linux(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="550.54.14")


def plan(folder: Path, machine: Machine, *argv: str, **env: str) -> RunResult:
    """Plan offline for a described machine and Python 3.12."""
    text = json.dumps(machine_to_json(machine))
    return run(
        folder,
        "plan",
        "--machine",
        "-",
        "--python-version",
        "3.12",
        "--offline",
        *argv,
        env=env,
        stdin=text,
    )


def test_a_person_reads_what_was_chosen_and_why_nothing_else(tmp_path: Path) -> None:
    said = plan(tmp_path, GTX_1080_TI)
    assert said.code == 0, said.err
    assert "Chosen: backend cu126" in said.out
    assert "NVIDIA GeForce GTX 1080 Ti" in said.out
    for newer in ("cu128", "cu129", "cu130", "cu132"):
        line = next(line for line in said.out.splitlines() if line.split()[:1] == [newer])
        assert "no-code-for-gpu" in line
    assert "rocm" in said.out
    assert "xpu" in said.out


@pytest.mark.parametrize("machine", [GTX_1080_TI, RTX_4090, linux(), mac(), windows()])
def test_text_fits_80_columns_without_colour(tmp_path: Path, machine: Machine) -> None:
    said = plan(tmp_path, machine)
    assert click.unstyle(said.out) == said.out
    for line in said.out.splitlines():
        assert len(line) <= 80 or "://" in line or " " not in line.strip()


def test_json_keys_are_the_contract(tmp_path: Path) -> None:
    data = plan(tmp_path, RTX_4090, "--json").json
    wanted = {
        "schema_version",
        "status",
        "backend",
        "channel",
        "index_url",
        "requirements",
        "packages",
        "target",
        "gpus",
        "candidates",
        "warnings",
        "settings",
        "catalog",
        "command",
        "env",
        "error",
    }
    assert wanted <= set(data)


def test_failure_before_there_is_a_plan_has_the_same_keys(tmp_path: Path) -> None:
    good = plan(tmp_path, RTX_4090, "--json").json
    for argv in (("--backend", "nope"), ("torch==",), ("--no-such-flag",)):
        said = plan(tmp_path, RTX_4090, "--json", *argv)
        assert said.code == 2
        assert set(said.json) == set(good)
        assert said.json["status"] == "impossible"
        assert said.json["error"]["exit_code"] == 2


def test_impossible_plan_is_printed_whole(tmp_path: Path) -> None:
    old = linux(nvidia("NVIDIA GeForce RTX 5090", "12.0"), driver="580.95.05")
    said = plan(tmp_path, old, "torch==2.5.1", "--json")
    assert said.code == 3
    assert said.json["error"]["exit_code"] == 3
    assert said.json["candidates"], "why each candidate was rejected is part of the answer"
    assert "2.7" in said.json["error"]["hint"], "the lowest torch that works is named"
    assert "error[pins-exclude-gpu]" in said.err


def test_require_gpu_without_one(tmp_path: Path) -> None:
    assert plan(tmp_path, linux(), "--require-gpu").code == 4


def test_probe_and_plan_are_a_pipe(tmp_path: Path) -> None:
    probed = run(tmp_path, "probe", "--json")
    assert probed.code == 0, probed.err
    machine = decode_machine(probed.out, "the pipe")
    assert machine_to_json(machine) == probed.json
    planned = run(
        tmp_path, "plan", "--machine", "-", "--offline", "--json", stdin=probed.out, env={"PATH": ""}
    )
    assert planned.code == 0, planned.err
    assert planned.json["status"] == "ready"


def test_probe_text_and_anonymous(tmp_path: Path) -> None:
    said = run(tmp_path, "probe")
    assert said.code == 0
    assert said.out.startswith("machine")
    assert "uuid" not in run(tmp_path, "probe", "--json", "--anonymous").out


def test_probe_records_what_it_reads(tmp_path: Path) -> None:
    first = run(tmp_path, "probe", "--record", "recorded", "--json", "--anonymous")
    assert first.code == 0, first.err
    assert "look through the folder" in first.err
    assert run(tmp_path, "probe", "--root", "recorded", "--json", "--anonymous").json == first.json
    again = run(tmp_path, "probe", "--record", "recorded")
    assert again.code == 2
    assert "error[record-folder]" in again.err


def test_probe_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    said = run(tmp_path, "probe", "--root", "nowhere")
    assert said.code == 2
    assert said.err.count("error[") == 1


def test_declared_gpu_and_driver(tmp_path: Path) -> None:
    said = plan(tmp_path, linux(), "--target-gpu", "NVIDIA H100 PCIe", "--target-driver", "580.95", "--json")
    assert said.code == 0, said.err
    assert said.json["gpus"][0]["covered"] is True
    assert said.json["backend"].startswith("cu13")


@pytest.mark.parametrize("machine", [RTX_4090, linux(), windows()])
def test_what_was_described_is_shown_as_described(tmp_path: Path, machine: Machine) -> None:
    said = plan(tmp_path, machine, "--target-gpu", "RTX 3090", "--target-driver", "535").out
    about = said.split("\n\n")[0]
    assert "NVIDIA 535, supports CUDA 12.2 (flag --target-driver)" in about
    assert "0: GeForce RTX 3090, compute capability 8.6 (flag --target-gpu)" in about
    assert "4090" not in about
    assert "none found" not in about


def test_a_described_driver_leaves_the_gpus_of_the_machine(tmp_path: Path) -> None:
    about = " ".join(plan(tmp_path, RTX_4090, TORCHINSTALL_TARGET_CUDA="13.0").out.split())
    assert "supports CUDA 13.0 (environment TORCHINSTALL_TARGET_CUDA)" in about
    assert "NVIDIA GeForce RTX 4090" in about
    assert "550.54.14" not in about.partition(" target ")[0]


def test_a_plan_that_stopped_says_so_of_every_build(tmp_path: Path) -> None:
    said = plan(tmp_path, linux(), "--require-gpu", "--why-not", "cpu")
    assert said.code == 4
    assert "Nothing was chosen, because the plan stopped before." in said.out


def test_settings_say_who_won(tmp_path: Path) -> None:
    data = plan(tmp_path, linux(), "--json", UV_TORCH_BACKEND="cu128", TORCHINSTALL_ALLOW_CPU="1").json
    rows = {row["name"]: row for row in data["settings"]}
    assert rows["backend"] == {
        "name": "backend",
        "value": "cu128",
        "source": "environment UV_TORCH_BACKEND",
    }
    assert rows["allow_cpu"]["source"] == "environment TORCHINSTALL_ALLOW_CPU"
    assert rows["offline"]["source"] == "flag --offline"
    assert rows["channel"]["source"] == "default"
    text = plan(tmp_path, linux(), UV_TORCH_BACKEND="cu128").out
    assert "backend = cu128 (environment UV_TORCH_BACKEND)" in text


def test_visible_devices_count_only_when_asked_for(tmp_path: Path) -> None:
    both = structs.replace(RTX_4090, gpus=(nvidia("Old", "6.1", index=0), nvidia("New", "8.9", index=1)))
    ignored = plan(tmp_path, both, "--json", CUDA_VISIBLE_DEVICES="0").json
    assert {gpu["name"] for gpu in ignored["gpus"]} == {"Old", "New"}
    heeded = plan(tmp_path, both, "--json", "--respect-visible-devices", CUDA_VISIBLE_DEVICES="0").json
    assert {gpu["name"] for gpu in heeded["gpus"]} == {"Old"}


def test_plain_words_about_one_backend(tmp_path: Path) -> None:
    said = plan(tmp_path, GTX_1080_TI, "--why-not", "cu130")
    assert said.code == 0
    assert "cu130" in said.out
    assert "no kernel image" in said.out
    assert plan(tmp_path, GTX_1080_TI, "--explain", "cu126", "--json").json["explanation"]


def test_notes_of_a_requirements_file_are_warnings(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(
        "--extra-index-url https://download.pytorch.org/whl/cu118\ntorch>=2.6  # pinned below\n"
    )
    said = plan(tmp_path, RTX_4090, "-r", "requirements.txt", "--json")
    assert said.code == 0, said.err
    assert "index-line-ignored" in {row["slug"] for row in said.json["warnings"]}
    assert said.json["requirements"] == ["torch>=2.6"]


def test_a_gpu_that_only_a_driver_speaks_of_is_assumed_to_run(tmp_path: Path) -> None:
    said = plan(tmp_path, linux(), "--target-driver", "580.95")
    assert "NVIDIA GPU assumed to run" in said.out, said.err
