"""The columns of every catalog table (`data/*.json`), in the order in which they are written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

from torchinstall.catalog.model import Confidence, Origin, Strategy
from torchinstall.catalog.table_file import Check, Column, Schema
from torchinstall.core.machine import Vendor

__all__ = ["GPU_VENDORS", "SCHEMAS"]

GPU_VENDORS: tuple[Vendor, ...] = ("nvidia", "amd", "intel")
"""Vendors with a product table `gpus_<vendor>.json`."""

_DOTTED = re.compile(r"\d+(\.\d+)*").fullmatch
_CAPABILITY = re.compile(r"\d+\.\d+").fullmatch
_PCI_ID = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}").fullmatch
_TAG = re.compile(r"[a-z0-9.]+-[a-z0-9_.]+").fullmatch
_SHA256 = re.compile(r"[0-9a-f]{64}").fullmatch


def _text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _maybe_empty(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return value is True or value is False


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _some_texts(value: Any) -> bool:
    return bool(value) and _texts(value)


@cache
def _tag_list(value: str) -> bool:
    return all(_TAG(tag) for tag in value.split(" "))


def _tags(value: Any) -> bool:
    # Few different lists serve many rows: each is looked at once.
    return isinstance(value, str) and _tag_list(value)


def _pattern(value: Any) -> bool:
    try:
        re.compile(value)
    except (re.error, TypeError):
        return False
    return True


def _one_of(*allowed: str) -> Check:
    names = frozenset(allowed)
    return lambda value: isinstance(value, str) and value in names


def _matching(pattern: Any) -> Check:
    return lambda value: isinstance(value, str) and pattern(value) is not None


def _or_null(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _column(name: str, check: Check, wanted: str) -> Column:
    return Column(name=name, check=check, wanted=wanted)


def _choice(name: str, *allowed: str) -> Column:
    return Column(name=name, check=_one_of(*allowed), wanted=" or ".join(allowed))


def _name(name: str) -> Column:
    return _column(name, _text, "a text")


def _version(name: str) -> Column:
    return _column(name, _matching(_DOTTED), "a dotted version")


def _schema(*columns: Column) -> Schema:
    confidence = _choice("confidence", *get_args(Confidence))
    return Schema(columns=(*columns, confidence, _name("source")))


_VENDOR = _choice("vendor", *get_args(Vendor))

_GPUS = _schema(
    _column("pci_id", _or_null(_matching(_PCI_ID)), "a PCI id 10de:2684 or null"),
    _column("name", _or_null(_text), "a text or null"),
    _column("code", _or_null(_text), "a text or null"),
    Column(name="supported", check=_or_null(_flag), wanted="true, false or null", optional=True),
    Column(name="integrated", check=_or_null(_flag), wanted="true, false or null", optional=True),
    Column(name="os", check=_some_texts, wanted="operating systems", optional=True, default=None),
)

SCHEMAS: Mapping[str, Schema] = {
    "backend_kinds.json": _schema(
        _name("kind"),
        _column("pattern", _pattern, "a regular expression"),
        _column("vendor", _or_null(_one_of(*get_args(Vendor))), "a vendor or null"),
        _column("toolkit", _or_null(_text), "a text or null"),
        _choice("strategy", *get_args(Strategy)),
        _column("rank", _number, "a number"),
    ),
    "backends.json": _schema(
        _name("backend"),
        _version("first"),
        _column("retired", _or_null(_matching(_DOTTED)), "a torch release or null"),
    ),
    "wheels.json": _schema(
        _name("package"),
        _name("version"),
        _column("local", _maybe_empty, "a text, empty for no local version"),
        _column("backend", _maybe_empty, "a backend, empty where the wheel serves all"),
        _name("platform_tag"),
        _column("tags", _tags, "python-abi tags with a space between"),
        _choice("origin", *get_args(Origin)),
        Column(
            name="channel",
            check=_one_of("stable", "test", "nightly"),
            wanted="a channel",
            optional=True,
            default="stable",
        ),
        Column(name="build", check=_maybe_empty, wanted="a build tag", optional=True, default=""),
    ),
    "companions.json": _schema(
        _version("torch"), _name("package"), _name("version"), _column("exact", _flag, "true or false")
    ),
    "code.json": _schema(
        _column("torch", _matching(_CAPABILITY), "a torch minor release, 2.9"),
        _name("backend"),
        _name("platform"),
        _column("native", _some_texts, "SM or gfx targets"),
        _column("ptx", _or_null(_texts), "PTX targets or null for unknown"),
    ),
    "code_rules.json": _schema(
        _choice("rule", "own-code-only", "same-device"),
        _column("capability", _matching(_CAPABILITY), "a compute capability"),
        _column("other", _or_null(_matching(_CAPABILITY)), "a compute capability or null"),
        _column("until", _or_null(_matching(_DOTTED)), "a toolkit version or null"),
    ),
    "driver_floors.json": _schema(
        _name("kind"),
        _column("major", _number, "a number"),
        _column("minor", _or_null(_number), "a number or null"),
        _version("linux"),
        _version("windows"),
    ),
    "driver_branches.json": _schema(_column("branch", _number, "a number"), _version("cuda")),
    "driver_gpus.json": _schema(
        _column("capability", _matching(_CAPABILITY), "a compute capability"),
        _column("first_branch", _or_null(_number), "a number or null"),
        _column("last_branch", _or_null(_number), "a number or null"),
        _name("architecture"),
    ),
    "vendor_indexes.json": _schema(
        _VENDOR, _name("match"), _column("os", _texts, "operating systems"), _name("url"), _name("text")
    ),
    "families.json": _schema(
        _name("package"),
        _column("routed", _flag, "true or false"),
        _choice("pairing", "table", "torch", "free"),
        _column("runtime_of", _texts, "backend kinds, backends or kind@channel"),
        _column("own_cuda", _flag, "true or false"),
        Column(name="ended", check=_flag, wanted="true or false", optional=True, default=False),
    ),
    "hashes.json": _schema(
        _column("backend", _maybe_empty, "a backend, empty for PyPI"),
        _name("file"),
        _column("sha256", _matching(_SHA256), "64 hexadecimal digits"),
    ),
    **{f"gpus_{vendor}.json": _GPUS for vendor in GPU_VENDORS},
}
"""Schema by file name. `confidence` and `source` end every row."""
