"""`torchinstall completion`: the script that makes a shell complete verbs and flags."""

from __future__ import annotations

from click.shell_completion import get_completion_class

from torchinstall.cli.app import build
from torchinstall.cli.console import Session
from torchinstall.cli.verb import Argument, Verb
from torchinstall.planning.options import Options

__all__ = ["VERB"]

SHELLS = ("bash", "zsh", "fish")


class CompletionOptions(Options, frozen=True, kw_only=True):
    """The options of `completion`."""

    shell: str = ""


def run(session: Session, options: CompletionOptions) -> int:
    """Print the script."""
    maker = get_completion_class(options.shell)
    assert maker is not None  # noqa: S101  # click knows each of SHELLS
    comp = maker(build(), {}, "torchinstall", "_TORCHINSTALL_COMPLETE")
    session.console.out(comp.source_template % comp.source_vars())
    return 0


VERB = Verb(
    "completion",
    run,
    options=CompletionOptions,
    summary="Print the completion script for bash, zsh or fish.",
    arguments=(
        Argument(name="shell", metavar="SHELL", help="bash, zsh or fish.", required=True, choices=SHELLS),
    ),
    examples=(
        ('eval "$(torchinstall completion bash)"', "for this bash"),
        ("torchinstall completion zsh > ~/.zfunc/_torchinstall", "for every zsh"),
        ("torchinstall completion fish > ~/.config/fish/completions/torchinstall.fish", "for every fish"),
    ),
)
