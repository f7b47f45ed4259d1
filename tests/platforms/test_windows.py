"""The Windows side of the doors to a machine, an environment and uv."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import torchinstall
from tests.platforms.windows import on_windows
from tests.support.systems import POSIX

pytestmark = pytest.mark.only_on(POSIX, "Windows is recorded here; there the real one is asked")

DISPLAY = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"
RTX = r"PCI\VEN_10DE&DEV_2504&SUBSYS_881D1043&REV_A1\4&2283F625&0&0019"
UHD = r"PCI\VEN_8086&DEV_4680&SUBSYS_86941043&REV_0C\3&11583659&0&10"
ENUM = r"SYSTEM\CurrentControlSet\Enum"
TWO_ADAPTERS = {
    "devices": [RTX, UHD],
    "registry": {
        rf"{ENUM}\{RTX}": {"Driver": r"{4d36e968-e325-11ce-bfc1-08002be10318}\0001"},
        rf"{ENUM}\{UHD}": {"Driver": r"{4d36e968-e325-11ce-bfc1-08002be10318}\0000"},
        rf"{DISPLAY}\0001": {"DriverDesc": "NVIDIA GeForce RTX 3060", "DriverVersion": "32.0.15.8088"},
        rf"{DISPLAY}\0000": {"DriverDesc": "Intel(R) UHD Graphics 770", "DriverVersion": 7},
    },
}
SYSTEM = "from torchinstall.probe.real import real_system\nsystem = real_system(dict(os.environ))\n"


def test_adapters_are_those_that_are_plugged_in() -> None:
    """Names and versions come from the registry; a value of the wrong kind is none."""
    code = SYSTEM + "result = [[a.device_id, a.name, a.driver_version] for a in system.adapters]"
    assert on_windows(code, TWO_ADAPTERS) == [
        [RTX, "NVIDIA GeForce RTX 3060", "32.0.15.8088"],
        [UHD, "Intel(R) UHD Graphics 770", None],
    ]


def test_adapter_without_a_driver_has_no_name() -> None:
    code = SYSTEM + "result = [[a.device_id, a.name] for a in system.adapters]"
    assert on_windows(code, {"devices": [RTX]}) == [[RTX, None]]


def test_silent_device_manager_means_no_adapters() -> None:
    code = SYSTEM + "result = len(system.adapters)"
    assert on_windows(code, {**TWO_ADAPTERS, "manager_error": 5}) == 0


@pytest.mark.parametrize(
    ("native", "said", "machine"),
    [(0xAA64, "AMD64", "ARM64"), (0x8664, "AMD64", "AMD64"), (None, "AMD64", "AMD64"), (0x14C, "x86", "x86")],
)
def test_architecture_is_the_machines_also_when_emulated(native: int | None, said: str, machine: str) -> None:
    env = {"PROCESSOR_ARCHITECTURE": said}
    assert on_windows(SYSTEM + "result = system.machine", {"native": native}, env=env) == machine


@pytest.mark.parametrize("root", ["SystemRoot", "SYSTEMROOT"])
def test_nvml_is_looked_for_where_drivers_put_it(root: str) -> None:
    """Never in PATH or in this folder: a library found there could be anybody's."""
    code = SYSTEM + "result = system._nvml_names()"
    assert on_windows(code, env={root: "D:\\Win", "ProgramFiles": "D:\\Programs"}) == [
        "D:/Win/System32/nvml.dll",
        "D:/Programs/NVIDIA Corporation/NVSMI/nvml.dll",
    ]


def test_named_nvml_library_is_taken() -> None:
    code = SYSTEM + "result = system._nvml_names()"
    assert on_windows(code, env={"TORCHINSTALL_NVML_LIBRARY": "/x/nvml.dll"}) == ["/x/nvml.dll"]


def test_commands_come_from_system32_first(tmp_path: Path) -> None:
    """`nvidia-smi` is `nvidia-smi.exe`, System32 comes before PATH, and this folder is never searched."""
    for folder in ("System32", "own"):
        (tmp_path / folder).mkdir()
        tool = tmp_path / folder / "nvidia-smi.exe"
        tool.write_text("", encoding="utf-8")
        tool.chmod(0o755)
    code = SYSTEM + "result = system._find_command('nvidia-smi')"
    env = {"SystemRoot": str(tmp_path), "PATH": str(tmp_path / "own")}
    assert on_windows(code, env=env) == str(tmp_path / "System32" / "nvidia-smi.exe")
    (tmp_path / "System32" / "nvidia-smi.exe").unlink()
    assert on_windows(code, env=env) == str(tmp_path / "own" / "nvidia-smi.exe")
    here = code.replace("result", "os.chdir(sys.argv[1] and os.environ['PATH'])\nresult")
    assert on_windows(here, env=env) is None


def test_free_space_and_registry() -> None:
    code = (
        SYSTEM + "result = [system.disk('target').free_bytes > 0, system.registry('A', 'B'), "
        "system.registry('A', 'C'), system.registry('Z', 'B'), system.glibc, system.group('/')]"
    )
    assert on_windows(code, {"registry": {"A": {"B": 26100, "C": [1]}}}) == [
        True,
        26100,
        None,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize(("conda", "path"), [(False, "Scripts/python.exe"), (True, "python.exe")])
def test_environment_keeps_its_interpreter_in_scripts(tmp_path: Path, *, conda: bool, path: str) -> None:
    if conda:
        (tmp_path / "conda-meta").mkdir()
    (tmp_path / "Scripts").mkdir()
    (tmp_path / path).write_text("", encoding="utf-8")
    code = (
        "from pathlib import Path\nfrom torchinstall.install.environment import _interpreter_path\n"
        f"result = str(_interpreter_path(Path({str(tmp_path)!r})))"
    )
    assert on_windows(code) == str(tmp_path / path)


def test_uv_is_found_by_its_windows_names(tmp_path: Path) -> None:
    uv = tmp_path / "uv.exe"
    uv.write_text("", encoding="utf-8")
    uv.chmod(0o755)
    code = "from torchinstall.install.uv import _which\nresult = _which('uv', dict(os.environ))"
    assert on_windows(code, env={"PATH": str(tmp_path)}) == str(uv)


def test_uv_gets_the_terminal_itself() -> None:
    """There are no pseudo-terminals: uv draws on the console, and nothing of it is remembered."""
    code = """
from torchinstall.install.stream import _Copy

class Terminal:
    def isatty(self): return True
    def fileno(self): return 7

stream = _Copy(Terminal())
end = stream.child_end
stream.start()
result = [end, stream.finish()]
"""
    assert on_windows(code) == [7, ""]


def test_journal_is_kept_without_file_locks_of_unix(tmp_path: Path) -> None:
    """A killed run is told from one that works by its process alone: there is no flock to wait for."""
    code = f"""
from pathlib import Path
from torchinstall.install import journal as journals

prefix = Path({str(tmp_path)!r})
(prefix / ".torchinstall").mkdir()
dead = journals.Owner(pid=2**22 + 1, command="torchinstall auto")
with journals.Journal(owner=dead, prefix=prefix).open() as inherited:
    handed = list(inherited)
told = [journals.unfinished(prefix).slug]
with journals.Journal(prefix=prefix).open():
    told.append(journals.unfinished(prefix).slug)
os.utime(prefix / ".torchinstall/journal.json", (0, 0))  # before this process, which has its number now
told.append(journals.unfinished(prefix).slug)
journals.remove_journal(prefix)
result = [handed, told, journals.unfinished(prefix), hasattr(journals, "fcntl")]
"""
    told = ["interrupted-install", "environment-busy", "interrupted-install"]
    assert on_windows(code) == [[], told, None, False]


@pytest.mark.parametrize("page", ["cp1252", "cp437", "cp932", "utf-8"])
def test_every_code_page_can_show_a_plan(page: str) -> None:
    """A console that lacks a letter gets another one, never an error."""
    machine = "tests/golden/machines/linux-rtx4090-550.json"
    argv = ["plan", "--offline", "--machine", machine, "--python-version", "3.12", "--color", "never"]
    code = (
        "import io\nfrom torchinstall.cli import main\n"
        f"sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding={page!r})\n"
        f"code, text = main({argv!r}), sys.stdout\ntext.flush()\n"
        f"shown, sys.stdout = text.buffer.getvalue().decode({page!r}), sys.__stdout__\n"
        "result = [code, 'cu126' in shown]"
    )
    assert on_windows(code) == [0, True]


def test_nobody_is_asked_with_a_signal() -> None:
    """`os.kill(pid, 0)` ends a process on Windows; the owner of a lock is looked up, never signalled."""
    sources = Path(torchinstall.__file__).parent.rglob("*.py")
    assert [
        path.name for path in sources if re.search(r"\bos\.kill(pg)?\(", path.read_text(encoding="utf-8"))
    ] == []
