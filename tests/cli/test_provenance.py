"""Who said so: flag, environment, configuration, default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.support import run
from torchinstall.cli.app import LazyGroup, build
from torchinstall.cli.console import Session
from torchinstall.cli.flags import FLAGS
from torchinstall.cli.verb import REQS, Verb
from torchinstall.planning.context import PlanOptions


class SpyOptions(PlanOptions, frozen=True, kw_only=True):
    """Flags of every kind."""

    layout: str | None = None
    verify: bool = True
    anonymous: bool = False


SEEN: list[SpyOptions] = []
Parse = Callable[..., SpyOptions]


def remember(_session: Session, options: SpyOptions) -> int:
    SEEN.append(options)
    return 0


VERB = Verb(
    "spy",
    remember,
    SpyOptions,
    REQS,
    examples="",
    passthrough="UV_ARGS",
)


@pytest.fixture
def options_of(tmp_path: Path) -> Parse:
    """Parse a command line with every flag there is."""
    table = {"spy": ("tests.cli.test_provenance:VERB", "Remember.")}
    SEEN.clear()

    def parse(*argv: str, **env: str) -> SpyOptions:
        said = run(tmp_path, *argv, env=env, table=table)
        assert said.code == 0, said.err
        return SEEN[-1]

    return parse


def test_order(options_of: Parse, tmp_path: Path) -> None:
    assert options_of("spy").backend == "auto"
    assert options_of("spy").source("backend") == "default"
    (tmp_path / "pyproject.toml").write_text("[tool.torchinstall]\nbackend = 'cu118'\n")
    assert options_of("spy").backend == "cu118"
    assert options_of("spy").source("backend") == "config pyproject.toml"
    assert options_of("spy", "--no-config").backend == "auto"
    assert options_of("--no-config", "spy").backend == "auto"
    theirs = options_of("spy", UV_TORCH_BACKEND="cu126")
    assert (theirs.backend, theirs.source("backend")) == ("cu126", "environment UV_TORCH_BACKEND")
    ours = options_of("spy", UV_TORCH_BACKEND="cu126", TORCHINSTALL_BACKEND="cu128")
    assert (ours.backend, ours.source("backend")) == ("cu128", "environment TORCHINSTALL_BACKEND")
    flag = options_of("spy", "--backend", "cpu", TORCHINSTALL_BACKEND="cu128")
    assert (flag.backend, flag.source("backend")) == ("cpu", "flag --backend")


@pytest.mark.parametrize(
    "name",
    sorted(name for name in SpyOptions.__struct_fields__ if name in FLAGS),
)
def test_every_flag_has_a_variable_and_empty_says_nothing(options_of: Parse, name: str) -> None:
    row = FLAGS[name]
    plain = options_of("spy")
    empty = options_of("spy", **dict.fromkeys(row.variables[: 1 if row.empty_counts else None], ""))
    assert getattr(empty, name) == getattr(plain, name)
    assert not empty.is_set(name)
    value = {"switch": "1", "number": "3"}.get(row.kind, row.choices[-1] if row.choices else "x")
    said = options_of("spy", **{row.variables[0]: value})
    assert said.source(name) == f"environment {row.variables[0]}"


def test_empty_conda_override_means_no_cuda(options_of: Parse) -> None:
    assert options_of("spy", CONDA_OVERRIDE_CUDA="").target_cuda == ""
    assert options_of("spy", CONDA_OVERRIDE_CUDA="12.4").target_cuda == "12.4"
    assert options_of("spy").target_cuda is None


def test_names_of_gpus_are_parted_by_commas(options_of: Parse) -> None:
    found = options_of("spy", TORCHINSTALL_TARGET_GPU="NVIDIA H100, sm_90")
    assert found.target_gpu == ("NVIDIA H100", "sm_90")


def test_what_follows_two_dashes_goes_to_uv(options_of: Parse) -> None:
    found = options_of("spy", "torch", "--offline", "--", "--no-deps", "-v", "--")
    assert found.reqs == ("torch",)
    assert found.rest == ("--no-deps", "-v", "--")


def test_listing_has_sources_and_no_credentials(options_of: Parse) -> None:
    rows = options_of("spy", "--index-base", "https://me:secret@mirror.example/whl").listing()
    row = next(row for row in rows if row.name == "index_base")
    assert "secret" not in row.value
    assert row.source == "flag --index-base"
    assert {row.name for row in rows} <= set(FLAGS)


def test_a_variable_that_does_not_parse_is_named(tmp_path: Path) -> None:
    said = run(tmp_path, "probe", env={"TORCHINSTALL_JSON": "perhaps"})
    assert said.code == 2
    assert "TORCHINSTALL_JSON" in said.err


@pytest.mark.parametrize(
    ("name", "value", "needed", "typed"),
    [
        ("UPGRADE", "maybe", "1, true, yes or on; 0, false, no or off", ("auto",)),
        ("VERBOSE", "true", "0, 1 or 2", ("probe",)),
        ("QUIET", "-1", "0, 1 or 2", ("probe",)),
        ("PREFER_GPU", "first", "a number", ("plan",)),
        ("CHANNEL", "beta", "stable, test, nightly", ("plan",)),
        ("NEED", "speed", "compile", ("plan",)),
        ("COLOR", "pink", "auto, always, never", ("probe",)),
    ],
)
def test_a_value_that_does_not_fit_is_answered_with_those_that_do(
    tmp_path: Path, name: str, value: str, needed: str, typed: tuple[str, ...]
) -> None:
    said = run(tmp_path, *typed, env={f"TORCHINSTALL_{name}": value})
    assert said.code == 2
    flag = f"--{name.lower().replace('_', '-')}"
    assert said.err.splitlines()[:4] == [
        f"error[bad-value]: {value!r} is no value of {flag}",
        f"  needed: {needed}",
        f"  found:  {value} (environment TORCHINSTALL_{name})",
        f"hint: unset TORCHINSTALL_{name}",
    ]


def test_a_choice_may_be_written_large(options_of: Parse) -> None:
    assert options_of("spy", TORCHINSTALL_CHANNEL="NIGHTLY").channel == "nightly"
    assert options_of("spy", "--channel", "Test").channel == "test"


def test_every_verb_of_the_table_is_there() -> None:
    app = build()
    for name in app.table:
        command = app.get_command(None, name)  # type: ignore[arg-type]  # no context is needed
        assert isinstance(command, (Verb, LazyGroup))
        assert command.name == name


def test_a_field_that_is_not_there_is_a_bug() -> None:
    with pytest.raises(AttributeError):
        PlanOptions().source("bakend")


def test_every_flag_is_an_option_of_a_verb() -> None:
    """A flag that no verb has, or a field that no flag fills, is a slip of the pen."""
    app = build()
    verbs = [app.get_command(None, name) for name in app.table]  # type: ignore[arg-type]  # as above
    verbs += [
        group.get_command(None, name)  # type: ignore[arg-type]  # as above
        for group in verbs
        if isinstance(group, LazyGroup)
        for name in group.table
    ]
    used: set[str] = set()
    for verb in verbs:
        if isinstance(verb, Verb):
            fields = set(verb.options.__struct_fields__) - verb.options.omit - {"sources", "rest"}
            assert fields - set(FLAGS) == {argument.name for argument in verb.arguments}
            used |= fields
    assert set(FLAGS) <= used
