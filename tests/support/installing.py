"""Hand-built plans, real environments and the real uv, for the tests of installing."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import structs

from tests.support.index_server import IndexServer
from torchinstall.core.plan import CatalogUse, GpuVerdict, Package, Plan
from torchinstall.core.request import Channel
from torchinstall.core.target import Target
from torchinstall.install.command import command
from torchinstall.install.interpreter import PythonEnvironment, inspect_python, take_inventory
from torchinstall.install.transaction import InstallResult, execute
from torchinstall.install.uv import find_uv, uv_beside_us

FAMILY = ("torch", "torchvision", "torchaudio")


def uv_path() -> str:
    """The uv beside the interpreter that runs the tests."""
    return find_uv({"PATH": ""}, beside=uv_beside_us).path


def pin(
    name: str,
    version: str | None,
    index_url: str | None = None,
    *,
    routed: bool = True,
    wheel: str | None = None,
) -> Package:
    """A package of a plan."""
    return Package(name=name, version=version, index_url=index_url, routed=routed, wheel=wheel)


def a_plan(
    *packages: Package,
    python: str | None = "/env/bin/python",
    requirements: Iterable[str] = ("torch",),
    backend: str = "cpu",
    channel: Channel = "stable",
    find_links: tuple[str, ...] = (),
    gpus: tuple[GpuVerdict, ...] = (),
) -> Plan:
    """A plan as the planner would hand it over, before `command`."""
    return Plan(
        status="ready",
        backend=backend,
        channel=channel,
        index_url=packages[0].index_url if packages else None,
        requirements=tuple(requirements),
        packages=packages,
        target=Target(
            python_version="3.12.1",
            abi="cp312",
            os="linux",
            arch="x86_64",
            python=python,
            prefix="/env",
        ),
        gpus=gpus,
        candidates=(),
        warnings=(),
        settings=(),
        catalog=CatalogUse(snapshot="2026-11-22"),
        find_links=find_links,
    )


def an_environment(home: Path, server: IndexServer | None = None, **more: str) -> dict[str, str]:
    """What a user's process would have: an own cache, and the default index of the test's server."""
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "UV_CACHE_DIR": str(home / "cache"),
        "UV_HTTP_RETRIES": "0",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_LINK_MODE": "copy",
        **more,
    }
    if server is not None:
        env["UV_DEFAULT_INDEX"] = server.default_index
    return env


@dataclass(kw_only=True)
class Place:
    """A real virtual environment and all that it takes to install into it."""

    folder: Path
    env: dict[str, str]
    uv: str = field(default_factory=uv_path)
    talk: io.BytesIO = field(default_factory=io.BytesIO)

    @property
    def python(self) -> str:
        return str(self.folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))

    @property
    def said(self) -> str:
        """What uv said on stderr so far."""
        return self.talk.getvalue().decode()

    def plan(self, *packages: Package, **more: Any) -> Plan:
        return a_plan(*packages, python=self.python, **more)

    def install(self, plan: Plan, *, cwd: Path | None = None, **options: Any) -> InstallResult:
        """Command and run, as `auto` does it."""
        there = structs.replace(plan.target, installed=self.ask().target.installed)
        filled = command(structs.replace(plan, target=there), uv=self.uv, env=self.env, **options)
        return execute(filled, env=self.env, sink=self.talk, cwd=cwd or self.folder)

    def ask(self) -> PythonEnvironment:
        return inspect_python(self.python, env=self.env, family=FAMILY)

    def versions(self) -> dict[str, str]:
        """Every installed distribution."""
        dists = take_inventory(self.ask(), FAMILY).dists
        return {dist.name: dist.version for dist in dists}

    def imports(self, code: str) -> str:
        """What a line of Python prints in the environment."""
        return subprocess.run(
            [self.python, "-I", "-c", code], check=True, capture_output=True, text=True, env=self.env
        ).stdout.strip()


def here(folder: Path, env: Mapping[str, str], python: str = sys.executable) -> Place:
    """Make a virtual environment, with the interpreter that runs the tests or another one."""
    uv = uv_path()
    subprocess.run(
        [uv, "venv", "--no-project", "--quiet", "--python", python, str(folder)],
        check=True,
        env=dict(env),
    )
    return Place(folder=folder, env=dict(env), uv=uv)
