"""Read a Dockerfile and run its steps, stage by stage, each in a copy of a bare root."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from tests.exports.rootfs import SEARCH_PATH, run_in

KNOWN = ("FROM", "RUN", "ENV", "WORKDIR", "COPY", "USER", "CMD")
FLAGS = {"RUN": ("mount",), "COPY": ("from", "chown")}


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction: `--flag=value` in front as `flags`, the rest as written."""

    word: str
    rest: str
    flags: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Image:
    """A stage: its root and what later instructions and the container inherit."""

    root: Path
    base: str
    env: dict[str, str] = field(default_factory=lambda: {"PATH": SEARCH_PATH})
    cwd: str = "/"
    user: str = "root"
    cmd: tuple[str, ...] = ()

    def ids(self) -> str:
        """`uid:gid` of the user, by the root's own list."""
        for line in (self.root / "etc/passwd").read_text(encoding="utf-8").splitlines():
            name, _, uid, gid, *_ = line.split(":")
            if self.user in (name, uid):
                return f"{uid}:{gid}"
        raise AssertionError(f"no user {self.user}")

    def run(self, command: str, more: Mapping[str, str] | None = None) -> str:
        """What a command prints in a container of this image."""
        return run_in(self.root, command, {**self.env, **(more or {})}, user=self.ids(), cwd=self.cwd).stdout

    def start(self) -> str:
        """What the container prints."""
        return self.run(shlex.join(self.cmd)).strip()


def parse(text: str) -> list[Step]:
    """The instructions; an unknown instruction or flag is an error."""
    steps = []
    for line in text.replace("\\\n", "").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        assert word in KNOWN, line
        flags = []
        while match := re.match(r"--([a-z]+)=(\S+)\s+", rest):
            assert match[1] in FLAGS.get(word, ()), line
            flags.append((match[1], match[2]))
            rest = rest[match.end() :]
        steps.append(Step(word, rest, tuple(flags)))
    assert steps[0].word == "FROM"
    return steps


def build(text: str, context: Path, bare: Path, work: Path, outside: Mapping[str, str]) -> Image:
    """Run every step.

    Args:
        text: the Dockerfile.
        context: the folder that it is built from.
        bare: a root for every `FROM`; it is copied.
        work: where stages are made.
        outside: variables that the builder has set, such as the indexes of a network without PyPI.

    Returns:
        The last stage.
    """
    stages: dict[str, Image] = {}
    image: Image | None = None
    for step in parse(text):
        if step.word == "FROM":
            base, _, name = step.rest.partition(" AS ")
            root = work / f"stage-{len(stages)}"
            subprocess.run(["cp", "-a", str(bare), str(root)], check=True)
            image = stages[name or str(len(stages))] = Image(root=root, base=base)
            continue
        assert image is not None
        _run_step(step, image, stages, context, outside)
    assert image is not None
    return image


def _run_step(
    step: Step, image: Image, stages: Mapping[str, Image], context: Path, outside: Mapping[str, str]
) -> None:
    if step.word == "RUN":
        for _, value in step.flags:
            options = dict(part.split("=") for part in value.split(","))
            (image.root / options["target"].lstrip("/")).mkdir(parents=True, exist_ok=True)
        image.run(step.rest, outside)
    elif step.word == "ENV":
        for pair in shlex.split(step.rest):
            name, _, value = pair.partition("=")
            image.env[name] = Template(value).substitute(image.env)
    elif step.word == "WORKDIR":
        image.cwd = step.rest
        (image.root / step.rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
    elif step.word == "USER":
        image.user = step.rest
        image.ids()
    elif step.word == "CMD":
        image.cmd = tuple(json.loads(step.rest))
    else:
        _copy(step, image, stages, context)


def _copy(step: Step, image: Image, stages: Mapping[str, Image], context: Path) -> None:
    flags = dict(step.flags)
    base = stages[flags["from"]].root if "from" in flags else context
    *sources, target = json.loads(step.rest) if step.rest.startswith("[") else shlex.split(step.rest)
    there = image.root / str(Path(image.cwd, target)).lstrip("/")
    for source in sources:
        place = base / source.lstrip("/")
        assert place.exists(), step
        assert place.resolve().is_relative_to(base.resolve()), f"{source} is outside of the context"
        if place.is_dir():
            shutil.copytree(place, there, symlinks=True, dirs_exist_ok=True)
        else:
            into = there / place.name if target.endswith("/") else there
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(place, into)
    if "chown" in flags:
        user = flags["chown"].partition(":")[0]
        ids = Image(root=image.root, base="", user=user).ids()
        subprocess.run(["chown", "-R", ids, str(there)], check=True)
