"""Configure a script by its inline metadata (PEP 723): the keys of a project without extras and groups."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import structs

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.errors import UsageError
from torchinstall.core.files import write_file
from torchinstall.core.request import DEFAULT_INDEX_BASE
from torchinstall.project.configure import (
    Configured,
    FileEdit,
    LayoutOf,
    Locker,
    configure_texts,
    restored_on_error,
)
from torchinstall.project.files import read_text
from torchinstall.project.migrate import Legacy
from torchinstall.project.model import Layout
from torchinstall.project.pyproject import ProjectView

_BLOCK = re.compile(r"(?m)^# /// script\r?$\n(?P<lines>(?:^#(?:| .*)\r?$\n)+?)^# ///\r?$\n?")
_HEAD = "[project]\n"
"""The keys of a script stand at the top of its metadata; in a project file they are those of this table."""


def metadata(text: str) -> str:
    """The inline metadata of a script (PEP 723) as a project file; the bare table where there is none."""
    found = _BLOCK.search(text)
    lines = found["lines"].splitlines() if found else []
    return _HEAD + "".join(line[2:] + "\n" for line in lines)


def _with_metadata(text: str, toml: str) -> str:
    """The script with other metadata; new metadata goes below the line that names the interpreter."""
    end = "\r\n" if "\r\n" in text else "\n"
    lines = [f"# {line}".rstrip() for line in toml.removeprefix(_HEAD).rstrip("\n").splitlines()]
    block = end.join(["# /// script", *lines, "# ///", ""])
    found = _BLOCK.search(text)
    if found:
        return text[: found.start()] + block + text[found.end() :]
    first = re.match(r"(?:#!.*\n)?(?:#.*coding[:=].*\n)?", text)
    at = first.end() if first else 0
    return text[:at] + block + end + text[at:]


def configure_script(
    path: Path,
    layout_of: LayoutOf,
    catalog: Catalog,
    *,
    python: str,
    dry_run: bool = False,
    lock: Locker | None = None,
    index_base: str = DEFAULT_INDEX_BASE,
) -> Configured:
    """Write a layout into a script's metadata; a script has no extras and no groups.

    `python` is the lowest version that new metadata ask for; the rest is as for a project.

    Raises:
        UsageError: no such file, its metadata are not TOML, or `script-has-one-build`.
        InstallFailedError: uv cannot resolve it; the file is as it was.
    """
    text = read_text(path)
    before = metadata(text)
    if before == _HEAD:
        before += f'requires-python = ">={python}"\ndependencies = []\n'

    def make(view: ProjectView, legacy: Legacy) -> Layout:
        layout = layout_of(view, legacy)
        if layout.offers_choice:
            raise UsageError(
                "script-has-one-build",
                f"a script has no {layout.name}, so it cannot offer a choice between builds",
                wanted="the layout this-machine or markers",
                found=layout.name,
                hints=(f"torchinstall configure --script {path.name} --on linux=cu130",),
            )
        return structs.replace(layout, required=())

    done = configure_texts({path: before}, make, catalog, migrate=True, index_base=index_base)
    after = _with_metadata(text, done.text) if done.text != metadata(text) else text
    plan = structs.replace(done, edits=(FileEdit(path, text, after),))
    if not dry_run and after != text:
        with restored_on_error((path, path.with_name(path.name + ".lock"))):
            write_file(path, after)
            if lock is not None:
                lock(path)
    return plan
