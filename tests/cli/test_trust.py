"""What a project's file may decide, and where credentials may be seen: nowhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.support import RunResult, run
from torchinstall.core.messages import redact

MIRROR = "https://mirror.example/whl"
PLAN = (
    "plan",
    "torch",
    "--offline",
    "--python-version",
    "3.12",
    "--target-gpu",
    "sm_90",
    "--target-driver",
    "580",
    "--root",
    ".",
)


def plan(folder: Path, *argv: str, env: Mapping[str, str] | None = None) -> RunResult:
    """`plan --json` for a described machine, in a project."""
    return run(folder, *PLAN, "--json", *argv, env=env)


def project(folder: Path, text: str) -> Path:
    path = folder / "pyproject.toml"
    path.write_text(f"[tool.torchinstall]\n{text}\n", encoding="utf-8")
    return path


def source(result: RunResult, name: str) -> tuple[str, str]:
    """The value of a setting, and who said so."""
    return next((row["value"], row["source"]) for row in result.json["settings"] if row["name"] == name)


@pytest.mark.parametrize(
    ("line", "accept", "name"),
    [
        ('find-links = ["wheels"]', "--find-links {folder}/wheels", "find_links"),
        (
            'allow-insecure-host = ["evil.example"]',
            "--allow-insecure-host evil.example",
            "allow_insecure_host",
        ),
        ('python = "/tmp/evil/bin/python"', "--python /tmp/evil/bin/python", "python"),
        ('venv = "/srv/other"', "--venv /srv/other", "venv"),
        ("system = true", "--system", "system"),
        ("vendor-index = true", "--vendor-index", "vendor_index"),
        ('allow-build = ["flash-attn"]', "--allow-build flash-attn", "allow_build"),
        ('companion-source = "community"', "--companion-source community", "companion_source"),
    ],
)
@pytest.mark.parametrize("depth", ["", "a/b"])
def test_a_projects_sources_and_places_are_ignored_aloud(
    tmp_path: Path, line: str, accept: str, name: str, depth: str
) -> None:
    path = project(tmp_path, line)
    here = tmp_path / depth
    here.mkdir(parents=True, exist_ok=True)
    result = plan(here, "-qq")
    assert result.code == 0, result.err
    assert f"warning[project-setting-ignored]: {line.partition(' ')[0]} in {path} is ignored" in result.err
    assert accept.format(folder=tmp_path) in result.err
    assert all(row["source"] == "default" for row in result.json["settings"] if row["name"] == name)


def test_the_users_own_file_and_variables_still_decide(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(f'allow-insecure-host = ["box"]\nindex-base = "{MIRROR}"\n', encoding="utf-8")
    result = plan(tmp_path, env={"TORCHINSTALL_CONFIG_FILE": str(own), "TORCHINSTALL_SYSTEM": "0"})
    assert source(result, "allow_insecure_host") == ("box", "config own.toml")
    assert source(result, "index_base") == (MIRROR, "config own.toml")
    assert "warning[project" not in result.err


def test_a_projects_index_is_used_and_named_with_its_file(tmp_path: Path) -> None:
    path = project(tmp_path, f'index-base = "{MIRROR}"')
    result = plan(tmp_path, "-qq")
    assert result.json["index_url"].startswith(MIRROR)
    assert f"warning[project-index-used]: builds come from {MIRROR}, because {path} says so" in result.err
    chosen = plan(tmp_path, "--index-base", "https://own.example/whl")
    assert chosen.json["index_url"].startswith("https://own.example/whl")
    assert "project-index-used" not in chosen.err


@pytest.mark.parametrize(
    ("argv", "env"),
    [
        (("--allow-insecure-host", "mirror.example"), {}),
        ((), {"TORCHINSTALL_ALLOW_INSECURE_HOST": "mirror.example"}),
        ((), {"UV_INSECURE_HOST": "mirror.example"}),
        (("-r", "wants.txt"), {}),
        (("--", "--allow-insecure-host=mirror.example"), {}),
    ],
)
def test_a_projects_index_is_never_used_unchecked(
    tmp_path: Path, argv: tuple[str, ...], env: dict[str, str]
) -> None:
    project(tmp_path, f'index-base = "{MIRROR}"\nallow-insecure-host = ["mirror.example"]')
    (tmp_path / "wants.txt").write_text("--trusted-host mirror.example\ntorch\n", encoding="utf-8")
    result = plan(tmp_path, *argv, env=env)
    assert (result.code, result.json["error"]["slug"]) == (2, "project-index-insecure")
    typed = result.json["error"]["hint"].splitlines()[0].partition("type ")[2].split()
    assert plan(tmp_path, *typed, *argv, env=env).code == 0


@pytest.mark.parametrize(
    "line",
    [
        "--extra-index-url https://evil.example/simple",
        "numpy @ https://evil.example/numpy-1-py3-none-any.whl",
        "-f https://evil.example/wheels",
        "--trusted-host evil.example",
    ],
)
def test_constraints_of_a_project_limit_versions_only(tmp_path: Path, line: str) -> None:
    project(tmp_path, 'constraint = ["c.txt"]')
    (tmp_path / "c.txt").write_text("torch<2.9\n", encoding="utf-8")
    limited = plan(tmp_path)
    assert limited.json["packages"][0]["version"].startswith("2.8.")
    (tmp_path / "c.txt").write_text(f"torch<2.9\n{line}\n", encoding="utf-8")
    result = plan(tmp_path)
    assert (result.code, result.json["error"]["slug"]) == (2, "project-constraint-redirects")
    assert plan(tmp_path, "-c", "c.txt").code == 0


@pytest.mark.parametrize(
    "text",
    [
        "https://user:s3cr3t@mirror.example/whl",
        "https://user:p@s3cr3t@mirror.example/whl",
        "https://user:it's\"s3cr3t@mirror.example/whl",
        "https://user:pa/s3cr3t@mirror.example/whl",
        "https://user:pa#s3cr3t?@mirror.example/whl",
        "HTTP://user:s3cr3t@mirror.example/whl",
        "ftp://user:s3cr3t@mirror.example/whl",
        "https://s3cr3t@mirror.example/whl",
        "https:/user:s3cr3t@mirror.example/whl",
        "https://user:my s3cr3t@mirror.example/whl",
        "https://user:1234 s3cr3t@mirror.example/whl",
        "https://user:a/b s3cr3t@mirror.example/whl",
        "https://my user:s3cr3t@mirror.example/whl",
        "user:s3cr3t@mirror.example/whl",
        "https://mirror.example/whl?api_key=s3cr3t",
        "https://mirror.example/whl?x=1&X-Amz-Signature=s3cr3t",
        "https://{backend}:s3cr3t@mirror.example/whl",
        "https://user:s3cr3t#@mirror.example/whl",
        "https://mirror.example/whl?x=1#sig=s3cr3t",
        "https://mirror.example/whl?pw=s3cr3t",
        "https:\\\\user:s3cr3t@mirror.example/whl",
    ],
)
def test_credentials_are_nowhere_to_be_seen(tmp_path: Path, text: str) -> None:
    own = tmp_path / "own.toml"
    own.write_text(f"index-base = {json.dumps(text)}\n", encoding="utf-8")
    for argv in (("--index-base", text, "-vv"), ("-vv",)):
        for more in (("--json",), ()):
            result = run(tmp_path, *PLAN, *argv, *more, env={"TORCHINSTALL_CONFIG_FILE": str(own)})
            assert "s3cr3t" not in result.out + result.err
            assert result.code in (0, 2)


def test_a_plan_shows_the_place_without_the_password(tmp_path: Path) -> None:
    result = plan(tmp_path, "--index-base", "https://user:s3cr3t@mirror.example/whl")
    data = result.json
    assert data["index_url"] == "https://****@mirror.example/whl/cu130"
    assert data["packages"][0]["index_url"] == "https://****@mirror.example/whl/cu130"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("git+https://github.com/a/b.git@v1", "git+https://github.com/a/b.git@v1"),
        ("see 'https://host:8080', or mail a@b.c", "see 'https://host:8080', or mail a@b.c"),
        (
            "index https://u:my pa ss@h/x, torch @ https://i/t.whl",
            "index https://****@h/x, torch @ https://i/t.whl",
        ),
        ("--index-base=https://u:12 34@h/x", "--index-base=https://****@h/x"),
        ("see https://host:8080/a b, or mail a@b.c", "see https://host:8080/a b, or mail a@b.c"),
        ("see https://a.example, or mail a@b.c", "see https://a.example, or mail a@b.c"),
        ("http://[::1]:80/x@1", "http://[::1]:80/x@1"),
        ("https://a.example/x,https://u:p@b.example/y", "https://a.example/x,https://****@b.example/y"),
        ("user:pa55@host.example/x", "****@host.example/x"),
        ("file:///a/user%3Apa55%40127.0.0.1/x", "file:///a/****@127.0.0.1/x"),
        ("Invalid port: 'pa55'", "Invalid port: '****'"),
        (
            "Port could not be cast to integer value as 'p'",
            "Port could not be cast to integer value as '****'",
        ),
        ("port '8080' is in use", "port '8080' is in use"),
        ("a/b@c?x=\x1b[0m&pw=p\x1b[0m", "a/b@c?x=\x1b[0m&pw=****\x1b[0m"),
        ("git@github.com:a/b.git@v1.0", "git@github.com:a/b.git@v1.0"),
        ("python:3.12@sha256:00ff", "python:3.12@sha256:00ff"),
        ("torch-2.9.1-py3-none-any.whl#sha256=00ff", "torch-2.9.1-py3-none-any.whl#sha256=00ff"),
        ("C:\\Users\\me@corp.example\\x", "C:\\Users\\me@corp.example\\x"),
        ("GET index?api_key=abc failed", "GET index?api_key=**** failed"),
        ("torch ; python_version == '3.12'", "torch ; python_version == '3.12'"),
    ],
)
def test_what_is_no_secret_stays(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "piece", ["a:b%40", "port '", "a:@1.1.", "//t@h", "//", "?", "?a=", "://a:b", "://a:b ", "https://u:p@h "]
)
def test_long_texts_are_read_in_one_pass(piece: str) -> None:
    assert redact(piece * 50_000 + "@=").count("@") >= 1


@pytest.mark.parametrize(
    "requirement",
    [
        "einops @ https://user:s3cr3t@wheels.example/einops-0.8.1-py3-none-any.whl",
        "einops @ https://wheels.example/einops-0.8.1-py3-none-any.whl?private_token=s3cr3t",
    ],
)
def test_an_export_holds_no_credentials(tmp_path: Path, requirement: str) -> None:
    argv = ("export", "--format", "dockerfile", *PLAN[1:], requirement)
    result = run(tmp_path, *argv, "-o", "-")
    assert "wheels.example" in result.out, result.err
    assert "s3cr3t" not in result.out + result.err
    assert "warning[credentials-left-out]" in result.err
