"""Who said so: flag, environment, configuration, default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.support import run
from torchinstall.cli.app import LazyGroup, build
from torchinstall.cli.options import DECLARED, Flag
from torchinstall.cli.session import Session
from torchinstall.cli.settings import Settings
from torchinstall.cli.verb import Argument, Verb

SEEN: list[Settings] = []
Parse = Callable[..., Settings]


def remember(_session: Session, settings: Settings) -> int:
    SEEN.append(settings)
    return 0


VERB = Verb(
    "spy",
    remember,
    summary="Remember the settings.",
    options=tuple({row.flag: row.name for row in DECLARED.values()}.values()),
    arguments=(Argument(name="reqs", metavar="[REQ]...", help="Requirements.", many=True),),
    examples=(("spy", "a"), ("spy", "b"), ("spy", "c")),
    passthrough="UV_ARGS",
)


@pytest.fixture
def settings_of(tmp_path: Path) -> Parse:
    """Parse a command line with every flag there is."""
    table = {"spy": ("tests.cli.test_provenance:VERB", "Remember.")}
    SEEN.clear()

    def parse(*argv: str, **env: str) -> Settings:
        said = run(tmp_path, *argv, env=env, table=table)
        assert said.code == 0, said.err
        return SEEN[-1]

    return parse


def test_order(settings_of: Parse, tmp_path: Path) -> None:
    assert settings_of("spy").text("backend") == "auto"
    assert settings_of("spy").source("backend") == "default"
    (tmp_path / "pyproject.toml").write_text("[tool.torchinstall]\nbackend = 'cu118'\n")
    assert settings_of("spy").text("backend") == "cu118"
    assert settings_of("spy").source("backend") == "config pyproject.toml"
    assert settings_of("spy", "--no-config").text("backend") == "auto"
    assert settings_of("--no-config", "spy").text("backend") == "auto"
    theirs = settings_of("spy", UV_TORCH_BACKEND="cu126")
    assert (theirs.text("backend"), theirs.source("backend")) == ("cu126", "environment UV_TORCH_BACKEND")
    ours = settings_of("spy", UV_TORCH_BACKEND="cu126", TORCHINSTALL_BACKEND="cu128")
    assert (ours.text("backend"), ours.source("backend")) == ("cu128", "environment TORCHINSTALL_BACKEND")
    flag = settings_of("spy", "--backend", "cpu", TORCHINSTALL_BACKEND="cu128")
    assert (flag.text("backend"), flag.source("backend")) == ("cpu", "flag --backend")


@pytest.mark.parametrize(
    "name",
    sorted(param.name or "" for param in VERB.params if isinstance(param, Flag) and param.expose_value),
)
def test_every_flag_has_a_variable_and_empty_says_nothing(settings_of: Parse, name: str) -> None:
    row = DECLARED[name]
    plain = settings_of("spy")
    empty = settings_of("spy", **dict.fromkeys(row.variables[: 1 if row.empty_counts else None], ""))
    assert empty.values[name] == plain.values[name]
    assert not empty.given(name)
    value = {"switch": "1", "number": "3"}.get(row.kind, row.choices[-1] if row.choices else "x")
    said = settings_of("spy", **{row.variables[0]: value})
    assert said.source(name) == f"environment {row.variables[0]}"


def test_empty_conda_override_means_no_cuda(settings_of: Parse) -> None:
    assert settings_of("spy", CONDA_OVERRIDE_CUDA="").text("target_cuda") == ""
    assert settings_of("spy", CONDA_OVERRIDE_CUDA="12.4").text("target_cuda") == "12.4"
    assert settings_of("spy").text("target_cuda") is None


def test_names_of_gpus_are_parted_by_commas(settings_of: Parse) -> None:
    found = settings_of("spy", TORCHINSTALL_TARGET_GPU="NVIDIA H100, sm_90")
    assert found.texts("target_gpu") == ("NVIDIA H100", "sm_90")


def test_what_follows_two_dashes_goes_to_uv(settings_of: Parse) -> None:
    found = settings_of("spy", "torch", "--offline", "--", "--no-deps", "-v", "--")
    assert found.texts("reqs") == ("torch",)
    assert found.rest == ("--no-deps", "-v", "--")


def test_listing_has_sources_and_no_credentials(settings_of: Parse) -> None:
    rows = settings_of("spy", "--index-base", "https://me:secret@mirror.example/whl").listing()
    row = next(row for row in rows if row.name == "index_base")
    assert "secret" not in row.value
    assert row.source == "flag --index-base"
    assert {row.name for row in rows} <= set(DECLARED)


def test_a_variable_that_does_not_parse_is_named(tmp_path: Path) -> None:
    said = run(tmp_path, "probe", env={"TORCHINSTALL_JSON": "perhaps"})
    assert said.code == 2
    assert "TORCHINSTALL_JSON" in said.err


def test_every_verb_of_the_table_is_there() -> None:
    app = build()
    for name in app.table:
        command = app.get_command(None, name)  # type: ignore[arg-type]  # no context is needed
        assert isinstance(command, (Verb, LazyGroup))
        assert command.name == name
