"""Generated projects and the laws that hold for each; `python -m tests.project.law` tries 200 with uv's lock.

A project is a mix of extras, groups, pins, sources, markers and other tools' tables. Whatever it says:

- a choice of a build that was read before is read after configuring, or nothing was changed;
- a second run changes nothing;
- another layout and back, or `--remove`, gives the file that there was, byte by byte.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.project.small import small_catalog
from torchinstall.core.errors import TorchInstallError
from torchinstall.project.choices import Availability, choices
from torchinstall.project.configure import Configured, Locker, ProjectChange, configure
from torchinstall.project.layouts import current_layout
from torchinstall.project.model import ALWAYS, Layout
from torchinstall.project.pyproject import ProjectView, project_view
from torchinstall.project.undo import Memory

BASE = "https://download.pytorch.org/whl"
BACKENDS = ("cpu", "cu126", "cu128", "cu130")
MARKERS = (
    None,
    "sys_platform == 'linux'",
    "sys_platform == 'linux' or sys_platform == 'win32'",
    "sys_platform != 'darwin'",
    "sys_platform == 'linux' and platform_machine == 'x86_64'",
    "python_version < '3.13'",
    "sys_platform == 'linux' and python_version >= '3.12'",
)
ROOT = """[project]
name = "root"
version = "1"
requires-python = ">=3.11"

[tool.uv]
package = false

[tool.uv.workspace]
members = ["member"]
"""
"""Of a workspace, whose member is the project."""
NAMES = ("cpu", "gpu", "cuda", "cu128", "torch-cu126", "Train_GPU")


def _requirement(draw: st.DrawFn, backend: str | None) -> str:
    pinned = backend is not None and draw(st.booleans())
    if pinned:
        return f"torch==2.10.0+{backend}"
    return draw(st.sampled_from(("torch", "torch>=2.9", "torch >= 2.9, <3")))


@st.composite
def projects(draw: st.DrawFn, base: str = BASE) -> str:
    """The text of a project file."""
    kind = draw(st.sampled_from(("extra", "group")))
    names = draw(st.lists(st.sampled_from(NAMES), unique_by=lambda name: name.lower(), max_size=3))
    offers = {name: draw(st.sampled_from(BACKENDS)) for name in names}
    tool = draw(st.sampled_from(("uv", "uv", "uv", "rye", "pdm", "none")))
    plain = draw(st.sampled_from((None, "torch>=2.9", "torch>=2.9 ; sys_platform != 'win32'")))
    companion = draw(st.booleans())
    lines = ["[project]  # head", 'name = "demo"', 'version = "1"', 'requires-python = ">=3.11"']
    needs = ['    "numpy",  # arrays']
    needs += [f'    "{plain}",  # by hand'] if plain else []
    needs += ['    "torchvision",'] if companion and plain else []
    lines += ["dependencies = [", *needs, "]", ""]
    pins = {name: _requirement(draw, backend) for name, backend in offers.items()}
    if names:
        lines += ["[project.optional-dependencies]" if kind == "extra" else "[dependency-groups]"]
        lines += [f'{name} = ["{pins[name]}"]  # for {offers[name]}' for name in names] + [""]
    if draw(st.booleans()) and not (names and kind == "group"):
        lines += ["# for everyone", "[dependency-groups]", 'dev = ["pytest"]', ""]
    lines += ["[tool.uv]", "package = false  # an application"]
    if len(names) > 1:
        row = ", ".join(f'{{ {kind} = "{name}" }}' for name in names)
        lines += [f"conflicts = [[{row}]]"]
    if tool == "uv" and names:
        marker = draw(st.sampled_from(MARKERS))
        more = f', marker = "{marker}"' if marker else ""
        rows = [
            f'    {{ index = "pt-{offers[name]}", {kind} = "{name}"{more} }},  # {name}' for name in names
        ]
        lines += ["", "[tool.uv.sources]", "torch = [", *rows, "]"]
    elif tool == "uv":
        marker = draw(st.sampled_from(MARKERS))
        more = f', marker = "{marker}"' if marker else ""
        offers = {"": draw(st.sampled_from(BACKENDS))} if plain else {}
        lines += ["", "[tool.uv.sources]", f'torch = {{ index = "pt-{offers[""]}"{more} }}'] if plain else []
    if tool == "uv":
        for backend in dict.fromkeys(offers.values()):
            lines += ["", "[[tool.uv.index]]", f'name = "pt-{backend}"', f'url = "{base}/{backend}"']
            lines += ["explicit = true"]
    if tool in ("rye", "pdm"):
        backend = draw(st.sampled_from(BACKENDS))
        table = f"[[tool.{tool}.source{'s' if tool == 'rye' else ''}]]"
        lines += ["", table, 'name = "pt"', f'url = "{base}/{backend}"']
        lines += ["", f"[tool.{tool}.scripts]", 'run = "demo"  # kept']
    return "\n".join(lines) + draw(st.sampled_from(("\n", "", "\n\n# end\n")))


def _keep(view: ProjectView) -> Layout:
    current = current_layout(view, small_catalog())
    if current is None:
        return Layout(name="this-machine", backends=("cu128",))
    return structs.replace(current, split=False, required=())


def _read(text: str, base: str, *, uv: bool = False) -> dict[tuple[object, ...], str]:
    """What each list gets where its build is published."""
    there = Availability(small_catalog(), "stable")
    view = project_view(text)
    return {
        (item.scope.key, item.package, point): item.backend
        for item in choices(view, small_catalog(), base, uv=uv)
        for point in item.points
        if point[0] in there.platforms("torch", item.backend)
    }


def _contradicts(read: dict[tuple[object, ...], str]) -> bool:
    """Whether the project itself takes torch from one index and an extra beside it from another."""
    always = {key[1:]: backend for key, backend in read.items() if key[0] == ALWAYS.key}
    return any(always.get(key[1:], backend) != backend for key, backend in read.items())


def _configure(
    folder: Path, layout: Layout | None, memory: Memory, base: str, lock: Locker | None
) -> Configured:
    def make(view: ProjectView) -> Layout:
        return structs.replace(layout if layout is not None else _keep(view), index_base=base)

    change = ProjectChange(layout_of=make, chosen=layout is not None, migrate=True, index_base=base)
    return configure(folder, change, small_catalog(), lock=lock, memory=memory)


def check(
    text: str, folder: Path, base: str = BASE, lock: Locker | None = None, *, member: bool = False
) -> str:
    """Hold the laws against a project; says what became of it.

    Args:
        text: of the project file.
        folder: empty.
        base: of the index.
        lock: runs uv; None: no lock.
        member: the project is one of a workspace.
    """
    memory, root = Memory(folder / "memory"), folder
    if member:
        (folder / "pyproject.toml").write_text(ROOT, encoding="utf-8")
        folder = folder / "member"
        folder.mkdir()
    path = folder / "pyproject.toml"
    path.write_bytes(text.encode())
    before = _read(text, base)
    try:
        _configure(folder, None, memory, base, lock)
        stopped = None
    except TorchInstallError as error:
        stopped = error
    if stopped is not None:
        assert path.read_bytes().decode() == text, "changed on failure"
        assert not (root / "uv.lock").exists(), "a lock was left behind"
        assert not member or (root / "pyproject.toml").read_text("utf-8") == ROOT, "the root was changed"
        assert stopped.slug == "not-carried", f"{stopped.slug}: {stopped.found}"
        assert _contradicts(before), "uv has words for this"
        return stopped.slug
    once = path.read_bytes().decode()
    after = _read(once, base, uv=True)
    lost = {key: backend for key, backend in before.items() if after.get(key) != backend}
    assert not lost, f"lost: {sorted(map(str, lost))[:4]}"
    _configure(folder, None, memory, base, lock)
    assert path.read_bytes().decode() == once, "the second run changed something"
    others = (
        Layout(name="groups", backends=("cpu", "cu128"), default="cpu", replaces=True),
        Layout(name="this-machine", backends=("cu126",), replaces=True),
    )
    for layout in others:
        here = current_layout(project_view(once), small_catalog())
        if here is None or here.name == layout.name:
            continue
        try:
            _configure(folder, layout, memory, base, None)
        except TorchInstallError:
            assert path.read_bytes().decode() == once, "changed on failure"
            continue
        back = structs.replace(here, kept=(), replaces=True)
        _configure(folder, back, memory, base, None)
        if all(route.scope != ALWAYS for route in here.kept):
            assert _read(path.read_bytes().decode(), base, uv=True).items() >= after.items(), (
                "lost on the way back"
            )
    if path.read_bytes().decode() != text:
        configure(folder, ProjectChange(layout_of=None), small_catalog(), memory=memory)
        assert path.read_bytes().decode() == text, "remove left something"
        assert not member or (root / "pyproject.toml").read_text("utf-8") == ROOT, "the root keeps something"
    return "kept"


def main() -> int:
    """Try many projects, each locked by the real uv on a loopback index."""
    import os

    from tests.project.small import default_tree, pytorch_tree
    from tests.support.index_server import IndexServer
    from torchinstall.install.uv import find_uv
    from torchinstall.project.lock import lock_project

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--no-lock", action="store_true")
    count = parser.parse_args().count
    locks = not parser.parse_args().no_lock
    results: Counter[str] = Counter()
    with IndexServer(pytorch_tree(), default=default_tree()) as server, tempfile.TemporaryDirectory() as top:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
        env |= {"UV_DEFAULT_INDEX": server.default_index, "UV_NO_CONFIG": "1", "NO_PROXY": "127.0.0.1"}
        env |= {"UV_CACHE_DIR": f"{top}/cache", "UV_PYTHON_DOWNLOADS": "never", "UV_PYTHON": sys.executable}
        uv = find_uv(env).path

        def lock(folder: Path) -> None:
            lock_project(uv, folder, env)

        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(projects(server.index_base), st.integers(0, 4))
        def run(text: str, place: int) -> None:
            with tempfile.TemporaryDirectory(dir=top) as folder:
                locker = lock if locks else None
                became = check(text, Path(folder), server.index_base, locker, member=place == 4)
            results[became] += 1
            if became != "kept":
                sys.stderr.write(f"--- {became}\n{text}\n")

        run()
    sys.stdout.write(f"{dict(results)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
