"""Every flag of the command line: its spelling, its variables, its section of the help, and its help.

One row a flag. A verb takes the flags whose names are fields of its options (`planning/context.py`); the
field also holds the default. A new flag is a row here and a field there.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

Kind = Literal["text", "texts", "number", "switch", "paths", "count"]
"""What a flag holds; `paths` are texts that start at the folder of the configuration file that holds them."""


class Flag(Struct, frozen=True):
    """One flag.

    Attributes:
        name: of the field, `index_base`; the flag is `--index-base`, its variable `TORCHINSTALL_INDEX_BASE`.
        declarations: every spelling, for click; `--verify/--no-verify` can be turned off.
        also: variables of other tools that mean the same.
        empty_counts: those among `also` whose empty value is a value.
    """

    name: str
    help: str
    kind: Kind
    declarations: tuple[str, ...]
    metavar: str | None
    choices: tuple[str, ...]
    also: tuple[str, ...] = ()
    empty_counts: tuple[str, ...] = ()

    @property
    def spelling(self) -> str:
        """The long spelling."""
        return self.declarations[-1].partition("/")[0]

    @property
    def variables(self) -> tuple[str, ...]:
        """Its own variable, then those of other tools."""
        return (f"TORCHINSTALL_{self.name.rstrip('_').upper()}", *self.also)

    @property
    def config(self) -> bool:
        """Whether a configuration file may hold it."""
        return self.name in _SETTINGS

    @property
    def of_user(self) -> str:
        """What a project's file may not decide with it: only the user's own file counts.

        The user wrote that one; a project may have been cloned.
        """
        return _SETTINGS.get(self.name, "")


def _flag(spelled: str, help_: str, *, name: str = "", kind: Kind | None = None, **more: Any) -> Flag:
    """A flag from its spelling as help shows it.

    `-r --requirement FILE...`: short, long, what follows; `...` may be repeated, `N` is a number, `[a|b]` are
    all values, and without any it is a switch. `name` is that of the field where it is not the long spelling.
    """
    declarations = tuple(word for word in spelled.split() if word[0] == "-")
    after = spelled.rpartition(declarations[-1])[2].strip()
    metavar = after.removesuffix("...")
    choices = tuple(metavar[1:-1].split("|")) if metavar[:1] == "[" else ()
    if kind is None:
        kind = "number" if metavar == "N" else "text" if metavar else "switch"
        if after != metavar:
            kind = "paths" if metavar in ("FILE", "DIR") else "texts"
    long = declarations[-1].partition("/")[0][2:].replace("-", "_")
    return Flag(
        name or long, help_, kind, declarations, None if choices else metavar or None, choices, **more
    )


SECTIONS: dict[str, tuple[Flag, ...]] = {
    "What to install": (
        _flag(
            "-r --requirement FILE...", "Install the packages that a requirements file lists (repeatable)."
        ),
        _flag("-c --constraint FILE...", "Limit versions with a constraints file (repeatable)."),
        _flag("-U --upgrade", "Replace a build that works with a newer one."),
        _flag("--allow-build PKG...", "Allow this package to be built from source (repeatable)."),
        _flag(
            "--companion-source [makers|trusted|community]",
            "From whom to take packages that are built against torch.",
        ),
        _flag(
            "--layout [this-machine|markers|extras|groups]",
            "How the project chooses a build (default: the layout it has, else this-machine).",
        ),
        _flag(
            "--with BACKEND...",
            "Offer this backend as an extra or group (repeatable; default: cpu and this machine's).",
            name="with_",
        ),
        _flag("--without BACKEND...", "Take this backend out of the project (repeatable)."),
        _flag(
            "--on PLATFORM=BACKEND...",
            "Layout markers: the backend of one platform, or default (repeatable).",
        ),
        _flag(
            "--default BACKEND",
            "Layout groups: the backend that a plain uv run uses.",
            name="default_backend",
        ),
        _flag(
            "--require-platform PLATFORM...",
            "A platform that the lock must support (repeatable; none: leave the setting alone).",
        ),
    ),
    "Where": (
        _flag("--project DIR", "The project's folder (default: the nearest one with a pyproject.toml)."),
        _flag("--script FILE", "A script with inline metadata (PEP 723) instead of a project."),
        _flag("-p --python PATH|3.12", "The interpreter or environment to install into."),
        _flag("--venv DIR", "The virtual environment to install into; created if it is missing."),
        _flag("--system", "Install into the system's Python."),
        _flag("--python-version 3.12", "Plan for this Python version, installed here or not."),
    ),
    "Which build": (
        _flag(
            "--backend auto|cpu|cu126|…",
            "The backend (line of PyTorch builds) to install, whatever this machine has.",
            also=("UV_TORCH_BACKEND",),
        ),
        _flag(
            "--channel [stable|test|nightly]",
            "Choose among releases, release candidates or nightly builds.",
        ),
        _flag("--require-gpu", "Fail (exit 4) rather than install a CPU build."),
        _flag("--allow-cpu", "Accept a CPU build where version pins or an unreadable GPU would stop."),
        _flag("--need [compile]", "Choose only among builds whose torch.compile works here too."),
        _flag("--prefer-gpu N", "Choose for GPU N where no build supports every GPU."),
        _flag(
            "--respect-visible-devices",
            "Plan only for the GPUs that CUDA_VISIBLE_DEVICES and similar variables show.",
        ),
    ),
    "The machine": (
        _flag("--machine FILE...", "Plan for the machine in this file; - is stdin (plan: repeatable)."),
        _flag("--root DIR", "Read a recorded machine folder instead of this machine."),
        _flag(
            "--target-driver 580.95", "Plan for this NVIDIA driver version.", also=("UV_CUDA_DRIVER_VERSION",)
        ),
        _flag(
            "--target-cuda 12.8",
            "Plan for a driver that supports this CUDA version; empty CONDA_OVERRIDE_CUDA: no driver.",
            also=("CONDA_OVERRIDE_CUDA",),
            empty_counts=("CONDA_OVERRIDE_CUDA",),
        ),
        _flag(
            "--target-gpu sm_90|gfx1100|NAME...",
            "Plan for this GPU instead of those found (repeatable).",
            also=("UV_AMD_GPU_ARCHITECTURE",),
        ),
    ),
    "Machines of others": (
        _flag("--installed", "Ask for what is installed in the environment."),
        _flag("--on MACHINE", "Answer for the machine in this file; - is stdin.", name="on_machine"),
        _flag("--if driver=V...", "Say what breaks with this driver.", name="if_"),
        _flag(
            "--assume KEY=VALUE...",
            "What to assume where no inventory says it: driver, libc, gpu, arch, os_version.",
        ),
    ),
    "Sources": (
        _flag(
            "--index-base URL",
            "A mirror of the PyTorch index, a template with {backend}, or default: the index that uv uses.",
        ),
        _flag(
            "--fallback/--no-fallback",
            "Where the index cannot be reached, take a build from the folders that pip or uv are "
            "configured with, or from the index that uv uses (default: yes).",
        ),
        _flag("--vendor-index", "Take torch from the GPU vendor's own index, where PyTorch has no build."),
        _flag("-f --find-links DIR...", "A folder of wheels to choose builds from (repeatable)."),
        _flag("--offline", "Use no network: only the shipped catalog, folders and caches."),
        _flag("--refresh", "Read index pages again, however recent the cached copies are."),
        _flag(
            "--allow-insecure-host HOST...",
            "Allow this host over http, or with an invalid certificate (repeatable).",
        ),
    ),
    "How": (
        _flag("--migrate", "First rewrite pins by local version, find-links, Rye, Poetry and PDM tables."),
        _flag("--remove", "Take out what configure wrote."),
        _flag("--lock/--no-lock", "Run uv lock afterwards and check every platform (default: yes)."),
        _flag(
            "--explain TEXT|FILE",
            "Say what an error text means and what to type; - reads it from stdin.",
            name="explain_text",
        ),
        _flag("--fix", "Show and run the fixes that are safe, then check again."),
        _flag("--check-wheel", "Look into the chosen wheel first: has it code for these GPUs?"),
        _flag("-n --dry-run", "Say what would be done and change nothing."),
        _flag("--wait/--no-wait", "Wait where another run is changing the same environment (default: yes)."),
        _flag(
            "--verify/--no-verify", "Check that torch computes (default: yes, in auto only after a change)."
        ),
    ),
    "Output": (
        _flag("--format FORMAT", "What to write the plan for."),
        _flag(
            "--export-dir DIR", "Write a folder: for each class of machines its lock, image and selectors."
        ),
        _flag("-o --output PATH", "The file (bundle: the folder) to write."),
        _flag(
            "--explain BACKEND|PKG",
            "Explain in plain words what happened to one backend, or which torch a package allows.",
        ),
        _flag("--why-not BACKEND", "Explain in plain words why one backend was not chosen."),
        _flag(
            "--record DIR",
            "Also write what the probe reads to a new folder, without names, UUIDs and serial numbers.",
        ),
        _flag("--anonymous", "Omit what identifies this machine (UUIDs)."),
    ),
}
"""The flags of the verbs, in the order in which help shows them."""

_SETTINGS = {
    **dict.fromkeys(("constraint", "upgrade", "index_base", "offline", "wait", "verify", "anonymous"), ""),
    **dict.fromkeys((flag.name for flag in SECTIONS["Which build"]), ""),
    **dict.fromkeys(("target_driver", "target_cuda", "target_gpu"), ""),
    "allow_build": "whether their sources are built and run",
    **dict.fromkeys(
        ("companion_source", "vendor_index", "find_links", "fallback", "allow_insecure_host"),
        "where they come from",
    ),
    **dict.fromkeys(("python", "venv", "system"), "which Python they go into"),
}
"""The flags that a configuration file may hold, each with what a project's file may not decide with it."""

FLAGS = {flag.name: flag for rows in SECTIONS.values() for flag in rows}

GLOBAL_FLAGS = (
    _flag("-v --verbose", "Say more; -vv also shows tracebacks.", kind="count"),
    _flag("-q --quiet", "Say less, and uv too; -qq also hides warnings.", kind="count"),
    _flag("--json", "Print one JSON object on stdout, also on failure."),
    _flag(
        "--color [auto|always|never]",
        "When to use colour; NO_COLOR, FORCE_COLOR and CLICOLOR_FORCE are honoured.",
    ),
    _flag("--no-progress", "Draw no progress; say each step on a line.", also=("UV_NO_PROGRESS",)),
    _flag("--log FILE", "Append all that is said to a file, as with -v."),
    _flag("--config-file FILE", "Your own configuration file, instead of the usual one."),
    _flag("--no-config", "Read no configuration file."),
    _flag("--cache-dir DIR", "Keep index pages here, and uv's files in its folder uv."),
)
"""Flags of every level: how loud, how coloured, as what, with which configuration."""
