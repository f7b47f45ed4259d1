"""From a plan to the uv command that carries it out; pure.

uv gets a generated project file. In it every package that must come from one index is pinned, with its local
version, to an index that is `explicit`; everything else stays a plain requirement, which uv takes from
wherever the user takes packages from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import structs

from torchinstall.core.errors import UsageError
from torchinstall.core.redact import is_url, redact
from torchinstall.core.request import Requirement, canonical_name, requirement
from torchinstall.install.uv import UNDOES_SOURCES

if TYPE_CHECKING:
    from torchinstall.core.plan import Package, Plan
    from torchinstall.core.target import Installed

__all__ = ["PROJECT_FILE", "check_uv_args", "command", "project_text", "shell"]

PROJECT_FILE = "torchinstall-request/pyproject.toml"
"""What the command calls the project file; `run` writes it to a private folder instead.

uv reads sources from a file of this name only.
"""

_PATIENCE = "300"
"""Seconds without a byte before uv gives up; its own 30 s is short for wheels of 3 GB on slow links."""

_TIMEOUTS = ("UV_HTTP_TIMEOUT", "UV_REQUEST_TIMEOUT", "HTTP_TIMEOUT")

_OURS = {
    "--torch-backend": "--backend BACKEND",
    "--no-sources": "leave it out: the index of each package is given as a source",
    "--python": "--python before `--`",
    "-p": "--python before `--`",
    "--system": "--system before `--`",
    "--target": "leave it out: it installs elsewhere than into the environment that was looked at",
    "--prefix": "leave it out: it installs elsewhere than into the environment that was looked at",
    "--output-format": "--json before `--`",
}


def check_uv_args(uv_args: Iterable[str]) -> None:
    """Refuse arguments for uv that would undo the plan.

    Raises:
        UsageError: `bad-uv-argument`.
    """
    for argument in uv_args:
        name = argument.partition("=")[0]
        if name in _OURS:
            raise UsageError(
                "bad-uv-argument",
                f"{name} cannot be handed to uv, it would undo the plan",
                wanted="arguments that leave the place and the indexes alone",
                found=argument,
                hints=(_OURS[name],),
            )


def command(
    plan: Plan,
    *,
    uv: str,
    project_file: str = PROJECT_FILE,
    env: Mapping[str, str] | None = None,
    installed: Iterable[Installed] = (),
    constraints: Iterable[str] = (),
    uv_args: Iterable[str] = (),
    dry_run: bool = False,
    offline: bool = False,
    upgrade: bool = False,
) -> Plan:
    """The plan with `command`, `env` and `project` filled.

    Args:
        plan: its target has an interpreter, its requirements parse.
        uv: path of uv.
        project_file: what the command calls the file that `project` is written to.
        env: of the user; a timeout that is set there stays.
        installed: what is there already; a build without a local version (`2.9.1`) needs a push to replace
            one that has it (`2.9.1+cu128`), since uv takes the latter for good.
        constraints: paths of constraint files (`-c`).
        uv_args: appended as they are.
        dry_run: uv says what it would do and does nothing.
        offline: uv uses its cache and folders only.
        upgrade: other requirements are brought up to date too.

    Raises:
        UsageError: `bad-uv-argument`, or `foreign-target` where there is no interpreter to install into.
    """
    extra = tuple(uv_args)
    check_uv_args(extra)
    if plan.target.python is None:
        raise UsageError(
            "foreign-target",
            "nothing can be installed for a Python that is not here",
            wanted="an interpreter on this machine",
            found=f"Python {plan.target.python_version} (from --python-version)",
            hints=("leave --python-version out, or name an interpreter with --python",),
        )
    sources = _Sources(plan)
    argv = [uv, "pip", "install", "--python", plan.target.python, "-r", project_file]
    argv += [item for path in constraints for item in ("-c", _absolute(path))]
    argv += [item for place in plan.find_links for item in ("--find-links", _absolute(place))]
    if plan.channel != "stable":
        argv += [item for name in sources.routed for item in ("--prerelease-package", f"{name}=allow")]
    argv += [item for name in _pushed(plan, installed) for item in ("--reinstall-package", name)]
    argv += ["--upgrade"] if upgrade else []
    argv += ["--offline"] if offline else []
    argv += ["--dry-run"] if dry_run else []
    argv += ["--output-format", "json", *extra]
    patient = not any((env or {}).get(name) for name in _TIMEOUTS)
    return structs.replace(
        plan,
        command=tuple(argv),
        env=(
            *((("UV_HTTP_TIMEOUT", _PATIENCE),) if patient else ()),
            *((name, None) for name in UNDOES_SOURCES),
        ),
        project=_project(plan, sources),
    )


def _pushed(plan: Plan, installed: Iterable[Installed]) -> list[str]:
    """Packages whose plain version is wanted where the same version with a local segment is installed."""
    there = {item.name: item.version for item in installed}
    return [
        package.name
        for package in plan.packages
        if package.version is not None
        and "+" not in package.version
        and there.get(package.name, "").startswith(f"{package.version}+")
    ]


class _Sources:
    """Where each routed package comes from: names and places of the explicit indexes.

    A package that is routed without an index lies in the `--find-links` folder. With several folders nobody
    has said in which, so these packages are left to uv's `--find-links`; their exact version is pinned.
    """

    def __init__(self, plan: Plan) -> None:
        self.places: dict[str, str] = {}
        self.of: dict[str, str] = {}
        self.routed: list[str] = []
        direct = {_name(text) for text in plan.requirements if " @ " in text}
        for package in plan.packages:
            # A requirement with a URL says itself where it comes from.
            if not package.routed or package.name in direct:
                continue
            self.routed.append(package.name)
            place = package.index_url or (plan.find_links[0] if len(plan.find_links) == 1 else None)
            if place is not None:
                self.of[package.name] = self._named(place, plan.find_links)

    def _named(self, place: str, folders: tuple[str, ...]) -> str:
        where = _absolute(place)
        if where in self.places:
            return self.places[where]
        tail = "folder" if place in folders or not is_url(place) else place.rstrip("/").rpartition("/")[2]
        stem = "torchinstall-" + (re.sub(r"[^a-z0-9]+", "-", tail.lower()).strip("-") or "index")
        name, number = stem, 2
        while name in self.places.values():
            name, number = f"{stem}-{number}", number + 1
        self.places[where] = name
        return name

    def is_flat(self, place: str, folders: tuple[str, ...]) -> bool:
        """Whether it is a folder of wheels and not an index with a page for each package."""
        return not is_url(place) or place in folders


def _name(text: str) -> str:
    return canonical_name(requirement(text).name)


def project_text(plan: Plan) -> str:
    """The project file of a plan, also of one for a Python that is not here."""
    return _project(plan, _Sources(plan))


def _project(plan: Plan, sources: _Sources) -> str:
    lines = ["[project]", 'name = "your-request"', 'version = "0"', "dependencies = ["]
    lines += [f"  {_toml(line)}," for line in _dependencies(plan)]
    lines.append("]")
    for place, name in sources.places.items():
        lines += ["", "[[tool.uv.index]]", f"name = {_toml(name)}", f"url = {_toml(place)}"]
        lines += ['format = "flat"'] if sources.is_flat(place, plan.find_links) else []
        lines.append("explicit = true")
    if sources.of:
        lines += ["", "[tool.uv.sources]"]
        lines += [f"{_toml(name)} = {{ index = {_toml(index)} }}" for name, index in sources.of.items()]
    return "\n".join(lines) + "\n"


def _dependencies(plan: Plan) -> list[str]:
    """Every requirement as asked, the packages of the plan pinned; a package nobody asked for is added."""
    packages = {canonical_name(package.name): package for package in plan.packages}
    out: list[str] = []
    seen: set[str] = set()
    for text in plan.requirements:
        asked = requirement(text)
        name = canonical_name(asked.name)
        package = packages.get(name)
        line = text if package is None or asked.url else _pin(package, asked)
        seen.add(name)
        if line not in out:
            out.append(line)
    out += [_pin(package, None) for name, package in packages.items() if name not in seen]
    return out


def _pin(package: Package, asked: Requirement | None) -> str:
    """`torch[opt]==2.9.1+cu128 ; marker`: extras and marker as asked, the version as planned."""
    name, marker, specifier = package.name, "", ""
    if asked is not None:
        name += f"[{','.join(asked.extras)}]" if asked.extras else ""
        marker = f" ; {asked.marker}" if asked.marker else ""
        specifier = asked.specifier
    return name + (f"=={package.version}" if package.version is not None else specifier) + marker


def _absolute(place: str) -> str:
    """Paths in a project file count from its folder, so they are made absolute; URLs stay."""
    if is_url(place):
        return place
    return os.path.abspath(os.path.expanduser(place))  # noqa: PTH100, PTH111  links stay as they were named


_ESCAPED = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def _toml(text: str) -> str:
    """A basic TOML string; every control character is escaped."""
    return (
        '"'
        + "".join(
            _ESCAPED.get(char) or (f"\\u{ord(char):04x}" if ord(char) < 32 or ord(char) == 127 else char)
            for char in text
        )
        + '"'
    )


def shell(plan: Plan) -> str:
    """The command as lines that a person can paste into a POSIX shell; credentials are left out."""
    import shlex

    if not plan.command:
        return ""
    argv = [redact(item) for item in plan.command]
    unset = [item for name, value in plan.env if value is None for item in ("-u", name)]
    given = [f"{name}={redact(value)}" for name, value in plan.env if value is not None]
    lines = []
    if plan.project is not None:
        path = argv[argv.index("-r") + 1]
        folder = os.path.dirname(path)  # noqa: PTH120  text of the plan, not a path of this machine
        lines += [f"mkdir -p {shlex.quote(folder)}"] if folder else []
        lines += [f"cat > {shlex.quote(path)} <<'TOML'", redact(plan.project).rstrip("\n"), "TOML"]
    lines.append(shlex.join(["env", *unset, *given, *argv]))
    return "\n".join(lines) + "\n"
