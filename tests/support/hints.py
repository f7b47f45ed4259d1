"""Follow the hints of an error one step: type them where it happened, and see that nobody walks in a circle.

A hint is a sentence with something to type in it: a command of torchinstall or uv, flags for the command that
failed, flags to leave out, variables to set or unset, another pin of torch. What to do with one's hands alone
(close a program, free some space) has nothing to type.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.index_server import IndexServer
from tests.support.index_tree import IndexTree
from tests.support.installing import uv_path
from tests.support.planning import linux, nvidia
from tests.support.wheelhouse import torch_wheel, wheel
from torchinstall.cli.app import COMMANDS
from torchinstall.cli.flags import FLAGS
from torchinstall.core.machine import machine_to_json

_SHELL = ("uv", "pip", "python", "mkdir", "rm", "ls", "unset")
_LOCAL = ({"venv"}, {"init"}, {"lock"}, {"python", "list"}, {"cache", "dir"})
"""What uv does with this folder alone; of its other commands only the spelling is checked."""
_SWITCHES = {name for flag in FLAGS.values() if flag.kind == "switch" for name in flag.declarations}
_PROSE = re.compile(
    r"(?:shows?|examines|plans|takes|says|looks|and|or|to|in|with|where|would|if|it|for|names|another|they|needs?|"
    r"has|serves|makes|without|>|\||\(.*|#.*|—)"
)
_PUNCTUATION = ",;:."
_FLAG = re.compile(r"--[a-z][\w-]*(?:=\S+)?")
_PIN = re.compile(r"torch==\d[\w.+]*")
_SET = re.compile(r"[A-Z][A-Z_]+=[^\s,;]+")
_NAME = re.compile(r"[A-Z][A-Z_]{3,}")


@dataclass(frozen=True)
class Refusal:
    """An error: its slug and its hints."""

    slug: str
    hints: tuple[str, ...]


@dataclass(frozen=True)
class Typed:
    """A command of torchinstall as it was typed, and where."""

    argv: tuple[str, ...]
    folder: Path
    env: Mapping[str, str]
    more: Mapping[str, Any]


@dataclass
class Way:
    """What a hint says: commands of the shell first, then a command of torchinstall."""

    shell: list[list[str]] = field(default_factory=list)
    argv: list[str] | None = None
    add: list[str] = field(default_factory=list)
    omit: list[str] = field(default_factory=list)
    set_: dict[str, str] = field(default_factory=dict)
    unset: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (self.shell or self.argv or self.add or self.omit or self.set_ or self.unset)


def error_of(code: int, out: str, err: str) -> Refusal | None:
    """The error that a run ended with, from its words or its JSON."""
    if code == 0:
        return None
    if found := re.search(r"^error\[([\w-]+)\]:", err, re.MULTILINE):
        text = err[found.start() :]
        hints = re.findall(r"^hint: (.*(?:\n      .*)*)", text, re.MULTILINE)
        return Refusal(found[1], tuple(re.sub(r"\n\s+", " ", hint) for hint in hints))
    try:
        error = json.loads(out)["error"]
        return Refusal(error["slug"], tuple((error["hint"] or "").splitlines()))
    except (ValueError, KeyError, TypeError):
        return None


def ways(hint: str) -> Iterator[Way]:
    """Everything that a hint offers to type; alternatives are ways of their own."""
    way = Way()
    words = _words(hint)
    place = 0
    while place < len(words):
        word = words[place]
        bare = word.rstrip(_PUNCTUATION)
        before = words[place - 1].rstrip(_PUNCTUATION) if place else ""
        after = words[place + 1].rstrip(_PUNCTUATION) if place + 1 < len(words) else ""
        if bare == "torchinstall" and (after in COMMANDS or after.startswith("--")):
            found, place = _command(words, place + 1)
            yield replace(way, argv=found)
            way = Way()
        elif bare in _SHELL and bare == "unset":
            names = list(
                itertools.takewhile(_NAME.fullmatch, (row.rstrip(_PUNCTUATION) for row in words[place + 1 :]))
            )
            way.unset += names
            place += 1 + len(names)
        elif bare in _SHELL and after and not _PROSE.fullmatch(after) and _starts(words, place):
            found, place = _command(words, place)
            way.shell.append(found)
        elif _FLAG.fullmatch(bare) and before in ("omit", "without", "not"):
            way.omit.append(bare.partition("=")[0])
            place += 1
        elif bare == "--" and after.startswith("--"):
            way.add += [word.rstrip(",;") for word in words[place:]]
            break
        elif _FLAG.fullmatch(bare):
            found, place = _flags(words, place)
            if before == "or" and not way.empty:
                yield way
                way = Way()
            way.add += found
        else:
            place += _change(way, words[place:])
    if not way.empty:
        yield way


def _change(way: Way, words: Sequence[str]) -> int:
    """A pin, a package without its version, or a variable that is set here; how many words it takes."""
    bare = words[0].rstrip(_PUNCTUATION)
    if _PIN.fullmatch(bare.strip("'")):
        way.add.append(bare.strip("'"))
    elif words[1:4] == ["without", "a", "version;"]:
        way.add.append(bare)
    elif _SET.fullmatch(bare):
        name, _, value = bare.partition("=")
        way.set_[name] = value
    return 1


def _words(hint: str) -> list[str]:
    hint = re.sub(r"`([^`]*)`", r"\1,", hint)
    try:
        return shlex.split(hint.partition("  #")[0], posix=True)
    except ValueError:
        return hint.split()


def _starts(words: Sequence[str], place: int) -> bool:
    """Whether a command begins here: at the start, or after a colon, `then`, `or`, `type`."""
    return (
        place == 0
        or words[place - 1].endswith((":", ","))
        or words[place - 1] in ("then", "or", "type", "remove")
    )


def _command(words: Sequence[str], place: int) -> tuple[list[str], int]:
    found: list[str] = []
    while place < len(words):
        word = words[place]
        flagged = bool(found) and found[-1].startswith("-") and found[-1] not in _SWITCHES
        if word in (">", "|") or (_PROSE.fullmatch(word.rstrip(_PUNCTUATION)) and not flagged):
            break
        bare = word.rstrip(",;:")
        found.append(bare)
        place += 1
        if bare != word:
            break
    return found, place


def _flags(words: Sequence[str], place: int) -> tuple[list[str], int]:
    """A flag with its value, where it takes one; a flag without its value is only named."""
    flag = words[place].rstrip(_PUNCTUATION)
    place += 1
    if "=" in flag or flag in _SWITCHES:
        return [flag], place
    value = words[place] if place < len(words) else ""
    if not value or _PROSE.fullmatch(value.rstrip(_PUNCTUATION)) or words[place - 1] != flag:
        return [], place
    return [flag, value.rstrip(",;")], place + 1


@cache
def _elsewhere() -> tuple[IndexServer, Path]:
    """An index that answers, and a folder of its wheels: what a person would name for `URL` and `DIR`."""
    tag = f"cp3{sys.version_info[1]}"
    tag = f"{tag}-{tag}-manylinux_2_17_x86_64"
    tree = {
        name: [torch_wheel(f"2.9.1+{name}", tag), wheel("torchvision", f"0.24.1+{name}", tag)]
        for name in ("cpu", "cu126", "cu128", "cu130", "rocm6.4")
    }
    server = IndexServer(IndexTree(tree, missing_status=404))
    server.__enter__()
    folder = Path(tempfile.mkdtemp(prefix="hints-"))
    for row in itertools.chain(*tree.values()):
        (folder / row.filename).write_bytes(row.content())
    return server, folder


def _filled(words: Sequence[str], folder: Path) -> list[str] | None:
    """Words with what a person would put where they say `URL` or `DIR`; None: only that person knows."""
    found: list[str] = []
    for word in words:
        before = found[-1] if found else ""
        flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        text = value
        if before == "--project" or any(
            text in value for text in ("…", "VERSION", "PKG", "NAME", ".example")
        ):
            return None
        if value == "URL":
            text = _elsewhere()[0].index_base
        elif value == "DIR":
            text = str(_elsewhere()[1]) if "find-links" in (before + flag) else str(folder / "another")
        elif value in ("PATH", "PATH|3.12"):
            text = sys.executable
        elif value in ("FILE", "MACHINE", "A", "B", "machine.json", "host.json"):
            text = str(folder / "hints-machine.json")
            machine = machine_to_json(linux(nvidia("NVIDIA H100", "9.0"), driver="580.95.05"))
            Path(text).write_text(json.dumps(machine), encoding="utf-8")
        elif value == "WHEEL":
            text = str(next(_elsewhere()[1].iterdir()))
        found.append(f"{flag}{equals}{text}")
    return found


def _merged(argv: Sequence[str], way: Way) -> list[str]:
    """The command that failed, with other flags and pins."""
    rest = list(argv)
    tail: list[str] = []
    if "--" in rest:
        tail, rest = rest[rest.index("--") :], rest[: rest.index("--")]
    gone = {word.partition("=")[0] for word in way.add if word.startswith("--")} | set(way.omit)
    found: list[str] = []
    skip = False
    for word in rest:
        name, equals, _ = word.partition("=")
        if skip:
            skip = False
        elif name in gone:
            skip = not equals and name not in _SWITCHES
        elif any(_name(row) == _name(word) for row in way.add if not row.startswith("-")):
            continue
        else:
            found.append(word)
    return [*found, *way.add, *(word for word in tail if word.partition("=")[0] not in gone)]


def _name(requirement: str) -> str:
    return re.split(r"[=<>~!\[ @;]", requirement)[0]


Run = Callable[[Typed], Refusal | None]


def _applies(typed: Typed, hint: str, way: Way) -> bool:
    """Whether it is about what was typed: not a project where there is none, nor a flag that a file holds."""
    there = {word.partition("=")[0] for word in typed.argv}
    return there.issuperset(way.omit) and (
        "in a project:" not in hint or (typed.folder / "pyproject.toml").is_file()
    )


@dataclass
class Follower:
    """Follows each hint once, in the folder of the error, which is as it was afterwards."""

    run: Run
    seen: set[tuple[str, str]] = field(default_factory=set)
    followed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    busy: bool = False

    def after(self, typed: Typed, said: Refusal | None) -> None:
        """Follow what an error says."""
        if said is None or self.busy:
            return
        self.busy = True
        try:
            for hint in said.hints:
                plain = re.sub(r"(?<==)\d[\w.+]*|/\S+|127\S+|\d+", "N", hint)
                if (said.slug, plain) not in self.seen:
                    self.seen.add((said.slug, plain))
                    for way in (way for way in ways(hint) if _applies(typed, hint, way)):
                        with _as_it_was(typed.folder):
                            self._follow(typed, said, hint, way)
        finally:
            self.busy = False

    def _follow(self, typed: Typed, said: Refusal, hint: str, way: Way) -> None:
        env = {name: text for name, text in typed.env.items() if name not in way.unset} | way.set_
        lines = [_filled(line, typed.folder) for line in way.shell]
        add, argv = _filled(way.add, typed.folder), way.argv
        if None in lines or add is None:
            return
        told = False
        for line in filter(None, lines):
            told, failed = _shell(line, typed, env)
            if failed:
                self.wrong.append(f"{said.slug}: {hint!r}: {shlex.join(line)}: {failed}")
                return
        if told and argv is None and not way.add:
            self.followed.append(f"{said.slug}: {hint!r}: told")
            return  # it only shows something, or was not really run
        filled = (
            _filled(argv, typed.folder) if argv is not None else _merged(typed.argv, replace(way, add=add))
        )
        if filled is None:
            return
        if {"--system", "--break-system-packages"} & set(filled) and filled[:1] == ["auto"]:
            filled = [filled[0], "--dry-run", *filled[1:]]  # this machine's own Python stays as it is
        after = self.run(replace(typed, argv=tuple(filled), env=env))
        shown = f"{said.slug}: {hint!r}: torchinstall {shlex.join(filled)}"
        self.followed.append(f"{shown}: {'done' if after is None else after.slug}")
        if after is None:
            return
        misspelt = after.slug in (
            "unknown-option",
            "unknown-verb",
            "missing-argument",
            "bad-usage",
            "bad-value",
        )
        if misspelt and (after.slug != said.slug or argv is not None):
            self.wrong.append(f"{shown}: cannot be typed: {after.slug}")
        elif after.slug == said.slug and hint in after.hints:
            self.wrong.append(f"{shown}: leads back to the same error")
        elif any(self._leads_to(back, filled, typed.argv) for text in after.hints for back in ways(text)):
            self.wrong.append(f"{shown}: {after.slug} leads back to the first command")

    def _leads_to(self, way: Way, argv: Sequence[str], first: Sequence[str]) -> bool:
        """Whether the next step is the command that failed at first."""
        plain = not (way.shell or way.set_ or way.unset)
        following = way.argv if way.argv is not None else _merged(argv, way)
        return plain and sorted(following) == sorted(first)


def _shell(line: Sequence[str], typed: Typed, env: Mapping[str, str]) -> tuple[bool, str]:
    """Run a line: whether it changed nothing, and why it cannot be run, if so."""
    words = ["python", "-m", *line] if line[0] == "pip" else list(line)
    words = [sys.executable, *words[1:], "--help"] if words[0] == "python" else words
    told = words[0] in ("ls", sys.executable) or {"python", "list"} <= set(words)
    if words[0] == "uv":
        words[0] = uv_path()
        if not any(kind <= set(words) for kind in _LOCAL):
            words.append("--help")
            told = True
    offline = {} if "UV_DEFAULT_INDEX" in env else {"UV_OFFLINE": "1"}
    done = subprocess.run(
        words,
        cwd=typed.folder,
        env={"PATH": "/usr/bin:/bin", **offline, "UV_PYTHON_DOWNLOADS": "never", **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "Python downloads are set to 'never'" in done.stderr or "network was disabled" in done.stderr:
        return True, ""  # uv would have fetched it
    return told, done.stderr.strip()[-300:] if done.returncode != 0 else ""


@contextlib.contextmanager
def _as_it_was(folder: Path) -> Iterator[None]:
    """A folder that is afterwards as it was."""
    with tempfile.TemporaryDirectory(prefix="hints-", ignore_cleanup_errors=True) as place:
        copy = Path(place) / "copy"
        shutil.copytree(folder, copy, symlinks=True, ignore_dangling_symlinks=True)
        yield
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        for path in copy.iterdir():
            shutil.move(path, folder / path.name)
