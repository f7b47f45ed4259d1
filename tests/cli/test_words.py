"""Words that people bring from other tools are answered with what they mean here, and each hint leads on."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.cli.support import run


def hints(text: str) -> list[str]:
    return [line.removeprefix("hint: ") for line in text.splitlines() if line.startswith("hint: ")]


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("install torch==2.9.*", "torchinstall auto 'torch==2.9.*'"),
        ("update", "torchinstall auto --upgrade"),
        ("status", "torchinstall doctor"),
        ("uninstall", "uv pip uninstall torch torchvision"),
        ("check", "torchinstall doctor"),
        ("list", "torchinstall plan"),
        ("info", "torchinstall probe"),
        ("download", "torchinstall bundle -o bundle"),
        ("lock", "torchinstall configure"),
        ("plam", "torchinstall plan"),
        ("torch", "torchinstall auto torch"),
        ("pytorch", "torchinstall auto torch"),
        ("cu128", "torchinstall auto --backend cu128"),
        ("pip install torch torchvision", "torchinstall auto torch torchvision"),
        ("uv pip install torch --torch-backend=cu128", "torchinstall auto torch --backend cu128"),
        ("pip", "torchinstall auto"),
        ("pip list", "torchinstall plan"),
        ("uv sync --dry-run", "torchinstall sync --dry-run"),
        ("install pytorch", "torchinstall auto torch"),
        ("install torch --cuda 12.6", "torchinstall auto torch --backend cu126"),
        (
            "pip3 install torch --index-url https://download.pytorch.org/whl/cu121",
            "torchinstall auto torch --backend cu121",
        ),
        (
            "pip install --pre torch --index-url=https://download.pytorch.org/whl/nightly/cu130",
            "torchinstall auto --channel nightly torch --backend cu130",
        ),
        (
            "conda install -y pytorch torchvision pytorch-cuda=12.1 -c pytorch -c nvidia",
            "torchinstall auto torch torchvision --backend cu121",
        ),
        ("!pip install -q torch", "torchinstall auto -q torch"),
        ("%pip install torch", "torchinstall auto torch"),
        ("$ sudo python3 -m pip install -U torch", "torchinstall auto -U torch"),
        ("pip install --force-reinstall torch --no-deps", "torchinstall auto torch -- --reinstall --no-deps"),
        ("pip install torch -f ./wheels", "torchinstall auto torch -f ./wheels"),
        (
            "pip install torch==2.3.1+cu118 -f https://download.pytorch.org/whl/torch_stable.html",
            "torchinstall auto torch==2.3.1+cu118 --backend auto",
        ),
        (
            "pip install torch -i https://a.example/simple",
            "torchinstall auto torch -- -i https://a.example/simple",
        ),
        ("uv sync --extra cu128 --no-dev", "torchinstall sync -- --extra cu128 --no-dev"),
        ("conda install conda-forge::pytorch -c x", "torchinstall auto torch"),
        ("conda install pytorch=*=cuda* pytorch-gpu", "torchinstall auto torch"),
        ("mamba create -n x pytorch=2.9 cpuonly", "torchinstall auto 'torch==2.9.*' --backend cpu"),
        ("auto --cu128", "torchinstall auto --backend cu128"),
        ("auto --cuda 12.8", "torchinstall auto --backend cu128"),
        ("auto --cuda --dry-run", "torchinstall auto --backend cu126 --dry-run"),
        (
            "auto torch --index-url https://download.pytorch.org/whl/cu121",
            "torchinstall auto torch --backend cu121",
        ),
        ("sync --extra cpu", "torchinstall sync -- --extra cpu"),
        ("sync --frozen", "torchinstall sync -- --frozen"),
        ("doctor --project .", "torchinstall doctor --help"),
        # What was typed beside it stays.
        ("AUTO torch -U", "torchinstall auto torch -U"),
        ("atuo torch==2.9.1 torchaudio", "torchinstall auto torch==2.9.1 torchaudio"),
        ("explain 'CUDA error'", "torchinstall doctor --explain 'CUDA error'"),
        ("plan torchaudio --cuda 12.6 --json", "torchinstall plan torchaudio --backend cu126 --json"),
        ("plan torchaudio --machne box.json", "torchinstall plan torchaudio --machine box.json"),
        ("plan --machne=box.json torchaudio", "torchinstall plan --machine box.json torchaudio"),
        ("plan torchaudio --driver 550", "torchinstall plan torchaudio --target-driver 550"),
        ("plan --force torchaudio", "torchinstall plan torchaudio -- --reinstall"),
        ("plan -e .", "torchinstall plan ."),
        ("--machine box.json plan torch", "torchinstall plan --machine box.json torch"),
        ("--backend cpu", "torchinstall auto --backend cpu"),
        ("auto --version", "torchinstall --version"),
        ("probe --machine box.json", "torchinstall probe --help"),
        ("catalog list", "torchinstall catalog show"),
        ("auto --cpu", "torchinstall auto --backend cpu"),
        ("plan --cuda=12.6", "torchinstall plan --backend cu126"),
        ("plan --pre", "torchinstall plan --channel nightly"),
        ("doctor --nightly", "torchinstall doctor --channel nightly"),
        ("probe --cpu", "torchinstall auto --backend cpu"),
        ("auto --index-url https://x", "torchinstall auto --index-base URL"),
        ("auto --force-reinstall", "torchinstall auto -- --reinstall"),
        ("auto -y", "torchinstall auto"),
        ("auto --dryrun", "torchinstall auto --dry-run"),
        ("plan --no-color", "torchinstall plan --color never"),
        ("plan --output-format json", "torchinstall plan --json"),
    ],
)
def test_a_word_of_another_tool_is_answered_with_ours(tmp_path: Path, typed: str, hint: str) -> None:
    said = run(tmp_path, *shlex.split(typed))
    assert said.code == 2
    assert hints(said.err)[0] == hint
    if hint.startswith(("torchinstall auto", "torchinstall sync --", "uv ")):
        return  # it would change something
    following = run(tmp_path, *shlex.split(hint)[1:], "--help")
    assert following.code == 0, following.err


def test_what_a_program_was_given_stays_as_it_was(tmp_path: Path) -> None:
    said = run(tmp_path, "uv", "run", "train.py", "--index", "3", "--pre")
    assert hints(said.err) == ["torchinstall run train.py --index 3 --pre"]


def test_no_hint_is_given_twice(tmp_path: Path) -> None:
    assert hints(run(tmp_path, "auto", "--hlep").err) == ["torchinstall auto --help"]


def test_help_is_a_verb_too(tmp_path: Path) -> None:
    assert run(tmp_path, "help").out == run(tmp_path, "--help").out
    assert run(tmp_path, "help", "plan").out == run(tmp_path, "plan", "--help").out
    assert run(tmp_path, "help", "catalog", "show").out == run(tmp_path, "catalog", "show", "--help").out
    assert "error[unknown-verb]" in run(tmp_path, "help", "nonsense").err


@pytest.mark.parametrize("typed", ["pytorch", "PyTorch==2.9.1", "pytorch-cuda", "cpuonly"])
def test_names_that_are_not_torch_are_explained(tmp_path: Path, typed: str) -> None:
    for verb in ("auto", "plan"):
        said = run(tmp_path, verb, typed, "--offline")
        assert said.code == 2
        assert "error[not-torch]" in said.err
        assert "torchinstall auto torch" in said.err
    (tmp_path / "r.txt").write_text(f"{typed}\n", encoding="utf-8")
    assert "r.txt" in run(tmp_path, "plan", "-r", "r.txt", "--offline").err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("flashattention", "flash-attn"),
        ("Flash_Attention>=2", "flash-attn"),
        ("bits-and-bytes", "bitsandbytes"),
        ("sage-attention", "sageattention"),
        ("torch-vision", "torchvision"),
    ],
)
def test_another_spelling_of_a_package_that_goes_with_torch_is_noticed(
    tmp_path: Path, typed: str, meant: str
) -> None:
    said = run(tmp_path, "plan", typed, "--offline", "--allow-cpu")
    assert f"warning[similar-name]: {typed.partition('>')[0]} is not known here" in said.err
    assert f"is called {meant}" in said.err


def test_an_ordinary_package_is_no_misspelling(tmp_path: Path) -> None:
    names = ("faiss-cpu", "numpy", "onnxruntime", "jaxlib", "torchmetrics", "transformers", "flash-attn-4")
    assert "similar-name" not in run(tmp_path, "plan", *names, "--offline", "--allow-cpu").err


def test_a_command_is_printed_only_where_it_was_asked_for(tmp_path: Path) -> None:
    plan = ("plan", "torch", "--offline", "--allow-cpu", "--target-gpu", "sm_86", "--target-driver", "580")
    assert "uv pip install" not in run(tmp_path, *plan).out
    said = run(tmp_path, *plan, "--format", "command")
    assert said.code == 0, said.err
    assert said.out.startswith("mkdir -p torchinstall-request\n")
    assert "uv pip install" in said.out.splitlines()[-1]
    assert "Chosen: backend" in said.err
    elsewhere = run(tmp_path, *plan, "--python-version", "3.12", "--format", "command")
    assert (elsewhere.code, elsewhere.out) == (2, "")
    assert "error[foreign-target]" in elsewhere.err


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("auto cu128", "torchinstall auto --backend cu128"),
        ("auto torch cpu", "torchinstall auto --backend cpu"),
        ("plan gpu", "torchinstall auto --require-gpu"),
        ("auto torch 2.9", "'torch==2.9.*'"),
        ("auto torch=2.9", "'torch==2.9.*'"),
        ("plan pytorch=2.9=py3.12_cuda", "torchinstall auto 'torch==2.9.*'"),
        ("plan torch pytorch-cuda=12.6", "torchinstall auto --backend cu126"),
        ("plan nvidia", "torchinstall auto --require-gpu"),
        ("plan --backend gpu", "--backend auto"),
        ("plan --backend cuda", "--backend auto"),
        ("export --format docker", "--format dockerfile"),
        ("doctor --explain", "torchinstall doctor --help"),
        ("fleet nope.json", "a file or folder that is there and can be read"),
    ],
)
def test_a_value_that_is_meant_otherwise_is_answered(tmp_path: Path, typed: str, hint: str) -> None:
    """Before anything is asked of an index, which may have a package of that name."""
    said = run(tmp_path, *shlex.split(typed))
    assert (said.code, said.out) == (2, "")
    assert hints(said.err)[0].endswith(hint)


def test_a_file_with_an_error_is_read(tmp_path: Path) -> None:
    text = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
    (tmp_path / "train.log").write_text(text, encoding="utf-8")
    said, typed = (
        run(tmp_path, "doctor", "--explain", "train.log"),
        run(tmp_path, "doctor", "--explain", text),
    )
    assert (said.code, said.out) == (0, typed.out)
    for odd in ("nonsense", "x" * 3000, ".", "a\0b"):
        assert run(tmp_path, "doctor", "--explain", odd).code == 2
    assert "found:  1 word\n" in run(tmp_path, "doctor", "--explain", "nonsense").err


def test_what_is_missing_is_named_with_its_choices(tmp_path: Path) -> None:
    said = run(tmp_path, "completion")
    assert said.err.splitlines()[:2] == [
        "error[missing-argument]: SHELL is missing",
        "  needed: bash, zsh, fish, powershell",
    ]
    assert "error[missing-argument]: WHEEL|URL is missing" in run(tmp_path, "inspect").err


def test_a_gpu_that_nobody_knows_is_said_with_who_named_it(tmp_path: Path) -> None:
    said = run(tmp_path, "plan", "--offline", env={"UV_AMD_GPU_ARCHITECTURE": "gfx9999"})
    assert "found:  gfx9999 (environment UV_AMD_GPU_ARCHITECTURE)" in said.err
