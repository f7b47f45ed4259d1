"""uv's rehearsal of a plan that is not certain yet, while the pages of the index are still read.

Its answer counts for exactly the command that it was given: a plan that came out differently asks uv anew.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from torchinstall.core.plan import Plan
from torchinstall.install.command import before_builds
from torchinstall.install.uv import uv_env

if TYPE_CHECKING:
    from subprocess import Popen

    from typing_extensions import Self

    from torchinstall.core.processes import Completed


_SAYS_WHAT_IS_CACHED = ("RUST_LOG", "uv_installer::plan=debug")


def to_rehearse(plan: Plan) -> Plan:
    """What uv is asked of a plan whose command is a dry run: before builds, and with what its cache has."""
    plan = before_builds(plan)
    return structs.replace(plan, env=(*plan.env, _SAYS_WHAT_IS_CACHED))


@contextlib.contextmanager
def on_disk(plan: Plan, scratch: Path | None) -> Iterator[list[str]]:
    """The plan's command, while its project file lies in a folder that only this user can read.

    The folder is made below `scratch`; None: in the system's folder for such files.
    """
    argv = list(plan.command)
    with tempfile.TemporaryDirectory(prefix="torchinstall-", dir=scratch) as folder:
        if plan.project is not None:
            path = Path(folder, "pyproject.toml")
            path.write_text(plan.project, encoding="utf-8")
            argv[argv.index("-r") + 1] = str(path)
        yield argv


class EarlyRehearsal:
    """One rehearsal that runs by itself; whatever is left of it ends with the `with` block."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._asked: tuple[Plan, Popen[bytes], Callable[[], Completed]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Nobody wants an answer any more."""
        if self._asked is not None and self._asked[1].poll() is None:
            self._asked[1].kill()
        self._asked = None
        self._open.close()

    def begin(self, rehearsal: Plan, env: Mapping[str, str], cwd: Path, scratch: Path | None) -> None:
        """Start uv on the rehearsal of a plan, once; one that does not start is no fault yet."""
        if self._asked is not None:
            return
        plan = to_rehearse(rehearsal)
        from torchinstall.core.processes import completed, start  # it brings in subprocess

        with contextlib.suppress(OSError):
            argv = self._open.enter_context(on_disk(plan, scratch))
            process = start(argv, env=uv_env(env, changes=plan.env), cwd=cwd)
            self._asked = plan, self._open.enter_context(process), lambda: completed(process)

    def answer(self, plan: Plan) -> Completed | None:
        """What uv said of this very command; None where it was asked something else, or could not do it.

        It counts once: the environment may be another one the next time.
        """
        if self._asked is None:
            return None
        early, _, completed = self._asked
        same = (early.command, early.env, early.project) == (plan.command, plan.env, plan.project)
        done = completed() if same else None
        self.__exit__()
        return done if done is not None and done.returncode == 0 else None
