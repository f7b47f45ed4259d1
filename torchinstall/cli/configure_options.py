"""The flags of `configure` alone."""

from __future__ import annotations

from torchinstall.cli.options import Declared, declare

__all__ = ["CONFIGURE_OPTIONS"]

CONFIGURE_OPTIONS = ("layout", "with", "on", "default_backend", "require_platform", "migrate", "lock")

declare(
    Declared(
        name="layout",
        decls=("--layout",),
        choices=("this-machine", "markers", "extras", "groups"),
        section="What to install",
        config=False,
        help="How the project chooses a build; else the one it has, else this-machine.",
    ),
    Declared(
        name="with",
        decls=("--with",),
        kind="texts",
        metavar="BACKEND",
        section="What to install",
        config=False,
        help="A backend to offer as extra or group (repeatable; else cpu and this machine's).",
    ),
    Declared(
        name="on",
        decls=("--on",),
        kind="texts",
        metavar="PLATFORM=BACKEND",
        section="What to install",
        config=False,
        help="Layout markers: the backend of one platform, or default (repeatable).",
    ),
    Declared(
        name="default_backend",
        decls=("--default",),
        metavar="BACKEND",
        section="What to install",
        config=False,
        help="Layout groups: the backend that a bare uv run takes.",
    ),
    Declared(
        name="require_platform",
        decls=("--require-platform",),
        kind="texts",
        metavar="PLATFORM",
        section="What to install",
        config=False,
        help="A platform that the lock must serve (repeatable; none: leave the key alone).",
    ),
    Declared(
        name="migrate",
        decls=("--migrate",),
        kind="switch",
        section="How",
        config=False,
        help="Rewrite pins by local version, find-links, Rye, Poetry and PDM tables first.",
    ),
    Declared(
        name="lock",
        decls=("--lock/--no-lock",),
        kind="switch",
        default=True,
        section="How",
        config=False,
        help="Let uv lock afterwards and check every platform (default: yes).",
    ),
)
