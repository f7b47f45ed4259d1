"""Command and run with the real uv, a loopback index and real environments."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import Place, an_environment, here, pin
from tests.support.systems import LINUX_X86
from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel, write_wheels
from torchinstall.core.errors import InstallFailedError
from torchinstall.install.transaction import Change

pytestmark = [pytest.mark.e2e, pytest.mark.only_on(LINUX_X86, "the wheels that it installs are built for it")]

TAG = f"cp3{sys.version_info[1]}-cp3{sys.version_info[1]}-linux_x86_64"


def a_torch(version: str) -> TinyWheel:
    return torch_wheel(version, TAG, requires=("filelock",))


@pytest.fixture
def server() -> Iterator[IndexServer]:
    tree = IndexTree(
        {
            backend: [
                a_torch(f"2.9.1+{backend}"),
                wheel("torchvision", f"0.24.1+{backend}", TAG, requires=("torch==2.9.1", "numpy")),
                wheel("filelock", "0.0.1"),
            ]
            for backend in ("cpu", "cu126", "cu128")
        }
    )
    default = IndexTree(
        {
            "": [
                wheel("filelock", "3.20.0"),
                wheel("numpy", "2.3.0"),
                a_torch("2.9.1"),
                wheel("einops", "0.8"),
            ]
        },
        kind="pypi",
    )
    with IndexServer(tree, default=default) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, server: IndexServer) -> Place:
    return here(tmp_path / "env", an_environment(tmp_path, server))


def torch_of(server: IndexServer, backend: str) -> tuple[str, str, str]:
    return "torch", f"2.9.1+{backend}", f"{server.index_base}/{backend}"


def test_only_routed_packages_come_from_the_pytorch_index(place: Place, server: IndexServer) -> None:
    index = f"{server.index_base}/cu128"
    plan = place.plan(
        pin("torch", "2.9.1+cu128", index),
        pin("torchvision", "0.24.1+cu128", index),
        requirements=("torch", "torchvision", "einops"),
        backend="cu128",
    )

    result = place.install(plan)

    assert place.versions() == {
        "einops": "0.8",
        "filelock": "3.20.0",
        "numpy": "2.3.0",
        "torch": "2.9.1+cu128",
        "torchvision": "0.24.1+cu128",
    }
    asked = {path for path in server.paths() if path.startswith("/whl/")}
    assert all("/cu128/torch" in path for path in asked), asked
    assert not [path for path in server.paths() if path.startswith("/simple/torch")]
    assert result.changes is not None
    assert Change(name="torch", version="2.9.1+cu128", action="installed") in result.changes
    assert "Installed 5 packages" in place.said
    assert place.imports("import torch; print(torch.version.cuda)") == "12.8"


def test_a_second_run_changes_nothing_and_says_so(place: Place, server: IndexServer) -> None:
    plan = place.plan(pin(*torch_of(server, "cpu")))
    assert place.install(plan).changes

    assert place.install(plan).changes == ()
    assert "Would make no changes" not in place.said


def test_another_local_version_of_the_same_release_is_swapped_in(place: Place, server: IndexServer) -> None:
    place.install(place.plan(pin(*torch_of(server, "cu126"))))

    result = place.install(place.plan(pin(*torch_of(server, "cpu"))))

    assert place.versions()["torch"] == "2.9.1+cpu"
    assert result.changes is not None
    assert {(change.version, change.action) for change in result.changes if change.name == "torch"} >= {
        ("2.9.1+cpu", "installed")
    }


def test_a_build_without_local_version_replaces_one_that_has_it(place: Place, server: IndexServer) -> None:
    place.install(place.plan(pin(*torch_of(server, "cu126"))))

    place.install(place.plan(pin("torch", "2.9.1", routed=False)))

    assert place.versions()["torch"] == "2.9.1"


def test_a_dry_run_tells_the_changes_and_makes_none(place: Place, server: IndexServer) -> None:
    result = place.install(place.plan(pin(*torch_of(server, "cpu"))), dry_run=True)

    assert [change.name for change in result.changes or ()] == ["filelock", "torch"]
    assert place.versions() == {}


def test_a_folder_serves_the_build_and_may_serve_the_rest(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "wheels with space"
    write_wheels(folder, [a_torch("2.9.1+cpu"), wheel("filelock", "3.19.0")])
    plan = place.plan(pin("torch", "2.9.1+cpu"), find_links=(str(folder),))

    place.install(plan, offline=True)

    assert place.versions() == {"filelock": "3.19.0", "torch": "2.9.1+cpu"}


def test_two_folders_serve_without_saying_which(place: Place, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write_wheels(one, [wheel("filelock", "3.19.0")])
    write_wheels(two, [a_torch("2.9.1+cpu")])

    place.install(place.plan(pin("torch", "2.9.1+cpu"), find_links=(str(one), str(two))), offline=True)

    assert place.versions()["torch"] == "2.9.1+cpu"


def test_settings_that_undo_sources_are_taken_back(place: Place, server: IndexServer) -> None:
    place.env.update(UV_TORCH_BACKEND="cu118", UV_NO_SOURCES="1")

    place.install(place.plan(pin(*torch_of(server, "cpu"))))

    assert place.versions()["torch"] == "2.9.1+cpu"


@pytest.mark.parametrize("table", ["[tool.uv.pip]", "[tool.uv]"])
def test_a_torch_backend_in_the_users_configuration_does_not_win(
    place: Place, server: IndexServer, tmp_path: Path, table: str
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        f'[project]\nname = "p"\nversion = "0"\n{table}\ntorch-backend = "cu118"\n'
    )

    place.install(place.plan(pin(*torch_of(server, "cpu"))), cwd=project)

    assert place.versions()["torch"] == "2.9.1+cpu"


def test_constraints_and_markers_and_extras_are_kept(
    place: Place, server: IndexServer, tmp_path: Path
) -> None:
    bounds = tmp_path / "bounds.txt"
    bounds.write_text("filelock<3.20\n")
    server.default.add("", wheel("filelock", "3.18.0"))
    plan = place.plan(
        pin(*torch_of(server, "cpu")),
        requirements=("torch[opt]>=2", "einops ; python_version < '3'", "numpy"),
    )

    place.install(plan, constraints=(str(bounds),))

    assert place.versions() == {"filelock": "3.18.0", "numpy": "2.3.0", "torch": "2.9.1+cpu"}


def test_nightly_builds_and_their_companions_are_found(place: Place, server: IndexServer) -> None:
    index = f"{server.index_base}/nightly/cpu"
    nightly = torch_wheel("2.11.0.dev20261101+cpu", TAG, requires=("pytorch-triton==3.6.0.dev1+git1",))
    server.tree.add("cpu", nightly, wheel("pytorch_triton", "3.6.0.dev1+git1"), channel="nightly")
    plan = place.plan(
        pin("torch", "2.11.0.dev20261101+cpu", index), pin("pytorch-triton", None, index), channel="nightly"
    )

    place.install(plan)

    assert place.versions() == {"pytorch-triton": "3.6.0.dev1+git1", "torch": "2.11.0.dev20261101+cpu"}


def test_an_unknown_package_leaves_everything_as_it_was(place: Place, server: IndexServer) -> None:
    place.install(place.plan(pin(*torch_of(server, "cu126"))))
    plan = place.plan(pin(*torch_of(server, "cpu")), requirements=("torch", "no-such-thing"))

    with pytest.raises(InstallFailedError) as caught:
        place.install(plan)

    assert caught.value.slug == "package-not-found"
    assert "no-such-thing" in (caught.value.found or "")
    assert "no-such-thing" in place.said
    assert place.versions()["torch"] == "2.9.1+cu126"
