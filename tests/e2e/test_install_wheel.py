"""The real CPU wheel, from the folder that PIP_FIND_LINKS names, with its dependencies from PyPI."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.installing import an_environment, here, pin
from torchinstall.install.verify import Checklist, failure, verify

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.wheel,
    pytest.mark.may_skip(reason="the wheel is too large to be fetched by a test"),
    pytest.mark.skipif("PIP_FIND_LINKS" not in os.environ, reason="PIP_FIND_LINKS is not set"),
]


def the_wheel() -> tuple[str, str, str]:
    """Folder, version and Python of the real wheel; where the folder is named the wheel must be there."""
    found = [
        (folder, path.name)
        for folder in os.environ["PIP_FIND_LINKS"].split()
        for path in sorted(Path(folder).glob("torch-*+cpu-cp3*-*.whl"))
    ]
    assert found, "no torch +cpu wheel in the folder that PIP_FIND_LINKS names"
    ours = f"cp3{sys.version_info[1]}"
    folder, name = next((item for item in found if f"-{ours}-{ours}-" in item[1]), found[0])
    _, version, tag = name.split("-")[:3]
    return folder, version, sys.executable if tag == ours else f"3.{tag.removeprefix('cp3')}"


def test_the_real_wheel_installs_computes_and_stays(tmp_path: Path) -> None:
    folder, version, python = the_wheel()
    user = {name: value for name, value in os.environ.items() if name not in ("PIP_FIND_LINKS", "PATH")}
    env = {**user, **an_environment(tmp_path), "UV_HTTP_RETRIES": "3"}
    del env["UV_LINK_MODE"]
    place = here(tmp_path / "env", env, python)
    plan = place.plan(pin("torch", version), find_links=(folder,), requirements=("torch",))

    result = place.install(plan)

    assert result.changes
    assert place.versions()["torch"] == version
    assert "sympy" in place.versions()

    wanted = Checklist(packages={"torch": version}, toolkit={"cuda": "none", "hip": "none"})
    report = verify(place.python, wanted, env=env)
    assert report.ok, report
    assert {"matrix-product-cpu", "convolution-cpu"} <= {check.name for check in report.checks}
    assert place.install(plan).changes == ()

    # A library that is gone is a failed import, with the words of the loader.
    next(Path(place.folder).glob("lib/python3*/site-packages/torch/lib/libtorch_cpu.so")).unlink()
    broken = verify(place.python, wanted, env=env)
    assert failure(broken).slug == "import-failed"
    assert "libtorch_cpu.so" in broken.failed[0].found
