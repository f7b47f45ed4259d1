"""The table of hints: every row by words that uv or the system really says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

import torchinstall.install.uv as module
from torchinstall.core.processes import Completed
from torchinstall.install.stream import plain
from torchinstall.install.uv import install_failure

TABLE = json.loads(Path(module.__file__).with_name("hints.json").read_text("utf-8"))


def explain(said: str, returncode: int, routed: Iterable[str] = ()) -> tuple[str, str, str]:
    error = install_failure(Completed(returncode=returncode, stderr=said), "install torch", routed)
    return error.slug, error.hints[0], error.found or ""


SAID = {
    "disk-full": "error: Failed to install: torch-2.9.1.whl\n  cause: No space left on device (os error 28)",
    "read-only": "error: Failed to create directory\n  cause: Read-only file system (os error 30)",
    "file-in-use": "error: failed to remove file: The process cannot access the file (os error 32)",
    "cannot-uninstall": "error: Unable to uninstall `torch==2.7.0`. distutils-installed distributions do not "
    "include the metadata required to uninstall safely.",
    "bad-wheel": "error: No solution found when resolving dependencies\n  cause: Because torch==2.9.1+cpu "
    "has an invalid package format and your-request depends on torch==2.9.1+cpu, we can conclude that your "
    "requirements are unsatisfiable.",
    "cache-unusable": "error: Failed to initialize cache at `x/uv`\n  cause: failed to create directory: "
    "Not a directory (os error 20)",
    "hash-mismatch": "error: Failed to download\n  cause: Hash mismatch for `torch==2.9.1`",
    "externally-managed": "error: The interpreter at /usr is externally managed",
    "bad-uv-settings": "error: Failed to parse: `uv.toml`\n  cause: TOML parse error at line 1, column 6",
    "offline": "error: Network connectivity is disabled, but the requested data wasn't found in the cache",
    "certificate-refused": "error: Failed to fetch: x\n  cause: invalid peer certificate: UnknownIssuer",
    "index-needs-login": "error: x\n  cause: HTTP status client error (401 Unauthorized) for url (x)",
    "index-forbids": "error: Fetch: x\n  cause: HTTP status client error (403 Forbidden) for url (x)",
    "download-cut": "error: Failed to download `torch`\n  cause: unexpected end of file",
    "network-timeout": "error: Failed to fetch: x\n  cause: operation timed out",
    "server-error": "error: x\n  cause: HTTP status server error (503 Service Unavailable) for url (x)",
    "index-unreachable": "error: Fetch\n  cause: client error (Connect)\n  cause: tcp connect error",
    "bad-index-page": "error: Unexpected HTML in the answer",
    "not-found": "error: Failed to fetch: x\n  cause: HTTP status client error (404 Not Found) for url (x)",
    "needs-build": "error: No solution found\n  hint: Wheels are required for `old` because building from "
    "source is disabled for `old` (i.e., with `--only-binary old`)",
    "build-failed": "error: Failed to build `old==1`\n  cause: The build backend returned an error",
    "no-wheel-for-this-python": "error: No solution found when resolving dependencies\n"
    "  cause: Because fresh==1.0 has no wheels with a matching Python ABI tag (e.g., `cp311`)",
    "build-not-found": "error: No solution found when resolving dependencies\n"
    "  cause: Because there is no version of torch==2.9.1+cu126 and you require it",
    "package-not-found": "error: No solution found when resolving dependencies\n"
    "  cause: Because nothing was not found in the package registry and you require nothing",
    "requirements-conflict": "error: No solution found when resolving dependencies\n"
    "  cause: Because old depends on torch<2 and you require torch==2.9.1",
    "permission-denied": "error: failed to create\n  cause: Permission denied (os error 13)",
    "environment-gone": "error: No virtual environment or system Python installation found for path `x`",
}


@pytest.mark.parametrize(("slug", "said"), SAID.items())
def test_each_slug_is_recognised(slug: str, said: str) -> None:
    found, hint, words = explain(said, 1)

    assert found == slug
    assert hint
    assert words
    assert words in " ".join(said.split())


@pytest.mark.parametrize(
    "said",
    [
        "error: failed to open file `nope.toml`: No such file or directory (os error 2)",
        "error: Failed to parse environment variable `UV_OFFLINE` with invalid value `maybe`",
        "error: Required uv version `>=99` does not match the running version `0.13.9`.",
        "error: Project directory `/nope` does not exist",
        "error: invalid value 'bogus' for '--link-mode <LINK_MODE>'",
        "error: a value is required for '--cache-dir <CACHE_DIR>' but none was supplied",
        "error: Hash-checking is required, but no trusted hash was provided for: `torch`",
        "error: No solution found\nhint: because using pre-built wheels is disabled for `torch`",
    ],
)
def test_settings_of_uv_that_stop_it_are_named(said: str) -> None:
    assert explain(said, 2)[0] == "bad-uv-settings"


@pytest.mark.parametrize(
    "said",
    [
        "error: x\n  cause: failed to open file `/c/.tmpX/torch-2.dist-info/RECORD`: (os error 2)",
        "error: x\n  cause: failed to open file `/c/archive-v0/X/torch-2.dist-info/WHEEL`: (os error 2)",
        "error: x\n  cause: Failed to extract archive: /house/torch-2.9.1-py3-none-any.whl",
        "error: Failed to install: x\n  cause: Wheel version does not match filename (2.9.3 != 2.9.1)",
        "error: Package metadata name `tensor` does not match given name `torch`",
    ],
)
def test_a_wheel_that_is_not_what_it_says_is_no_lost_environment(said: str) -> None:
    assert explain(said, 1)[0] == "bad-wheel"


@pytest.mark.parametrize(
    "place", ["/house/torch-2.9.1-py3-none-any.whl", "/c/archive-v0/X", "/c/.tmpX/torch/x.py"]
)
def test_a_file_that_may_not_be_read_is_not_called_damaged(place: str) -> None:
    refused = explain(f"error: failed to open file `{place}`: Permission denied (os error 13)", 1)
    assert refused[0] == "permission-denied"
    broken_disk = explain(f"error: failed to open file `{place}`: Input/output error (os error 5)", 1)
    assert broken_disk[0] == "uv-failed"


def test_every_row_has_words_a_source_and_a_pattern_that_compiles() -> None:
    for row in TABLE["rows"]:
        assert row["slug"] in SAID
        assert row["source"] in TABLE["sources"]
        re.compile(row["pattern"].replace("{routed}", "torch"))


def test_a_routed_package_that_is_missing_is_a_missing_build() -> None:
    said = "error: No solution found\n  cause: Because torch was not found in the package registry"

    assert explain(said, 1, ["torch", "torchvision"])[0] == "build-not-found"
    assert explain(said, 1, ["torchvision"])[0] == "package-not-found"


def test_words_that_nobody_knows_are_handed_on() -> None:
    assert explain("Resolved 1 package\nerror: something new\n  cause: deep", 1)[0] == "uv-failed"
    assert explain("Resolved 1 package\nerror: something new\n  cause: deep", 1)[2] == "something new"
    assert explain("", 2)[2] == "uv said nothing"


def test_a_signal_says_more_than_words() -> None:
    assert explain("Downloading torch", -9)[0] == "uv-killed"


def test_terminal_codes_and_overwritten_lines_are_gone() -> None:
    drawn = (
        "\x1b[2mResolving...\x1b[0m\r\x1b[2K\x1b[1mResolved\x1b[0m 2 packages\r\n\x1b[31merror\x1b[0m: no\r\n"
    )

    assert plain(drawn) == "Resolved 2 packages\nerror: no"
