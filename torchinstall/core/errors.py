"""Every way in which torchinstall ends badly: one class per exit code, one slug per cause.

The slugs are part of the contract: scripts match on them, and `docs/reference/errors.md` lists each one
(a test compares that page with the slugs raised in the source).
"""

from __future__ import annotations

from typing import ClassVar


class TorchInstallError(Exception):
    """A failure that a user can understand and act on.

    Args:
        slug: stable kebab-case name of the cause.
        message: what happened, one sentence without a full stop.
        wanted: what was needed, where that helps.
        found: what was there instead, and where it was seen.
        hints: what to type next; each entry is one way on.
    """

    exit_code: ClassVar[int] = 70

    def __init_subclass__(cls, exit_code: int | None = None) -> None:
        cls.exit_code = exit_code or cls.exit_code

    def __init__(
        self,
        slug: str,
        message: str,
        *,
        wanted: str | None = None,
        found: str | None = None,
        hints: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.slug = slug
        self.message = message
        self.wanted = wanted
        self.found = found
        self.hints = hints

    def to_json(self) -> dict[str, object]:
        """The `error` object of every `--json` envelope (`hint` joins the ways on with newlines)."""
        return {
            "slug": self.slug,
            "message": self.message,
            "wanted": self.wanted,
            "found": self.found,
            "hint": "\n".join(self.hints) or None,
            "exit_code": self.exit_code,
        }


class InstallFailedError(TorchInstallError, exit_code=1):
    """uv ran and failed."""


class UsageError(TorchInstallError, exit_code=2):
    """A bad flag, configuration value, machine file or requirement."""


class NoCompatibleBuildError(TorchInstallError, exit_code=3):
    """Every candidate was rejected, or the user's pins rule out every build for this machine's GPU."""


class GpuUnavailableError(TorchInstallError, exit_code=4):
    """A GPU was required and no GPU build can run, or hardware is there and cannot be read."""


class ToolMissingError(TorchInstallError, exit_code=5):
    """uv is missing, too old, or does not run."""


class TargetError(TorchInstallError, exit_code=6):
    """No environment to install into, or one that must not or cannot be changed."""


class VerifyFailedError(TorchInstallError, exit_code=7):
    """Installed, but it does not compute."""


class CatalogError(TorchInstallError, exit_code=8):
    """The index could not be reached when it was needed, or a page or table is invalid."""
