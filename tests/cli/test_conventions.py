"""What users of uv and pip expect of every command: JSON, a log, a configuration file and a cache by name."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import torchinstall
from scripts.render_cli_docs import REFERENCE
from tests.cli.support import run
from tests.cli.test_docs import verbs
from tests.exports.support import H100, MINOR, export, index
from tests.support.index_server import IndexServer
from tests.support.installing import an_environment, here

PLAN = ("plan", "torch", "--offline", "--allow-cpu", "--python-version", "3.12")


@pytest.fixture
def server() -> Iterator[IndexServer]:
    with index() as running:
        yield running


def test_every_verb_speaks_json_also_where_it_fails(tmp_path: Path) -> None:
    for verb in verbs():
        name = ("catalog", verb.name) if verb.name in ("show", "update", "verify") else (verb.name,)
        said = run(tmp_path, *map(str, name), "--json", "--nonsense")
        assert said.json["error"]["slug"] == "unknown-option"
    assert run(tmp_path, "completion", "bash", "--json").json["script"].startswith("_torchinstall")


def test_an_export_as_json(tmp_path: Path, server: IndexServer) -> None:
    env = an_environment(tmp_path, server)
    plain = export(tmp_path, server, env, "constraints", "--python-version", MINOR, "torch")
    said = export(tmp_path, server, env, "constraints", "--python-version", MINOR, "torch", "--json")
    assert said.json["text"] == plain.out
    assert (said.json["status"], said.json["format"], said.json["file"]) == ("exported", "constraints", None)


def test_a_log_has_what_was_said_and_what_was_not(tmp_path: Path) -> None:
    said = run(tmp_path, *PLAN, "-qq", "--log", "run.log", *H100)
    assert said.err == ""
    log = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert "target: Python 3.12" in log
    assert said.out in log
    assert "\x1b" not in log
    assert run(tmp_path, "plan", "--nonsense", "--log", "run.log").code == 2
    assert run(tmp_path, "--log", "run.log", "plan", "no such requirement").code == 2
    assert (tmp_path / "run.log").read_text(encoding="utf-8").startswith(log), "it is appended to"
    assert "error[bad-requirement]" in (tmp_path / "run.log").read_text(encoding="utf-8")
    for place in ("no/such/folder.log", "/dev/full"):
        said = run(tmp_path, *PLAN, "--log", place)
        assert (said.code, "error[cannot-write]" in said.err) == (2, True)


@pytest.mark.e2e
def test_uv_is_as_quiet_as_we_are_and_its_words_are_in_the_log(tmp_path: Path, server: IndexServer) -> None:
    place = here(tmp_path / ".venv", an_environment(tmp_path, server))
    auto = ("auto", "torch", f"--index-base={server.index_base}", "--backend", "cpu", "--no-verify")
    said = run(tmp_path, *auto, "--log", "uv.log", "--cache-dir", "kept", env=without_cache(place.env))
    assert said.code == 0, said.err
    assert "2.9.1+cpu" in (tmp_path / "uv.log").read_text(encoding="utf-8")
    assert list((tmp_path / "kept").glob("*")), "pages"
    assert (tmp_path / "kept" / "uv" / "CACHEDIR.TAG").is_file(), "and uv's files"
    quiet = run(tmp_path, *auto, "-q", "--", "--reinstall", env=place.env)
    assert (quiet.code, quiet.err) == (0, ""), quiet.err


def without_cache(env: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name != "UV_CACHE_DIR"}


def test_a_configuration_file_by_name(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('backend = "cu118"\n', encoding="utf-8")
    named = ("--config-file", "mine.toml")
    for argv in ((*named, *PLAN), (*PLAN, *named)):
        said = run(tmp_path, *argv, *H100, "--json")
        assert {"name": "backend", "value": "cu118", "source": "config mine.toml"} in said.json["settings"]
    said = run(tmp_path, *PLAN, *H100, "--config-file", "missing.toml")
    assert (said.code, "error[bad-config]" in said.err) == (2, True)
    said = run(tmp_path, *PLAN, *H100, *named, "--no-config", "--json")
    assert said.json["backend"] != "cu118"


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff formats the page")
@pytest.mark.may_skip(reason="groff is not part of every system")
def test_the_page_for_man_is_in_the_wheel_and_formats(tmp_path: Path) -> None:
    page = REFERENCE / "torchinstall.1"
    done = subprocess.run(
        ["groff", "-man", "-P-cbou", "-Tutf8", "-ww", str(page)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    for words in ("TORCHINSTALL AUTO", "--require-gpu", "TORCHINSTALL_BACKEND", "NO_COLOR"):
        assert words in done.stdout
    root = Path(torchinstall.__file__).parents[1]
    config = (root / "pyproject.toml").read_text(encoding="utf-8")
    assert '"docs/reference/torchinstall.1" = "share/man/man1/torchinstall.1"' in config
