"""What a verb was asked for: one frozen value with a typed field for each flag, and who set each of them.

The field names are the names of the flags (`index_base` is `--index-base`), and the field defaults are the
defaults of the flags. How a flag is spelled and described is the command line's affair (`cli/flags.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from msgspec import Struct, structs

from torchinstall.core.messages import redact
from torchinstall.core.request import DEFAULT_INDEX_BASE, Channel, CompanionSource, Setting

if TYPE_CHECKING:
    from typing_extensions import Self


class Options(Struct, frozen=True, kw_only=True):
    """The options of any verb.

    Attributes:
        omit: fields that are no flags of this verb: they keep their defaults.
        sources: who set a field: `flag --backend`, `environment TORCHINSTALL_BACKEND`, `config
            pyproject.toml`, `argument`; a field that is missing here has its default.
        rest: what followed `--`.
    """

    omit: ClassVar[frozenset[str]] = frozenset()
    sources: Mapping[str, str] = {}
    rest: tuple[str, ...] = ()

    def is_set(self, name: str) -> bool:
        """Whether anything but the default decided this field."""
        return self.source(name) != "default"

    def source(self, name: str) -> str:
        """Who set this field.

        Raises:
            AttributeError: there is no such field.
        """
        getattr(self, name)
        return self.sources.get(name, "default")

    def of_project(self, name: str) -> bool:
        """Whether a project's file set this field."""
        return self.source(name) == "config pyproject.toml"


class MachineOptions(Options, frozen=True, kw_only=True):
    """Which machine is planned for, and how far its GPUs must be used."""

    machine: tuple[str, ...] = ()
    root: str | None = None
    target_driver: str | None = None
    target_cuda: str | None = None
    target_gpu: tuple[str, ...] = ()
    backend: str = "auto"
    require_gpu: bool = False
    allow_cpu: bool = False
    prefer_gpu: int | None = None
    respect_visible_devices: bool = False
    need: Literal["compile"] | None = None


class PlanOptions(MachineOptions, frozen=True, kw_only=True):
    """Everything that a plan is made from."""

    reqs: tuple[str, ...] = ()
    requirement: tuple[str, ...] = ()
    constraint: tuple[str, ...] = ()
    upgrade: bool = False
    allow_build: tuple[str, ...] = ()
    companion_source: CompanionSource = "trusted"
    python: str | None = None
    venv: str | None = None
    system: bool = False
    python_version: str | None = None
    channel: Channel = "stable"
    index_base: str = DEFAULT_INDEX_BASE
    vendor_index: bool = False
    fallback: bool = True
    find_links: tuple[str, ...] = ()
    offline: bool = False
    refresh: bool = False
    allow_insecure_host: tuple[str, ...] = ()
    dry_run: bool = False

    @classmethod
    def of(cls, options: Options, **changes: Any) -> Self:
        """The fields that another verb's options share with a plan's; `changes` replace some of them."""
        shared = {name: getattr(options, name) for name in cls.__struct_fields__ if hasattr(options, name)}
        return cls(**{**shared, **changes})

    def listing(self) -> tuple[Setting, ...]:
        """Every flag that has a value, for the plan; credentials in URLs are left out."""
        rows = []
        for name, value in structs.asdict(self).items():
            if name in _NO_FLAGS or name in self.omit or value is None or value == ():
                continue
            rows.append(Setting(name=name, value=redact(_text(value)), source=self.source(name)))
        return tuple(rows)


_NO_FLAGS = frozenset({"sources", "rest", "reqs"})


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
