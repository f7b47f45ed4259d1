"""Where the PyTorch index cannot be reached: folders of configuration files, then the index that uv uses."""

from __future__ import annotations

import contextlib
import json
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.cli.support import RunResult, context, run
from tests.support import faults
from tests.support.connect_proxy import ConnectProxy
from tests.support.index_server import IndexServer, TestAuthority
from tests.support.index_tree import IndexTree
from tests.support.installing import Place, an_environment, here
from tests.support.planning import linux, nvidia
from tests.support.systems import LINUX
from tests.support.wheelhouse import torch_wheel, wheel, write_wheels
from torchinstall.core.machine import Machine, machine_to_json
from torchinstall.planning.configured import configured_folders, default_index

PYTHON = f"cp3{sys.version_info[1]}"
TAG = f"{PYTHON}-{PYTHON}-manylinux_2_28_x86_64"
NO_GPU = linux()
RTX_4090 = linux(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="580.95.05")
GTX_1080_TI = linux(nvidia("NVIDIA GeForce GTX 1080 Ti", "6.1"), driver="580.95.05")


@pytest.fixture
def server() -> Iterator[IndexServer]:
    """PyPI as it is: torch without a local version, which the tables know as a build for CUDA 12.8."""
    pypi = [
        torch_wheel("2.9.1", TAG, cuda="12.8", requires=("filelock",)),
        wheel("torchvision", "0.24.1", TAG, requires=("torch==2.9.1",)),
        wheel("filelock", "3.20.0"),
    ]
    with IndexServer(default=IndexTree({"": pypi}, kind="pypi"), json_pages=True) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, server: IndexServer) -> Place:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}/whl"
    env = an_environment(tmp_path, server, TORCHINSTALL_INDEX_BASE=closed, PIP_CONFIG_FILE="/dev/null")
    return here(tmp_path / ".venv", env)


def wheelhouse(folder: Path) -> Path:
    """What a cluster publishes: a CPU build, and no torchvision."""
    write_wheels(folder / "site wheels", [torch_wheel("2.9.0+cpu", TAG, requires=("filelock",))])
    return folder / "site wheels"


def auto(
    place: Place,
    *argv: str,
    machine: Machine = NO_GPU,
    verb: str = "auto",
    env: Mapping[str, str] | None = None,
) -> RunResult:
    folder = place.folder.parent
    file = folder / "machine.json"
    file.write_text(json.dumps(machine_to_json(machine)), encoding="utf-8")
    return run(folder, verb, "--machine", str(file), *argv, env={**place.env, **(env or {})})


def named_folder(place: Place, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "pip.conf").write_text(f"[global]\nfind-links =\n    file://{tmp_path}/site%20wheels\n")
    wheelhouse(tmp_path)
    return {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}


def test_a_folder_of_pips_configuration_comes_first_and_torchvision_never_stops_torch(
    place: Place, tmp_path: Path
) -> None:
    env = named_folder(place, tmp_path)
    dry = auto(place, "--dry-run", env=env)
    said = auto(place, env=env)
    assert (dry.code, said.code) == (0, 0), said.err
    assert place.versions() == {"torch": "2.9.0+cpu", "filelock": "3.20.0"}
    for shown in (dry.err, said.err):
        assert f"torch 2.9.0+cpu (0.0 MB) from the folder {tmp_path}/site wheels (find-links in" in shown
        assert "warning[companion-left-out]: torchvision" in shown
    assert "would install: torch 2.9.0+cpu" in dry.out
    assert "verified:" in said.out

    again = auto(place, "--json", env=env)
    assert (again.code, again.json["status"]) == (0, "satisfied"), again.err
    assert "asking uv" not in again.err

    offline = auto(place, "--offline", "--json", env=env)
    assert (offline.code, offline.json["status"]) == (0, "satisfied"), offline.err
    assert "asking uv" not in offline.err
    named = auto(place, "--offline", "torch", "torchvision", env=env)
    assert (named.code, "error[offline]" in named.err) == (1, True), named.err
    assert "hint: add --find-links" not in named.err, "that folder has no torchvision either"

    next(place.folder.glob("lib/python3*/site-packages/torch/version.py")).unlink()
    damaged = auto(place, "torch", "--no-verify", env=env)
    assert (damaged.code, "hint: add --find-links" in damaged.err) == (1, True), damaged.err
    mended = auto(place, "torch", "--no-verify", "--find-links", f"{tmp_path}/site wheels", env=env)
    assert mended.code == 0, mended.err


def test_a_login_node_takes_the_build_of_the_compute_nodes(place: Place, tmp_path: Path) -> None:
    """A site's own build says inside what it is for; on a node without a GPU it computes on the CPU."""
    write_wheels(tmp_path / "house", [torch_wheel("2.9.0+ourcluster", TAG, cuda="12.8")])
    said = auto(place, "torch", "--dry-run", "--json", env={"UV_FIND_LINKS": str(tmp_path / "house")})
    assert said.code == 0, said.err
    assert (said.json["plan"]["backend"], said.json["plan"]["packages"][0]["version"]) == (
        "cu128",
        "2.9.0+ourcluster",
    )


def test_what_was_named_comes_from_where_torch_comes_from(place: Place, tmp_path: Path) -> None:
    """The folder has no torchvision, and that of PyPI is made for another build of torch."""
    said = auto(place, "torch", "torchvision", "--dry-run", env=named_folder(place, tmp_path))
    assert said.code == 0, said.err
    assert "would install: torch 2.9.1, torchvision 0.24.1" in said.out


def test_the_default_index_serves_a_machine_without_a_gpu(place: Place) -> None:
    said = auto(place)
    assert said.code == 0, said.err
    assert place.versions() == {"torch": "2.9.1", "torchvision": "0.24.1", "filelock": "3.20.0"}
    assert f"from {place.env['UV_DEFAULT_INDEX']} (UV_DEFAULT_INDEX)" in said.err
    assert "cu128 build, which computes on the CPU as well" in said.err
    again = auto(place, "--json")
    assert (again.code, again.json["status"]) == (0, "satisfied"), again.err


def test_the_default_index_serves_the_gpu_that_the_best_build_serves(place: Place) -> None:
    said = auto(place, "--dry-run", "--json", machine=RTX_4090)
    assert said.code == 0, said.err
    assert (said.json["plan"]["backend"], said.json["plan"]["gpus"][0]["covered"]) == ("cu128", True)
    assert said.json["plan"]["index_url"] is None


def test_a_gpu_is_not_traded_for_an_index_that_answers(place: Place, tmp_path: Path) -> None:
    env = named_folder(place, tmp_path)
    refused = auto(place, machine=GTX_1080_TI, env=env)
    assert (refused.code, "error[index-unreachable]" in refused.err) == (8, True)
    assert "hint: add --allow-cpu, to take torch 2.9.0+cpu (0.0 MB) from the folder" in refused.err
    assert place.versions() == {}
    assert auto(place, "--allow-cpu", "--dry-run", machine=GTX_1080_TI, env=env).code == 0


def test_the_hint_about_a_backend_leads_on(place: Place) -> None:
    refused = auto(place, "--backend", "cpu")
    assert refused.code == 8
    assert "hint: omit --backend cpu, to take torch 2.9.1 (0.0 MB)" in refused.err
    assert "--backend cpu takes" not in refused.err
    assert auto(place, "--dry-run").code == 0


def test_no_fallback_forbids_all_of_it(place: Place, tmp_path: Path, server: IndexServer) -> None:
    env = named_folder(place, tmp_path)
    refused = auto(place, "--no-fallback", env=env)
    assert (refused.code, place.versions(), server.log) == (8, {}, [])
    assert "hint: omit --no-fallback" in refused.err
    planned = auto(place, "--no-fallback", "--json", verb="plan", env=env)
    assert (planned.code, planned.json["error"]["slug"]) == (8, "index-unreachable")
    assert "hint: omit --no-fallback" in planned.err
    own = auto(place, "--no-fallback", "-f", "site wheels", "--dry-run", env=env)
    assert own.code == 0, "a folder that was named for this run is no fallback"


def test_the_default_index_on_request(place: Place) -> None:
    """Whatever pip's folders hold, and without asking the PyTorch index."""
    said = auto(place, "--index-base", "default", "--dry-run", "--json")
    assert said.code == 0, said.err
    versions = {row["name"]: row["version"] for row in said.json["plan"]["packages"]}
    assert versions == {"torch": "2.9.1", "torchvision": "0.24.1"}
    assert "index-unreachable" not in said.err


def test_plan_says_what_auto_would_do_here_and_the_tables_elsewhere(place: Place, tmp_path: Path) -> None:
    env = {**place.env, **named_folder(place, tmp_path), "TORCHINSTALL_CACHE_DIR": str(tmp_path / "none")}
    here_ = run(tmp_path, "plan", "--target-gpu", "sm_89", "--target-driver", "580", "--allow-cpu", env=env)
    assert "torch 2.9.0+cpu" in here_.out, here_.err
    elsewhere = run(tmp_path, "plan", "--python-version", "3.12", "--json", env=env)
    assert elsewhere.json["find_links"] == []
    assert "fallback-source" not in elsewhere.err


def test_an_index_that_answers_and_lacks_a_page_is_reached(place: Place, server: IndexServer) -> None:
    server.tree.add("cpu", wheel("filelock", "3.20.0"))
    said = auto(place, "--index-base", server.index_base)
    assert (said.code, "error[index-forbidden]" in said.err) == (8, True), said.err


@pytest.mark.parametrize("way", ["interception", "proxy", "forbidden", "firewall"])
def test_every_way_of_being_cut_off(
    place: Place, tmp_path: Path, server: IndexServer, way: str, firewall: Callable[[], str]
) -> None:
    """A certificate of the company, a proxy that refuses, a filter's own 403, packets that are dropped."""
    base, env = "https://download.pytorch.org/whl", {"NO_PROXY": "127.0.0.1"}
    with contextlib.ExitStack() as stack:
        filtering = stack.enter_context(IndexServer(authority=TestAuthority(tmp_path)))
        proxy = stack.enter_context(ConnectProxy(filtering.port))
        env["HTTPS_PROXY"] = proxy.url if way == "interception" else server.origin
        if way == "forbidden":
            filter_ = stack.enter_context(IndexServer(IndexTree({"cpu": [wheel("filelock", "3.20.0")]})))
            filter_.fault("*", faults.unavailable(99, status=403))
            base = filter_.index_base
        elif way == "firewall":
            base = firewall()
        begun = time.monotonic()
        said = auto(place, "torch", "--index-base", base, "--dry-run", env=env)
        assert time.monotonic() - begun < 12
    assert (said.code, "would install: torch 2.9.1" in said.out) == (0, True), said.err


def test_who_reads_along_is_named_with_what_trusts_it(place: Place, tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    with IndexServer(authority=authority) as filtering, ConnectProxy(filtering.port) as proxy:
        env = {"HTTPS_PROXY": proxy.url, "NO_PROXY": "127.0.0.1", "UV_HTTP_RETRIES": "0"}
        base = "--index-base=https://download.pytorch.org/whl"
        said = auto(place, "torch", base, "--no-fallback", "--dry-run", env=env)
        assert (said.code, "error[index-certificate]" in said.err) == (8, True), said.err
        assert "SSL_CERT_FILE=FILE" in said.err
        trusting = {**env, "SSL_CERT_FILE": str(authority.bundle)}
        trusted = auto(place, "torch", base, "--no-fallback", "--dry-run", env=trusting)
    assert "index-certificate" not in trusted.err, "it is trusted, and lacks the page"


@pytest.fixture
def firewall() -> Iterator[Callable[[], str]]:
    """The address of a port that takes no further connection and says nothing."""
    sockets: list[socket.socket] = []

    def full() -> str:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        sockets.append(listener)
        for _ in range(3):
            waiting = socket.socket()
            waiting.settimeout(0)
            waiting.connect_ex(listener.getsockname())
            sockets.append(waiting)
        return f"http://127.0.0.1:{listener.getsockname()[1]}/whl"

    yield full
    for item in sockets:
        item.close()


NAMED = "named wheels"


@pytest.mark.parametrize(
    ("file", "text", "env"),
    [
        (None, "", {"PIP_FIND_LINKS": "{folder}"}),
        (None, "", {"UV_FIND_LINKS": "https://example.org/wheels,{folder}"}),
        ("named.conf", "[global]\nfind_links = {folder}", {"PIP_CONFIG_FILE": "{home}/named.conf"}),
        (".config/pip/pip.conf", "[global]\nfind-links = /elsewhere\n[install]\nfind-links = {folder}", {}),
        (".pip/pip.conf", "[install]\nfind-links =\n  https://example.org\n  {folder}", {}),
        ("xdg/pip/pip.conf", "[global]\nfind-links = {folder}", {"XDG_CONFIG_DIRS": "{home}/xdg"}),
        ("own/pip/pip.conf", "[global]\nfind-links = file://{folder}", {"XDG_CONFIG_HOME": "{home}/own"}),
        ("venv/pip.conf", "[global]\nfind-links = {folder}", {}),
        (".config/uv/uv.toml", 'find-links = ["{folder}"]', {}),
        (".config/uv/uv.toml", '[pip]\nfind-links = ["../../w"]', {}),
        ("named.toml", 'find-links = ["w"]', {"UV_CONFIG_FILE": "{home}/named.toml"}),
    ],
)
@pytest.mark.only_on(LINUX, "paths of Linux")
def test_every_place_that_pip_and_uv_read(
    tmp_path: Path, file: str | None, text: str, env: dict[str, str]
) -> None:
    folder = tmp_path / "w"
    if file is not None:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text.format(folder=folder))
    given = {name: value.format(folder=folder, home=tmp_path) for name, value in env.items()}
    given = {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path / "no"), **given}
    (project := tmp_path / "project").mkdir()
    found = configured_folders(given, project, str(tmp_path / "venv"))
    assert folder.resolve() in {Path(row.place).resolve() for row in found}


def test_pips_variable_wins_over_its_files_and_no_file_counts_where_pip_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nfind-links = /of-file")
    env = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
    assert [row.place for row in configured_folders(env, tmp_path, None)] == ["/of-file"]
    env["PIP_FIND_LINKS"] = "/of-variable"
    assert [row.place for row in configured_folders(env, tmp_path, None)] == ["/of-variable"]
    silenced = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"}
    (tmp_path / ".pip").mkdir()
    (tmp_path / ".pip/pip.conf").write_text("[global]\nfind-links = /of-user")
    assert list(configured_folders(silenced, tmp_path, None)) == []


@pytest.mark.parametrize("name", ["uv.toml", "pyproject.toml"])
def test_a_project_redirects_nothing_in_silence(place: Place, tmp_path: Path, name: str) -> None:
    table = "" if name == "uv.toml" else "[tool.uv]\n"
    (tmp_path / name).write_text(f'{table}find-links = ["site wheels"]\n')
    wheelhouse(tmp_path)
    said = auto(place, "--dry-run", "--json")
    assert said.code == 0, said.err
    assert said.json["plan"]["find_links"] == []


def test_which_index_is_uvs_default(tmp_path: Path) -> None:
    def asked(*uv_args: str, **env: str) -> tuple[str, str]:
        return default_index(context(tmp_path, env), uv_args)

    place, named_by = asked()
    # What uv itself says, which is not written here a second time.
    assert place.startswith("https://")
    assert place.endswith("/simple")
    assert named_by == "the default index"
    (tmp_path / "uv.toml").write_text('[[index]]\nname = "x"\nurl = "https://x.example/s/"\ndefault = true')
    assert asked() == ("https://x.example/s", str(tmp_path / "uv.toml"))
    named = {"UV_DEFAULT_INDEX": "corp=https://y.example/simple"}
    assert asked(**named)[0] == "https://y.example/simple"
    assert asked("--default-index=https://z.example", **named)[0] == "https://z.example"


def test_offline_the_configured_folder_is_offered_and_serves(place: Place, tmp_path: Path) -> None:
    env = named_folder(place, tmp_path)
    write_wheels(tmp_path / "site wheels", [wheel("filelock", "3.20.0")])
    said = auto(place, "--offline", env=env)
    assert (said.code, "error[offline]" in said.err) == (1, True), said.err
    ours = said.err.partition("error[offline]")[2].splitlines()
    hint = next(line.removeprefix("hint: add ") for line in ours if line.startswith("hint: "))
    assert hint == f"--find-links '{tmp_path}/site wheels'"
    followed = auto(place, "--offline", *shlex.split(hint), "--dry-run", env=env)
    assert (followed.code, "would install: torch 2.9.0+cpu" in followed.out) == (0, True), followed.err


def test_a_version_that_no_source_has_is_said_to_be_nowhere(place: Place, tmp_path: Path) -> None:
    env = named_folder(place, tmp_path)
    said = auto(place, "torch==99", "--dry-run", env=env)
    assert said.code == 8
    assert f"  found:  nothing that fits in the folder {tmp_path}/site wheels (find-links in" in said.err
    assert "or in http://127.0.0.1" in said.err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("torchvison", "torchvision"),
        ("torch flashattention", "torch flash-attn"),
        ("torch bitandbytes", "torch bitsandbytes"),
        ("torch xformer", "torch xformers"),
    ],
)
def test_a_package_that_is_nearly_one_of_torchs_is_named(
    place: Place, tmp_path: Path, typed: str, meant: str
) -> None:
    said = auto(place, *typed.split(), "--dry-run", env=named_folder(place, tmp_path))
    assert "error[package-not-found]" in said.err
    assert f"hint: torchinstall auto {meant}\n" in said.err
