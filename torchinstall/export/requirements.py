"""`--format requirements`: everything that will be installed, with hashes, for pip and uv alike."""

from __future__ import annotations

from torchinstall.export.inputs import Given
from torchinstall.export.resolve import File, files_of

__all__ = ["render", "requirement_lines"]


def render(given: Given) -> str:
    """A requirements file.

    Decided packages are named by the URL of their one file, so that no index has to be configured and none
    can replace them; the rest comes from the reader's default index. Each line has the hash of the file for
    this target: the file is for this platform and this Python only.
    """
    files = files_of(given.resolve(), given.target)
    how = "pip install --require-hashes -r requirements.txt, or the same with uv pip"
    by_url = {pin.name for pin in given.pins if pin.index is not None or pin.url is not None or pin.folders}
    unhashed = {
        package.name
        for package in given.plan.packages
        if package.sha256 is None
        and package.index_url is not None
        and f"{given.plan.backend}/{package.name}" in given.plan.catalog.live
    }
    return "\n".join([*given.head(how), *requirement_lines(files, by_url, unhashed)]) + "\n"


def requirement_lines(
    files: tuple[File, ...], by_url: set[str], unhashed: set[str] | frozenset[str] = frozenset()
) -> list[str]:
    """One requirement a file.

    Args:
        files: to install.
        by_url: names of those that are named by URL.
        unhashed: names of those that the index lists without a hash, so that the hash is only that of the
            file which was downloaded while this was written.
    """
    lines: list[str] = []
    for file in files:
        what = f"{file.name} @ {file.url}" if file.name in by_url else f"{file.name}=={file.version}"
        if file.name in unhashed:
            lines.append("# The index lists no hash for the next file: this is the hash of what it served.")
        lines.append(f"{what} \\\n    --hash=sha256:{file.sha256}" if file.sha256 else what)
    return lines
