"""Settings of a project that have no effect or do harm, each with its slug, for `configure` and `doctor`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torchinstall.catalog.catalog import Catalog
from torchinstall.core.messages import Message, redact
from torchinstall.index.urls import pytorch_index
from torchinstall.project.pyproject import ProjectView, mapping

_VARIABLES = {
    "UV_TORCH_BACKEND": "torch-backend",
    "UV_INDEX_STRATEGY": "index-strategy",
    "UV_EXTRA_INDEX_URL": "extra-index-url",
    "UV_INDEX": "index-url",
    "UV_INDEX_URL": "index-url",
    "UV_DEFAULT_INDEX": "index-url",
    "PIP_EXTRA_INDEX_URL": "extra-index-url",
    "PIP_INDEX_URL": "index-url",
}
"""Variable -> the setting of uv that it is."""


def check_uv(uv: Mapping[str, Any], catalog: Catalog, *, prefix: str = "tool.uv.") -> tuple[Message, ...]:
    """Settings of uv; `torch-backend` is read by `uv pip` and `uv tool` only (uv's settings reference).

    `uv` is `[tool.uv]`, or a whole `uv.toml`, where `prefix` (of a key in a message) is empty.
    """
    found = list[Message]()
    for start, table in ((prefix, uv), (f"{prefix}pip.", mapping(uv.get("pip")))):
        for key, value in table.items():
            found += _setting(key, value, f"{start}{key} = {value!r}", f"{start}{key}", catalog)
    for row in ProjectView({"tool": {"uv": uv}}).indexes:
        if not row.explicit and _pytorch(row.url, catalog):
            message = f"the index {row.name or row.url} is not `explicit = true`, so other packages may come "
            found.append(Message(slug="index-not-explicit", message=f"{message}from it too"))
    return tuple(dict.fromkeys(found))


def check_requirements(text: str, catalog: Catalog) -> tuple[Message, ...]:
    """Index options of a requirements file."""
    urls = re.findall(r"^\s*--(?:extra-)?index-url[ =](\S+)", text, re.MULTILINE)
    return tuple(row for url in urls for row in _setting("index-url", url, "", redact(url), catalog))


def check_variables(env: Mapping[str, str], catalog: Catalog) -> tuple[Message, ...]:
    """The same settings as environment variables."""
    set_ = {name: env[name] for name in _VARIABLES if env.get(name)}
    found = (_setting(_VARIABLES[name], set_[name], f"{name}={set_[name]}", name, catalog) for name in set_)
    return tuple(row for rows in found for row in rows)


def _setting(key: str, value: object, shown: str, name: str, catalog: Catalog) -> Iterator[Message]:
    """What is wrong with a setting, which is `shown` with its value or called by its name."""
    if key == "torch-backend":
        message = f"{shown} is read by `uv pip` only; uv lock, sync, run and add ignore it"
        yield Message(slug="torch-backend-ignored", message=message)
    elif key == "index-strategy" and str(value).startswith("unsafe"):
        message = f"{shown} lets any index supply any package; explicit indexes do not need it"
        yield Message(slug="unsafe-index-strategy", message=message)
    elif key in ("index-url", "extra-index-url") and _pytorch(value, catalog):
        message = f"{name} names a PyTorch index, so every package may come from it; remove it: an explicit "
        yield Message(slug="index-not-explicit", message=f"{message}index serves torch")


def unused_sources(view: ProjectView, catalog: Catalog) -> tuple[str, ...]:
    """Packages of the torch family with a source that uv ignores: it serves direct dependencies only."""
    direct = {item.package for item in view.listed}
    if not view.project or view.dynamic_dependencies:
        return ()
    return tuple(name for name in view.sources if catalog.family(name) is not None and name not in direct)


def _pytorch(value: object, catalog: Catalog) -> bool:
    """Whether one of the URLs in a value (a text, or a list of texts) is a PyTorch index."""
    urls = re.findall(r"https?://[^\s'\",\]]+", str(value))
    return any(pytorch_index(url, catalog.backend) for url in urls)
