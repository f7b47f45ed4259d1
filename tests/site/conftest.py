"""The page, built once a run, and its Python in Node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.build_site import build
from tests.site.parity import Page


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the page."""
    return build(tmp_path_factory.mktemp("page") / "site")


@pytest.fixture(scope="session")
def page(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Its Python."""
    with (tmp_path_factory.mktemp("node") / "errors").open("w+b") as errors, Page(site, errors) as page:
        yield page
