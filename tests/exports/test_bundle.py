"""A bundle: made from a loopback index, then installed where there is no network at all."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import torchinstall
from tests.exports.support import BACKEND, TAG, bundle, call
from tests.support import faults
from tests.support.index_server import IndexServer
from tests.support.installing import Place
from tests.support.planning import linux, nvidia
from tests.support.wheelhouse import torch_wheel, wheel, write_wheels
from torchinstall.core.machine import machine_to_json
from torchinstall.project.bundle import MANIFEST

pytestmark = pytest.mark.e2e

RIGHT = {"torch": f"2.9.1+{BACKEND}", "torchvision": f"0.24.1+{BACKEND}", "filelock": "3.20.0"}
HOST = linux(nvidia("NVIDIA H100", "9.0"), driver="570.86.10", glibc="2.36")
UNSHARE = ["unshare", "--net", *([] if os.getuid() == 0 else ["--map-root-user"])]
NO_NETWORK = "import socket; s = socket.socket(); s.settimeout(3); s.connect(('127.0.0.1', {port}))"


def made(tmp_path: Path, server: IndexServer, env: dict[str, str], *argv: str) -> Path:
    said = bundle(tmp_path, server, env, "-o", "bundle", *argv)
    assert said.code == 0, said.err
    return tmp_path / "bundle"


def manifest(folder: Path) -> Any:
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))


def off_the_net(argv: list[str], env: dict[str, str], cwd: Path, server: IndexServer) -> None:
    """Run a program in a network namespace of its own, which has not even the loopback."""
    probe = [sys.executable, "-c", NO_NETWORK.format(port=server.port)]
    call(probe, env, cwd)
    assert call([*UNSHARE, *probe], env, cwd, check=False).returncode != 0, "the namespace has a network"
    call([*UNSHARE, *argv], env, cwd)


def test_the_installer_works_without_a_network(
    tmp_path: Path, server: IndexServer, env: dict[str, str], place: Place, pip: str
) -> None:
    folder = made(tmp_path, server, env, "torch", "torchvision")
    script = (folder / "install.sh").read_text(encoding="utf-8")
    assert len(script.splitlines()) == 3
    assert len((folder / "install.cmd").read_text(encoding="utf-8").splitlines()) == 3
    assert "torchinstall auto --offline --find-links" in script, "it says that it is no transaction"
    target = tmp_path / "site"
    off_the_net(
        ["sh", str(folder / "install.sh"), "--target", str(target)], {**env, "PYTHON": pip}, Path("/"), server
    )
    assert {path.name.partition("-")[0] for path in target.glob("*.dist-info")} == set(RIGHT)
    assert "cuda: str | None = '12.8'" in (target / "torch/version.py").read_text(encoding="utf-8")


def test_auto_installs_it_without_a_network_call(
    tmp_path: Path, server: IndexServer, env: dict[str, str], place: Place
) -> None:
    folder = made(tmp_path, server, env)
    machine = tmp_path / "host.json"
    machine.write_text(json.dumps(machine_to_json(HOST)), encoding="utf-8")
    # Another cache than the one that the bundle was made with, and no word of the loopback index.
    there = {
        **env,
        "UV_CACHE_DIR": str(tmp_path / "other-cache"),
        "TORCHINSTALL_CACHE_DIR": str(tmp_path / "pages"),
    }
    del there["UV_DEFAULT_INDEX"]
    there["PYTHONPATH"] = str(Path(torchinstall.__file__).parents[1])
    argv = [sys.executable, "-m", "torchinstall", "auto", "--offline", "--find-links", str(folder)]
    off_the_net(
        [*argv, "--machine", str(machine), "-p", place.python, "--no-verify"], there, tmp_path, server
    )
    assert place.versions() == RIGHT


def test_manifest_pins_and_hashes_agree_with_the_files(
    tmp_path: Path, server: IndexServer, env: dict[str, str]
) -> None:
    folder = made(tmp_path, server, env, "torch", "torchvision", "einops")
    data = manifest(folder)
    assert data["backend"] == BACKEND
    assert {path.name for path in folder.glob("*.whl")} == {row["file"] for row in data["files"]}
    pins = (folder / "constraints.txt").read_text(encoding="utf-8").splitlines()
    hashes = (folder / "requirements.txt").read_text(encoding="utf-8")
    for row in data["files"]:
        content = (folder / row["file"]).read_bytes()
        assert (row["size"], row["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert f"{row['name']}=={row['version']}" in pins
        assert f"--hash=sha256:{row['sha256']}" in hashes
    assert {row["name"]: row["version"] for row in data["files"]} == {**RIGHT, "einops": "0.8.1"}


def test_a_second_run_downloads_nothing_again(
    tmp_path: Path, server: IndexServer, env: dict[str, str]
) -> None:
    folder = made(tmp_path, server, env)
    before = len([path for path in server.paths() if path.endswith(".whl")])
    made(tmp_path, server, env)
    assert len([path for path in server.paths() if path.endswith(".whl")]) == before
    assert manifest(folder)["torch"] == RIGHT["torch"]


def test_what_broke_off_goes_on_where_it_was(
    tmp_path: Path, server: IndexServer, env: dict[str, str]
) -> None:
    path, stored = next(item for item in server.tree.stored.items() if "/cu128/torch-" in item[0])
    content = stored.wheel.content()
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / f"{stored.wheel.filename}.part").write_bytes(content[:1000])
    made(tmp_path, server, env)
    sent = [
        headers["Range"] for headers in server.sent_headers(path.replace("+", "%2B")) if "Range" in headers
    ]
    assert "bytes=1000-" in sent
    assert (folder / stored.wheel.filename).read_bytes() == content
    assert not list(folder.glob("*.part"))


def test_a_part_of_another_file_is_thrown_away_and_said_to_be_wrong(
    tmp_path: Path, server: IndexServer, env: dict[str, str]
) -> None:
    _, stored = next(item for item in server.tree.stored.items() if "/cu128/torch-" in item[0])
    folder = tmp_path / "bundle"
    folder.mkdir()
    part = folder / f"{stored.wheel.filename}.part"
    part.write_bytes(b"x" * 1000)
    said = bundle(tmp_path, server, env, "-o", "bundle")
    assert (said.code, "download-hash-mismatch" in said.err) == (1, True)
    assert not part.exists()
    assert not (folder / stored.wheel.filename).exists()
    assert not (folder / MANIFEST).exists()
    assert bundle(tmp_path, server, env, "-o", "bundle").code == 0


def test_a_download_that_is_cut_is_tried_again(
    tmp_path: Path, server: IndexServer, env: dict[str, str]
) -> None:
    path = next(path for path in server.tree.stored if "/cu128/torch-" in path)
    server.fault(path, faults.cut_in_half(1))
    folder = made(tmp_path, server, env)
    assert manifest(folder)["torch"] == RIGHT["torch"]


def test_a_file_that_is_not_there_names_itself(
    tmp_path: Path, server: IndexServer, env: dict[str, str]
) -> None:
    path = next(path for path in server.tree.stored if "/cu128/torchvision-" in path)
    server.fault(path, faults.unavailable(1_000_000, 410))
    said = bundle(tmp_path, server, env, "-o", "bundle")
    assert said.code == 1
    assert "torchvision" in said.err


def test_the_bundle_of_an_earlier_plan_is_replaced_and_strangers_are_named(
    tmp_path: Path, server: IndexServer, env: dict[str, str]
) -> None:
    folder = made(tmp_path, server, env, "torch", "einops")
    assert list(folder.glob("einops-*.whl"))
    write_wheels(folder, [wheel("stranger", "1.0")])
    said = bundle(tmp_path, server, env, "-o", "bundle", "torch")
    assert said.code == 0, said.err
    assert not list(folder.glob("einops-*.whl"))
    assert "stranger-in-bundle" in said.err
    assert list(folder.glob("stranger-*.whl")), "what somebody else put there is not ours to remove"


def test_a_wheel_of_ones_own_is_in_the_bundle(
    tmp_path: Path, server: IndexServer, env: dict[str, str]
) -> None:
    (path,) = write_wheels(tmp_path / "dist", [torch_wheel("2.9.1+cu126", TAG, requires=("filelock",))])
    folder = made(tmp_path, server, env, str(path), "torchvision")
    assert {row["name"]: row["version"] for row in manifest(folder)["files"]} == {
        "torch": "2.9.1+cu126",
        "torchvision": "0.24.1+cu126",
        "filelock": "3.20.0",
    }
    assert (folder / path.name).read_bytes() == path.read_bytes()


def test_a_bundle_for_another_platform(tmp_path: Path, server: IndexServer, env: dict[str, str]) -> None:
    for backend in ("cu128", "cpu"):
        tag = "cp313-cp313-win_amd64"
        server.tree.add(
            backend,
            torch_wheel(f"2.9.1+{backend}", tag, requires=("filelock", "colorama ; sys_platform == 'win32'")),
        )
    server.default.add("", wheel("colorama", "0.4.6"))
    host = {**machine_to_json(HOST), "os": "windows", "os_version": "10.0.26100", "libc": None}
    host["drivers"] = [{"vendor": "nvidia", "version": "572.16", "source": "nvml"}]
    (tmp_path / "host.json").write_text(json.dumps(host), encoding="utf-8")
    from tests.cli.support import run

    where = ("--machine", "host.json", "--python-version", "3.13", f"--index-base={server.index_base}")
    said = run(tmp_path, "bundle", "-o", "b", *where, "torch", "--json", env=env)
    assert said.code == 0, said.err
    assert {row["file"] for row in said.json["files"]} == {
        f"torch-2.9.1+{BACKEND}-cp313-cp313-win_amd64.whl",
        "filelock-3.20.0-py3-none-any.whl",
        "colorama-0.4.6-py3-none-any.whl",
    }


def test_a_dependency_without_a_wheel_is_named(
    tmp_path: Path, server: IndexServer, env: dict[str, str]
) -> None:
    said = bundle(tmp_path, server, env, "-o", "bundle", "torch", "only-windows")
    assert said.code == 1
    assert "only-windows" in said.err
    assert not list((tmp_path).glob("bundle/*.whl"))


def test_no_folder_was_named(tmp_path: Path, server: IndexServer, env: dict[str, str]) -> None:
    said = bundle(tmp_path, server, env)
    assert (said.code, "no-output" in said.err) == (2, True)
