"""Formats for pip and uv without a project: `pip`, `requirements`, `constraints`, `pylock`.

pip cannot tie a package to an index, so its commands install in steps, as those of containers and workflows:
first each decided package alone (`--no-deps`) from the one index that has it, then everything else from the
user's own indexes. What is there already stays, and nothing else can come from the PyTorch index.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from typing import Literal

from msgspec import structs

from torchinstall.export.inputs import PIP_OPTIONS, ExportInput, Pin, not_exportable
from torchinstall.export.resolve import files_of
from torchinstall.index.wheels import File
from torchinstall.install.command import options_in


def pip(export: ExportInput) -> str:
    """Commands for pip, one a line; each must succeed before the next is typed."""
    return "\n".join(install_commands(export, "pip")) + "\n"


def uv_pip(export: ExportInput) -> str:
    """The same commands for uv."""
    return "\n".join(install_commands(export, "uv")) + "\n"


def requirements(export: ExportInput) -> str:
    """A requirements file with hashes, for pip and uv.

    Decided packages are named by the URL of their file, so that no index has to be configured and none can
    replace them; the rest comes from the reader's default index. Each hash is that of the file for this
    target: the file is for this platform and this Python only.
    """
    files = files_of(export.resolve(), export.target)
    usage = "pip install --require-hashes -r requirements.txt, or the same with uv pip"
    by_url = {pin.name for pin in export.pins if pin.index is not None or pin.url is not None or pin.folders}
    if export.lock is not None:
        by_url = {file.name for file in files if "+" in (file.version or "")}
    unhashed = {
        package.name
        for package in export.plan.packages
        if package.sha256 is None
        and package.index_url is not None
        and f"{export.plan.backend}/{package.name}" in export.plan.catalog.live
    }
    return "\n".join([*export.head(usage), *requirement_lines(files, by_url, unhashed)]) + "\n"


def requirement_lines(
    files: tuple[File, ...], by_url: set[str], unhashed: set[str] | frozenset[str] = frozenset()
) -> list[str]:
    """One requirement a file; the packages in `by_url` are named by URL.

    Those in `unhashed` the index lists without a hash: theirs is only that of the file that was downloaded
    while this was written.
    """
    lines: list[str] = []
    for file in files:
        what = f"{file.name} @ {file.url}" if file.name in by_url else f"{file.name}=={file.version}"
        if file.name in unhashed:
            lines.append("# The index lists no hash for the next file: this is the hash of what it served.")
        lines.append(f"{what} \\\n    --hash=sha256:{file.sha256}" if file.sha256 else what)
    return lines


def constraints(export: ExportInput) -> str:
    """Exact pins: the local version in a pin keeps other builds of the same release out."""
    lines = [pin.exact if pin.version is not None else pin.by_file for pin in _resolved_pins(export)]
    if export.lock is not None:
        files = files_of(export.resolve(), export.target, every=False)
        lines = [f"{file.name}=={file.version}" for file in files if export.catalog.family(file.name)]
    return "\n".join([*export.head("Use it with every later install: -c constraints.txt"), *lines]) + "\n"


def pylock(export: ExportInput) -> str:
    """PEP 751: everything that will be installed, each file with its URL, so that no index is needed."""
    usage = "uv pip sync pylock.toml; pip 26.3 reads it too: pip install -r pylock.toml"
    return "\n".join([*export.head(usage), export.resolve()])


def install_commands(
    export: ExportInput, tool: Literal["pip", "uv"], locate: Callable[[str], str] = str
) -> list[str]:
    """The commands that install a plan, in order.

    `locate` says where the reader finds a local path or `file:` URL (in a container, say).

    Raises:
        UsageError: `not-exportable`: pip has no name for one of uv's options.
    """
    start = ("python", "-m", "pip", "install") if tool == "pip" else ("uv", "pip", "install")
    index_option = "--index-url" if tool == "pip" else "--default-index"
    pins = _resolved_pins(export)

    def located(text: str) -> str:
        return text if text.startswith(("http://", "https://")) else locate(text)

    sources: dict[tuple[str, ...], list[str]] = {}
    for pin in pins:
        if pin.version is None:
            continue
        if pin.index is not None:
            sources.setdefault((index_option, pin.index), []).append(pin.exact)
        elif pin.url is not None:
            sources.setdefault((), []).append(f"{pin.name} @ {located(pin.url)}")
        elif pin.folders:
            folders = [word for folder in pin.folders for word in ("--find-links", located(folder))]
            sources.setdefault(("--no-index", *folders), []).append(pin.exact)
    commands = [(*start, *source, "--no-deps", *what) for source, what in sources.items()]
    options = _pip_options(export.uv_args) if tool == "pip" else export.uv_args
    bounds = [word for path in export.constraint_files for word in ("-c", located(path))]
    rest = [_last(pin, located) for pin in pins]
    commands.append((*start, *options, *bounds, *rest, *export.others))
    return [shell_command(export, *command) for command in commands]


def shell_command(export: ExportInput, *argv: str) -> str:
    """A command line for the shell of the target's platform."""
    return subprocess.list2cmdline(argv) if export.target.os == "windows" else shlex.join(argv)


def _last(pin: Pin, locate: Callable[[str], str]) -> str:
    """A pin in the last command, which has nothing to do where an earlier one installed it."""
    if pin.version is None:
        return f"{pin.name} @ {locate(pin.url or '')}"
    return pin.exact if " @ " in pin.requirement else pin.requirement


def _pip_options(uv_args: tuple[str, ...]) -> list[str]:
    words: list[str] = []
    for name, value in options_in(uv_args):
        if name == "--prerelease" and value == "allow":
            words.append("--pre")
        elif PIP_OPTIONS[name]:
            words += [PIP_OPTIONS[name], *([value] if value else [])]
        else:
            raise not_exportable(name, "pip")
    return words


def _resolved_pins(export: ExportInput) -> tuple[Pin, ...]:
    """The pins, each with its version: of a package that torch itself pins, only uv's resolver knows it."""
    if all(pin.version is not None or pin.index is None for pin in export.pins):
        return export.pins
    versions = {file.name: file.version for file in files_of(export.resolve(), export.target)}
    found = []
    for pin in export.pins:
        if pin.version is not None or pin.index is None:
            found.append(pin)
        elif (version := versions.get(pin.name)) is not None:
            requirement = f"{pin.requirement}=={version}"
            found.append(structs.replace(pin, version=version, requirement=requirement))
    return tuple(found)
