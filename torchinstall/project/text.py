"""The whole way from a project file's text to its configured text. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from torchinstall.core.messages import Message
from torchinstall.project.checks import check_uv
from torchinstall.project.edit import Edited, edit_text
from torchinstall.project.layouts import desired
from torchinstall.project.legacy import Legacy, recognise, refuse_legacy
from torchinstall.project.migrate import migrate_text
from torchinstall.project.toml import parse
from torchinstall.project.view import IndexRow, ProjectView

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchinstall.catalog.catalog import Catalog
    from torchinstall.project.model import Desired, Layout

__all__ = ["configured", "view_of"]

_READ_BY_OTHERS = {
    "rye": Message(
        slug="rye-project",
        message="uv does not read [tool.rye]; `torchinstall configure --migrate` moves it to uv's tables",
    ),
    "pdm": Message(
        slug="pdm-project",
        message="uv does not read [tool.pdm]; `torchinstall configure --migrate` moves what uv can use",
    ),
    "poetry": Message(
        slug="poetry-project",
        message="uv does not read [tool.poetry]; what it says beside [project] holds for Poetry only",
    ),
    "find-links": Message(
        slug="find-links-project",
        message="find-links pages of PyTorch serve every package, whatever the index says; "
        "`torchinstall configure --migrate` removes them",
    ),
}


def view_of(text: str) -> ProjectView:
    """What a project file says.

    Raises:
        UsageError: `bad-pyproject`.
    """
    return ProjectView(parse(text.removeprefix("\ufeff")).unwrap())


def configured(
    text: str,
    layout_of: Callable[[ProjectView, Legacy], Layout],
    catalog: Catalog,
    *,
    migrate: bool = False,
    inherited: tuple[IndexRow, ...] = (),
    member: bool = False,
) -> Edited:
    """A project file with a layout written into it; equal to `text` where it says all of that already.

    Args:
        text: the file.
        layout_of: the layout for what the file says (after migration) and for what was recognised in it.
        catalog: what is published.
        migrate: rewrite older ways first.
        inherited: index entries of the workspace root, which a member may name.
        member: of a workspace: keys that uv reads only at its root are left out.

    Raises:
        UsageError: the file is not TOML, must be migrated first, or says something that stands in the way.
        NoCompatibleBuildError: its version bounds rule out every build of a backend.
    """
    legacy = recognise(view_of(text), catalog)
    notes: tuple[Message, ...] = ()
    if migrate:
        moved = migrate_text(text, catalog)
        text, notes = moved.text, moved.notes
    else:
        refuse_legacy(legacy)
        notes = tuple(_READ_BY_OTHERS[kind] for kind in legacy.kinds)
    layout = layout_of(view_of(text), legacy)

    def entries(view: ProjectView) -> Desired:
        wanted = desired(layout, view, catalog)
        return structs.replace(wanted, environments=(), required=()) if member else wanted

    done = edit_text(text, entries, catalog, inherited)
    after = check_uv(view_of(done.text).uv, catalog)
    return Edited(done.text, tuple(dict.fromkeys((*notes, *done.notes, *after))))
