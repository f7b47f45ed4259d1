"""Write what follows from the command line: `cli.md`, `environment-variables.md` and the page for `man`.

    python -m scripts.render_cli_docs --write

Prints a diff and writes only with `--write`; a test holds the pages to what this renders.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from torchinstall.cli.app import LazyGroup, build
from torchinstall.cli.flags import FLAGS, GLOBAL_FLAGS, Flag
from torchinstall.cli.verb import Verb

__all__ = ["PAGES", "main"]

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
WIDTH = 80
NOTE = "<!-- written by python -m scripts.render_cli_docs --write -->"

ORDER = """\
A flag wins over its variable, that over a configuration file, that over the default; the winner is shown
with its source. Global options are accepted before and after the verb. What follows `--` goes to uv."""

VARIABLES = """\
Every flag has a variable; an empty one says nothing. A switch takes `1` or `0`, `true` or `false`; values
of a flag that may be repeated are parted by commas. The last column says whether a configuration file may
hold the setting, under the flag's name without its dashes: `[tool.torchinstall]` in the nearest
`pyproject.toml`, then `torchinstall/torchinstall.toml` in the user's configuration folder.

A project's file may choose builds, but neither where they come from nor which Python they go into: "your
own" is a setting that counts only in your own file, and is ignored in a project's with a warning. A project's
`index-base` is used, and said in a warning that `-qq` does not silence; it is never combined with
`--allow-insecure-host`. A `constraint` of a project may limit versions, but may hold no URL and no index. To
accept such a setting, type its flag or put it into your own file."""

OTHER_VARIABLES = (
    ("TORCHINSTALL_UV", "The uv to use, instead of the one beside torchinstall or on PATH."),
    ("TORCHINSTALL_NVML_LIBRARY", "The NVML library to load, by path."),
    ("TORCHINSTALL_CATALOG_DIR", "A folder of tables that replaces the shipped ones as a whole."),
    ("NO_COLOR", "Not empty: no colour, unless `--color always` is given."),
    (
        "FORCE_COLOR, CLICOLOR_FORCE",
        "Not empty and not 0: colour, also where no terminal listens; `NO_COLOR` wins over them.",
    ),
    ("VIRTUAL_ENV, CONDA_PREFIX", "The active environment: it is installed into where no other is named."),
    (
        "CUDA_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES, ONEAPI_DEVICE_SELECTOR",
        "Heeded by plans with `--respect-visible-devices` only: an installation serves the machine.",
    ),
    (
        "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR, NETRC",
        "Used when the index is read, and by uv.",
    ),
    (
        "UV_* and PIP_*",
        "uv reads its own; `UV_TORCH_BACKEND` and `UV_NO_SOURCES` are kept from it, they undo the plan.",
    ),
)


def _commands(command: click.Command, context: click.Context) -> Iterator[click.Context]:
    """The context of a command and of everything below it."""
    yield context
    if isinstance(command, LazyGroup):
        for name in command.table:
            below = command.get_command(context, name)
            if below is not None:
                yield from _commands(below, _context(below, name, context))


def _context(command: click.Command, name: str, parent: click.Context | None = None) -> click.Context:
    return click.Context(
        command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH
    )


def render_cli() -> str:
    """`cli.md`: the help of every verb, as it is printed."""
    app = build()
    parts = [
        "# Command line",
        NOTE,
        ORDER,
    ]
    for context in _commands(app, _context(app, "torchinstall")):
        title = "##" if context.parent is None or context.parent.parent is None else "###"
        parts.append(f"{title} {context.command_path}\n\n```text\n{context.get_help().rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def render_variables() -> str:
    """`environment-variables.md`: every variable that is read, and what it means."""
    verbs = _verbs_by_option()
    rows = [_row(row, verbs.get(row.name, "all")) for row in (*FLAGS.values(), *GLOBAL_FLAGS)]
    parts = [
        "# Environment variables",
        NOTE,
        VARIABLES,
        "| variable | flag | verbs | also honoured | in configuration |\n|---|---|---|---|---|\n"
        + "\n".join(rows),
        "An empty `CONDA_OVERRIDE_CUDA` means what it means to conda: there is no CUDA on the machine.",
        "## Others",
        "| variable | meaning |\n|---|---|\n"
        + "\n".join(f"| `{name.replace(', ', '`, `')}` | {text} |" for name, text in OTHER_VARIABLES),
    ]
    return "\n\n".join(parts) + "\n"


def _verbs_by_option() -> dict[str, str]:
    found: dict[str, list[str]] = {}
    app = build()
    for context in _commands(app, _context(app, "torchinstall")):
        if isinstance(context.command, Verb):
            verb = context.command_path.removeprefix("torchinstall ")
            for param in context.command.params:
                found.setdefault(str(param.name), []).append(f"`{verb}`")
    return {
        name: ", ".join(verbs)
        for name, verbs in found.items()
        if name not in {row.name for row in GLOBAL_FLAGS}
    }


def _row(row: Flag, verbs: str) -> str:
    also = ", ".join(f"`{name}`" for name in row.also)
    kept = ("your own" if row.of_user else "yes") if row.config else ""
    return f"| `{row.variables[0]}` | `{row.spelling}` | {verbs} | {also} | {kept} |"


def render_man() -> str:
    """`torchinstall.1`: the help of every verb as a page for `man`; the wheel puts it where `man` looks."""
    app = build()
    parts = [
        '.\\" written by python -m scripts.render_cli_docs --write',
        '.TH TORCHINSTALL 1 "" "torchinstall" "User Commands"',
        ".SH NAME",
        "torchinstall \\- install the PyTorch build that really works on this machine",
        ".SH DESCRIPTION",
        _roff(ORDER),
    ]
    for context in _commands(app, _context(app, "torchinstall")):
        title = ".SH SYNOPSIS" if context.parent is None else f'.SH "{_roff(context.command_path.upper())}"'
        parts += [title, ".nf", _roff(context.get_help().rstrip()), ".fi"]
    names = [row.variables[0] for row in (*FLAGS.values(), *GLOBAL_FLAGS)]
    others = [f"{name}: {text}" for name, text in OTHER_VARIABLES]
    lines = [", ".join(dict.fromkeys(names)), *others]
    parts += [".SH ENVIRONMENT", *(f"{_roff(text)}\n.br" for text in lines)]
    parts += [".SH SEE ALSO", ".BR uv (1),", ".BR pip (1)"]
    return "\n".join(parts) + "\n"


def _roff(text: str) -> str:
    """Text that nroff shows as it is: backslashes, hyphens, and a dot at the start mean more to it."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\`")
    plain = "".join(letter if letter.isascii() else f"\\[u{ord(letter):04X}]" for letter in plain)
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in plain.splitlines())


PAGES = {
    "cli.md": render_cli,
    "environment-variables.md": render_variables,
    "torchinstall.1": render_man,
}


def main(argv: list[str] | None = None) -> int:
    """Print what would change; write it with `--write`. 1: something differs and was not written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the pages")
    arguments = parser.parse_args(argv)
    differs = False
    for name, render in PAGES.items():
        path = REFERENCE / name
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        new = render()
        if old == new:
            continue
        differs = True
        before, after = (text.splitlines(keepends=True) for text in (old, new))
        print("".join(difflib.unified_diff(before, after, name, name)), end="")
        if arguments.write:
            path.write_text(new, encoding="utf-8")
    return 1 if differs and not arguments.write else 0


if __name__ == "__main__":
    sys.exit(main())
