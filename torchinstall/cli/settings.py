"""The effective settings of one run, each with who said so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from torchinstall.core.redact import redact
from torchinstall.core.request import Setting

__all__ = ["Settings"]


class Settings(Struct, frozen=True, kw_only=True):
    """Values by setting name (`index_base`) and their sources.

    Attributes:
        values: as parsed; None or an empty tuple where nothing was said.
        sources: `flag --backend`, `environment TORCHINSTALL_BACKEND`, `config pyproject.toml`; a name
            that is missing here has its default.
        flags: how each setting is spelled on the command line.
        rest: what followed `--`.
    """

    values: Mapping[str, Any]
    sources: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    rest: tuple[str, ...] = ()

    def text(self, name: str) -> str | None:
        """A text setting; None where nothing was said."""
        value = self.values.get(name)
        return None if value is None else str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A setting that may be given several times."""
        return tuple(str(item) for item in self.values.get(name) or ())

    def on(self, name: str) -> bool:
        """A switch."""
        return bool(self.values.get(name))

    def number(self, name: str) -> int | None:
        """A whole number; None where nothing was said."""
        value = self.values.get(name)
        return None if value is None else int(value)

    def given(self, name: str) -> bool:
        """Whether anybody but the default said something."""
        return name in self.sources

    def source(self, name: str) -> str:
        """Who said so."""
        return self.sources.get(name, "default")

    def listing(self) -> tuple[Setting, ...]:
        """Every setting that has a value, for the plan; credentials in URLs are left out."""
        rows = []
        for name, value in self.values.items():
            if name not in self.flags or value is None or value == ():
                continue
            text = ", ".join(map(str, value)) if isinstance(value, tuple) else _text(value)
            rows.append(Setting(name=name, value=redact(text), source=self.source(name)))
        return tuple(rows)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
