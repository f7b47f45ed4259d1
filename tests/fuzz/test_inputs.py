"""Inputs of every kind are borne; `python -m tests.fuzz --all` tries thousands of each."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.cli.support import run
from tests.fuzz.trying import HOST, KINDS, PLAN, check


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
def test_what_is_made_up_is_borne(kind: str) -> None:
    strategy, attempt, _, few = KINDS[kind]

    @settings(
        max_examples=few,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    @given(strategy)
    def one(text: str) -> None:
        attempt(text)

    one()


LONG_KEY = "a" + ".a" * 150_000 + " = 1\n"


@pytest.mark.parametrize(
    ("argv", "name", "content"),
    [
        (("configure", "--dry-run", "--no-lock"), "pyproject.toml", "[project]\n" + "# x\n" * 4_500_000),
        (("configure", "--dry-run", "--no-lock"), "pyproject.toml", LONG_KEY),
        (("plan", "torch"), "pyproject.toml", LONG_KEY),
        (("plan", "-r", "r.txt"), "r.txt", "torch\n" * 1_000_000),
        (("plan", "torch", "-c", "r.txt"), "r.txt", "~=\n"),
        (("plan", "-r", "r.txt"), "r.txt", "torch\0\n"),
        (("plan", "-r", "r.txt"), "r.txt", "torch ; os_name == '\x9b'\n"),
        (("plan", "-r", "r.txt"), "r.txt", "-i 'https://x\n"),
        (("plan", "-r", "r.txt"), "r.txt", "torch==" + "9" * 5000),
        (("plan", "-r", "r.txt"), "r.txt", "-r r.txt\n"),
        (("plan", "~="), "r.txt", ""),
        (("plan", "torch\udcff"), "r.txt", ""),
        (("plan", "-r", "circle"), "r.txt", ""),
        (("plan", "./circle"), "r.txt", ""),
        (("plan", "torch", "-f", "circle"), "r.txt", ""),
        (("plan", "torch", "-r", "/dev/zero"), "r.txt", ""),
        (("plan", "torch", "--machine", "/dev/zero"), "r.txt", ""),
        (("plan", "torch", "--machine", "r.txt"), "r.txt", '{"schema_version": ' + "9" * 5000 + "}"),
        (("plan", "torch", "--target-driver", "9" * 5000), "r.txt", ""),
        (("plan", "torch", "--prefer-gpu", "9" * 5000), "r.txt", ""),
        (("plan", "torch", "--python-version", "3." + "9" * 5000), "r.txt", ""),
        (("plan", "torch", "--backend", "cu" + "9" * 5000), "r.txt", ""),
        (("plan", "torch", "--index-base", "https://[x"), "r.txt", ""),
        (("doctor", "--explain", "." * 20_000), "r.txt", ""),
        (("doctor", "--explain", "a" * 20_000), "r.txt", ""),
    ],
)
def test_each_ends_with_one_clear_error_and_soon(
    tmp_path: Path, argv: tuple[str, ...], name: str, content: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "circle").symlink_to("circle")
    config = () if argv[0] == "plan" else PLAN[-1:]  # plan reads the project's table
    more = () if argv[0] == "doctor" else (*PLAN[:-1], *config, *HOST)
    check(tmp_path, argv[0], *more, *argv[1:])


def test_includes_that_double_are_bounded(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"-r {number + 1}.txt\n" * 2, encoding="utf-8")
    (tmp_path / "40.txt").write_text("torch\n", encoding="utf-8")
    assert "one file too many" in run(tmp_path, "plan", *PLAN, *HOST, "-r", "0.txt").err


@pytest.mark.parametrize("name", ["pyproject.toml", "r.txt", "m.json"])
def test_the_mark_of_utf8_is_no_fault(tmp_path: Path, name: str) -> None:
    text = {
        "pyproject.toml": '[project]\nname = "a"\nversion = "1"\ndependencies = ["torch"]\n',
        "r.txt": "torch\n",
        "m.json": '{"schema_version": 1, "os": "linux", "arch": "x86_64", "libc": {"family": "glibc"}}',
    }[name]
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    argv = ("--machine", name, *PLAN) if name == "m.json" else ("-r", name, *PLAN[:-1], *HOST)
    assert run(tmp_path, "plan", *argv).code == 0
    if name == "pyproject.toml":
        (tmp_path / "link").symlink_to(name)
        assert run(tmp_path, "configure", "--no-lock", *PLAN, *HOST, "--backend", "cpu").code == 0
        written = (tmp_path / name).read_bytes()
        assert written.startswith(b"\xef\xbb\xbf")
        assert b"pytorch" in written
