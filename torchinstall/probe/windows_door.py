"""What only Windows' own interfaces tell: present display adapters, the registry, the real architecture."""

from __future__ import annotations

import ctypes
import sys
import winreg

from torchinstall.probe.system import Adapter

assert sys.platform == "win32"  # noqa: S101 - only Windows imports this; type checkers read it as well

__all__ = ["adapters", "machine", "registry"]

_DISPLAY_CLASS = "{4d36e968-e325-11ce-bfc1-08002be10318}"
_CONTROL = r"SYSTEM\CurrentControlSet\Control\Class"
_ENUM = r"SYSTEM\CurrentControlSet\Enum"
_PRESENT_OF_CLASS = 0x300  # CM_GETIDLIST_FILTER_CLASS | CM_GETIDLIST_FILTER_PRESENT of cfgmgr32.h
_ARM64, _AMD64 = 0xAA64, 0x8664  # IMAGE_FILE_MACHINE_* of winnt.h


def registry(key: str, name: str) -> object:
    """A value below `HKEY_LOCAL_MACHINE`, None where it is not there."""
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as handle:
            value: object = winreg.QueryValueEx(handle, name)[0]
    except OSError:
        return None
    return value


def adapters() -> tuple[Adapter, ...]:
    """Display adapters that are plugged in now; the registry alone also remembers those of long ago."""
    manager = ctypes.WinDLL("cfgmgr32")
    size = ctypes.c_ulong()
    if manager.CM_Get_Device_ID_List_SizeW(ctypes.byref(size), _DISPLAY_CLASS, _PRESENT_OF_CLASS):
        return ()
    buffer = ctypes.create_unicode_buffer(size.value)
    if manager.CM_Get_Device_ID_ListW(_DISPLAY_CLASS, buffer, size, _PRESENT_OF_CLASS):
        return ()
    found = []
    for device_id in filter(None, "".join(buffer[:]).split("\0")):
        driver = registry(rf"{_ENUM}\{device_id}", "Driver")
        key = rf"{_CONTROL}\{driver}"
        name, version = registry(key, "DriverDesc"), registry(key, "DriverVersion")
        found.append(
            Adapter(
                device_id=device_id,
                name=name if isinstance(name, str) else None,
                driver_version=version if isinstance(version, str) else None,
            )
        )
    return tuple(found)


def machine() -> str | None:
    """The machine's architecture, also for a process that runs emulated; None where Windows does not say."""
    kernel = ctypes.WinDLL("kernel32")
    process, native = ctypes.c_ushort(), ctypes.c_ushort()
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    try:
        ask = kernel.IsWow64Process2
    except AttributeError:  # before Windows 10 1709 there was no Windows on ARM for PCs
        return None
    ask.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    if not ask(kernel.GetCurrentProcess(), ctypes.byref(process), ctypes.byref(native)):
        return None
    return {_ARM64: "ARM64", _AMD64: "AMD64"}.get(native.value)
