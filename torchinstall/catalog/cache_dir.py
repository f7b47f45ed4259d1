"""Where pages of the index are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["default_cache_dir"]


def default_cache_dir(env: Mapping[str, str], platform: str) -> Path | None:
    """Where pages are kept: `TORCHINSTALL_CACHE_DIR`, else the platform's folder for caches.

    Args:
        env: the environment.
        platform: as `sys.platform`.

    Returns:
        None where nothing names a home.
    """
    if explicit := env.get("TORCHINSTALL_CACHE_DIR"):
        return Path(explicit)
    if platform == "win32":
        local = env.get("LOCALAPPDATA")
        return Path(local) / "torchinstall" / "cache" if local else None
    home = env.get("HOME")
    if platform == "darwin":
        return Path(home) / "Library" / "Caches" / "torchinstall" if home else None
    if (xdg := env.get("XDG_CACHE_HOME", "")).startswith("/"):
        return Path(xdg) / "torchinstall"
    return Path(home) / ".cache" / "torchinstall" if home else None
