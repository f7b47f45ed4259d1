"""`configure`, then `sync` and `run` with the real uv: torch stays what it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.support import RunResult, run
from tests.project.conftest import Place

pytestmark = pytest.mark.e2e

HEAD = f'[project]\nname = "demo"\nversion = "0.1.0"\nrequires-python = ">=3.{sys.version_info[1]}"\n'
PROJECT = HEAD + 'dependencies = ["torch>=2.8", "torchvision>=0.23"]\n'
GPU = ("--target-gpu", "NVIDIA H100", "--target-driver", "580.95")
NONE = ("--machine", "none.json")
NO_GPU = json.dumps(
    {
        "schema_version": 1,
        "os": "linux",
        "os_version": "24.04",
        "arch": "x86_64",
        "libc": {"family": "glibc", "version": "2.39"},
        "environment": ["ci"],
        "memory_bytes": None,
        "drivers": [],
        "gpus": [],
        "findings": [],
    }
)

if sys.platform != "linux" or sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13), (3, 14)):
    pytest.skip("the small index has wheels for CPython 3.11 to 3.14 on Linux", allow_module_level=True)


def typed(place: Place, folder: Path, *argv: str) -> RunResult:
    (folder / "none.json").write_text(NO_GPU, encoding="utf-8")
    return run(folder, *argv, env=place.env)


def configure(place: Place, folder: Path, *argv: str) -> RunResult:
    return typed(place, folder, "configure", "--index-base", place.index.index_base, *argv)


def installed(folder: Path, package: str = "torch") -> str:
    python = folder / ".venv" / "bin" / "python"
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def uv(place: Place, folder: Path, *argv: str) -> str:
    done = subprocess.run(
        [place.uv, *argv], cwd=folder, env=place.env, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_this_machine_survives_uv_run(place: Place) -> None:
    folder = place.project(PROJECT)
    said = configure(place, folder, "--backend", "cu128", *GPU)
    assert said.code == 0, said.err
    assert "torch 2.11.0+cu128" in said.out
    assert typed(place, folder, "sync", *GPU).code == 0
    assert installed(folder) == "2.11.0+cu128"
    assert (
        uv(place, folder, "run", "python", "-c", "import torch; print(torch.__version__)") == "2.11.0+cu128"
    )
    assert installed(folder) == "2.11.0+cu128"


def test_groups_on_a_workstation_and_in_ci(place: Place) -> None:
    folder = place.project(PROJECT)
    said = configure(place, folder, "--layout", "groups", "--with", "cpu", "--with", "cu128", *GPU)
    assert said.code == 0, said.err
    said = typed(place, folder, "sync", *GPU)
    assert "uv sync" in said.err
    assert installed(folder) == "2.11.0+cu128"
    # A bare `uv run` takes the default group: the CUDA build is not taken away.
    assert (
        uv(place, folder, "run", "python", "-c", "import torch; print(torch.__version__)") == "2.11.0+cu128"
    )
    said = typed(place, folder, "sync", *NONE, "--", "--locked")
    assert "cpu (no GPU here): uv sync --no-group cu128 --group cpu --locked" in said.err
    assert installed(folder) == "2.11.0+cpu"
    assert installed(folder, "torchvision") == "0.26.0+cpu"


def test_extras_are_kept_by_our_run(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    folder = place.project(PROJECT)
    said = configure(place, folder, "--layout", "extras", "--with", "cpu", "--with", "cu128", *GPU)
    assert said.code == 0, said.err
    assert "--extra" in said.err
    assert typed(place, folder, "sync", *GPU).code == 0
    capfd.readouterr()
    code = "import torch; print(torch.__version__)"
    said = typed(place, folder, "run", *GPU, "--", "python", "-c", code)
    assert said.code == 0
    assert capfd.readouterr().out.strip() == "2.11.0+cu128"
    assert installed(folder) == "2.11.0+cu128"


def test_sync_and_run_speak_json_and_are_quiet(place: Place) -> None:
    folder = place.project(PROJECT)
    assert configure(place, folder, "--backend", "cu128", *GPU).code == 0
    said = typed(place, folder, "sync", "-q", "--json", *GPU)
    assert (said.code, said.err) == (0, "")
    assert said.json["status"] == "synced"
    assert said.json["command"][:3] == ["uv", "sync", "--quiet"]
    said = typed(place, folder, "run", "--json", *GPU, "python", "-c", "print('hi'); raise SystemExit(3)")
    assert said.code == 3
    assert (said.json["status"], said.json["exit_code"], said.json["stdout"]) == ("ran", 3, "hi\n")
    said = typed(place, folder, "run", "--dry-run", "--json", *GPU, "python", "--json")
    assert said.json["command"][-2:] == ["python", "--json"]


def test_variables_that_undo_sources_do_not_reach_uv(
    place: Place, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = place.project(PROJECT)
    assert configure(place, folder, "--layout", "groups", "--with", "cpu", "--with", "cu128", *GPU).code == 0
    lock = (folder / "uv.lock").read_bytes()
    place.env.update(UV_NO_SOURCES="1", UV_PROJECT=str(tmp_path))
    assert typed(place, folder, "sync", "--backend", "cu128", *GPU).code == 0
    assert installed(folder) == "2.11.0+cu128"
    capfd.readouterr()
    code = "import torch; print(torch.__version__)"
    said = typed(place, folder, "run", "--backend", "cu128", *GPU, "--", "python", "-c", code)
    assert said.code == 0
    assert capfd.readouterr().out.strip() == "2.11.0+cu128"
    assert (folder / "uv.lock").read_bytes() == lock


def test_a_lock_keeps_the_sources_whatever_the_variables_say(place: Place) -> None:
    folder = place.project(PROJECT)
    place.env.update(UV_NO_SOURCES="1", UV_FROZEN="1")
    said = configure(place, folder, "--backend", "cu128", *GPU)
    assert said.code == 0, said.err
    assert "2.11.0+cu128" in (folder / "uv.lock").read_text("utf-8")


def test_run_passes_the_exit_status_on(place: Place) -> None:
    folder = place.project(HEAD + "dependencies = []\n")
    assert typed(place, folder, "run", *NONE, "--", "python", "-c", "raise SystemExit(23)").code == 23


def test_sync_that_fails_is_an_install_failure(place: Place) -> None:
    folder = place.project(HEAD + 'dependencies = ["nowhere-to-be-found"]\n')
    said = typed(place, folder, "sync", *NONE)
    assert said.code == 1
    assert "error[sync-failed]" in said.err
    assert "found:  Because nowhere-to-be-found was not found in the package registry" in said.err
    assert "hint: check the spelling; a package of your own index needs [[tool.uv.index]]" in said.err


def test_run_without_a_command(place: Place) -> None:
    folder = place.project(HEAD + "dependencies = []\n")
    said = typed(place, folder, "run")
    assert said.code == 2
    assert "error[no-command]" in said.err


def test_a_gpu_is_not_traded_away_in_silence(place: Place) -> None:
    folder = place.project(PROJECT)
    assert (
        configure(place, folder, "--layout", "groups", "--with", "cpu", "--with", "rocm7.1", *GPU).code == 0
    )
    said = typed(place, folder, "sync", "--dry-run", *GPU)
    assert "warning[gpu-not-offered]" in said.err
    assert "--with cu1" in said.err
    assert said.out.strip() == "uv sync --no-group rocm7.1 --group cpu"
    said = typed(place, folder, "sync", "--dry-run", "--require-gpu", *GPU)
    assert said.code == 4
    assert "error[gpu-not-offered]" in said.err


def test_a_project_for_another_machine(place: Place) -> None:
    folder = place.project(PROJECT)
    assert configure(place, folder, "--backend", "cu130", "--no-lock", *GPU).code == 0
    said = typed(
        place, folder, "sync", "--dry-run", "--target-gpu", "NVIDIA H100", "--target-driver", "535.104"
    )
    assert said.code == 0
    assert "warning[project-for-another-machine]" in said.err
    assert "580" in said.err


def test_configure_again_keeps_the_layout(place: Place) -> None:
    folder = place.project(PROJECT)
    assert configure(place, folder, "--layout", "groups", "--with", "cpu", "--with", "cu128", *GPU).code == 0
    before = (folder / "pyproject.toml").read_bytes()
    said = configure(place, folder, *NONE)
    assert said.code == 0, said.err
    assert (folder / "pyproject.toml").read_bytes() == before
    assert "nothing to change" in said.out


def test_what_uv_add_takes_from_elsewhere_is_routed_next_time(place: Place) -> None:
    folder = place.project(PROJECT)
    said = configure(place, folder, "--backend", "cu128", *GPU)
    assert "a later `uv add` of" in said.err
    assert "torchaudio" in said.err
    uv(place, folder, "add", "torchaudio", "--no-sync")
    assert "torchaudio = [" not in (folder / "pyproject.toml").read_text("utf-8")
    said = configure(place, folder, *GPU)
    assert said.code == 0, said.err
    assert "torchaudio = [" in (folder / "pyproject.toml").read_text("utf-8")
    assert "torchaudio 2.10.0+cu128" in said.out


def test_dry_run_shows_the_diff_and_changes_nothing(place: Place) -> None:
    folder = place.project(PROJECT)
    said = configure(place, folder, "--dry-run", "--backend", "cu128", *GPU)
    assert said.code == 0
    assert said.out.startswith("--- a/pyproject.toml\n+++ b/pyproject.toml\n")
    assert "+[[tool.uv.index]]" in said.out
    assert (folder / "pyproject.toml").read_text("utf-8") == PROJECT
    assert not (folder / "uv.lock").exists()


def test_json(place: Place) -> None:
    folder = place.project(PROJECT)
    said = configure(place, folder, "--json", "--backend", "cu128", *GPU)
    data = said.json
    assert data["status"] == "configured"
    assert data["backends"] == ["cu128"]
    mac = next(
        row for row in data["builds"] if row["platform"] == "macos_arm64" and row["package"] == "torch"
    )
    assert mac["version"] == "2.11.0"
    assert mac["index_url"] == place.index.default_index
    assert "+[[tool.uv.index]]" in data["files"][0]["diff"]
    assert data["error"] is None


def test_no_project(place: Place) -> None:
    said = typed(place, place.folder, "configure", *NONE)
    assert said.code == 2
    assert "error[no-pyproject]" in said.err
    assert "uv init" in said.err


def test_bad_words(place: Place) -> None:
    folder = place.project(PROJECT)
    for argv, slug in (
        (("--on", "amiga=cpu"), "bad-platform"),
        (("--on", "macos=cpu"), "bad-platform"),
        (("--require-platform", "amiga"), "bad-platform"),
        (("torchvision>=2",), "bad-package"),
        (("--layout", "groups", "--with", "cpu"), "backends-missing"),
        (("--layout", "groups", "--with", "cpu", "--with", "cu128", "--default", "cu130"), "bad-default"),
    ):
        said = configure(place, folder, "--no-lock", "--offline", *argv, *NONE)
        assert said.code == 2, argv
        assert f"error[{slug}]" in said.err
        assert (folder / "pyproject.toml").read_text("utf-8") == PROJECT


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (("--with", "12.8"), "--with cu128"),
        (("--on", "linux=12.9"), "--on linux_x86_64=cu129"),
        (("--with", "auto"), "torchinstall catalog show"),
        (("--with", "default"), "torchinstall catalog show"),
    ],
)
def test_no_such_backend(place: Place, argv: tuple[str, ...], hint: str) -> None:
    folder = place.project(PROJECT)
    said = configure(place, folder, "--no-lock", "--offline", *argv, *NONE)
    assert said.code == 2
    assert "error[unknown-backend]" in said.err
    assert f"hint: {hint}\n" in said.err


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("torchvison", "write torchvision in place of torchvison"),
        ("pytorch-geometric", "torchinstall configure torch-geometric"),
        ("torchmetrics", "check the spelling; a package of your own index needs [[tool.uv.index]]"),
    ],
)
def test_a_name_that_is_nearly_one_of_torchs(place: Place, name: str, hint: str) -> None:
    said = configure(place, place.project(PROJECT), name, "--backend", "cpu", *NONE)
    assert said.code != 0
    hints = [line for line in said.err.splitlines() if line.startswith("hint: ")]
    assert hints[0].startswith(f"hint: {hint}")


def test_a_backend_that_is_asked_for_and_not_offered(place: Place) -> None:
    folder = place.project(PROJECT)
    assert configure(place, folder, "--layout", "groups", "--with", "cpu", "--with", "cu128", *GPU).code == 0
    said = typed(place, folder, "sync", "--dry-run", "--backend", "cpu", *GPU)
    assert said.out.strip() == "uv sync --no-group cu128 --group cpu"
    said = typed(place, folder, "sync", "--dry-run", "--backend", "cu130", *GPU)
    assert said.code == 3
    assert "error[nothing-offered-fits]" in said.err
    assert "--with cu130" in said.err
