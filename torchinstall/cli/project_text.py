"""What a configured project gets, for a person and for JSON. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchinstall.project.model import ALWAYS

if TYPE_CHECKING:
    from torchinstall.project.configure import Configured
    from torchinstall.project.lock import Build

__all__ = ["builds_rows", "configured_text"]


def builds_rows(builds: tuple[Build, ...]) -> list[dict[str, Any]]:
    """One row per package, platform and choice."""
    rows = []
    for build in builds:
        locked = build.locked
        rows.append(
            {
                "package": build.package,
                "platform": build.platform,
                "select": {build.scope.kind: build.scope.name} if build.scope != ALWAYS else None,
                "version": locked.version if locked else None,
                "index_url": locked.url if locked else None,
            }
        )
    return rows


def configured_text(status: str, done: Configured, names: tuple[str, ...]) -> str:
    """What was written, then a table of what each platform gets."""
    files = " and ".join(names)
    lines = [
        f"{files}: nothing to change" if status == "unchanged" else f"{files}: layout {done.layout.name}"
    ]
    if not done.layout.backends:
        lines.append("torch comes from the default index here; there is nothing to route")
    groups: dict[str, list[str]] = {}
    for build in done.builds:
        if build.locked is not None:
            choice = build.scope.text if build.scope != ALWAYS else ""
            key = f"{choice:<16}  {build.platform:<14}" if choice else f"{build.platform:<14}"
            groups.setdefault(key, []).append(f"{build.package} {build.locked.version}")
    lines += [f"  {key}  {', '.join(items)}" for key, items in groups.items()]
    return "\n".join(lines)
