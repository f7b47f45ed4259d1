"""What MkDocs runs while `scripts/docs` builds: where the page that plans is beside it, links lead there."""

from __future__ import annotations

import os
import re
from typing import Any

_PAGES = {"README.md": "selector/index.html", "how-to/choose-in-a-browser.md": "../selector/index.html"}
"""Pages that name the selector, and where it lies, seen from them."""


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Put a button under the title."""
    place = _PAGES.get(page.file.src_uri)
    if place is None or not os.environ.get("WITH_SELECTOR"):
        return html
    link = f'<p><a class="md-button md-button--primary" href="{place}">Choose in your browser</a></p>'
    before, end, after = html.partition("</h1>")
    return f"{before}{end}\n{link}{after}" if end else f"{link}{html}"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Draw the boxes of a Mermaid picture in rows: Mermaid itself would be fetched from another host."""
    return re.sub(r"^```mermaid\n(.*?)^```\n", _boxes, markdown, flags=re.M | re.S)


def _boxes(picture: re.Match[str]) -> str:
    drawn = ""
    for row in re.findall(r"^  subgraph .*?^  end", picture[1], re.M | re.S):
        boxes = "".join(
            f'<div class="admonition" style="flex: 1; padding: 0.6em; margin: 0.3em">{text}</div>'
            for text in re.findall(r'\["(.+?)"\]', row.partition("\n")[2])
        )
        drawn += f'<div style="display: flex; text-align: center">{boxes}</div>'
    return f"{drawn}\n"
