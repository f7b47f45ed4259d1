"""Wheel variants as an index holds them: labelled wheels, and the file that lists their properties."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tests.support.wheelhouse import TinyWheel

SCHEMA = "https://variants-schema.wheelnext.dev/peps/850/v0.2.0.json"
PROVIDERS = {
    "nvidia": {
        "plugin-api": "nvidia_variant_provider.plugin:NvidiaVariantPlugin",
        "requires": ["nvidia-variant-provider>=0.0.1"],
    },
    "amd": {
        "plugin-api": "amd_variant_provider.plugin:AMDVariantPlugin",
        "requires": ["amd-variant-provider>=0.0.1"],
    },
}
Properties = Mapping[str, Mapping[str, list[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantsFile(TinyWheel):
    """`torch-2.14.1-variants.json`, as a file of an index."""

    text: str

    def content(self) -> bytes:
        return self.text.encode()


def nvidia(toolkit: str, sm: Iterable[str], ptx: Iterable[str] = ()) -> Properties:
    """What NVIDIA's provider asks for: the driver's CUDA version, and one of these codes."""
    codes = [f"{text.replace('.', '')}_real" for text in sm] + [
        f"{text.replace('.', '')}_virtual" for text in ptx
    ]
    return {"nvidia": {"cuda_version_lower_bound": [toolkit], "sm_arch": codes}}


def _document(variants: Mapping[str, Properties]) -> str:
    return json.dumps(
        {
            "$schema": SCHEMA,
            "default-priorities": {"namespace": list(PROVIDERS)},
            "providers": PROVIDERS,
            "variants": variants,
        }
    )


def variant_wheels(variants: Mapping[str, tuple[TinyWheel, Properties]]) -> list[TinyWheel]:
    """The files of one package version: a wheel for each label, and the list of their properties."""
    return variant_files([(label, *row) for label, row in variants.items()])


def variant_files(wheels: Iterable[tuple[str, TinyWheel, Properties]]) -> list[TinyWheel]:
    """As `variant_wheels`, where a label may have several wheels (for several Pythons)."""
    found: list[TinyWheel] = []
    variants: dict[str, Properties] = {}
    for label, item, properties in wheels:
        variants[label] = properties
        inside = f"{item.name}-{item.version}.dist-info/variant.json"
        files = {**item.files, inside: _document({label: properties})}
        found.append(replace(item, files=files, odd_filename=item.filename.replace(".whl", f"-{label}.whl")))
    name, version = found[0].name, found[0].version
    text = _document(variants)
    found.append(
        VariantsFile(name=name, version=version, odd_filename=f"{name}-{version}-variants.json", text=text)
    )
    return found
