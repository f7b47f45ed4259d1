"""A proof that torch computes is repeated after any change of what it rests on, and only then."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import structs

from tests.cli.support import RunResult, run
from tests.cli.test_auto import TAG
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import Place, an_environment, here
from tests.support.planning import linux, nvidia
from tests.support.systems import POSIX
from tests.support.wheelhouse import torch_wheel
from torchinstall.core.machine import Driver, Machine
from torchinstall.install.record import state_of
from torchinstall.install.verify import Checklist
from torchinstall.probe.recording import folder_system

MACHINES = Path(__file__).parents[1] / "machines"
NO_GPU = MACHINES / "docker-ci-no-gpu"

COUNTING = """
import os
import re
if os.environ.get("COUNT"):
    with open(os.environ["COUNT"], "a") as file:
        file.write("imported\\n")
if os.environ.get("SYCL_FAULT"):
    raise ImportError("out of order")
"""


@pytest.fixture
def server() -> Iterator[IndexServer]:
    code = str(torch_wheel("2.9.1+cpu", TAG).files["torch/__init__.py"]) + COUNTING
    files: dict[str, str | bytes] = {
        "torch/__init__.py": code,
        "torch/lib/libtorch.so": b"compiled",
        "torch/include/torch.h": "// a header",
        "torch/_dynamo/__init__.py": "",
    }
    tree = IndexTree({"cpu": [torch_wheel("2.9.1+cpu", TAG, files=files)]})
    with IndexServer(tree, default=IndexTree({"": []}, kind="pypi")) as running:
        yield running


class Runs:
    """Runs of `auto` in one environment, each with how often torch was imported in it."""

    def __init__(self, folder: Path, server: IndexServer) -> None:
        self.place = here(folder / ".venv", an_environment(folder, server))
        self.site = Path(self.place.ask().site_packages[0])
        self.base = f"--index-base={server.index_base}"
        self.log = folder / "imported.txt"
        self.machine = NO_GPU

    def __call__(self, *argv: str, **env: str) -> tuple[int, RunResult]:
        self.log.unlink(missing_ok=True)
        doors = {"system": lambda _env: folder_system(self.machine)}
        said = run(
            self.place.folder.parent,
            *("auto", "torch==2.9.1", self.base, *argv),
            env={**self.place.env, "COUNT": str(self.log), **env},
            doors=doors,
        )
        return self.log.read_text(encoding="utf-8").count("\n") if self.log.exists() else 0, said


def edited(path: Path, content: str) -> None:
    """The file with another content of the same length and with its old time, as a careful fault has it."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_text(content, encoding="utf-8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.e2e
def test_what_was_proved_is_not_proved_again(tmp_path: Path, server: IndexServer) -> None:
    auto = Runs(tmp_path, server)
    count, said = auto()
    assert (count, said.code) == (1, 0), said.err
    works, typed = said.out.splitlines()[-1].split(". Try: ")
    assert re.fullmatch(r"torch 2\.9\.1\+cpu works on the CPU \(\d+\.\d s\)", works)
    assert typed == f'{Path(".venv", "bin", "python")} -c "import torch; print(torch.rand(2, 3))"'
    assert said.err.splitlines().count("checking that torch computes") == 1
    count, said = auto("--json")
    assert (count, said.code) == (0, 0), said.err
    assert said.json["status"] == "satisfied"
    assert said.json["verify"]["ok"]
    assert "matrix-product-cpu" in {row["name"] for row in said.json["verify"]["checks"]}
    assert said.json["verify"]["proved_at"] is not None
    count, said = auto()
    assert count == 0
    assert "nothing has changed since, --verify checks it again" in " ".join(said.out.split())
    assert auto("--verify")[0] == 1
    assert auto("--no-verify")[0] == 0
    assert auto()[0] == 0


@pytest.mark.e2e
def test_any_change_repeats_the_proof_once(tmp_path: Path, server: IndexServer) -> None:
    auto = Runs(tmp_path, server)
    torch, proof = auto.site / "torch", auto.place.folder / "share" / "torchinstall" / "proof.json"
    changes: dict[str, Callable[[], object]] = {
        "first": lambda: None,
        "a library": lambda: edited(torch / "lib" / "libtorch.so", "Compiled"),
        "another file": lambda: (torch / "_dynamo" / "config.py").write_text("", encoding="utf-8"),
        "a package beside it": lambda: (auto.site / "numpy.py").write_text("", encoding="utf-8"),
        "a path file": lambda: (auto.site / "more.pth").write_text("/srv/more\n", encoding="utf-8"),
        "a header is there": lambda: (torch / "include" / "new.h").write_text("", encoding="utf-8"),
        "an altered proof": lambda: edited(proof, "x" * proof.stat().st_size),
        "a lost proof": proof.unlink,
    }
    for name, change in changes.items():
        change()
        assert auto()[0] == 1, name
        assert auto()[0] == 0, name
    bytecode = torch / "_dynamo" / "__pycache__"
    bytecode.mkdir(exist_ok=True)
    (bytecode / "config.cpython-311.pyc").write_bytes(b"whatever Python keeps")
    assert auto()[0] == 0
    assert auto(CUDA_VISIBLE_DEVICES="")[0] == 1
    assert auto(COLUMNS="100", CUDA_VISIBLE_DEVICES="")[0] == 0


@pytest.mark.e2e
def test_checks_that_fail_leave_no_proof(tmp_path: Path, server: IndexServer) -> None:
    auto = Runs(tmp_path, server)
    assert auto()[0] == 1
    count, said = auto(SYCL_FAULT="1")
    assert (count, said.code) == (1, 7)
    assert auto()[0] == 1, "what the failed run replaced does not come back"


@pytest.mark.e2e
def test_a_header_that_is_lost_is_seen(tmp_path: Path, server: IndexServer) -> None:
    auto = Runs(tmp_path, server)
    auto()
    (auto.site / "torch" / "include" / "torch.h").unlink()
    count, said = auto()
    assert count == 1
    assert "files are missing" in said.err


GPU = nvidia("NVIDIA GeForce RTX 4090", "8.9", uuid="GPU-1")
MACHINE = linux(GPU, driver="550.90")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("state")
    return here(root / "env", an_environment(root))


def state(place: Place, machine: Machine = MACHINE, **env: str) -> str | None:
    return state_of(place.ask(), Checklist(packages={"torch": "2.9.1+cu126"}), machine, env)


def test_the_state_is_of_this_driver_and_these_gpus(environment: Place) -> None:
    known = state(environment)
    assert known is not None
    assert state(environment, COLUMNS="80") == known
    others = [
        structs.replace(MACHINE, gpus=(structs.replace(GPU, uuid="GPU-2"),)),
        structs.replace(MACHINE, gpus=(structs.replace(GPU, name="NVIDIA L4"),)),
        structs.replace(MACHINE, gpus=(GPU, structs.replace(GPU, index=1))),
        structs.replace(MACHINE, drivers=(Driver(vendor="nvidia", version="580.95.05", source="nvml"),)),
        structs.replace(MACHINE, kernel_version="6.8.0-50-generic"),
        structs.replace(MACHINE, gpus=(), drivers=()),
    ]
    states = [state(environment, machine) for machine in others]
    states += [state(environment, LD_LIBRARY_PATH="/opt/cuda/lib64"), state(environment, HSA_OVERRIDE="x")]
    assert len({known, None, *states}) == len(states) + 2


@pytest.mark.only_on(POSIX, "a link")
def test_what_cannot_be_seen_whole_is_no_state(environment: Place, tmp_path: Path) -> None:
    site = Path(environment.ask().site_packages[0])
    (tmp_path / "numpy").mkdir()
    (site / "numpy").symlink_to(tmp_path / "numpy", target_is_directory=True)
    assert state(environment) is None
    (site / "numpy").unlink()
    config = environment.folder / "pyvenv.cfg"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("packages = false", "packages = true"), encoding="utf-8")
    assert state(environment) is None, "it imports from folders outside"
    config.write_text(text, encoding="utf-8")
    assert state(environment) is not None
    for name in ("demo", "torch"):
        info = site / f"{name}-2.9.1+cu126.dist-info"
        info.mkdir()
        (info / "direct_url.json").write_text('{"url": "file:///src", "dir_info": {"editable": true}}')
        assert (state(environment) is None) == (name == "torch"), "what is checked lies elsewhere"
        shutil.rmtree(info)
