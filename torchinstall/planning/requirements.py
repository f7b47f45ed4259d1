"""Requirements as people write them: arguments, requirements files, constraints files.

The common subset of what uv and pip read. A line that could not be kept (a hash, say) is refused: dropping
it would install something else than the file asks for.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from torchinstall.core.errors import UsageError
from torchinstall.core.files import read_named, real_path, user_path
from torchinstall.core.messages import Message, redact
from torchinstall.core.request import Requirement, requirement
from torchinstall.index.urls import BACKEND_NAME, pytorch_index
from torchinstall.index.wheels import parse_name
from torchinstall.install.command import uv_name
from torchinstall.planning.context import read_toml

_NAMED = r"([A-Za-z0-9][\w.-]*(?:\[[^\]]*\])?)\s*@\s*(\S+?)(\s+;.*)?"
_VARIABLE = r"\$\{([A-Z0-9_]+)\}"
_URL = r"(?i)(?:[a-z]+\+)?[a-z]+://"
_PATH = r"[./~]|[A-Za-z]:[\\/]|.*\.whl$"
_COMMENT = r"(^|\s)#.*$"

_SOURCES = ("--default-index", "--index", "--find-links")
_OPTIONS = (*_SOURCES, "--no-binary", "--only-binary", "--allow-insecure-host")
"""What a line of a requirements file may ask of uv, under uv's own names."""

_SWITCHES = {
    "--pre": ("--prerelease", "allow"),
    "--no-index": ("--no-index",),
    "--prefer-binary": (),  # uv prefers the wheels of a version anyway
}


class Reader:
    """Collects what arguments and files ask for.

    Attributes:
        index_base: of the PyTorch index, to which torchinstall routes: a file's own line is omitted.
        torch_indexes: URLs of those lines.
        constraint_files: paths of the files that `constraints` come from.
        uv_args: what goes to uv as it is: editables, folders, the user's own indexes.
        notes: of lines that are omitted on purpose.
    """

    def __init__(self, cwd: Path, env: Mapping[str, str], index_base: str) -> None:
        self.cwd = cwd
        self.env = env
        self.index_base = index_base
        self.requirements: list[Requirement] = []
        self.constraints: list[Requirement] = []
        self.find_links: list[str] = []
        self.torch_indexes: list[str] = []
        self.uv_args: list[str] = []
        self.constraint_files: list[str] = []
        self.notes: list[Message] = []
        self._open: list[Path] = []
        self._files = 0
        self._in_constraints = False

    def argument(self, text: str) -> None:
        """One requirement from the command line."""
        self._requirement(text.strip(), "on the command line", self.cwd)

    def file(self, name: str, *, constraints: bool = False, base: Path | None = None) -> None:
        """A requirements or constraints file; `pyproject.toml` gives its dependencies.

        Raises:
            UsageError: it cannot be read, includes itself, or holds a line that cannot be kept.
        """
        path = (base or self.cwd) / name
        if path.name == "pyproject.toml" and not constraints:
            self._pyproject(path)
            return
        if path in self._open:
            raise _bad_file(f"{path} includes itself")
        self._files += 1
        if self._files > _MOST_FILES:
            raise _bad_file(f"{path} is one file too many: {_MOST_FILES} were read")
        if constraints and not self._in_constraints:
            self.constraint_files.append(str(path))
        outer, self._in_constraints = self._in_constraints, constraints
        self._open.append(path)
        for number, line in _lines(_read_text(path)):
            source = f"{path.name} line {number}"
            _check_text(line, source)
            self._read_line(self._expanded(line, source), source, path.parent)
        self._open.pop()
        self._in_constraints = outer

    def _pyproject(self, path: Path) -> None:
        if not path.is_file():
            _read_text(path)
        project = read_toml(path).get("project")
        rows = project.get("dependencies", []) if isinstance(project, dict) else []
        if not isinstance(rows, list) or not all(isinstance(row, str) for row in rows):
            raise _bad_file(f"project.dependencies in {path} is not a list of strings")
        for row in rows:
            self._requirement(row, str(path), path.parent)

    def _expanded(self, line: str, source: str) -> str:
        def value(match: re.Match[str]) -> str:
            if match[1] not in self.env:
                wanted = f"{match[1]} in the environment"
                raise _bad_file(f"{source} uses a variable that is not set", wanted, "nothing")
            return self.env[match[1]]

        return re.sub(_VARIABLE, value, line)

    def _read_line(self, line: str, source: str, base: Path) -> None:
        if line.startswith("-"):
            try:
                option, value = _split_option(line)
            except ValueError as error:
                raise _bad_option(f"{source} cannot be read: {error}", line[:100]) from error
            self._option(option, value, source, base)
        elif re.search(r"\s--(hash|config-settings|global-option)\b", line):
            raise _bad_option(
                f"{source} has an option that cannot be kept",
                line[:100],
                "requirements without --hash and build options",
                "omit the hashes, or pin versions with -c and trust the index for its files",
            )
        elif self._in_constraints:
            self.constraints.append(_parse(line, source))
        else:
            self._requirement(line, source, base)

    def _option(self, option: str, value: str, source: str, base: Path) -> None:
        name = uv_name(option)
        torch = pytorch_index(value, index_base=self.index_base) if name in _SOURCES else None
        if option in ("-r", "--requirement", "-c", "--constraint"):
            is_constraint = option in ("-c", "--constraint")
            self.file(value, constraints=is_constraint or self._in_constraints, base=base)
        elif name == "--editable":
            self.uv_args += ["--editable", self._local(value, base)]
        elif option in _SWITCHES:
            self.uv_args += _SWITCHES[option]
        elif torch is not None and torch.certain:
            message = f"{source} names {redact(value)}; torchinstall chooses the PyTorch index itself"
            self.notes.append(Message("index-line-ignored", message))
            self.torch_indexes.append(value)
        elif name == "--find-links" and not re.match(_URL, value):
            self.find_links.append(self._local(value, base))
        elif name in _OPTIONS:
            self.uv_args += [name, value]
        else:
            known = "-r, -c, -e, -f, --index-url, --extra-index-url, --pre, --no-binary or --only-binary"
            raise _bad_option(f"{source} has an option that torchinstall does not know", option, known)

    def _requirement(self, text: str, source: str, base: Path) -> None:
        _check_text(text, source)
        if (named := re.fullmatch(_NAMED, text)) is not None:
            if (place := re.fullmatch(r"latest|v?(\d[\w.]*)", named[2])) and not (base / named[2]).exists():
                meant = f"'{named[1]}=={place[1]}.*'" if place[1] else named[1]
                raise _bad_requirement(repr(text), source, f"no file and no URL behind @: {named[2]}", meant)
            text = f"{named[1]} @ {self._url(named[2], base)}{named[3] or ''}"
        elif re.match(_URL, text) or re.match(_PATH, text):
            file = unquote(text.partition("?")[0].partition("#")[0]) if re.match(_URL, text) else text
            file = file.replace("\\", "/")
            wheel = parse_name(file.rpartition("/")[2])
            if wheel is None:
                self.uv_args.append(self._local(text, base))
                return
            text = f"{wheel.package} @ {self._url(text, base)}"
        self.requirements.append(_parse(text, source))

    def _url(self, location: str, base: Path) -> str:
        """A URL as it is, a path (also after `file:`) as the URL of an absolute one."""
        if location.startswith("file:") and not location.startswith("file://"):
            location = re.sub(r"^/(?=[A-Za-z]:)", "", unquote(location.removeprefix("file:")))
        return location if re.match(_URL, location) else Path(self._local(location, base)).as_uri()

    def _local(self, value: str, base: Path) -> str:
        """A path or URL; relative paths start at the file's folder, else where the command was typed."""
        if re.match(_URL, value):
            return value
        beside = user_path(base, value)
        return str(real_path(beside if os.path.lexists(beside) else user_path(self.cwd, value)))


def _bad_file(what: str, wanted: str | None = None, found: str | None = None) -> UsageError:
    return UsageError("bad-requirements-file", what, wanted=wanted, found=found)


def _bad_option(what: str, found: str, wanted: str | None = None, *hints: str) -> UsageError:
    return UsageError("requirement-option", what, wanted=wanted, found=found, hints=hints)


def _bad_requirement(text: str, source: str, found: str, *hints: str) -> UsageError:
    what = f"{text} ({source}) is not a requirement"
    wanted = "a requirement such as torch, 'torch>=2.6' or 'torch==2.9.*'"
    return UsageError("bad-requirement", what, wanted=wanted, found=found, hints=hints)


def _check_text(text: str, source: str) -> None:
    """Refuse what no requirement, path or URL holds, before a parser, a file system or uv meets it."""
    # Most texts are plain: the pattern is slow to compile.
    wrong = None if text.isprintable() else re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", text)
    if wrong or len(text) > _MOST_LETTERS:
        found = f"the character {wrong.group()!a}" if wrong else f"{len(text)} letters"
        raise _bad_requirement(repr(text[:60]), source, found)


_MOST_LETTERS = 4000
_MOST_FILES = 200


def _parse(text: str, source: str) -> Requirement:
    try:
        found = requirement(text)
        if found.url:
            _ = urlsplit(found.url).port  # looked at here, so that whoever reads it later need not doubt it
    except ValueError as error:  # packaging's InvalidRequirement is one
        said, ours = str(error).splitlines()[0].rstrip("."), from_conda(text)
        hint = f"torchinstall auto {ours if ours[:1] == '-' else shlex.quote(ours)}"
        hint = next(_nearly(text)) if ours == text else hint
        raise _bad_requirement(repr(text), source, said, hint) from error
    if found.url is None:
        _check_name(found, text, source)
    return found


def _nearly(text: str) -> Iterator[str]:
    """What may be typed for what is nearly a requirement: a sign too many, or one in the place of another."""
    plain = text.strip("'\"`;,. ")
    local = re.sub(r"(?<=\d)[-_ ]?(cpu|xpu|cu\d+|rocm[\d.]+)$", r"+\1", plain)
    without_star = re.sub(r"([<>~]=?[\d.]+)\.\*", r"\1", plain)
    with_sign = re.sub(r"^([A-Za-z][\w-]*) +v?(\d[\d.]*)$", r"\1==\2.*", plain)
    for words in ([plain], [local], [without_star], [with_sign], re.split(r"[,\s]+", plain)):
        with contextlib.suppress(ValueError):
            yield f"torchinstall auto {shlex.join(str(requirement(word)) for word in words)}"
    quoted = "quote it, so that the shell does not interpret < and >: 'torch<2.10'"
    yield quoted if re.search("[<>]", text) else "torchinstall auto --help"


def _check_name(found: Requirement, text: str, source: str) -> None:
    """Refuse what is a version, a kind of build, or what conda calls torch."""
    name = found.package
    if re.fullmatch(r"v?\d+(?:[.-]\d+)*", name):
        raise _bad_requirement(repr(text), source, "a version without a name", f"'torch=={text}.*'")
    if glued := re.fullmatch(r"(torch|torchvision|torchaudio)-?(\d+(?:-\d+)+)", name):
        wanted = f"{glued[1]}=={glued[2].replace('-', '.')}.*"
        raise _bad_requirement(repr(text), source, "a name with a version and nothing between", f"'{wanted}'")
    backend = BACKEND_NAME.fullmatch(name)
    if backend or name in ANY_GPU:
        why, wanted = "is no package that goes with torch: it is a kind of build", "the name of a package"
        build = f"--backend {name}" if backend else "--require-gpu"
        hint = f"choose the build with a flag: torchinstall auto {build}"
    elif name in _NOT_TORCH:
        why, wanted = f"is not the package of PyTorch: {_NOT_TORCH[name]}", "torch"
        hint = f"name torch instead: torchinstall auto {shlex.quote(f'torch{found.specifier}')}"
    else:
        return
    raise UsageError("not-torch", f"{found.name} ({source}) {why}", wanted=wanted, found=text, hints=(hint,))


ANY_GPU = ("gpu", "cuda", "nvidia", "amd", "rocm", "hip", "intel")
"""What people call a build who want the one that fits."""

_OF_CONDA = "conda calls its own packages so; here --backend chooses between CPU and GPUs"
_NOT_TORCH = {
    "pytorch": "on PyPI that name holds a file which only fails and says so",
    **dict.fromkeys(("pytorch-cuda", "pytorch-cpu", "pytorch-gpu", "cpuonly", "cudatoolkit"), _OF_CONDA),
}
"""Names that people take for torch, and what they are: the descriptions on PyPI and conda-forge."""


_CONDA = (
    (r"[\w.-]+::", ""),
    (r"(?i:pytorch)(?=$|[=<>~!\[])", "torch"),
    (r"(?:py)?torch(?:-gpu(?![\w.-])|=\*=.*)", "torch"),
    (r"(?:pytorch-)?cuda(?:toolkit)?=+(\d+)\.(\d+).*", r"--backend cu\1\2"),
    ("cpuonly", "--backend cpu"),
    (r"([A-Za-z][\w.-]*)=(\d[\w.]*?)\.?(?:=.*)?$", r"\1==\2.*"),
)


def from_conda(word: str) -> str:
    """A requirement of conda's commands as `auto` has it: `torch==2.9.*` of `pytorch=2.9=py3.12_cuda`."""
    for theirs, ours in _CONDA:
        word = re.sub(f"^(?:{theirs})", ours, word)
    return word


def _read_text(path: Path) -> str:
    what = f"the requirements file {path}"
    hint = f"ls {shlex.quote(str(path.parent))}"
    return read_named(path, "bad-requirements-file", what, "a text file in UTF-8", hint)


def _lines(text: str) -> list[tuple[int, str]]:
    """Logical lines with the number of their first physical line: continued ones joined, comments gone."""
    found: list[tuple[int, str]] = []
    joined, start = "", 0
    for number, physical in enumerate([*text.splitlines(), ""], 1):
        start = start or number
        if physical.endswith("\\") and not physical.lstrip().startswith("#"):
            joined += physical[:-1] + " "
            continue
        if line := re.sub(_COMMENT, "", joined + physical).strip():
            found.append((start, line))
        joined, start = "", 0
    return found


def _split_option(line: str) -> tuple[str, str]:
    """`--index-url=URL`, `--index-url URL`, `-rfile` and `-r file` as (option, value)."""
    first, *rest = shlex.split(line)
    if first.startswith("--"):
        option, equals, value = first.partition("=")
        return option, value if equals else " ".join(rest)
    return first[:2], first[2:].lstrip("=") or " ".join(rest)
