"""Draw a terminal with what a real run printed: `python -m scripts.picture plan doctor`.

Each word is one run of `torchinstall` here, in colour; `--python` names the environment that it is about. The
picture is written to `docs/images/<words>.svg`. It holds no font and asks no other host for one.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shlex
import subprocess
import sys
from html import escape
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

FOLDER = Path(__file__).parents[1] / "docs" / "images"
COLUMNS = 100

SVG = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>TITLE</title>
<style>
.{unique_id}-matrix {{ font-size: {char_height}px; line-height: {line_height}px;
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
<rect fill="#0c0c0c" x="1" y="1" width="{width}" height="{height}" rx="8"/>
<g transform="translate({terminal_x}, 24)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""
"""Like rich's own frame, without its title bar and its font from another host."""


def run(words: list[str], env: dict[str, str]) -> str:
    """What `torchinstall` prints, both streams in the order of a terminal."""
    done = subprocess.run(
        [sys.executable, "-m", "torchinstall", "--color", "always", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **env, "COLUMNS": str(COLUMNS)},
        check=False,
    )
    if done.returncode not in (0, 7):
        raise SystemExit(f"torchinstall {shlex.join(words)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout.rstrip()


def picture(runs: list[tuple[str, str]], title: str) -> str:
    """The picture of a terminal in which commands printed their texts."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    for number, (command, output) in enumerate(runs):
        console.print(Text(("\n" if number else "") + f"$ {command}", style="bold"))
        console.print(Text.from_ansi(output))
    svg = console.export_svg(
        theme=MONOKAI, code_format=SVG.replace("TITLE", escape(title)), unique_id="torchinstall"
    )
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)


def main() -> None:
    """Run and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verbs", nargs="+", help="such as: plan, doctor, 'plan torch vllm'")
    parser.add_argument("--python", help="the interpreter or environment that the runs are about")
    parser.add_argument("--output", type=Path, help="where to write the picture")
    asked = parser.parse_args()
    env = {"TORCHINSTALL_PYTHON": asked.python} if asked.python else {}
    runs = [(f"torchinstall {verb}", run(shlex.split(verb), env)) for verb in asked.verbs]
    name = "-".join(re.sub(r"[^a-z0-9]+", "-", verb) for verb in asked.verbs)
    path = asked.output or FOLDER / f"{name}.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        picture(runs, ", ".join(f"torchinstall {verb}" for verb in asked.verbs)), encoding="utf-8"
    )
    print(f"drawn: {path}")


if __name__ == "__main__":
    main()
