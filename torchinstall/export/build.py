"""From the line of a run to what formats are made from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from torchinstall.core.errors import UsageError
from torchinstall.export.inputs import Given, Locked, Pin
from torchinstall.index.urls import without_credentials
from torchinstall.install.command import project_text
from torchinstall.project.toml import loads

if TYPE_CHECKING:
    from torchinstall.core.plan import Package, Plan
    from torchinstall.planning.assemble import Line

__all__ = ["check_args", "given_of", "holds_credentials", "pins_and_others"]

_HELD = (
    "--default-index",
    "--index",
    "--no-binary",
    "--only-binary",
    "--prerelease",
    "--find-links",
    "--no-index",
    "--allow-insecure-host",
    "--index-strategy",
    "--keyring-provider",
)
_WITHOUT_VALUE = ("--no-index",)


def given_of(
    line: Line, *, resolve: Callable[[], str], uv: str = "", lock: Locked | None = None, base: Path
) -> Given:
    """What formats are made from.

    Args:
        line: with a plan that is not impossible.
        resolve: asks uv for everything that will be installed.
        uv: version of uv.
        lock: of the project at hand.
        base: the folder that files are written for; paths in them start there.

    Raises:
        UsageError: `not-exportable`: what was asked for cannot be written down.
    """
    from torchinstall import __version__

    check_args(line.order.uv_args)
    pins, others = pins_and_others(line.plan)
    return Given(
        plan=line.plan,
        target=line.target,
        machine=line.machine,
        backend=line.catalog.backend(line.plan.backend) if line.plan.backend else None,
        pins=pins,
        others=others,
        tool=f"torchinstall {__version__}",
        resolve=resolve,
        uv=uv,
        uv_args=tuple(without_credentials(item) for item in line.order.uv_args),
        constraint_files=line.order.constraint_files,
        lock=lock,
        base=str(base),
    )


def holds_credentials(line: Line) -> bool:
    """Whether a URL that will be written down has user and password, which are then left out."""
    plan = line.plan
    texts = (*(item.index_url or "" for item in plan.packages), *plan.requirements, *line.order.uv_args)
    return any(without_credentials(text) != text for text in texts)


def check_args(uv_args: tuple[str, ...]) -> None:
    """Refuse what cannot be written down: editables, folders, and switches of `uv pip install`.

    Raises:
        UsageError: `not-exportable`.
    """
    rest = list(uv_args)
    while rest:
        item = rest.pop(0)
        name, equals, _ = item.partition("=")
        if name not in _HELD:
            raise UsageError(
                "not-exportable",
                f"{item} is no requirement that could be written down",
                wanted="requirements by name, or wheels by path or URL",
                found=item,
                hints=("leave it out, and build a wheel of it first: uv build --wheel",),
            )
        if not equals and name not in _WITHOUT_VALUE and rest:
            rest.pop(0)


def pins_and_others(plan: Plan) -> tuple[tuple[Pin, ...], tuple[str, ...]]:
    """Packages whose build is decided, and the requirements that are left to the tool."""
    packages = {item.name: item for item in plan.packages if item.version is not None or item.index_url}
    lines = (loads(project_text(plan)) or {})["project"]["dependencies"]
    pins: list[Pin] = []
    others: list[str] = []
    for line in lines:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        package = packages.get(name)
        if requirement.url is not None:
            known = _version_in(requirement.url) or (package.version if package is not None else None)
            pins.append(Pin(name=name, line=line, version=known, url=without_credentials(requirement.url)))
        elif package is not None:
            pins.append(_pin(package, line, plan.find_links))
        else:
            others.append(without_credentials(line))
    return tuple(pins), tuple(others)


def _pin(package: Package, line: str, folders: tuple[str, ...]) -> Pin:
    index = without_credentials(package.index_url) if package.index_url else None
    if index is not None or not package.routed:
        return Pin(name=package.name, line=line, version=package.version, index=index)
    files = (Path(folder.removeprefix("file://")) / (package.wheel or "") for folder in folders)
    file = next((path for path in files if package.wheel and path.is_file()), None)
    return Pin(
        name=package.name,
        line=line,
        version=package.version,
        folders=folders,
        url=file.resolve().as_uri() if file is not None else None,
    )


def _version_in(url: str) -> str | None:
    try:
        return str(parse_wheel_filename(unquote(urlsplit(url).path).rpartition("/")[2])[1])
    except InvalidWheelFilename:
        return None
