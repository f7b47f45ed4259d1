"""Settings of a project that have no effect or do harm, each with its slug, for `configure` and `doctor`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.messages import Message, redact
from torchinstall.index.urls import pytorch_index
from torchinstall.project.pyproject import ProjectView, mapping

_IGNORED = "is read by `uv pip` only; uv lock, sync, run and add ignore it"
_ANY_INDEX = "lets any index supply any package; explicit indexes do not need it"
_URL_KEYS = ("index-url", "extra-index-url")
_URL_VARIABLES = (
    "UV_EXTRA_INDEX_URL",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL",
    "PIP_INDEX_URL",
)


def check_uv(uv: Mapping[str, Any], catalog: Catalog, *, prefix: str = "tool.uv.") -> tuple[Message, ...]:
    """Settings of uv; `torch-backend` is read by `uv pip` and `uv tool` only (uv's settings reference).

    `uv` is `[tool.uv]`, or a whole `uv.toml`, where `prefix` (of a key in a message) is empty.
    """
    found = []
    for start, table in ((prefix, uv), (f"{prefix}pip.", mapping(uv.get("pip")))):
        if "torch-backend" in table:
            found.append(_ignored(f"{start}torch-backend = {table['torch-backend']!r}"))
        if _unsafe(strategy := table.get("index-strategy")):
            found.append(_any_index(f"{start}index-strategy = {strategy!r}"))
        found += [_open_index(f"{start}{key}") for key in _URL_KEYS if _pytorch(table.get(key), catalog)]
    for row in ProjectView({"tool": {"uv": uv}}).indexes:
        if not row.explicit and _pytorch(row.url, catalog):
            message = f"the index {row.name or row.url} is not `explicit = true`, so other packages may come "
            found.append(Message(slug="index-not-explicit", message=f"{message}from it too"))
    return tuple(dict.fromkeys(found))


def check_requirements(text: str, catalog: Catalog) -> tuple[Message, ...]:
    """Index options of a requirements file."""
    urls = re.findall(r"^\s*--(?:extra-)?index-url[ =](\S+)", text, re.MULTILINE)
    return tuple(_open_index(redact(url)) for url in urls if _pytorch(url, catalog))


def check_variables(env: Mapping[str, str], catalog: Catalog) -> tuple[Message, ...]:
    """The same settings as environment variables."""
    found = []
    if backend := env.get("UV_TORCH_BACKEND"):
        found.append(_ignored(f"UV_TORCH_BACKEND={backend}"))
    if _unsafe(strategy := env.get("UV_INDEX_STRATEGY")):
        found.append(_any_index(f"UV_INDEX_STRATEGY={strategy}"))
    return (*found, *(_open_index(name) for name in _URL_VARIABLES if _pytorch(env.get(name), catalog)))


def unused_sources(view: ProjectView, catalog: Catalog) -> tuple[str, ...]:
    """Packages of the torch family with a source that uv ignores: it serves direct dependencies only."""
    direct = {item.package for item in view.listed}
    if not view.project or view.dynamic_dependencies:
        return ()
    return tuple(name for name in view.sources if catalog.family(name) is not None and name not in direct)


def _unsafe(strategy: object) -> bool:
    return isinstance(strategy, str) and strategy.startswith("unsafe")


def _pytorch(value: object, catalog: Catalog) -> bool:
    """Whether one of the URLs in a value (a text, or a list of texts) is a PyTorch index."""
    urls = re.findall(r"https?://[^\s'\",\]]+", str(value))
    return any(pytorch_index(url, catalog.backend) for url in urls)


def _ignored(what: str) -> Message:
    return Message(slug="torch-backend-ignored", message=f"{what} {_IGNORED}")


def _any_index(what: str) -> Message:
    return Message(slug="unsafe-index-strategy", message=f"{what} {_ANY_INDEX}")


def _open_index(what: str) -> Message:
    return Message(
        slug="index-not-explicit",
        message=f"{what} names a PyTorch index, so every package may come from it; remove it: an explicit "
        "index serves torch",
    )
