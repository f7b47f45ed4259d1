"""Every rule recognises what people really paste, in whatever dress it comes, and nothing else."""

from __future__ import annotations

import re
import shlex
import string
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli.support import run
from tests.doctor.dressing import DRESSES
from tests.support.planning import shipped
from torchinstall.doctor.cleaning import clean
from torchinstall.doctor.facts import Reading, grammar
from torchinstall.doctor.rules import Match, Rule, rules
from torchinstall.doctor.rules import explain as explain_with

HERE = Path(__file__).parent


def sections(name: str) -> list[tuple[str, str]]:
    """(heading, text) of a file whose texts begin with `#### heading`."""
    text = (HERE / name).read_text(encoding="utf-8")
    parts = re.split(r"^#### (.*)\n", text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def explain(text: str) -> tuple[Match, ...]:
    return explain_with(text, shipped())


ERRORS = sections("error_texts.txt")
UNRELATED = sections("unrelated_texts.txt")


@pytest.mark.parametrize(("heading", "text"), ERRORS, ids=[f"{i}-{h}" for i, (h, _) in enumerate(ERRORS)])
def test_recognised_and_read(heading: str, text: str) -> None:
    slug, _, rest = heading.partition(" ")
    expected = dict(re.findall(r"(\w+)=(.*?)(?= \w+=|$)", rest))

    matches = explain(text)

    assert matches, f"{slug} was not recognised"
    assert matches[0].slug == slug
    values = dict(matches[0].values)
    assert {name: values.get(name) for name in expected} == expected


@pytest.mark.parametrize("name", DRESSES)
def test_the_dress_changes_nothing(name: str) -> None:
    """Wrapped at any column, quoted, prefixed, escaped, coloured: the same first cause."""
    wrong = {}
    for heading, text in ERRORS:
        matches = explain(DRESSES[name](text))
        if not matches or matches[0].slug != heading.split()[0]:
            wrong[heading] = [match.slug for match in matches]
    assert wrong == {}


@pytest.mark.parametrize("name", DRESSES)
def test_unrelated_texts_are_left_alone(name: str) -> None:
    alarms = {heading: explain(DRESSES[name](text)) for heading, text in UNRELATED}
    assert {heading: found for heading, found in alarms.items() if found} == {}


def test_a_gpu_that_is_full_is_no_fault_of_the_installation() -> None:
    (match,) = explain("RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 8 GiB total)")
    assert (match.slug, match.commands) == ("gpu-memory-full", ())
    assert "nothing is wrong with the installation" in match.cause
    causes = explain("torch: NCCL error, unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'")
    assert [cause.slug for cause in causes] == ["nccl-cuda-error", "gpu-memory-full"]


def test_an_indented_answer_below_a_quotation_is_no_code() -> None:
    (match,) = explain("> I typed\n>    python a.py\n\n    torch: no kernel image is available for execution")
    assert match.slug == "no-kernel-image"


def test_every_rule_has_a_text() -> None:
    assert {heading.split()[0] for heading, _ in ERRORS} == {rule.slug for rule in rules()}


def test_there_are_a_hundred_unrelated_texts() -> None:
    assert len(UNRELATED) >= 100
    assert len({text for _, text in UNRELATED}) == len(UNRELATED)


def wordings(rule: Rule) -> Iterator[str]:
    yield from (rule.cause, rule.note or "", *rule.type)
    for item in rule.when:
        yield from (item.cause or "", item.note or "", *(item.type or ()))


def test_rules_are_complete() -> None:
    slugs = [rule.slug for rule in rules()]
    assert len(slugs) == len(set(slugs))
    for rule in rules():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.slug)
        assert rule.sources, rule.slug
        assert rule.says or rule.facts, rule.slug
        assert rule.type or rule.offer or rule.note, rule.slug
        for text in wordings(rule):
            assert not text.endswith("."), rule.slug


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def test_wordings_name_only_values_that_they_need() -> None:
    """A wording with a value that may be missing would print `unknown` where a word should be."""
    for rule in rules():
        for item in rule.when:
            for template in (item.cause or "", item.note or "", *(item.type or ())):
                assert fields(template) <= set(item.needs), rule.slug


def test_what_a_rule_always_says_needs_only_what_each_of_its_patterns_captures() -> None:
    for rule in rules():
        always = [set(re.compile(text).groupindex) for text in rule.says]
        always += [set(need.values) | {"library"} for need in rule.facts if need.fact == "library"]
        always += [{"dll"} for need in rule.facts if need.fact == "loader" and "dll" in need.values]
        always += [set() for need in rule.facts if need.fact not in ("library", "loader")]
        for template in (rule.cause, rule.note or "", *rule.type):
            known = set.intersection(*always) if always else set()
            assert fields(template) <= known, (rule.slug, template)


def test_never_a_library_from_a_download_site() -> None:
    for rule in rules():
        words = " ".join(wordings(rule))
        assert "System32" not in words
        assert not re.search(r"https?://(?!download\.pytorch\.org|data\.pyg\.org)", words), rule.slug
    (match,) = explain('OSError: [WinError 126] Error loading "C:\\v\\torch\\lib\\c10.dll"')
    assert "Microsoft" in match.cause
    assert match.commands == ("winget install --id Microsoft.VCRedist.2015+.x64",)


def test_every_command_of_ours_can_be_typed(tmp_path: Path) -> None:
    """`--help` is shown only if all other words are understood: an unknown verb or flag is an error."""
    commands = {command for rule in rules() for command in rule.type}
    ours = sorted(command for command in commands if command.startswith("torchinstall "))
    assert len(ours) >= 10
    for command in ours:
        words = shlex.split(re.sub(r"\{\w+\}", "1", command))[1:]
        assert run(tmp_path, words[0], "--help", *words[1:]).code == 0, command


@pytest.mark.parametrize("folder", ["Python39", "Python311", "Python39-32"])
def test_the_python_of_a_windows_folder_is_read(folder: str) -> None:
    python = folder.partition("-")[0].removeprefix("Python3")
    path = rf"C:\Users\Kai\AppData\Local\Programs\Python\{folder}\lib\site-packages\torch\x.py"
    assert Reading(clean(path)).mentions.python == f"3.{python}"


def test_nothing_is_installed_for_a_gpu_that_a_mac_cannot_have() -> None:
    (match,) = explain(
        'File "/Users/kai/v/lib/python3.12/site-packages/torch/cuda/__init__.py", line 310\n'
        "AssertionError: Torch not compiled with CUDA enabled"
    )
    assert match.cause.startswith("no build of torch for macOS has CUDA")
    assert not any(command.startswith("torchinstall auto") for command in match.commands)


def test_a_cpu_build_has_no_code_for_a_gpu() -> None:
    (match,) = explain("torch: HIP error: invalid device function, AMD Radeon RX 6700 XT (gfx1031)")
    assert "cpu" not in match.cause


def test_nothing_in_nothing() -> None:
    assert explain("") == ()
    assert explain("\x1b[0m\r\n \n") == ()


def test_cleaning_joins_lines_and_drops_decoration() -> None:
    assert clean("\x1b[31m│ a\r\n│   ╰─▶ \u2018b\u2019\x1b[0m").flat == "a\n'b'"
    assert clean("> > Lib\\\\site-packages\\\\torch").flat == "Lib/site-packages/torch"
    assert clean("C:\\new\\torch").flat == "C:/new/torch"
    assert clean("0.759 error: a\n12.34   b").flat == "error: a\nb"


def test_code_around_a_line_that_failed_is_no_message() -> None:
    """A notebook numbers it and rich draws an arrow; pytest indents it."""
    notebook = '      2 raise ValueError("a")\n----> 3 run()\n      4 b = 1\n\nKeyError: 5'
    assert clean(notebook).flat == "----> 3 run()\nKeyError: 5"
    rich = '│   2 raise ValueError("a")   │\n│ ❱ 3 run()                  │\nKeyError: 5'
    assert clean(rich).flat == "--> 3 run()\nKeyError: 5"
    pytest_says = '    def run():\n        raise ValueError("a")\n>       go()\nE       KeyError: 5\n'
    assert clean(pytest_says).flat == "go()\nKeyError: 5\n"


def test_a_long_log_is_searched_in_reasonable_time() -> None:
    """50 MB in 3 seconds, a million dots in one; the fault at the end of the log is found."""
    fault = next(text for heading, text in ERRORS if heading.startswith("driver-too-old found"))
    log = "2026-10-02 08:15:00 torch nvidia-cublas WinError CUDA GLIBC_2.x site-packages epoch 3\n" * 600_000
    begin = time.process_time()
    found = explain(log + fault)
    assert time.process_time() - begin < 3
    assert [match.slug for match in found] == ["driver-too-old"]
    begin = time.process_time()
    assert explain("." * 10**6) == ()
    assert time.process_time() - begin < 1


PIECES = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.builds(
            lambda text, start, length: text[start % (len(text) or 1) :][:length],
            st.sampled_from([text for _, text in ERRORS]),
            st.integers(0, 2000),
            st.integers(0, 400),
        ),
    ),
    max_size=8,
)


@given(PIECES)
@settings(max_examples=150, deadline=None)
def test_any_text_is_explained_or_left_alone(pieces: list[str]) -> None:
    """Pasted texts are cut anywhere; every match has a cause and a way on, all values filled in."""
    for match in explain("".join(pieces)):
        assert match.cause
        assert match.commands or match.advice
        assert "unknown" not in " ".join(match.commands)


def test_other_frameworks_are_named_in_small_letters() -> None:
    names = grammar().names
    for name in (*names.family, *names.extensions, *names.others):
        assert name == name.lower()


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        (
            "ImportError: /v/site-packages/amp_C.so: undefined symbol: _ZN3c1017RegisterOperatorsD1Ev",
            ("torchinstall doctor",),
        ),
        (
            "Detected that PyTorch and torch_cluster were compiled with different CUDA versions.",
            ("torchinstall doctor",),
        ),
        (
            "torch/cpp_extension: unsupported GNU version! gcc versions later than 12 are not supported!",
            ("sudo apt install g++-12", "export NVCC_PREPEND_FLAGS='-ccbin g++-12'"),
        ),
        (
            "No module named 'torchvision.transforms.functional_tensor'",
            ("torchinstall plan torch==2.1.2 torchvision==0.16.2",),
        ),
        (
            "torch: Could not load library libcudnn_ops_infer.so.8",
            ('python -c "import torch; print(torch.backends.cudnn.version())"',),
        ),
    ],
)
def test_commands_fit_the_text(text: str, commands: tuple[str, ...]) -> None:
    """No project of the same name on PyPI, no release or CUDA that the text does not name."""
    (match,) = explain(text)
    assert match.commands == commands
