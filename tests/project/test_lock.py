"""Every layout, locked by the real uv on a loopback index: each platform gets the build that was meant."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from msgspec import structs

from tests.project.conftest import Place
from tests.project.small import small_catalog
from tests.support.installing import uv_path
from torchinstall.core.errors import TorchInstallError
from torchinstall.project.configure import Configured, ProjectChange, configure
from torchinstall.project.lock import lock_project, read_lock
from torchinstall.project.model import PLATFORMS, Layout, Scope

pytestmark = pytest.mark.e2e

HEAD = '[project]\nname = "demo"\nversion = "0.1.0"\nrequires-python = ">=3.11"\n'
PLAIN = HEAD + 'dependencies = ["torch>=2.8", "torchvision", "accelerate"]\n'


def run(place: Place, text: str, layout: Layout) -> Configured:
    project = place.project(text)
    layout = structs.replace(layout, index_base=place.index.index_base)
    return configure(project, ProjectChange(layout_of=lambda _view: layout), small_catalog(), lock=place.lock)


def versions(folder: Path, package: str, *scopes: Scope) -> dict[str, str]:
    """What each platform gets, read from the lock anew."""
    lock = read_lock(folder / "uv.lock", "demo")
    assert lock is not None
    trees = {platform: lock.tree(platform, "3.12", scopes) for platform in PLATFORMS}
    return {platform: tree[package].version for platform, tree in trees.items() if package in tree}


def test_this_machine(place: Place) -> None:
    done = run(place, PLAIN, Layout(name="this-machine", backends=("cu128",), required=("linux_x86_64",)))
    assert versions(place.folder / "demo", "torch") == {
        "linux_x86_64": "2.11.0+cu128",
        "linux_aarch64": "2.11.0+cu128",
        "win_amd64": "2.11.0+cu128",
        "macos_arm64": "2.11.0",
    }
    assert versions(place.folder / "demo", "torchvision")["linux_x86_64"] == "0.26.0+cu128"
    assert {build.package for build in done.builds} == {"torch", "torchvision"}


def test_this_machine_stays_below_what_its_gpu_runs(place: Place) -> None:
    layout = Layout(name="this-machine", backends=("cu128",), caps=(("cu128", "2.11"),), torch="2.10.0")
    run(place, PLAIN, layout)
    assert versions(place.folder / "demo", "torch")["linux_x86_64"] == "2.10.0+cu128"


def test_backend_without_aarch64_leaves_it_to_the_default_index(place: Place) -> None:
    run(place, HEAD + 'dependencies = ["torch"]\n', Layout(name="this-machine", backends=("cu121",)))
    assert versions(place.folder / "demo", "torch") == {
        "linux_x86_64": "2.5.1+cu121",
        "linux_aarch64": "2.11.0",
        "win_amd64": "2.5.1+cu121",
        "macos_arm64": "2.11.0",
    }


def test_a_platform_without_a_file_is_named_and_can_be_required(place: Place) -> None:
    """As with cu129, whose newest torch has no file for Windows."""
    plain = HEAD + 'dependencies = ["torch"]\n'
    layout = Layout(name="this-machine", backends=("cu129",), required=("linux_x86_64",))
    done = run(place, plain, layout)
    assert versions(place.folder / "demo", "torch")["linux_x86_64"] == "2.10.0+cu129"
    note = next(note for note in done.notes if note.slug == "platform-without-file")
    assert "win_amd64 (torch 2.10.0+cu129)" in note.message
    assert "--require-platform win_amd64" in note.message
    done = run(place, plain, structs.replace(layout, required=("linux_x86_64", "win_amd64")))
    assert versions(place.folder / "demo", "torch")["linux_x86_64"] == "2.10.0+cu129"
    assert versions(place.folder / "demo", "torch")["win_amd64"] == "2.8.0+cu129"
    assert "platform-without-file" not in {note.slug for note in done.notes}


def test_markers(place: Place) -> None:
    on = (("linux_x86_64", "cu128"), ("linux_aarch64", "cu130"), ("win_amd64", "cu126"))
    run(place, PLAIN, Layout(name="markers", backends=("cu128", "cu130", "cu126"), on=on, required=PLATFORMS))
    assert versions(place.folder / "demo", "torch") == {
        "linux_x86_64": "2.11.0+cu128",
        "linux_aarch64": "2.11.0+cu130",
        "win_amd64": "2.10.0+cu126",
        "macos_arm64": "2.11.0",
    }


@pytest.mark.parametrize(
    "text", [PLAIN, HEAD + 'dependencies = ["accelerate"]\n', HEAD + "dependencies = []\n"]
)
def test_extras(place: Place, text: str) -> None:
    """Also with torch among the plain dependencies, where uv would let an extra's index leak to macOS."""
    backends = ("cpu", "cu126", "rocm7.1", "xpu")
    done = run(place, text, Layout(name="extras", backends=backends, required=PLATFORMS))
    found = {name: versions(place.folder / "demo", "torch", Scope("extra", name)) for name in backends}
    assert found == {
        "cpu": {
            "linux_x86_64": "2.11.0+cpu",
            "linux_aarch64": "2.11.0+cpu",
            "win_amd64": "2.11.0+cpu",
            "macos_arm64": "2.11.0",
        },
        "cu126": {
            "linux_x86_64": "2.10.0+cu126",
            "linux_aarch64": "2.10.0+cu126",
            "win_amd64": "2.10.0+cu126",
            "macos_arm64": "2.11.0",
        },
        "rocm7.1": {
            "linux_x86_64": "2.11.0+rocm7.1",
            "linux_aarch64": "2.11.0",
            "win_amd64": "2.11.0",
            "macos_arm64": "2.11.0",
        },
        "xpu": {
            "linux_x86_64": "2.10.0+xpu",
            "linux_aarch64": "2.11.0",
            "win_amd64": "2.10.0+xpu",
            "macos_arm64": "2.11.0",
        },
    }
    runtime = versions(place.folder / "demo", "triton-rocm", Scope("extra", "rocm7.1"))
    assert runtime == {"linux_x86_64": "3.6.0"}
    assert "bare-uv-run-drops-extra" in {note.slug for note in done.notes}


@pytest.mark.parametrize("text", [PLAIN, HEAD + "dependencies = []\n"])
def test_groups(place: Place, text: str) -> None:
    done = run(
        place, text, Layout(name="groups", backends=("cpu", "cu128"), default="cu128", required=PLATFORMS)
    )
    cuda = versions(place.folder / "demo", "torch", Scope("group", "cu128"))
    assert cuda == {
        "linux_x86_64": "2.11.0+cu128",
        "linux_aarch64": "2.11.0+cu128",
        "win_amd64": "2.11.0+cu128",
        "macos_arm64": "2.11.0",
    }
    cpu = versions(place.folder / "demo", "torch", Scope("group", "cpu"))
    assert cpu["linux_x86_64"] == "2.11.0+cpu"
    assert cpu["macos_arm64"] == "2.11.0"
    assert "default-group" in {note.slug for note in done.notes}


def test_a_cap_of_one_backend_holds_for_every_platform_of_one_list(place: Place) -> None:
    on = (("linux_x86_64", "cu128"), ("win_amd64", "cu126"))
    layout = Layout(
        name="markers", backends=("cu128", "cu126"), on=on, caps=(("cu128", "2.10"),), torch="2.9.1"
    )
    run(place, HEAD + "dependencies = []\n", layout)
    assert '"torch>=2.9.1,<2.10"' in (place.folder / "demo" / "pyproject.toml").read_text("utf-8")
    assert versions(place.folder / "demo", "torch")["linux_x86_64"] == "2.9.1+cu128"


def test_only_transitive_packages_become_direct(place: Place) -> None:
    """Sources of what only others require are ignored by uv; the lock shows what that concerns."""
    text = HEAD + 'dependencies = ["timm"]\n'
    done = run(place, text, Layout(name="this-machine", backends=("cu130",)))
    written = (place.folder / "demo" / "pyproject.toml").read_text("utf-8")
    assert '"torchvision' in written
    assert versions(place.folder / "demo", "torchvision")["linux_x86_64"] == "0.26.0+cu130"
    assert set(done.layout.packages) == {"torch", "torchvision"}


def test_a_second_run_changes_nothing(place: Place) -> None:
    text = HEAD + 'dependencies = ["timm"]\n'
    layout = Layout(name="groups", backends=("cpu", "cu128"), default="cu128", required=PLATFORMS)
    run(place, text, layout)
    folder = place.folder / "demo"
    first = (folder / "pyproject.toml").read_bytes(), (folder / "uv.lock").read_bytes()
    again = run(place, first[0].decode(), layout)
    assert not again.changed
    assert ((folder / "pyproject.toml").read_bytes(), (folder / "uv.lock").read_bytes()) == first


def test_what_uv_cannot_resolve_is_restored(place: Place) -> None:
    text = HEAD + 'dependencies = ["torch>=2.8", "nowhere-to-be-found"]\n'
    with pytest.raises(TorchInstallError) as caught:
        run(place, text, Layout(name="this-machine", backends=("cu128",)))
    assert caught.value.slug == "lock-failed"
    assert "nowhere-to-be-found" in str(caught.value.found)
    assert (place.folder / "demo" / "pyproject.toml").read_text("utf-8") == text
    assert not (place.folder / "demo" / "uv.lock").exists()


def test_where_no_index_answers_the_entries_can_be_written_without_a_lock(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(HEAD + 'dependencies = ["idna"]\n', encoding="utf-8")
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"}
    env |= {"UV_HTTP_RETRIES": "0", "UV_CACHE_DIR": str(tmp_path / "cache"), "UV_PYTHON_DOWNLOADS": "never"}
    for offline in (False, True):
        with pytest.raises(TorchInstallError) as caught:
            lock_project(uv_path(), tmp_path, env, offline=offline)
        assert caught.value.slug == "lock-failed"
        said = " ".join(caught.value.hints)
        assert "--no-lock" in said
        assert "--find-links" not in said, "configure has no such flag"


def test_a_lock_with_another_build_is_refused_and_restored(place: Place) -> None:
    """The entries are right and uv was told to ignore them: only the lock shows it."""
    project = place.project(PLAIN)
    layout = Layout(name="this-machine", backends=("cu128",), index_base=place.index.index_base)

    def without_sources(folder: Path) -> None:
        env = {**place.env, "UV_NO_SOURCES": "1"}
        subprocess.run([place.uv, "lock"], cwd=folder, env=env, capture_output=True, check=True)

    with pytest.raises(TorchInstallError) as caught:
        configure(
            project, ProjectChange(layout_of=lambda _view: layout), small_catalog(), lock=without_sources
        )
    assert caught.value.slug == "lock-wrong-build"
    assert "torch on linux_x86_64: 2.11.0 from" in str(caught.value.found)
    assert (project / "pyproject.toml").read_text("utf-8") == PLAIN
    assert not (project / "uv.lock").exists()


def test_environments_that_cut_through_the_routes_are_named(place: Place) -> None:
    """A person's own environments stay; where uv then fails, the entry that would help is in the hint."""
    text = PLAIN + "\n[tool.uv]\nenvironments = [\"sys_platform != 'emscripten'\"]\n"
    with pytest.raises(TorchInstallError) as caught:
        run(place, text, Layout(name="groups", backends=("cpu", "cu128"), default="cu128"))
    assert caught.value.slug == "lock-failed"
    assert any("environments" in hint for hint in caught.value.hints)


def test_workspace_member(place: Place) -> None:
    root = place.project('[tool.uv.workspace]\nmembers = ["packages/*"]\n', "work")
    member = place.project(PLAIN, "work/packages/demo")
    place.project(
        '[project]\nname = "other"\nversion = "1"\ndependencies = ["torchaudio<2.10"]\n',
        "work/packages/other",
    )
    layout = Layout(
        name="extras", backends=("cpu", "cu128"), required=PLATFORMS, index_base=place.index.index_base
    )
    done = configure(member, ProjectChange(layout_of=lambda _view: layout), small_catalog(), lock=place.lock)
    assert [edit.path.parent for edit in done.edits] == [member, root]
    assert "environments" in (root / "pyproject.toml").read_text("utf-8")
    assert "environments" not in (member / "pyproject.toml").read_text("utf-8")
    lock = read_lock(root / "uv.lock", "demo")
    assert lock is not None
    assert lock.tree("linux_x86_64", "3.12", (Scope("extra", "cu128"),))["torch"].version.endswith("+cu128")
