"""Where pip keeps its configuration on Windows and macOS."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.platforms.windows import ROOT, on_windows
from tests.support.systems import POSIX

pytestmark = pytest.mark.only_on(POSIX, "paths are joined with /")

FILES = (
    "from torchinstall.planning.configured import _pip_files\n"
    "result = [str(path) for path in _pip_files(%r, '/env')]"
)


def test_windows_has_pip_ini() -> None:
    env = {"USERPROFILE": "/u", "APPDATA": "/u/roaming", "PROGRAMDATA": "/data"}
    assert on_windows(FILES % env) == [
        "/data/pip/pip.ini",
        "/u/pip/pip.ini",
        "/u/roaming/pip/pip.ini",
        "/env/pip.ini",
    ]


@pytest.mark.parametrize("there", [True, False])
def test_macos_has_application_support(tmp_path: Path, *, there: bool) -> None:
    library = tmp_path / "Library/Application Support/pip"
    if there:
        library.mkdir(parents=True)
    env = {"HOME": str(tmp_path)}
    code = (
        f"import json, sys\nimport torchinstall.planning.context\nsys.platform = 'darwin'\n{FILES % env}\n"
        "print(json.dumps(result))"
    )
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    user = library if there else tmp_path / ".config/pip"
    assert json.loads(done.stdout) == [
        "/Library/Application Support/pip/pip.conf",
        str(tmp_path / ".pip/pip.conf"),
        f"{user}/pip.conf",
        "/env/pip.conf",
    ]
