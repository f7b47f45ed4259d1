"""What is answered to what people type: words of other tools, and a shell that completes."""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections.abc import Collection, Iterable, Sequence

import click
from click.shell_completion import (
    CompletionItem,
    ShellComplete,
    add_completion_class,
    get_completion_class,
    shell_complete,
    split_arg_string,
)

from torchinstall.cli.flags import FLAGS
from torchinstall.core.errors import UsageError
from torchinstall.core.machine import sm_text
from torchinstall.core.messages import close_matches
from torchinstall.core.request import DEFAULT_INDEX_BASE
from torchinstall.index.urls import BACKEND_NAME, pytorch_index
from torchinstall.planning.context import Context
from torchinstall.planning.gpus import gpu_codes
from torchinstall.planning.inputs import catalog_of
from torchinstall.planning.request import plain_backend
from torchinstall.planning.requirements import from_conda

Words = tuple[tuple[str, tuple[str, ...]], ...]
"""Words that people type, and what they mean here."""

_VERBS: Words = (
    ("install add get setup create i", ("auto",)),
    ("update upgrade", ("auto --upgrade",)),
    ("uninstall remove rm", ("uv pip uninstall torch torchvision", "configure --remove")),
    ("status check test verify diagnose health validate troubleshoot", ("doctor",)),
    ("fix repair heal", ("doctor --fix",)),
    ("list ls versions available search index", ("plan", "catalog show", "doctor")),
    ("show info detect hardware gpu gpus device devices machine system nvidia-smi", ("probe",)),
    ("why resolve compile dry-run preview", ("plan",)),
    ("explain error traceback", ("doctor --explain",)),
    ("init lock pin project", ("configure",)),
    ("download fetch pack wheel wheels vendor offline", ("bundle -o bundle",)),
    ("freeze convert requirements", ("export --format requirements",)),
    ("docker dockerfile container image", ("export --format dockerfile",)),
    ("exec shell", ("run python",)),
    ("version", ("--version",)),
)
_CUDA = ("--cuda", "--cu", "--cuda-version", "--toolkit", "--cudatoolkit", "--pytorch-cuda")
_INDEX = ("--index-url", "--extra-index-url", "--index", "--default-index", "-i")
_FLAGS: Words = (
    ("--cpu --cpu-only --cpuonly --no-cuda --no-gpu", ("--backend cpu",)),
    (" ".join(_CUDA), ("--backend cu126", "--backend auto")),
    ("--rocm --hip --amd", ("--backend rocm6.4", "--backend auto")),
    ("--xpu --intel", ("--backend xpu",)),
    ("--torch-backend --variant", ("--backend auto",)),
    ("--gpu --gpus --nvidia --require-cuda", ("--require-gpu",)),
    ("--pre --prerelease --nightly --dev --night", ("--channel nightly", "--channel test")),
    ("--rc --test --beta", ("--channel test",)),
    (" ".join((*_INDEX, "--mirror")), ("--index-base URL",)),
    ("--force --force-reinstall --reinstall --ignore-installed -I", ("-- --reinstall",)),
    ("--user --target --prefix --env --environment --virtualenv -t", ("--venv .venv",)),
    ("--simulate --what-if --noop --check --preview", ("--dry-run",)),
    ("--yes -y --assume-yes --non-interactive -e --editable", ("",)),
    ("--version -V", ("--version",)),
    ("--silent", ("--quiet",)),
    ("--debug --trace", ("-vv",)),
    ("--no-colour --no-color", ("--color never",)),
    ("--output-format", ("--json",)),
    ("--no-network --no-index", ("--offline",)),
    ("--no-cache --no-cache-dir --force-refresh", ("--refresh",)),
    ("--driver --driver-version", ("--target-driver 580",)),
    ("--arch --sm --compute-capability --gfx", ("--target-gpu sm_90",)),
)


def _meant(table: Words, word: str) -> tuple[str, ...]:
    word = word if word[:2] == word else word.lower()  # -i and -I differ
    return next((meant for words, meant in table if word in words.split()), ())


_PROMPT = ("$", "!", "%", "sudo", "python", "python3", "py", "-m")
"""What stands before a tool where it was copied from: a terminal, a notebook, a guide."""

_TOOLS = (
    *_PROMPT,
    *("pip", "pip3", "uv", "uvx", "conda", "mamba", "micromamba", "poetry", "pdm", "pixi", "torchinstall"),
)
_OF_CONDA = ("-c", "--channel", "-n", "--name")
_LINKS = ("-f", "--find-links")
_VALUED = ("--extra", "--group", "--target", "-t", "--prefix")
_CARRIED = (
    *("--driver", "--driver-version", "--arch", "--sm", "--compute-capability", "--gfx"),
    *("--env", "--environment", "--virtualenv"),
)
_WITH_VALUE = (*_CUDA, *_INDEX, *_LINKS, *_VALUED, *_CARRIED, "--torch-backend", "--output-format")
"""Flags of others whose value is no word of its own; that of the carried ones is kept as it is."""

_OF_VERBS = {word for flag in FLAGS.values() for text in flag.declarations for word in text.split("/")}
_OF_UV = (
    *("--extra", "--all-extras", "--group", "--no-dev", "--frozen", "--locked", "--active"),
    *("--no-deps", "--break-system-packages", "--no-build-isolation"),
)


def _flag_meant(flag: str, value: str) -> tuple[str, ...]:
    """What a flag of another tool means here; the most likely first."""
    if BACKEND_NAME.fullmatch(flag[2:]):
        return (f"--backend {flag[2:]}",)
    if value and flag in (*_CUDA, "--torch-backend"):
        return (f"--backend {plain_backend(value if value[0].isalpha() else f'cu{value}')}",)
    index = pytorch_index(value, index_base=DEFAULT_INDEX_BASE) if value and flag in _INDEX + _LINKS else None
    if index is not None and index.certain:
        backend = f"--backend {index.backend or 'auto'}"
        return (backend if index.channel == "stable" else f"{backend} --channel {index.channel}",)
    if flag in _OF_UV:
        return (f"-- {flag} {value if flag in _VALUED else ''}".rstrip(),)
    meant = _meant(_FLAGS, flag)
    return (f"{meant[0].split()[0]} {value}",) if value and flag in _CARRIED else meant


def _pasted(words: Iterable[str], tool: str) -> list[str]:
    """What stands behind another tool's `install`, as `auto` has it."""
    said: list[tuple[str, ...]] = []
    passed: list[str] = []
    rest = iter(words)
    for word in rest:
        flag, _, value = word.partition("=") if word[:2] == "--" else (word, "", "")
        if tool[-5:] in ("conda", "mamba") and flag in _OF_CONDA:
            value = value or next(rest, "")
            continue
        if flag in _WITH_VALUE:
            value = value or next(rest, "")
        ours = from_conda(word) if word[:1] != "-" else next(iter(_flag_meant(flag, value)), None)
        if ours == "--index-base URL" and value and not pytorch_index(value, index_base=DEFAULT_INDEX_BASE):
            ours = f"-- {flag} {value}"  # an index for everything
        if ours is None:
            said += [(flag, value) if flag in _LINKS else (word,)]
        elif ours[:3] == "-- ":
            passed += ours.split()
        else:
            said += (
                [tuple(part.split()) for part in re.split(" (?=--)", ours)] if ours[:2] == "--" else [(ours,)]
            )
    flat = [word for part in dict.fromkeys(said) for word in part if word]
    return [*flat, *passed[:1], *(word for word in passed if word != "--")]


def _as_requirement(word: str) -> tuple[str, ...]:
    """A package or a backend where the verb should stand."""
    if re.match(r"(?i)(py)?torch", word):
        return (f"auto {from_conda(word)}",)
    return (f"auto --backend {word.lower()}",) if re.fullmatch(r"(?i)cpu|xpu|cu\d+|rocm[\d.]+", word) else ()


def unknown_verb(ctx: click.Context, words: Sequence[str], table: Sequence[str]) -> UsageError:
    """The error for a verb that there is not: by its meaning, else by its spelling."""
    typed = [*filter(None, (words[0][:1], words[0][1:])), *words[1:]] if words[0][:1] in "$!%" else words
    theirs = list(itertools.takewhile(_TOOLS.__contains__, typed))
    name, *after = typed[len(theirs) :] or ("install",)
    if name != "run":  # what runs there has words of its own; auto takes what was typed after it, too
        after = _pasted(after, theirs[-1] if theirs else "")
    known = name.lower() in table
    ours = [name.lower()] if known else close_matches(name, table, most=1)
    meant = tuple(ours) if known else _meant(_VERBS, name) or _as_requirement(name)
    if ctx.parent is not None:
        mine = f"{ctx.info_name} "
        meant = tuple(text.removeprefix(mine) for text in meant if text.startswith(mine))
    takes_more = ("auto", *table) if theirs or known or not meant else ("auto", "doctor --explain")
    meant = tuple(
        shlex.join([*text.split(), *after]) if {text, text.split()[0]} & {*takes_more} else text
        for text in meant or ours
    )
    name = words[0]
    return UsageError(
        "unknown-verb",
        f"{ctx.command_path} has no verb {name!r}",
        wanted=", ".join(meant or table),
        found=name,
        hints=tuple(
            text if text[:3] == "uv " else f"{ctx.command_path} {text}" for text in meant or ("--help",)
        ),
    )


def unknown_flag(error: click.NoSuchOption, typed: Sequence[str], verbs: Collection[str]) -> UsageError:
    """The error for a flag that a verb does not have: by its meaning, else by its spelling.

    A hint is the command that was typed, with what was meant in the place of the flag.
    """
    name, ctx = error.option_name, error.ctx or click.Context(click.Command(_NAME), info_name=_NAME)
    spelled = {text: param for param in ctx.command.params for text in param.opts if text[0] == "-"}
    passes_on = getattr(ctx.command, "passthrough", None) is not None
    close = close_matches(name, spelled if name[:5] != "--no-" else (), cutoff=0.7)
    value_typed = _value(typed, name)
    meant, hints = _flag_meant(name, value_typed), []
    if ctx.parent is None and name in _OF_VERBS:
        verb = next((word for word in typed if word in verbs), "auto")
        hints.append(shlex.join([_NAME, verb, *(word for word in typed if word != verb)]))
    for text in meant or (() if hints else close[:1]):
        words, param = shlex.split(text), spelled.get(text)
        flag = text.partition(" ")[0]
        if flag not in spelled and not (passes_on and flag in ("", "--")):
            hints.append(f"{_NAME} {text}" if text == "--version" else f"{_NAME} auto {text}")
            continue
        choices = param.type.choices if param is not None and isinstance(param.type, click.Choice) else ()
        value = next(iter(choices), param.metavar if isinstance(param, click.Option) else None)
        words += filter(None, [value and (value_typed if not meant and value_typed else value)])
        taken = name in _WITH_VALUE if meant else value is not None
        hints.append(shlex.join([_NAME, *_with(typed, name, words, valued=bool(value_typed) and taken)]))
    return UsageError(
        "unknown-option",
        f"{ctx.command_path} has no option {name}",
        wanted=", ".join(filter(None, meant or close)) or None,
        hints=tuple(dict.fromkeys((*hints, f"{ctx.command_path} --help"))),
    )


def _with(typed: Sequence[str], name: str, new: Sequence[str], *, valued: bool) -> list[str]:
    """The command line with other words in the place of a flag, and of its value where it is `valued`."""
    place = next((number for number, word in enumerate(typed) if word.partition("=")[0] == name), len(typed))
    before, after = typed[:place], typed[place + 1 + (valued and "=" not in typed[place]) :]
    if new[:1] == ["--"]:  # it goes behind everything
        return [*before, *after, *new["--" in typed :]]
    return [*before, *new, *after]


def _value(typed: Sequence[str], name: str) -> str:
    """What was typed for a flag: behind `=`, or the word behind it."""
    for word, after in itertools.pairwise((*typed, "")):
        flag, equals, value = word.partition("=")
        if flag == name:
            return value if equals else "" if after[:1] == "-" else after
    return ""


SHELLS = ("bash", "zsh", "fish", "powershell")
_NAME, _VARIABLE = "torchinstall", "_TORCHINSTALL_COMPLETE"
_TAKES_BACKEND = ("backend", "with_", "without", "default_backend", "explain", "why_not")


def beginning(
    context: Context, name: str, incomplete: str, metavar: str | None = None
) -> list[CompletionItem]:
    """Files, or the backends, GPUs and packages that the catalog knows, that begin as what was typed."""
    if metavar in ("FILE", "DIR", "PATH"):
        return [CompletionItem(incomplete, type="dir" if metavar == "DIR" else "file")]
    known: Iterable[str | None] = ()
    catalog = catalog_of(context)
    if name in _TAKES_BACKEND:
        known = ("auto", *reversed(catalog.known_backends()))
    elif name == "target_gpu":
        facts = [fact for vendor in ("nvidia", "amd", "intel") for fact in catalog.tables.gpus(vendor)]
        names = [fact.name.replace(" ", "-") for fact in facts if fact.name]
        known = (*map(sm_text, gpu_codes(catalog)), *names)
    elif name == "reqs":
        known = (row.package for row in catalog.families)
    typed = incomplete.lower()
    return [CompletionItem(text) for text in dict.fromkeys(known) if text and text.lower().startswith(typed)]


class _PowerShell(ShellComplete):
    name = "powershell"
    source_template = """\
Register-ArgumentCompleter -Native -CommandName %(prog_name)s -ScriptBlock {
    param($word, $line, $position)
    $env:COMP_WORDS = $line.ToString()
    $env:COMP_CWORD = $word
    $env:%(complete_var)s = "powershell_complete"
    & %(prog_name)s | ForEach-Object {
        $value, $help = $_ -split "`t", 2
        [System.Management.Automation.CompletionResult]::new($value, $value, "ParameterValue", $help)
    }
    Remove-Item Env:COMP_WORDS, Env:COMP_CWORD, Env:%(complete_var)s
}
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        words, incomplete = split_arg_string(os.environ["COMP_WORDS"])[1:], os.environ["COMP_CWORD"]
        return words[:-1] if incomplete and words[-1:] == [incomplete] else words, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.value}\t{item.help or item.value}"


add_completion_class(_PowerShell)  # main answers shells, too


def answer_shell(app: click.Command, session: object, instruction: str) -> int:
    """Do what the completion of a shell asks for in its variables; the exit code."""
    return shell_complete(app, {"obj": session}, _NAME, _VARIABLE, instruction)


def completion_script(shell: str, app: click.Command) -> str:
    """What a shell must read to complete our command line."""
    maker = get_completion_class(shell)
    if maker is None:
        raise ValueError(shell)
    return maker(app, {}, _NAME, _VARIABLE).source()
