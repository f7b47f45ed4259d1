"""The layers of the house: what `lint-imports` holds, that it would notice, and what it cannot see."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomlkit

import torchinstall

ROOT = Path(torchinstall.__file__).parents[1]
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `lint-imports` in a folder that holds a copy of the project."""
    argv = [sys.executable, "-c", LINT, "--no-cache"]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package and its contracts, to be broken."""
    ignore = shutil.ignore_patterns("__pycache__", "data")
    shutil.copytree(ROOT / "torchinstall", tmp_path / "torchinstall", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def add(path: Path, line: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")


def test_an_import_of_the_command_line_from_below_is_noticed(copy: Path) -> None:
    add(copy / "torchinstall/core/errors.py", "from torchinstall.cli import text")
    done = lint(copy)
    assert done.returncode != 0
    assert "layers BROKEN" in done.stdout
    assert "torchinstall.core is not allowed to import torchinstall.cli" in done.stdout


def test_every_contract_can_break(copy: Path) -> None:
    add(copy / "torchinstall/install/uv.py", "from torchinstall.planner import selection")
    add(copy / "torchinstall/doctor/model.py", "import click")
    add(copy / "torchinstall/planning/context.py", "from torchinstall.planning import inputs")
    done = lint(copy)
    assert done.returncode != 0
    assert done.stdout.count("BROKEN") == 3, done.stdout


def test_the_picture_shows_the_layers_that_are_held() -> None:
    contract = tomlkit.parse((ROOT / "pyproject.toml").read_text(encoding="utf-8")).unwrap()
    held = contract["tool"]["importlinter"]["contracts"][0]["layers"]
    page = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^  subgraph (\w+) .*\n((?: {4}.*\n)+)  end", page, re.M)
    shown = [re.findall(r"^ +(\w+)\[", boxes, re.M) for _, boxes in rows]
    assert shown == [re.split(r" [:|] ", layer) for layer in held if layer != "__main__"]
    assert f"  {' --> '.join(name for name, _ in rows)}\n" in page


def test_nothing_below_the_command_line_reads_the_environment() -> None:
    """It comes in through `Context`; scripts that run in another interpreter have nothing else."""
    readers = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "torchinstall").rglob("*.py")
        if "cli" not in path.parts and not path.stem.endswith("_script")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in {("os", "environ"), ("os", "getenv"), ("sys", "argv")}
    ]
    assert readers == []


def test_imports_inside_functions_are_few() -> None:
    """Each is at the border to something heavy; what hides a circle or a habit does not fit in."""
    local = {
        f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}"
        for path in (ROOT / "torchinstall").rglob("*.py")
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert 0 < len(local) <= 40, "\n".join(sorted(local))
