"""What the people who keep this project rely on: workflows, issue forms, documentation, wheel and sdist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.exports.support import tool_environment

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tools that these files are written for, in bounded versions."""
    return tool_environment(
        tmp_path_factory.mktemp("tools") / "env",
        "build>=1.2,<2",
        "check-jsonschema>=0.33,<1",
        "check-wheel-contents>=0.6,<1",
        "mkdocs-material>=9.6,<10",
        "twine>=6.1,<8",
        "zizmor>=1.20,<2",
    )


def clean(*argv: str | Path, cwd: Path = ROOT, **more: str) -> None:
    """Run a tool that must be content; `more` are variables."""
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1", **more}
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_workflows_are_safe(tools: Path) -> None:
    clean(tools / "zizmor", "--offline", "--pedantic", GITHUB)


def test_workflows_fit_their_schemas(tools: Path) -> None:
    check = tools / "check-jsonschema"
    clean(check, "--builtin-schema", "vendor.github-workflows", *sorted(GITHUB.glob("workflows/*.yml")))
    clean(check, "--builtin-schema", "vendor.dependabot", GITHUB / "dependabot.yml")


def test_documentation_has_no_dead_link(tools: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    clean(tools / "mkdocs", "build", "--strict", "--site-dir", site, WITH_SELECTOR="1")
    assert (site / "reference" / "cli.html").is_file()
    for name, place in {"index": "selector/", "how-to/choose-in-a-browser": "../selector/"}.items():
        assert f'href="{place}index.html"' in (site / f"{name}.html").read_text(encoding="utf-8")
    pages = [path.read_text(encoding="utf-8") for path in site.rglob("*.html")]
    assert not [
        page for page in pages if re.search(r'class="mermaid|(src|rel="stylesheet" href)="(https?:)?//', page)
    ]


def test_a_dead_link_is_found(tools: Path, tmp_path: Path) -> None:
    """The check above can fail."""
    folder = tmp_path / "project"
    (folder / "docs").mkdir(parents=True)
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "docs_hooks.py", folder / "scripts")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:\n  - Start")[0]
    (folder / "mkdocs.yml").write_text(settings, encoding="utf-8")
    (folder / "docs" / "README.md").write_text("[gone](nowhere.md)\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=r"nowhere\.md"):
        clean(tools / "mkdocs", "build", "--strict", cwd=folder)


def test_wheel_and_sdist_can_be_published(tools: Path, tmp_path: Path) -> None:
    """The sdist builds the wheel, PyPI can show their description, and the wheel holds what it should."""
    clean(tools / "python", "-m", "build", "--outdir", tmp_path, ROOT)
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    clean(tools / "twine", "check", "--strict", wheel, sdist)
    clean(tools / "check-wheel-contents", wheel)


def test_issue_forms_ask_for_what_repeats_a_case() -> None:
    for name in ("bug.yml", "wrong-build.yml"):
        form = (GITHUB / "ISSUE_TEMPLATE" / name).read_text(encoding="utf-8")
        assert "torchinstall probe --record" in form
        assert "torchinstall plan --json" in form


def test_every_script_is_in_order() -> None:
    """Bash can read the scripts that the workflows run."""
    for name in ("docs", "environment", "package", "test"):
        clean("bash", "-n", ROOT / "scripts" / name)
