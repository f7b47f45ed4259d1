"""What a container image says about the machines that it is meant for: a hint, never a fact.

Images made from `nvidia/cuda` carry `CUDA_VERSION` (the toolkit inside) and `NVIDIA_REQUIRE_CUDA` (what the
container runtime checks at start: `cuda>=12.6 brand=tesla,driver>=535,...`). During `docker build` no GPU is
visible, so these are all that is known about where the image will run.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchinstall.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ImageHint", "image_hint"]

_REQUIRED_CUDA = re.compile(r"(?:^|[\s,])cuda>=(\d+\.\d+)")
_CUDA = re.compile(r"(\d+\.\d+)")
_NO_DEVICES = ("none", "void")


@dataclass(frozen=True, slots=True)
class ImageHint:
    """The driver CUDA version that an image counts on, and the variable that says so."""

    cuda: str
    variable: str


def image_hint(env: Mapping[str, str]) -> ImageHint | None:
    """Read the hint from an image's variables; None where there is none, or the image wants no GPU."""
    if env.get("NVIDIA_VISIBLE_DEVICES") in _NO_DEVICES:
        return None
    if match := _REQUIRED_CUDA.search(env.get("NVIDIA_REQUIRE_CUDA", "")):
        return ImageHint(match[1], "NVIDIA_REQUIRE_CUDA")
    if match := _CUDA.match(env.get("CUDA_VERSION", "")):
        return ImageHint(match[1], "CUDA_VERSION")
    return None
