"""One kill: an environment, an operation, a moment, a signal; then the next run, and what is there then."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.support.installing import an_environment, here
from tests.support.planning import linux
from tests.support.wheelhouse import TinyWheel, torch_wheel, wheel, write_wheels
from torchinstall.core.machine import machine_to_json
from torchinstall.install.distributions import distributions

Operation = Literal["install", "upgrade", "downgrade", "restore", "fix"]
Next = Literal["auto", "doctor"]
OPERATIONS: tuple[Operation, ...] = ("install", "upgrade", "downgrade", "restore", "fix")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

ROOT = Path(__file__).parents[2]
TAG = "py3-none-any"
OLD, NEW = "2.8.0+cpu", "2.9.1+cpu"
PAIRS = {OLD: "0.23.0+cpu", NEW: "0.24.1+cpu"}
_FILES = 400
_RUN_LIMIT = 120.0


def _wheels(release: str) -> list[TinyWheel]:
    """Torch with many files, so that a kill finds it half there, and its torchvision."""
    many = {
        f"torch/part{number // 50}/{release[:3]}_{number}.py": f"x = {number}\n" for number in range(_FILES)
    }
    vision = wheel("torchvision", PAIRS[release], TAG, requires=(f"torch=={release.partition('+')[0]}",))
    return [torch_wheel(release, TAG, requires=("filelock",), files=many), vision]


@dataclass(frozen=True, slots=True)
class Kill:
    """One attempt and how it ended; `problem` is empty where all was right."""

    operation: Operation
    number: signal.Signals
    group: bool
    after: float
    next: Next
    ended: int
    state: str
    problem: str

    def __str__(self) -> str:
        whom = "group" if self.group else "process"
        return (
            f"{self.operation}: {self.number.name} to the {whom} after {self.after:.3f} s, then {self.next}"
        )


@dataclass
class Harness:
    """Environments to kill installations in.

    Attributes:
        folder: empty; everything happens in it.
        seed: of the random choices.
        wheels: a folder with a real torch wheel of one release, instead of the tiny ones.
    """

    folder: Path
    seed: int = 0
    wheels: Path | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311  chooses moments, not secrets
        self.env = an_environment(self.folder, PYTHONPATH=str(ROOT), TMPDIR=str(self.folder / "tmp"))
        (self.folder / "tmp").mkdir()
        machine = json.dumps(machine_to_json(linux()))
        (self.folder / "machine.json").write_text(machine, encoding="utf-8")
        place = here(self.folder / ".venv", self.env)
        self.prefix, self.uv = place.folder, place.uv
        self.house = self.wheels or self.folder / "house"
        if self.wheels is None:
            write_wheels(self.house, [*_wheels(OLD), *_wheels(NEW), wheel("filelock", "3.20.0")])
        self._save_logs("none")
        for name, torch in (("old", OLD), ("new", NEW)) if self.wheels is None else (("new", None),):
            self.reset("none")
            done = self.run(*self.auto(torch))
            if done.returncode != 0:
                raise RuntimeError(f"the environment could not be made: {done.stderr}")
            self._save_logs(name)
        self.span = {name: self._time(name) for name in self._operations}

    @property
    def _operations(self) -> tuple[Operation, ...]:
        return OPERATIONS if self.wheels is None else ("install",)

    @property
    def site(self) -> Path:
        """Where its packages are."""
        return next(self.prefix.glob("lib/python3*/site-packages"))

    def _save_logs(self, name: str) -> None:
        shutil.copytree(self.prefix, self.folder / f"as-{name}", symlinks=True)

    def reset(self, name: str) -> None:
        """Make the environment what it was: `none`, `old` or `new`."""
        shutil.rmtree(self.prefix)
        shutil.copytree(self.folder / f"as-{name}", self.prefix, symlinks=True)

    def auto(self, torch: str | None) -> tuple[str, ...]:
        """The words of `auto` for this torch; None: any."""
        pins = (
            ("torch", "torchvision") if torch is None else (f"torch=={torch}", f"torchvision=={PAIRS[torch]}")
        )
        # A folder with nothing but the real torch has none of what it depends on.
        wanted = pins if self.wheels is None else ("torch", "--", "--no-deps")
        flags = ("--machine", "machine.json", "--backend", "cpu", "--no-verify", "--offline")
        return ("auto", *flags, "--find-links", str(self.house), *wanted)

    def doctor(self) -> tuple[str, ...]:
        """The words of `doctor --fix`."""
        flags = ("--machine", "machine.json", "--backend", "cpu", "--no-verify", "--offline")
        return ("doctor", *flags, "--find-links", str(self.house), "--fix")

    def argv(self, *words: str) -> list[str]:
        """A command of ours."""
        return [sys.executable, "-m", "torchinstall", *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.argv(*words),
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=_RUN_LIMIT,
        )

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command in a group of its own."""
        return subprocess.Popen(
            self.argv(*words),
            env=self.env,
            cwd=self.folder,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _begin(self, operation: Operation) -> tuple[str, ...]:
        """Bring the environment into the state before an operation; the command that does it."""
        if operation == "install":
            self.reset("none")
            return self.auto(NEW if self.wheels is None else None)
        if operation in ("upgrade", "restore"):
            self.reset("old")
            return self.auto(NEW)
        if operation == "downgrade":
            self.reset("new")
            return self.auto(OLD)
        self.reset("new")
        (self.site / "torch/version.py").unlink()
        return self.doctor()

    def _time(self, operation: Operation) -> float:
        words = self._begin(operation)
        began = time.monotonic()
        self.run(*words)
        return time.monotonic() - began

    def kill(self, operation: Operation, number: signal.Signals, *, group: bool, then: Next) -> Kill:
        """Do an operation, kill it at a random moment, run the next command, and look."""
        words = self._begin(operation)
        if operation == "restore":
            # The first kill leaves something to restore; the second meets the run that restores it.
            self._strike(self.start(*words), signal.SIGKILL, group=True, late=True)
            words = self.auto(None)
        process = self.start(*words)
        after, ended = self._strike(process, number, group=group, late=self.random.random() < 0.6)
        done = self.run(*(self.auto(None) if then == "auto" else self.doctor()))
        state, problem = self._inspect()
        if done.returncode != 0:
            problem = f"exit {done.returncode}: {done.stderr[-700:]}"
        self.counts[f"{operation} -> {state}"] += 1
        return Kill(operation, number, group, after, then, ended, state, problem)

    def _strike(
        self, process: subprocess.Popen[bytes], number: signal.Signals, *, group: bool, late: bool
    ) -> tuple[float, int]:
        """Wait and kill; `late`: within a moment of the first change."""
        began = time.monotonic()
        journal = self.prefix / ".torchinstall/journal.json"
        if late:
            while process.poll() is None and not journal.exists():
                time.sleep(0.001)
            time.sleep(self.random.random() * 0.25)
        else:
            time.sleep(self.random.random() * max(self.span.values(), default=1.0) * 1.05)
        after = time.monotonic() - began
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number) if group else process.send_signal(number)
        return after, process.wait(_RUN_LIMIT)

    def _inspect(self) -> tuple[str, str]:
        """Which of the states that there may be this is, and what is wrong with it."""
        left = [*self.prefix.glob(".torchinstall*"), *(self.folder / "tmp").glob("torchinstall*")]
        left += self.prefix.glob("share/torchinstall/.*")
        if left:
            return "third", f"left behind: {left}"
        found = [dist for dist in distributions([self.site]) if dist.name == "torch"]
        if len(found) != 1:
            return "third", f"torch is there {len(found)} times"
        for dist in distributions([self.site]):
            if dist.lacking is not None:
                return "third", f"{dist.name} lacks {dist.lacking}"
        for name in ("old", "new"):
            kept = self.folder / f"as-{name}"
            if kept.is_dir() and _listing(kept) == _listing(self.prefix):
                return name, ""
        wanted = _listing(self.folder / f"as-{'old' if found[0].version == OLD else 'new'}")
        differing = sorted(wanted ^ _listing(self.prefix))[:5]
        return "third", f"files differ: {differing}"


def _listing(prefix: Path) -> set[str]:
    """Every file but bytecode and what tells one moment from another."""
    names = (path.relative_to(prefix) for path in prefix.rglob("*") if path.is_file() or path.is_symlink())
    return {str(name) for name in names if "__pycache__" not in name.parts and name.name != ".lock"}
