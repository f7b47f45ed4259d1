"""Write a page for each cause that `doctor --explain` knows, from its rule and a text that people see.

    python -m scripts.render_error_docs --write

Prints which pages differ and writes only with `--write`; a test holds the pages to what this renders.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from torchinstall.doctor.rules import Rule, rules

__all__ = ["PAGES", "main", "render"]

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "errors"
TEXTS = ROOT / "tests" / "doctor" / "error_texts.txt"
NOTE = "<!-- written by python -m scripts.render_error_docs --write -->"
TOPICS = {
    "arch": "The GPU and the code in the build",
    "init": "Driver, device, container",
    "load": "Libraries, extensions and companions",
    "api": "Python packages that do not fit",
    "build": "Building extensions",
    "resolve": "Resolvers: pip, uv, Poetry, PDM, conda, pixi",
    "download": "Downloads, disks and permissions",
    "memory": "Memory of the GPU",
}
OFFERS = {
    "right": "`torchinstall auto`, which chooses the build for your GPU, driver, system and Python",
    "same": "`torchinstall auto`, which writes the files of the installed release again",
    "cpu": "`torchinstall auto --backend cpu`",
}
LONGEST = 14


def texts() -> Mapping[str, list[str]]:
    """Cause -> texts that people see."""
    parts = re.split(r"^#### (.*)\n", TEXTS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: dict[str, list[str]] = {}
    for heading, text in zip(parts[1::2], parts[2::2], strict=True):
        found.setdefault(heading.split()[0], []).append(text.rstrip())
    return found


def render() -> Mapping[str, str]:
    """File name -> page."""
    seen = texts()
    pages = {f"{rule.slug}.md": "\n".join(_page(rule, seen[rule.slug])) + "\n" for rule in rules()}
    return {"README.md": "\n".join(_index()) + "\n", **pages}


def _index() -> Iterator[str]:
    yield from ("# Errors and their causes", "", NOTE, "")
    yield "Paste a text into `torchinstall doctor --explain -`, or search these pages for a part of it."
    for topic, title in TOPICS.items():
        yield from ("", f"## {title}", "")
        for rule in rules():
            if rule.topic.partition("-")[0] == topic:
                yield f"- [{rule.slug}]({rule.slug}.md): {_plain(rule.cause)}"


def _page(rule: Rule, seen: list[str]) -> Iterator[str]:
    yield from (f"# {rule.slug}", "", NOTE, "", _sentence(rule.cause), "", "## You see", "")
    for text in seen[:2]:
        yield from ("```text", *text.split("\n")[-LONGEST:], "```", "")
    yield from ("## What to do", "")
    if rule.offer is not None:
        yield f"- {OFFERS[rule.offer.build]}; it is offered where the planner finds one that runs"
    yield from (f"- `{_plain(command)}`" for command in rule.type)
    if rule.note:
        yield from ("", _sentence(rule.note))
    yield from ("", "## Sources", "", *(f"- {_link(source)}" for source in rule.sources))


def _plain(text: str) -> str:
    """A template with names where the values of a text would be."""
    return re.sub(r"\{(\w+)\}", lambda field: field[1].upper(), text)


def _sentence(text: str) -> str:
    text = _plain(text)
    first = text.partition(" ")[0]
    name = first in ("auto", "plan", "doctor", "pip") or any(char.isupper() for char in first[1:])
    return f"{text}." if name or first.startswith("torch") else f"{text[0].upper()}{text[1:]}."


def _link(source: str) -> str:
    thread = re.fullmatch(r"([\w.-]+/[\w.-]+)#(\d+)", source)
    return f"[{source}](https://github.com/{thread[1]}/issues/{thread[2]})" if thread else source


def main() -> int:
    """Compare or write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the pages that differ")
    write = parser.parse_args().write
    pages = render()
    there = {path.name: path for path in PAGES.glob("*.md")}
    differ = [
        name for name, text in pages.items() if name not in there or there[name].read_text("utf-8") != text
    ]
    gone = sorted(set(there) - set(pages))
    for name in (*differ, *gone):
        print(name)
    if write:
        PAGES.mkdir(exist_ok=True)
        for name in differ:
            (PAGES / name).write_text(pages[name], encoding="utf-8")
        for name in gone:
            there[name].unlink()
    return 1 if (differ or gone) and not write else 0


if __name__ == "__main__":
    sys.exit(main())
