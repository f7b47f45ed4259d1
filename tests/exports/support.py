"""Exports made by the command line against a loopback index, and what reads them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.cli.support import RunResult, run
from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import uv_path
from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel

MINOR = f"3.{sys.version_info[1]}"
PYTHON = f"cp3{sys.version_info[1]}"
TAG = f"{PYTHON}-{PYTHON}-manylinux_2_17_x86_64"
BACKEND = "cu128"
H100 = ("--target-gpu", "sm_90", "--target-driver", "570.86")
"""A machine for which the loopback index has cu128 as the best build."""


def family(backend: str) -> list[TinyWheel]:
    """What the index of one backend holds, with a stale `filelock` that must not be taken."""
    return [
        torch_wheel(f"2.9.1+{backend}", TAG, requires=("filelock",)),
        wheel("torchvision", f"0.24.1+{backend}", TAG, requires=("torch==2.9.1",)),
        wheel("filelock", "0.0.1"),
        wheel("filelock", "99.0"),
    ]


def index() -> IndexServer:
    """A PyTorch index, and a default index with builds of torch that must not be taken either."""
    tree = IndexTree({name: family(name) for name in ("cpu", "cu126", "cu128", "cu130", "rocm6.4")})
    default = IndexTree(
        {
            "": [
                wheel("filelock", "3.20.0"),
                wheel("einops", "0.8.1"),
                torch_wheel("2.8.0", TAG),
                torch_wheel("2.9.1", TAG, requires=("filelock",)),
                torch_wheel("2.10.0", TAG, requires=("filelock",)),
                wheel("wants-old-torch", "1.0", requires=("torch==2.8.0",)),
            ]
        },
        kind="pypi",
    )
    return IndexServer(tree, default=default)


def export(folder: Path, server: IndexServer, env: Mapping[str, str], name: str, *argv: str) -> RunResult:
    """Run `export` for the H100; a failure shows what was said."""
    return run(
        folder,
        "export",
        "--format",
        name,
        f"--index-base={server.index_base}",
        *(() if "--backend" in argv else H100),
        *argv,
        env=env,
    )


def bundle(folder: Path, server: IndexServer, env: Mapping[str, str], *argv: str) -> RunResult:
    """Run `bundle` for the H100 and this Python."""
    where = (f"--index-base={server.index_base}", "--python-version", MINOR)
    return run(folder, "bundle", *where, *H100, *argv, env=env)


def call(
    argv: list[str], env: Mapping[str, str], cwd: Path, *, check: bool = True, timeout: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run a program; what it said is in the failure."""
    done = subprocess.run(
        argv, env=dict(env), cwd=cwd, capture_output=True, text=True, check=False, timeout=timeout
    )
    assert not check or done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done


def ran(text: str, env: Mapping[str, str], cwd: Path, python: str, *, pip: str) -> None:
    """Run exported `pip` commands: each line, with `python -m pip` working on the environment of `python`."""
    for line in text.splitlines():
        assert line.startswith("python -m pip install "), line
        rest = line.removeprefix("python -m pip ")
        call(["sh", "-c", f"'{pip}' -m pip --python '{python}' {rest}"], env, cwd)


def uv_env(env: Mapping[str, str], **more: str) -> dict[str, str]:
    """The environment with uv on its PATH."""
    return {**env, "PATH": f"{Path(uv_path()).parent}{os.pathsep}{env['PATH']}", **more}


def tool_environment(folder: Path, *packages: str) -> Path:
    """An environment with tools from the registry, made with the settings of whoever runs the tests.

    Their versions are bounded, so that a new release of a tool does not fail a test of ours unseen.
    """
    uv = uv_path()
    env = {name: value for name, value in os.environ.items() if not name.startswith("VIRTUAL_ENV")}
    call([uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(folder)], env, folder.parent)
    call(
        [uv, "pip", "install", "--quiet", "--python", str(folder), *packages], env, folder.parent, timeout=300
    )
    return folder / "bin"
