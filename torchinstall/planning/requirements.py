"""Requirements as people write them: arguments, requirements files, constraints files.

The common subset of what uv and pip read. A line that could not be kept (a hash, say) is refused: dropping
it would install something else than the file asks for.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from torchinstall.core.errors import UsageError
from torchinstall.core.redact import redact
from torchinstall.core.request import requirement
from torchinstall.index.urls import pytorch_index

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from torchinstall.core.request import Requirement

__all__ = [
    "URL",
    "ParsedRequirements",
    "Reader",
    "is_path",
    "lines",
    "parse_requirement",
    "read_text",
    "read_toml",
    "split_option",
    "wheel_name",
]


_NAMED = re.compile(r"([A-Za-z0-9][\w.-]*(?:\[[^\]]*\])?)\s*@\s*(\S+?)(\s+;.*)?")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")

_TO_UV = {
    "-i": "--default-index",
    "--index-url": "--default-index",
    "--default-index": "--default-index",
    "--extra-index-url": "--index",
    "--index": "--index",
    "--no-binary": "--no-binary",
    "--only-binary": "--only-binary",
    "--trusted-host": "--allow-insecure-host",
}
"""Options of a requirements file and the option of `uv pip install` that means the same."""

_INDEXES = frozenset({"--default-index", "--index"})


class ParsedRequirements(Struct, kw_only=True):
    """What the arguments and files ask for.

    Attributes:
        constraint_files: paths of the files that `constraints` come from.
        uv_args: what goes to uv as it is: editables, folders, the user's own indexes.
        notes: (slug, message) of lines that were left out on purpose.
    """

    requirements: list[Requirement] = field(default_factory=list)
    constraints: list[Requirement] = field(default_factory=list)
    find_links: list[str] = field(default_factory=list)
    uv_args: list[str] = field(default_factory=list)
    constraint_files: list[str] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


def parse_requirement(text: str, where: str) -> Requirement:
    """Parse one requirement.

    Args:
        text: PEP 508.
        where: whose it is, for the message.

    Raises:
        UsageError: it does not parse.
    """
    try:
        return requirement(text)
    except ValueError as error:  # packaging's InvalidRequirement is one
        why = str(error).splitlines()[0].rstrip(".")
        raise UsageError(
            "bad-requirement",
            f"{text!r} ({where}) is not a requirement",
            wanted="a requirement such as torch, 'torch>=2.6' or 'torch==2.9.*'",
            found=why,
            hints=("quote it, so that the shell leaves < and > alone: 'torch<2.10'",),
        ) from error


class Reader:
    """Collects requirements from arguments and files.

    Args:
        cwd: where relative paths start.
        env: for `${NAME}` in files.
        index_base: of the PyTorch index. A file's own line for it is omitted, since torchinstall routes to
            it.
    """

    def __init__(self, cwd: Path, env: Mapping[str, str], index_base: str) -> None:
        self.cwd = cwd
        self.env = env
        self.index_base = index_base
        self.parsed = ParsedRequirements()
        self._open: list[Path] = []
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
            raise UsageError("bad-requirements-file", f"{path} includes itself")
        if constraints and not self._in_constraints:
            self.parsed.constraint_files.append(str(path))
        outer, self._in_constraints = self._in_constraints, constraints
        self._open.append(path)
        for number, line in lines(read_text(path)):
            where = f"{path.name} line {number}"
            self._line(self._expanded(line, where), where, path, constraints=constraints)
        self._open.pop()
        self._in_constraints = outer

    def _pyproject(self, path: Path) -> None:
        if not path.is_file():
            read_text(path)
        project = read_toml(path).get("project")
        rows = project.get("dependencies", []) if isinstance(project, dict) else []
        if not isinstance(rows, list) or not all(isinstance(row, str) for row in rows):
            raise UsageError(
                "bad-requirements-file", f"project.dependencies in {path} is not a list of texts"
            )
        for row in rows:
            self._requirement(row, str(path), path.parent)

    def _expanded(self, line: str, where: str) -> str:
        def value(match: re.Match[str]) -> str:
            found = self.env.get(match[1])
            if found is None:
                raise UsageError(
                    "bad-requirements-file",
                    f"{where} names a variable that is not set",
                    wanted=f"{match[1]} in the environment",
                    found="nothing",
                )
            return found

        return _VARIABLE.sub(value, line)

    def _line(self, line: str, where: str, path: Path, *, constraints: bool) -> None:
        if line.startswith("-"):
            name, value = split_option(line)
            self._option(name, value, where, path, constraints=constraints)
            return
        if re.search(r"\s--(hash|config-settings|global-option)\b", line):
            raise UsageError(
                "requirement-option",
                f"{where} has an option that cannot be kept",
                wanted="requirements without --hash and build options",
                found=line[:100],
                hints=("leave the hashes out, or pin with -c and let the index vouch for its files",),
            )
        if constraints:
            self.parsed.constraints.append(parse_requirement(line, where))
        else:
            self._requirement(line, where, path.parent)

    def _option(self, option: str, value: str, where: str, path: Path, *, constraints: bool) -> None:
        parsed = self.parsed
        if option in ("-r", "--requirement"):
            self.file(value, constraints=constraints, base=path.parent)
        elif option in ("-c", "--constraint"):
            self.file(value, constraints=True, base=path.parent)
        elif option in ("-e", "--editable"):
            parsed.uv_args += ["--editable", self._local(value, path.parent)]
        elif option in ("-f", "--find-links"):
            self._find_links(value, where, path.parent)
        elif option == "--pre":
            parsed.uv_args += ["--prerelease", "allow"]
        elif option == "--no-index":
            parsed.uv_args.append("--no-index")
        elif option == "--prefer-binary":
            pass  # uv prefers wheels of a version anyway
        elif option in _TO_UV:
            self._for_uv(_TO_UV[option], value, where)
        else:
            raise UsageError(
                "requirement-option",
                f"{where} has an option that torchinstall does not know",
                wanted="-r, -c, -e, -f, --index-url, --extra-index-url, --pre, --no-binary or --only-binary",
                found=option,
            )

    def _for_uv(self, option: str, value: str, where: str) -> None:
        if option in _INDEXES and self._is_torch_index(value):
            self._left_out(value, where)
        else:
            self.parsed.uv_args += [option, value]

    def _find_links(self, value: str, where: str, base: Path) -> None:
        if self._is_torch_index(value):
            self._left_out(value, where)
        elif URL.match(value):
            self.parsed.uv_args += ["--find-links", value]
        else:
            self.parsed.find_links.append(self._local(value, base))

    def _left_out(self, value: str, where: str) -> None:
        self.parsed.notes.append(
            (
                "index-line-ignored",
                f"{where} names {redact(value)}; torchinstall chooses the PyTorch index itself",
            )
        )

    def _is_torch_index(self, url: str) -> bool:
        found = pytorch_index(url, index_base=self.index_base)
        return found is not None and found.certain

    def _requirement(self, text: str, where: str, base: Path) -> None:
        if (named := _NAMED.fullmatch(text)) is not None:
            text = f"{named[1]} @ {self._file_url(named[2], base)}{named[3] or ''}"
        elif URL.match(text) or is_path(text):
            place = text if URL.match(text) else self._local(text, base)
            name = wheel_name(place)
            if name is None:
                self.parsed.uv_args.append(place)
                return
            text = f"{name} @ {place if URL.match(place) else Path(place).as_uri()}"
        self.parsed.requirements.append(parse_requirement(text, where))

    def _file_url(self, place: str, base: Path) -> str:
        """What follows `name @`: a URL as it is, a path (also after `file:`) as an absolute one."""
        if place.startswith("file:") and not place.startswith("file://"):
            from urllib.request import url2pathname

            place = url2pathname(place.removeprefix("file:"))
        return place if URL.match(place) else Path(self._local(place, base)).as_uri()

    def _local(self, value: str, base: Path) -> str:
        """A path or URL; relative paths start at the file's folder, else where the command was typed."""
        if URL.match(value):
            return value
        beside = base / Path(value).expanduser()
        return str((beside if beside.exists() else self.cwd / Path(value).expanduser()).resolve())


_COMMENT = re.compile(r"(^|\s)#.*$")
URL = re.compile(r"(?:[a-z]+\+)?[a-z]+://", re.IGNORECASE)


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "bad-requirements-file",
            f"the requirements file {path} cannot be read",
            wanted="a text file in UTF-8",
            found=getattr(error, "strerror", None) or str(error),
        ) from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UsageError: it cannot be read or is not TOML.
    """
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            "bad-config",
            f"{path} is not valid TOML: {error}",
            hints=("correct the file, or ignore it with --no-config",),
        ) from error
    except OSError as error:
        raise UsageError(
            "bad-config",
            f"{path} cannot be read: {error.strerror}",
            hints=("correct its permissions, or ignore it with --no-config",),
        ) from error
    return table


def lines(text: str) -> list[tuple[int, str]]:
    """Logical lines with the number of their first physical line: continued ones joined, comments gone."""
    found: list[tuple[int, str]] = []
    joined, start = "", 0
    for number, physical in enumerate(text.splitlines(), 1):
        start = start or number
        if physical.endswith("\\") and not physical.lstrip().startswith("#"):
            joined += physical[:-1] + " "
            continue
        line = _COMMENT.sub("", joined + physical).strip()
        if line:
            found.append((start, line))
        joined, start = "", 0
    if joined.strip():
        found.append((start, joined.strip()))
    return found


def split_option(line: str) -> tuple[str, str]:
    """`--index-url=URL`, `--index-url URL`, `-rfile` and `-r file` as (option, value)."""
    first, *rest = shlex.split(line)
    if first.startswith("--"):
        option, equals, value = first.partition("=")
        return option, value if equals else " ".join(rest)
    return first[:2], first[2:].lstrip("=") or " ".join(rest)


def is_path(text: str) -> bool:
    """Whether a requirement is a path and no name."""
    return (
        text.startswith((".", "/", "~"))
        or text.endswith(".whl")
        or re.match(r"[A-Za-z]:[\\/]", text) is not None
    )


def wheel_name(place: str) -> str | None:
    """The project that a path or URL of a wheel names; None where it is no wheel."""
    from urllib.parse import unquote, urlsplit

    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    file = unquote(urlsplit(place).path if URL.match(place) else place).replace("\\", "/").rpartition("/")[2]
    try:
        return parse_wheel_filename(file)[0] if file.endswith(".whl") else None
    except InvalidWheelFilename:
        return None
