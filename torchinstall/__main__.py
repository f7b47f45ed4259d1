"""Run torchinstall as `python -m torchinstall`, and as the command of that name."""

import os
import signal
import sys


def _leave(number: int, _frame: object) -> None:
    """Nothing was begun: end as a shell expects, without a traceback out of an import."""
    os._exit(128 + number)


def main() -> int:
    """Import the command line, which takes a moment in which somebody may press Ctrl-C, and run it."""
    early = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            early[number] = signal.signal(number, _leave)
    from torchinstall.cli import main as command_line  # so that a Ctrl-C meets the lines above

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
