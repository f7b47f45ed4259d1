"""Requirements as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchinstall.core.errors import UsageError
from torchinstall.planning.requirements import Reader

BASE = "https://mirror.example/whl"


def read(folder: Path, text: str, **env: str) -> Reader:
    """The requirements of a file."""
    (folder / "requirements.txt").write_text(text, encoding="utf-8")
    reader = Reader(folder, env, BASE)
    reader.file("requirements.txt")
    return reader


def texts(asked: Reader) -> list[str]:
    return [str(row) for row in asked.requirements]


def test_comments_continuations_and_markers(tmp_path: Path) -> None:
    asked = read(
        tmp_path,
        "# a comment\n\ntorch>=2.6   # why\nnumpy<3, \\\n  >=2\n"
        "einops ; python_version < '3.13'\nrequests[socks]\n",
    )
    assert texts(asked) == [
        "torch>=2.6",
        "numpy<3,>=2",
        'einops; python_version < "3.13"',
        "requests[socks]",
    ]


def test_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_bytes("\ufefftorch\r\nnumpy\r\n".encode())
    reader = Reader(tmp_path, {}, BASE)
    reader.file("requirements.txt")
    assert texts(reader) == ["torch", "numpy"]


def test_files_within_files_start_at_their_own_folder(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "more.txt").write_text("einops\n-c pins.txt\n")
    (tmp_path / "deep" / "pins.txt").write_text("numpy<2\n-c further.txt\n")
    (tmp_path / "deep" / "further.txt").write_text("sympy<2\n")
    asked = read(tmp_path, "torch\n-r deep/more.txt\n")
    assert texts(asked) == ["torch", "einops"]
    assert [str(row) for row in asked.constraints] == ["numpy<2", "sympy<2"]
    assert asked.constraint_files == [str(tmp_path / "deep" / "pins.txt")]


def test_requirements_of_a_constraints_file_are_constraints(tmp_path: Path) -> None:
    (tmp_path / "pins.txt").write_text("torch==2.9.1\n")
    reader = Reader(tmp_path, {}, BASE)
    reader.file("pins.txt", constraints=True)
    assert reader.requirements == []
    assert [str(row) for row in reader.constraints] == ["torch==2.9.1"]


def test_file_that_includes_itself(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="includes itself"):
        read(tmp_path, "-r requirements.txt\n")


@pytest.mark.parametrize(
    ("line", "args"),
    [
        ("--index-url https://a.example/simple", ["--default-index", "https://a.example/simple"]),
        ("-i https://a.example/simple", ["--default-index", "https://a.example/simple"]),
        ("--extra-index-url=https://a.example/simple", ["--index", "https://a.example/simple"]),
        ("--find-links https://a.example/files", ["--find-links", "https://a.example/files"]),
        ("--pre", ["--prerelease", "allow"]),
        ("--no-binary numpy", ["--no-binary", "numpy"]),
        ("--no-index", ["--no-index"]),
        ("--prefer-binary", []),
        ("git+https://a.example/x.git", ["git+https://a.example/x.git"]),
    ],
)
def test_what_goes_to_uv_as_it_is(tmp_path: Path, line: str, args: list[str]) -> None:
    assert read(tmp_path, line).uv_args == args


@pytest.mark.parametrize(
    "line",
    [
        "--extra-index-url https://download.pytorch.org/whl/cu118",
        f"--index-url {BASE}/cu118",
        "-f https://download.pytorch.org/whl/torch_stable.html",
        "--extra-index-url https://download-r2.pytorch.org/whl/cu128",
        "--extra-index-url https://name:secret@download.pytorch.org/whl/cu118",
    ],
)
def test_the_pytorch_index_is_ours_to_choose(tmp_path: Path, line: str) -> None:
    asked = read(tmp_path, line)
    assert asked.uv_args == []
    assert [note.slug for note in asked.notes] == ["index-line-ignored"]
    assert "secret" not in str(asked.notes)


def test_an_index_that_merely_looks_like_a_mirror_of_pytorch_goes_to_uv(tmp_path: Path) -> None:
    line = "--extra-index-url https://abetlen.github.io/llama-cpp-python/whl/cu124"
    assert read(tmp_path, line).uv_args == ["--index", line.split()[1]]


def test_paths_and_wheels(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    name = "torch-2.9.1+cpu-cp312-cp312-linux_x86_64.whl"
    asked = read(tmp_path, f"-e project\n./project\n./{name}\nhttps://a.example/{name.replace('+', '%2B')}\n")
    place = str(tmp_path / "project")
    assert asked.uv_args == ["--editable", place, place]
    assert [row.name for row in asked.requirements] == ["torch", "torch"]
    assert asked.requirements[0].url == (tmp_path / name).as_uri()


def test_folders_of_wheels_start_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    assert read(tmp_path, "-f wheels").find_links == [str(tmp_path / "wheels")]


def test_variables(tmp_path: Path) -> None:
    asked = read(tmp_path, "-i https://${USER_OF_A}@a.example/simple", USER_OF_A="t")
    assert asked.uv_args == ["--default-index", "https://t@a.example/simple"]
    with pytest.raises(UsageError, match="a variable that is not set"):
        read(tmp_path, "-i https://${USER_OF_A}@a.example/simple")


@pytest.mark.parametrize(
    ("line", "slug"),
    [
        ("torch==2.9.1 --hash=sha256:00", "requirement-option"),
        ("torch==2.9.1 \\\n    --hash=sha256:00", "requirement-option"),
        ("--require-hashes", "requirement-option"),
        ("--process-dependency-links", "requirement-option"),
        ("torch 2.9", "bad-requirement"),
        ("-r missing.txt", "bad-requirements-file"),
    ],
)
def test_refused_lines_name_the_line(tmp_path: Path, line: str, slug: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, f"numpy\n{line}\n")
    assert caught.value.slug == slug
    if slug != "bad-requirements-file":
        assert "requirements.txt line 2" in caught.value.message


def test_dependencies_of_a_project(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\ndependencies = ["torch>=2.6", "numpy"]\n'
    )
    reader = Reader(tmp_path, {}, BASE)
    reader.file("pyproject.toml")
    assert texts(reader) == ["torch>=2.6", "numpy"]
