"""Wheel variants (PEP 817 and 825): wheels of one version that differ in what hardware they are built for.

The label at the end of a file name (`…-manylinux_2_28_x86_64-cu130.whl`) stands for properties, which the
index lists in `{name}-{version}-variants.json`. Only what NVIDIA's provider names is understood, and the null
variant; these are also all that uv can install for a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from torchinstall.core.machine import Gpu, capability_text
from torchinstall.core.versions import dotted_or_none
from torchinstall.index.wheels import WheelName, parse_name

Properties = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Namespace -> feature -> values: the machine must have one of the values of each feature."""

NULL = "null"
"""The label of the wheel that asks for nothing."""


class _VariantsFile(Struct):
    variants: dict[str, dict[str, dict[str, tuple[str, ...]]]]


class VariantBuild(Struct, frozen=True):
    """What a variant is built for, in the words of the tables: backend, native and PTX targets."""

    backend: str
    native: tuple[str, ...] = ()
    ptx: tuple[str, ...] = ()


def parse_variant_name(filename: str) -> tuple[WheelName, str] | None:
    """The parts of a variant wheel's name, and its label; None for any other file."""
    stem, _, label = filename.removesuffix(".whl").rpartition("-")
    if (
        not label.replace("_", "").replace(".", "").isalnum()
        or label != label.lower()
        or parse_name(filename)
    ):
        return None
    name = parse_name(f"{stem}.whl")
    return None if name is None else (name, label)


def read_variants(text: str | bytes) -> dict[str, Properties]:
    """The properties of each label, from a `variants.json` of an index or the `variant.json` of a wheel.

    Raises:
        ValueError: it is no such file.
    """
    try:
        return dict(msgspec.json.decode(text, type=_VariantsFile).variants)
    except msgspec.DecodeError as error:
        raise ValueError(f"no list of variants: {error}") from error


def variant_build(properties: Properties) -> VariantBuild | None:
    """What properties mean; None where they ask for something that is not understood."""
    if not properties:
        return VariantBuild("cpu")
    nvidia = properties.get("nvidia", {})
    toolkit = dotted_or_none(min(nvidia.get("cuda_version_lower_bound", ("",))))
    if set(properties) != {"nvidia"} or toolkit is None or len(toolkit) < 2:
        return None
    native, ptx = [], []
    for value in nvidia.get("sm_arch", ()):
        number, _, kind = value.partition("_")
        digits = number.rstrip("af")
        if not digits.isdigit() or kind not in ("", "real", "virtual"):
            return None
        text = capability_text((int(digits) // 10, int(digits) % 10))
        native += [text] if kind != "virtual" else []
        ptx += [text] if kind != "real" else []
    return VariantBuild(f"cu{toolkit[0]}{toolkit[1]}", tuple(native), tuple(ptx))


def provider_env(properties: Iterable[Properties], gpus: Iterable[Gpu]) -> dict[str, str]:
    """Variables with which uv accepts these variants for these GPUs.

    uv looks at the machine itself, in its own way: it counts the driver's CUDA version without the
    minor-version compatibility, and sees nothing where `nvidia-smi` is missing.
    """
    bounds = [row["nvidia"]["cuda_version_lower_bound"][0] for row in properties if "nvidia" in row]
    best = max((gpu.compute_capability for gpu in gpus if gpu.compute_capability), default=None)
    if not bounds or best is None:
        return {}
    return {
        "NV_VARIANT_PROVIDER_FORCE_CUDA_DRIVER_VERSION": max(
            bounds, key=lambda text: dotted_or_none(text) or ()
        ),
        "NV_VARIANT_PROVIDER_FORCE_SM_ARCH": capability_text(best),
    }
