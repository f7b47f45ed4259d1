"""The real CPU wheel, broken in many ways: the doctor names each, and what it says to type fixes it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import RunResult, run
from tests.support.installing import Place, an_environment, here, uv_path
from tests.support.planning import linux, nvidia
from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel, write_wheels
from torchinstall.core.machine import Machine, machine_to_json
from torchinstall.install.backup import plan_backup
from torchinstall.install.environment import STATE
from torchinstall.install.journal import Journal, Owner

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.wheel,
    pytest.mark.may_skip(reason="the wheel is too large to be fetched by a test"),
    pytest.mark.skipif("PIP_FIND_LINKS" not in os.environ, reason="PIP_FIND_LINKS is not set"),
]

ROOT = Path(__file__).parents[2]
NMS = """
import torch

def nms(boxes, scores, threshold):
    keep, left = [], scores.argsort(descending=True).tolist()
    while left:
        first = left.pop(0)
        keep.append(first)
        left = [other for other in left if _iou(boxes[first], boxes[other]) <= threshold]
    return torch.tensor(keep)

def _iou(a, b):
    corner, far = torch.maximum(a[:2], b[:2]), torch.minimum(a[2:], b[2:])
    inner = (far - corner).clamp(min=0).prod()
    return inner / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inner)
"""
OLD_DRIVER = linux(nvidia("NVIDIA GeForce RTX 4090", "8.9"), driver="535.129.03")


class Box:
    """A folder with an environment in it, a machine, and wheels; commands are typed there."""

    def __init__(self, folder: Path, cache: Path, version: str) -> None:
        self.folder, self.version = folder, version
        self.release = version.partition("+")[0]
        self.env = an_environment(folder, UV_CACHE_DIR=str(cache), UV_HTTP_RETRIES="3")
        del self.env["UV_LINK_MODE"]
        # The user's own certificates and proxies are what fetches torch's dependencies.
        passed_on = ("SSL_CERT_FILE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
        self.env |= {name: value for name, value in os.environ.items() if name in passed_on}
        self.env["PATH"] = f"{folder / '.venv' / 'bin'}:/usr/bin:/bin"
        self.place = Place(folder=folder / ".venv", env=self.env)
        self.describe(linux())
        self.flags = ("--machine", "machine.json", "--find-links", "house", "--offline")
        (folder / "house").mkdir()
        for path in real_wheels():
            (folder / "house" / path.name).symlink_to(path)
        self.publish(vision(self.vision, self.release))

    @property
    def vision(self) -> str:
        """The torchvision that belongs to this torch."""
        from tests.support.planning import shipped

        row = shipped().companion(self.release, "torchvision")
        assert row is not None
        return row.version

    @property
    def site(self) -> Path:
        return next(self.place.folder.glob("lib/python3*/site-packages"))

    def describe(self, machine: Machine) -> None:
        (self.folder / "machine.json").write_text(json.dumps(machine_to_json(machine)), encoding="utf-8")

    def publish(self, *wheels: TinyWheel) -> None:
        """Put wheels where `--find-links` finds them."""
        write_wheels(self.folder / "house", wheels)

    def pip(self, *words: str) -> None:
        """What some other program does to the environment."""
        subprocess.run(
            [uv_path(), "pip", *words, "--python", self.place.python],
            env=self.env,
            cwd=self.folder,
            check=True,
            capture_output=True,
        )

    def install(self, *requirements: str) -> None:
        self.pip("install", "-q", "--no-deps", "--find-links", str(self.folder / "house"), *requirements)

    def doctor(self, *more: str) -> RunResult:
        return run(self.folder, "doctor", *self.flags, "--json", *more, env=self.env)

    def found(self) -> dict[str, Any]:
        """Findings by slug; torch itself is not run."""
        return {item["slug"]: item for item in self.doctor("--no-verify").json["findings"]}

    def type(self, command: str) -> None:
        """Type a command as the doctor prints it."""
        words = shlex.split(command)
        if words[0] == "unset":
            self.env.pop(words[1], None)
            return
        if words[0] == "source":
            self.env["PATH"] = f"{Path(words[1]).parent}:{self.env['PATH']}"
            return
        programs = {"torchinstall": [sys.executable, "-m", "torchinstall"], "uv": [uv_path()]}
        done = subprocess.run(
            [*programs.get(words[0], [words[0]]), *words[1:]],
            # The doctor proves it afterwards; proving it twice takes long with a torch of this size.
            env={**self.env, "PYTHONPATH": str(ROOT), "TORCHINSTALL_VERIFY": "0"},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"

    def torch(self) -> str:
        return self.place.imports(
            "import torch; a = torch.ones(2, 2); (a @ a).sum(); print(torch.__version__)"
        )


def vision(version: str, torch: str) -> TinyWheel:
    """A torchvision that pins torch and can suppress boxes."""
    files = {"torchvision/__init__.py": "from . import ops\n", "torchvision/ops.py": NMS}
    return wheel("torchvision", f"{version}+cpu", requires=(f"torch=={torch}",), files=files)


def real_wheels() -> list[Path]:
    folders = os.environ["PIP_FIND_LINKS"].split()
    return [path for folder in folders for path in sorted(Path(folder).glob("torch-*+cpu-cp3*-*.whl"))]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Box:
    """The real torch with all its dependencies, and a torchvision that belongs to it; all is well."""
    (path, *_) = real_wheels()
    _, version, tag = path.name.split("-")[:3]
    ours = f"cp3{sys.version_info[1]}"
    made = Box(tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("uv-cache"), version)
    here(made.place.folder, made.env, sys.executable if tag == ours else f"3.{tag.removeprefix('cp3')}")
    made.pip("install", "-q", "--find-links", str(made.folder / "house"), f"torch=={version}", "numpy")
    made.type(f"torchinstall auto {shlex.join(made.flags)} --no-verify torch=={made.release} torchvision")
    said = made.doctor()
    assert said.code == 0, said.err
    return made


@pytest.fixture
def box(tmp_path: Path, model: Box) -> Box:
    """A copy of the model whose files are linked: it takes a second, and its bytecode is there already."""
    made = Box(tmp_path, Path(model.env["UV_CACHE_DIR"]), model.version)
    subprocess.run(["cp", "-al", str(model.place.folder), str(made.place.folder)], check=True)
    return made


def tag_of_the_wheel() -> str:
    return next(path.name.partition("+cpu-")[2].removesuffix(".whl") for path in real_wheels())


def rewrite(path: Path, content: str) -> None:
    """Replace a file; writing into it would change the cache that it is linked with."""
    path.unlink(missing_ok=True)
    path.write_text(content, encoding="utf-8")


def library_removed(box: Box) -> None:
    (box.site / "torch/lib/libtorch_cpu.so").unlink()


def library_cut_short(box: Box) -> None:
    rewrite(box.site / "torch/lib/libshm.so", "\x7fELF and no more")


def module_removed(box: Box) -> None:
    (box.site / "torch/nn/functional.py").unlink()


def own_file_called_torch(box: Box) -> None:
    (box.folder / "torch.py").write_text("print('mine')\n")


def other_torchvision(box: Box) -> None:
    box.publish(vision("0.20.1", "2.5.1"))
    box.install("torchvision==0.20.1+cpu")


def too_new_for_the_driver(box: Box) -> None:
    """A stub that claims CUDA 13.2, on a machine with driver 535; a build that fits lies in the folder."""
    tag = tag_of_the_wheel()
    box.publish(torch_wheel("2.14.0+cu132", tag), torch_wheel("2.14.0+cu126", tag))
    box.pip("uninstall", "-q", "torchvision")
    box.install("torch==2.14.0+cu132")
    box.describe(OLD_DRIVER)


def half_removed(box: Box) -> None:
    folder = box.site / "~orch"
    folder.mkdir()
    (folder / "_C.so").write_text("in use")


def dependency_removed(box: Box) -> None:
    box.pip("uninstall", "-q", "sympy")


def recorded_twice(box: Box) -> None:
    """As after an install into an environment whose old torch could not be removed."""
    info = next(box.site.glob("torch-*.dist-info"))
    other = box.site / "torch-2.5.1+cpu.dist-info"
    shutil.copytree(info, other)
    rewrite(other / "METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.5.1+cpu\n")
    rewrite(other / "RECORD", (info / "RECORD").read_text().replace(info.name, other.name))


def replaced_by_another(box: Box) -> None:
    """Some later install brought its own torch."""
    box.publish(torch_wheel("2.12.0+cpu", tag_of_the_wheel()))
    box.install("torch==2.12.0+cpu")


def extension_for_another(box: Box) -> None:
    box.publish(
        wheel("some-kernels", "1.0", requires=("torch==2.5.1",)),
        wheel("some-kernels", "2.0", requires=(f"torch=={box.release}",)),
    )
    box.install("some-kernels==1.0")


def killed_in_the_middle(box: Box) -> None:
    folder = box.place.folder / STATE
    folder.mkdir()
    backup = plan_backup([box.site], box.place.folder, folder / "backup-x", ["torch"])
    nobody = Owner(pid=2**22 + 1, command="torchinstall auto")
    due: dict[str, str | None] = {"torch": "9.9"}
    with Journal(owner=nobody, prefix=box.place.folder, due=due, backup=backup).open():
        backup.save()
    shutil.rmtree(box.site / "torch" / "lib")


def other_interpreter_first(box: Box) -> None:
    box.env["VIRTUAL_ENV"] = str(box.place.folder)
    other = box.folder / "other"
    other.mkdir()
    (other / "python").symlink_to(sys.executable)
    box.env["PATH"] = f"{other}:{box.env['PATH']}"


def system_cuda(box: Box) -> None:
    folder = box.folder / "cuda/lib64"
    folder.mkdir(parents=True)
    (folder / "libcudart.so.12").write_text("")
    box.env["LD_LIBRARY_PATH"] = str(folder)


BREAKAGES: list[tuple[Callable[[Box], None], str]] = [
    (library_removed, "damaged-files"),
    (library_cut_short, "damaged-files"),
    (module_removed, "damaged-files"),
    (own_file_called_torch, "shadowed-package"),
    (other_torchvision, "mixed-releases"),
    (too_new_for_the_driver, "driver-too-old"),
    (half_removed, "leftover-folders"),
    (dependency_removed, "missing-dependency"),
    (recorded_twice, "installed-twice"),
    (replaced_by_another, "replaced-since"),
    (extension_for_another, "built-for-other-torch"),
    (killed_in_the_middle, "interrupted-install"),
    (other_interpreter_first, "wrong-interpreter"),
    (system_cuda, "system-cuda-first"),
]


@pytest.mark.parametrize(("breakage", "slug"), BREAKAGES, ids=[item.__name__ for item, _ in BREAKAGES])
def test_named_and_fixed_by_what_it_says_to_type(
    box: Box, breakage: Callable[[Box], None], slug: str
) -> None:
    breakage(box)

    found = box.found()

    assert slug in found, list(found)
    for command in found[slug]["commands"]:
        box.type(command)
    after = box.doctor()
    assert slug not in {item["slug"] for item in after.json["findings"]}
    assert after.code == 0, after.out
    assert box.torch()


@pytest.mark.parametrize("breakage", [half_removed, killed_in_the_middle, recorded_twice])
def test_fix_does_it_by_itself(box: Box, breakage: Callable[[Box], None]) -> None:
    breakage(box)
    box.env["PYTHONPATH"] = str(ROOT)

    said = box.doctor("--fix")

    assert said.code == 0, said.err
    assert said.json["status"] == "healthy"
    shown = "> " in said.err or "an earlier run was killed" in said.err
    assert shown, "what is done is shown"
    assert box.torch() == box.version
    assert not list(box.place.folder.glob(STATE + "*"))
