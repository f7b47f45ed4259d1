"""Which GPUs `CUDA_VISIBLE_DEVICES` and its kin leave to a process. Pure.

Only asked for with `--respect-visible-devices`: an installation serves the machine, not one process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchinstall.machine import Gpu, Machine

__all__ = ["visible_gpus"]

_VARIABLES = {
    "nvidia": ("CUDA_VISIBLE_DEVICES",),
    # The second counts within what the first left; CUDA_VISIBLE_DEVICES is HIP's fallback.
    "amd": ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
}


def visible_gpus(env: Mapping[str, str], machine: Machine) -> tuple[tuple[str, int], ...] | None:
    """The GPUs left, as (vendor, index); None where no variable says anything.

    A set but empty variable hides every GPU of its vendor, as the drivers read it.
    """
    left: list[tuple[str, int]] = []
    said = False
    for vendor in dict.fromkeys(gpu.vendor for gpu in machine.gpus):
        gpus = [gpu for gpu in machine.gpus if gpu.vendor == vendor]
        indexes = [place if gpu.index is None else gpu.index for place, gpu in enumerate(gpus)]
        kept = list(range(len(gpus)))
        for value in _values(vendor, env):
            said = True
            chosen = (
                _oneapi(value, len(kept)) if vendor == "intel" else _chosen(value, [gpus[k] for k in kept])
            )
            kept = [kept[place] for place in chosen]
        left += [(vendor, indexes[place]) for place in kept]
    return tuple(left) if said else None


def _values(vendor: str, env: Mapping[str, str]) -> list[str]:
    if vendor == "intel":
        return [env["ONEAPI_DEVICE_SELECTOR"]] if env.get("ONEAPI_DEVICE_SELECTOR") else []
    found = [env[name] for name in _VARIABLES.get(vendor, ()) if name in env]
    if vendor == "amd" and "HIP_VISIBLE_DEVICES" not in env and "CUDA_VISIBLE_DEVICES" in env:
        found.append(env["CUDA_VISIBLE_DEVICES"])
    return found


def _chosen(value: str, gpus: list[Gpu]) -> list[int]:
    """Places that a list of numbers and UUIDs names; the first entry that names nothing ends the list.

    That is CUDA's rule, and why -1 hides everything that follows it.
    """
    places: list[int] = []
    for item in (part.strip() for part in value.split(",")):
        if item.upper().startswith("MIG-"):
            found = _mig_parents(item, gpus)
        elif item.upper().startswith("GPU-"):
            found = [place for place, gpu in enumerate(gpus) if _same_uuid(gpu, item)]
        elif item.isdigit() and int(item) < len(gpus):
            found = [int(item)]
        else:
            found = []
        if not found:
            break
        places += [place for place in found if place not in places]
    return places


def _same_uuid(gpu: Gpu, prefix: str) -> bool:
    return gpu.uuid is not None and gpu.uuid.lower().startswith(prefix.lower())


def _mig_parents(item: str, gpus: list[Gpu]) -> list[int]:
    """The GPU of `MIG-GPU-<uuid>/1/0`; a plain `MIG-<uuid>` does not say whose slice it is: any GPU's."""
    body = item[4:].partition("/")[0]
    if body.upper().startswith("GPU-"):
        return [place for place, gpu in enumerate(gpus) if _same_uuid(gpu, body)]
    return list(range(len(gpus)))


def _oneapi(value: str, count: int) -> list[int]:
    """Devices that `level_zero:0,1;opencl:*` selects; a `!` entry takes away, `0.1` is a part of device 0."""
    wanted: set[int] = set()
    unwanted: set[int] = set()
    only_unwanted = True
    for entry in value.split(";"):
        take_away = entry.strip().startswith("!")
        backend, _, devices = entry.strip().lstrip("!").partition(":")
        found: set[int] = set()
        ours = backend.lower() in ("level_zero", "opencl", "*")
        for device in devices.split(",") if ours else ():
            number = device.strip().partition(".")[0]
            if number.lower() in ("*", "gpu"):
                found |= set(range(count))
            elif number.isdigit():
                found.add(int(number))
        if take_away:
            unwanted |= found
        else:
            only_unwanted = False
            wanted |= found
    base = set(range(count)) if only_unwanted else wanted
    return sorted(place for place in base - unwanted if place < count)
