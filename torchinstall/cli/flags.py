"""Every flag of the command line: its spelling, its variables, its section of the help, and its help.

One row a flag. A verb takes the flags whose names are fields of its options (`planning/options.py`); the
field also holds the default. A new flag is a row here and a field there.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Kind = Literal["text", "texts", "number", "switch", "paths", "count"]
"""What a flag holds; `paths` are texts that start at the folder of the configuration file that holds them."""


class Flag(Struct, frozen=True):
    """One flag.

    Attributes:
        name: of the field, `index_base`; the flag is `--index-base`, its variable `TORCHINSTALL_INDEX_BASE`.
        short: the one-letter spelling.
        long: the long spelling where it is not the name; `--verify/--no-verify` can be turned off.
        also: variables of other tools that mean the same.
        empty_counts: those among `also` whose empty value is a value.
        config: whether a configuration file may hold it.
        of_user: what a project's file may not decide: where packages come from, or which Python is changed.
            Only the user's own file counts, which the user wrote; a project may have been cloned.
    """

    name: str
    help: str
    kind: Kind = "text"
    metavar: str | None = None
    short: str = ""
    long: str = ""
    choices: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    empty_counts: tuple[str, ...] = ()
    config: bool = True
    of_user: str = ""

    @property
    def declarations(self) -> tuple[str, ...]:
        """Every spelling, for click."""
        long = self.long or "--" + self.name.rstrip("_").replace("_", "-")
        return (self.short, long) if self.short else (long,)

    @property
    def spelling(self) -> str:
        """The long spelling."""
        return self.declarations[-1].partition("/")[0]

    @property
    def variables(self) -> tuple[str, ...]:
        """Its own variable, then those of other tools."""
        return (f"TORCHINSTALL_{self.name.rstrip('_').upper()}", *self.also)


_ORIGIN = "where they come from"
_PLACE = "which Python they go into"


def _switch(name: str, help_: str, *, short: str = "", long: str = "", config: bool = True) -> Flag:
    return Flag(name, help_, "switch", short=short, long=long, config=config)


SECTIONS: dict[str, tuple[Flag, ...]] = {
    "What to install": (
        Flag(
            "requirement",
            "Install the packages that a requirements file lists (repeatable).",
            "paths",
            "FILE",
            "-r",
            config=False,
        ),
        Flag(
            "constraint", "Limit versions with a constraints file (repeatable).", "paths", "FILE", short="-c"
        ),
        _switch("upgrade", "Replace a build that works with a newer one.", short="-U"),
        Flag(
            "allow_build",
            "Allow this package to be built from source (repeatable).",
            "texts",
            "PKG",
            of_user="whether their sources are built and run",
        ),
        Flag(
            "companion_source",
            "Whose builds of packages that are built against torch to take.",
            choices=("makers", "trusted", "community"),
            of_user=_ORIGIN,
        ),
        Flag(
            "layout",
            "How the project chooses a build (default: the layout it has, else this-machine).",
            choices=("this-machine", "markers", "extras", "groups"),
            config=False,
        ),
        Flag(
            "with_",
            "Offer this backend as an extra or group (repeatable; default: cpu and this machine's).",
            "texts",
            "BACKEND",
            config=False,
        ),
        Flag(
            "without",
            "Take this backend out of the project (repeatable).",
            "texts",
            "BACKEND",
            config=False,
        ),
        Flag(
            "on",
            "Layout markers: the backend of one platform, or default (repeatable).",
            "texts",
            "PLATFORM=BACKEND",
            config=False,
        ),
        Flag(
            "default_backend",
            "Layout groups: the backend that a plain uv run uses.",
            metavar="BACKEND",
            long="--default",
            config=False,
        ),
        Flag(
            "require_platform",
            "A platform that the lock must support (repeatable; none: leave the setting alone).",
            "texts",
            "PLATFORM",
            config=False,
        ),
    ),
    "Where": (
        Flag(
            "project",
            "The project's folder (default: the nearest one with a pyproject.toml).",
            metavar="DIR",
            config=False,
        ),
        Flag(
            "script",
            "A script with inline metadata (PEP 723) instead of a project.",
            metavar="FILE",
            config=False,
        ),
        Flag(
            "python",
            "The interpreter or environment to install into.",
            metavar="PATH|3.12",
            short="-p",
            of_user=_PLACE,
        ),
        Flag(
            "venv",
            "The virtual environment to install into; created if it is missing.",
            metavar="DIR",
            of_user=_PLACE,
        ),
        Flag("system", "Install into the system's Python.", "switch", of_user=_PLACE),
        Flag(
            "python_version",
            "Plan for this Python version, installed here or not.",
            metavar="3.12",
            config=False,
        ),
    ),
    "Which build": (
        Flag(
            "backend",
            "The backend (line of PyTorch builds) to install, whatever this machine has.",
            metavar="auto|cpu|cu126|…",
            also=("UV_TORCH_BACKEND",),
        ),
        Flag("channel", "The PyTorch index to choose from.", choices=("stable", "test", "nightly")),
        _switch("require_gpu", "Fail (exit 4) rather than install a CPU build."),
        _switch("allow_cpu", "Accept a CPU build where version pins or an unreadable GPU would stop."),
        Flag("need", "Choose only among builds whose torch.compile works here too.", choices=("compile",)),
        Flag("prefer_gpu", "Choose for GPU N where no build supports every GPU.", "number", "N"),
        _switch(
            "respect_visible_devices",
            "Plan only for the GPUs that CUDA_VISIBLE_DEVICES and similar variables show.",
        ),
    ),
    "The machine": (
        Flag(
            "machine",
            "Plan for the machine in this file; - is stdin (plan: repeatable).",
            "texts",
            "FILE",
            config=False,
        ),
        Flag("root", "Read a recorded machine folder instead of this machine.", metavar="DIR", config=False),
        Flag(
            "target_driver",
            "Plan for this NVIDIA driver version.",
            metavar="580.95",
            also=("UV_CUDA_DRIVER_VERSION",),
        ),
        Flag(
            "target_cuda",
            "Plan for a driver that supports this CUDA version; empty CONDA_OVERRIDE_CUDA: no driver.",
            metavar="12.8",
            also=("CONDA_OVERRIDE_CUDA",),
            empty_counts=("CONDA_OVERRIDE_CUDA",),
        ),
        Flag(
            "target_gpu",
            "Plan for this GPU instead of those found (repeatable).",
            "texts",
            "sm_90|gfx1100|NAME",
            also=("UV_AMD_GPU_ARCHITECTURE",),
        ),
    ),
    "Machines of others": (
        _switch("installed", "Ask for what is installed in the environment.", config=False),
        Flag(
            "on_machine",
            "Answer for the machine in this file; - is stdin.",
            metavar="MACHINE",
            long="--on",
            config=False,
        ),
        Flag("if_", "Say what breaks with this driver.", "texts", "driver=V", config=False),
        Flag(
            "assume",
            "What to assume where no inventory says it: driver, libc, gpu, arch, os_version.",
            "texts",
            "KEY=VALUE",
            config=False,
        ),
    ),
    "Sources": (
        Flag("index_base", "A mirror of the PyTorch index, or a template with {backend}.", metavar="URL"),
        Flag(
            "vendor_index",
            "Take torch from the GPU vendor's own index, where PyTorch has no build.",
            "switch",
            of_user=_ORIGIN,
        ),
        Flag(
            "find_links",
            "A folder of wheels to choose builds from (repeatable).",
            "paths",
            "DIR",
            short="-f",
            of_user=_ORIGIN,
        ),
        _switch("offline", "Use no network: only the shipped catalog, folders and caches."),
        _switch("refresh", "Read index pages again, however recent the cached copies are.", config=False),
        Flag(
            "allow_insecure_host",
            "Allow this host over http, or with an invalid certificate (repeatable).",
            "texts",
            "HOST",
            of_user=_ORIGIN,
        ),
    ),
    "How": (
        _switch(
            "migrate",
            "First rewrite pins by local version, find-links, Rye, Poetry and PDM tables.",
            config=False,
        ),
        _switch("remove", "Take out what configure wrote.", config=False),
        _switch(
            "lock",
            "Run uv lock afterwards and check every platform (default: yes).",
            long="--lock/--no-lock",
            config=False,
        ),
        Flag(
            "explain_text",
            "Say what an error text means and what to type; - reads it from stdin.",
            metavar="TEXT",
            long="--explain",
            config=False,
        ),
        _switch("fix", "Show and run the fixes that are safe, then check again.", config=False),
        _switch("check_wheel", "Look into the chosen wheel first: has it code for these GPUs?", config=False),
        _switch("dry_run", "Say what would be done and change nothing.", short="-n", config=False),
        _switch(
            "wait",
            "Wait where another run is changing the same environment (default: yes).",
            long="--wait/--no-wait",
        ),
        _switch(
            "verify", "Check afterwards that torch computes (default: yes).", long="--verify/--no-verify"
        ),
    ),
    "Output": (
        Flag("format", "What to write the plan for.", metavar="FORMAT", config=False),
        Flag(
            "export_dir",
            "Write a folder: for each class of machines its lock, image and selectors.",
            metavar="DIR",
            config=False,
        ),
        Flag("output", "The file (bundle: the folder) to write.", metavar="PATH", short="-o", config=False),
        Flag(
            "explain",
            "Explain in plain words what happened to one backend, or which torch a package allows.",
            metavar="BACKEND|PKG",
            config=False,
        ),
        Flag(
            "why_not",
            "Explain in plain words why one backend was not chosen.",
            metavar="BACKEND",
            config=False,
        ),
        Flag(
            "record",
            "Also write what the probe reads to a new folder, without names, UUIDs and serial numbers.",
            metavar="DIR",
            config=False,
        ),
        _switch("anonymous", "Omit what identifies this machine (UUIDs)."),
        _switch("json", "Print one JSON object on stdout, also on failure.", config=False),
    ),
}
"""The flags of the verbs, in the order in which help shows them."""

FLAGS = {flag.name: flag for rows in SECTIONS.values() for flag in rows}

GLOBAL_FLAGS = (
    Flag("verbose", "Say more; -vv also shows tracebacks.", "count", short="-v", config=False),
    Flag("quiet", "Say less; -qq also hides warnings.", "count", short="-q", config=False),
    Flag(
        "color",
        "When to use colour; NO_COLOR and FORCE_COLOR are honoured.",
        choices=("auto", "always", "never"),
        config=False,
    ),
    _switch("no_config", "Read no configuration file.", config=False),
)
"""Flags of every level: how loud, how coloured, which configuration."""
