"""Ask NVIDIA's libraries what is there: a script that runs in a process of its own.

A library that hangs or crashes takes only this process down; every fact is printed (one JSON object a line)
as soon as it is known, so that those before the fault survive. Run it as
`python -I -S nvml_script.py PYNVML_FOLDER NVML_LIBRARY... -- CUDA_LIBRARY...`; it imports nothing of ours.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing costs as much as the rest of this script
    from collections.abc import Callable, Sequence
    from typing import Any

FUNCTION_NOT_FOUND, UNKNOWN = 13, 999  # return codes of nvml.h
CAPABILITY_MAJOR, CAPABILITY_MINOR, INTEGRATED = 75, 76, 18  # CUdevice_attribute of cuda.h


def _say(**row: object) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def _load(names: Sequence[str]) -> tuple[Any, str]:
    """The first library that loads (or None), and its name (or why the last one did not)."""
    problem = "no library named"
    for name in names:
        try:
            return ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL), name
        except OSError as error:  # noqa: PERF203 - each name is one attempt
            problem = str(error)
    return None, problem


def _loaded_file(stem: str, name: str) -> str:
    """The file that is loaded as `stem`: links are resolved, so its name tells the driver version."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123 - pathlib is slow
            for line in maps:
                path = line.rstrip("\n").partition("/")[2]
                if stem in path.rpartition("/")[2]:
                    return "/" + path
    except OSError:
        pass
    return os.path.realpath(name) if os.path.isabs(name) else name  # noqa: PTH117 - pathlib is slow to import


def _ask_nvml(pynvml: Any, library: Any) -> bool:
    """Print what NVML says; whether it could be initialised."""

    def get(codes: dict[str, int], key: str, function: Callable[..., Any], *args: object) -> Any:
        """The answer, or None with the NVML error code noted under `key`."""
        try:
            return function(*args)
        except pynvml.NVMLError as error:
            codes[key] = int(error.value)
        except (AttributeError, OSError, TypeError, ValueError):  # an old pynvml, or text that is not text
            codes[key] = UNKNOWN
        return None

    codes: dict[str, int] = {}
    get(codes, "init", pynvml.nvmlInit)
    if codes.get("init") == FUNCTION_NOT_FOUND:
        codes["init"] = _call(library, ("nvmlInit_v2", "nvmlInit"))
    code = codes.get("init", 0)
    version = get(codes, "driver", pynvml.nvmlSystemGetDriverVersion)
    _say(what="init", code=code, text=_text_of(pynvml, code))
    if version is not None:
        _say(what="driver", version=_as_text(version))
    if code != 0:
        return False
    cuda = get(codes, "cuda", pynvml.nvmlSystemGetCudaDriverVersion_v2)
    if codes.get("cuda") in (FUNCTION_NOT_FOUND, UNKNOWN):
        del codes["cuda"]
        cuda = get(codes, "cuda", pynvml.nvmlSystemGetCudaDriverVersion)
    _say(what="cuda", value=cuda, code=codes.get("cuda", 0))
    count = get(codes, "count", pynvml.nvmlDeviceGetCount)
    if codes.get("count") == FUNCTION_NOT_FOUND:
        number = ctypes.c_uint()
        codes["count"] = _call(library, ("nvmlDeviceGetCount",), ctypes.byref(number))
        count = number.value if codes["count"] == 0 else None
    _say(what="count", value=count, code=codes.get("count", 0))
    for index in range(count or 0):
        _ask_gpu(pynvml, library, get, index)
    return True


def _ask_gpu(pynvml: Any, library: Any, get: Callable[..., Any], index: int) -> None:
    """Print what NVML says of one GPU; a getter that fails costs only its own value."""
    codes: dict[str, int] = {}
    handle = get(codes, "handle", pynvml.nvmlDeviceGetHandleByIndex, index)
    if codes.get("handle") == FUNCTION_NOT_FOUND:
        pointer = ctypes.c_void_p()
        name = "nvmlDeviceGetHandleByIndex"
        codes["handle"] = _call(library, (name,), ctypes.c_uint(index), ctypes.byref(pointer))
        handle = pointer if codes["handle"] == 0 else None
    if handle is None:
        code = codes.get("handle", UNKNOWN)
        _say(what="gpu", index=index, code=code, text=_text_of(pynvml, code))
        return
    codes.pop("handle", None)
    memory = get(codes, "memory", pynvml.nvmlDeviceGetMemoryInfo, handle)
    pci = get(codes, "pci", pynvml.nvmlDeviceGetPciInfo, handle)
    mig = get(codes, "mig", pynvml.nvmlDeviceGetMigMode, handle)
    _say(
        what="gpu",
        index=index,
        code=0,
        name=_as_text(get(codes, "name", pynvml.nvmlDeviceGetName, handle)),
        capability=get(codes, "capability", pynvml.nvmlDeviceGetCudaComputeCapability, handle),
        memory=None if memory is None else int(memory.total),
        uuid=_as_text(get(codes, "uuid", pynvml.nvmlDeviceGetUUID, handle)),
        bus=None if pci is None else _as_text(pci.busId),
        device=None if pci is None else int(pci.pciDeviceId),
        mig=mig[0] if mig else None,
        codes=codes,
    )


def _call(library: Any, names: Sequence[str], *args: object) -> int:
    """Call the first of these functions that an old library has; its error code."""
    for name in names:
        function = getattr(library, name, None)
        if function is not None:
            return int(function(*args))
    return FUNCTION_NOT_FOUND


def _as_text(value: Any) -> str | None:
    """Text of an answer: older pynvml gives bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _text_of(pynvml: Any, code: int) -> str:
    try:
        return str(pynvml.NVMLError(code))
    except (AttributeError, OSError, TypeError, ValueError):
        return f"error {code}"


def _ask_cuda(names: Sequence[str], devices: bool) -> None:
    """Print which libcuda the loader takes and its CUDA, and its GPUs if NVML could not be loaded."""
    library, name = _load(names)
    if library is None:
        _say(what="libcuda", problem=name)
        return
    number = ctypes.c_int()
    code = _call(library, ("cuDriverGetVersion",), ctypes.byref(number))
    _say(
        what="libcuda",
        path=_loaded_file("libcuda.so", name),
        value=number.value if code == 0 else None,
        code=code,
    )
    if not devices:
        return
    code = _call(library, ("cuInit",), 0)
    count = ctypes.c_int()
    code = code or _call(library, ("cuDeviceGetCount",), ctypes.byref(count))
    _say(what="cuda-init", code=code)
    for index in range(count.value if code == 0 else 0):
        device, text = ctypes.c_int(), ctypes.create_string_buffer(256)
        if _call(library, ("cuDeviceGet",), ctypes.byref(device), index):
            continue
        _call(library, ("cuDeviceGetName",), text, 256, device)
        values: list[int | None] = []
        for attribute in (CAPABILITY_MAJOR, CAPABILITY_MINOR, INTEGRATED):
            value = ctypes.c_int()
            failed = _call(library, ("cuDeviceGetAttribute",), ctypes.byref(value), attribute, device)
            values.append(None if failed else value.value)
        memory = ctypes.c_size_t()
        failed = _call(library, ("cuDeviceTotalMem_v2",), ctypes.byref(memory), device)
        _say(
            what="cuda-gpu",
            index=index,
            name=_as_text(text.value),
            capability=values[:2],
            integrated=values[2],
            memory=None if failed else memory.value,
        )


def main(argv: Sequence[str]) -> None:
    """Ask NVML, then libcuda: what NVML says is printed before libcuda can do harm."""
    folder, names = argv[0], argv[1 : argv.index("--")]
    library, name = _load(names)
    if library is None:
        _say(what="library", problem=name)
        initialised = False
    else:
        _say(what="library", path=_loaded_file("libnvidia-ml", name))
        sys.path.append(folder)
        import pynvml

        # pynvml looks for the soname only; giving it the library also serves WSL, musl, Windows and tests.
        pynvml.nvmlLib = library
        initialised = _ask_nvml(pynvml, library)
    if initialised or library is None:
        _ask_cuda(argv[argv.index("--") + 1 :], devices=library is None)
    _say(what="end")
    # No nvmlShutdown: all is said, and a driver in trouble may hang in it.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
