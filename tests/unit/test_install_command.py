"""The command of a plan, as values: no uv runs here."""

from __future__ import annotations

import shlex

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.support.installing import a_plan, pin
from torchinstall.core.errors import UsageError
from torchinstall.core.files import quoted
from torchinstall.core.plan import Plan
from torchinstall.core.target import Installed
from torchinstall.install.command import (
    PROJECT_FILE,
    check_uv_args,
    command,
    options_in,
    shell,
    values_of,
)

INDEX = "https://download.pytorch.org/whl/cu128"
TORCH = pin("torch", "2.9.1+cu128", INDEX)


def project(plan: Plan) -> dict[str, object]:
    return tomlkit.parse(command(plan, uv="uv").project or "").unwrap()


def dependencies(plan: Plan) -> object:
    table = project(plan)["project"]
    assert isinstance(table, dict)
    return table["dependencies"]


def test_a_routed_package_is_pinned_to_an_explicit_index() -> None:
    assert project(a_plan(TORCH, requirements=("torch>=2", "numpy"))) == {
        "project": {
            "name": "your-request",
            "version": "0",
            "dependencies": ["torch==2.9.1+cu128", "numpy"],
        },
        "tool": {
            "uv": {
                "index": [{"name": "torchinstall-cu128", "url": INDEX, "explicit": True}],
                "sources": {"torch": {"index": "torchinstall-cu128"}},
            }
        },
    }


def test_the_default_index_needs_no_index_and_no_source() -> None:
    assert "tool" not in project(a_plan(pin("torch", "2.9.1", routed=False)))


def test_a_folder_is_a_flat_index() -> None:
    plan = a_plan(pin("torch", "2.9.1+cpu"), find_links=("/wheels",))

    assert project(plan)["tool"] == {
        "uv": {
            "index": [{"name": "torchinstall-folder", "url": "/wheels", "format": "flat", "explicit": True}],
            "sources": {"torch": {"index": "torchinstall-folder"}},
        }
    }
    argv = command(plan, uv="uv").command
    assert argv[argv.index("--find-links") + 1] == "/wheels"


def test_a_folder_with_a_relative_name_is_made_absolute() -> None:
    argv = command(a_plan(pin("torch", "2.9.1+cpu"), find_links=("wheels",)), uv="uv").command

    assert argv[argv.index("--find-links") + 1].endswith("/wheels")
    assert argv[argv.index("--find-links") + 1] != "wheels"


def test_two_indexes_with_the_same_tail_get_two_names() -> None:
    other = pin("torchvision", "0.24.1+cu128", "https://mirror.example/cu128")
    table = project(a_plan(TORCH, other))["tool"]

    assert isinstance(table, dict)
    assert [row["name"] for row in table["uv"]["index"]] == ["torchinstall-cu128", "torchinstall-cu128-2"]


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ("torch", "torch==2.9.1+cu128"),
        ("Torch>=2,<3", "torch==2.9.1+cu128"),
        ("torch[opt,a]", "torch[a,opt]==2.9.1+cu128"),
        ("torch ; sys_platform == 'linux'", 'torch==2.9.1+cu128 ; sys_platform == "linux"'),
        ("numpy<2 ; python_version > '3.8'", "numpy<2 ; python_version > '3.8'"),
        ("pkg[x] @ https://example.org/pkg-1-py3-none-any.whl", None),
    ],
)
def test_requirements_stay_as_asked_but_for_the_pin(asked: str, written: str | None) -> None:
    found = dependencies(a_plan(TORCH, requirements=(asked,)))

    assert isinstance(found, list)
    assert found[0] == (written or asked)


def test_a_url_for_a_routed_package_wins_over_the_index() -> None:
    asked = "torch @ https://example.org/torch-2.9.1-py3-none-any.whl"
    plan = a_plan(TORCH, requirements=(asked,))

    assert dependencies(plan) == [asked]
    assert "tool" not in project(plan)


def test_a_companion_nobody_asked_for_is_added() -> None:
    plan = a_plan(TORCH, pin("triton-rocm", None, INDEX))

    assert dependencies(plan) == ["torch==2.9.1+cu128", "triton-rocm"]


def test_what_undoes_sources_is_unset_and_patience_is_set() -> None:
    env = dict(command(a_plan(TORCH), uv="uv").env)

    assert env.pop("UV_HTTP_TIMEOUT") == "300"
    assert env == {"UV_TORCH_BACKEND": None, "UV_NO_SOURCES": None, "UV_NO_SOURCES_PACKAGE": None}


@pytest.mark.parametrize("name", ["UV_HTTP_TIMEOUT", "UV_REQUEST_TIMEOUT", "HTTP_TIMEOUT"])
def test_a_timeout_of_the_user_stays(name: str) -> None:
    assert "UV_HTTP_TIMEOUT" not in dict(command(a_plan(TORCH), uv="uv", env={name: "7"}).env)


def test_the_arguments_never_widen_the_indexes() -> None:
    argv = command(
        a_plan(TORCH, channel="nightly"),
        uv="/bin/uv",
        dry_run=True,
        offline=True,
        upgrade=True,
        uv_args=("--no-cache",),
    ).command

    assert argv[:5] == ("/bin/uv", "pip", "install", "--python", "/env/bin/python")
    assert {"--dry-run", "--offline", "--upgrade", "--no-cache"} <= set(argv)
    assert argv[argv.index("--prerelease-package") + 1] == "torch=allow"
    assert not [item for item in argv if "index" in item or "unsafe" in item]


@pytest.mark.parametrize(
    ("there", "pushed"),
    [("2.9.1+cu126", True), ("2.9.1", False), ("2.9.10+cu126", False), ("2.8.0+cu126", False)],
)
def test_a_plain_version_is_pushed_where_a_local_one_is_in_the_way(there: str, pushed: bool) -> None:
    plan = a_plan(pin("torch", "2.9.1", routed=False))
    target = structs.replace(plan.target, installed=(Installed(name="torch", version=there),))
    argv = command(structs.replace(plan, target=target), uv="uv").command

    assert ("--reinstall-package" in argv) is pushed


@pytest.mark.parametrize("argument", ["--torch-backend=auto", "--python", "-p", "--no-sources", "--target=x"])
def test_arguments_that_would_undo_the_plan_are_refused(argument: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_uv_args(("--cache-dir", "/cache", argument))

    assert caught.value.slug == "bad-uv-argument"


def test_arguments_are_read_under_one_name_however_they_are_spelled() -> None:
    words = ("-i", "https://a", "--reinstall", "--index-url=https://b", "./package", "--no-index", "-f", "/w")

    assert values_of("--default-index", words) == ("https://a", "https://b")
    assert values_of("--find-links", words) == ("/w",)
    assert [name for name, _ in options_in(words)][1:5:2] == ["--reinstall", "./package"]


def test_a_foreign_target_has_no_command() -> None:
    with pytest.raises(UsageError) as caught:
        command(a_plan(TORCH, python=None), uv="uv")

    assert caught.value.slug == "foreign-target"


def test_the_shell_form_can_be_pasted_and_keeps_secrets() -> None:
    secret = pin("torch", "2.9.1+cu128", "https://me:hunter2@mirror.example/whl/cu128")
    filled = command(a_plan(secret), uv="/opt/my uv/uv")
    lines = shell(filled)

    assert "hunter2" not in lines
    assert "https://****@mirror.example/whl/cu128" in lines
    assert "hunter2" in (filled.project or ""), "uv itself needs it"
    words = shlex.split(lines.splitlines()[-1])
    assert words[words.index("/opt/my uv/uv") :] == list(filled.command)
    assert words[words.index("-r") + 1] == PROJECT_FILE
    assert words[:3] == ["env", "-u", "UV_TORCH_BACKEND"]


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_survives_the_project_file(text: str) -> None:
    assert tomlkit.parse(f"x = {quoted(text)}\n")["x"] == text
