"""Machine files: what is wrong with one is named by its path."""

from __future__ import annotations

import json
from typing import Any

import pytest

from torchinstall.core.errors import UsageError
from torchinstall.core.machine import decode_machine
from torchinstall.core.messages import redact

GOOD: dict[str, Any] = {"schema_version": 1, "os": "linux", "arch": "x86_64"}


def test_unknown_keys_are_ignored_and_known_ones_may_be_null() -> None:
    row = {"vendor": "nvidia", "index": None, "compute_capability": "8.9", "colour": "green"}
    machine = decode_machine(json.dumps({**GOOD, "gpus": [row], "next": 1, "libc": None}), "m.json")
    assert machine.gpus[0].compute_capability == (8, 9)
    assert machine.gpus[0].index is None


@pytest.mark.parametrize(
    ("fault", "path"),
    [
        ({"gpus": [{"vendor": "nvidia", "index": "0"}]}, "$.gpus[0].index"),
        ({"gpus": [{"vendor": "nvidia"}, {"vendor": "3dfx"}]}, "$.gpus[1].vendor"),
        ({"gpus": [{"index": 0}]}, "$.gpus[0]"),
        ({"gpus": [{"vendor": "nvidia", "compute_capability": 8.9}]}, "$.gpus[0].compute_capability"),
        ({"gpus": [{"vendor": "nvidia", "compute_capability": [8, 9]}]}, "$.gpus[0].compute_capability"),
        ({"gpus": {}}, "$.gpus"),
        ({"drivers": [{"vendor": "nvidia", "version": "new"}]}, "$.drivers[0].version"),
        ({"environment": "wsl2"}, "$.environment"),
        ({"arch": "riscv64"}, "$.arch"),
        ({"libc": {"family": "newlib"}}, "$.libc.family"),
        ({"schema_version": True}, "$.schema_version"),
    ],
)
def test_the_path_of_a_fault_is_named(fault: dict[str, Any], path: str) -> None:
    with pytest.raises(UsageError) as caught:
        decode_machine(json.dumps({**GOOD, **fault}), "m.json")
    assert caught.value.slug == "bad-machine-file"
    assert str(caught.value.found).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:s3cret@m.example/whl", "https://****@m.example/whl"),
        ("torch @ https://u:s3@cret@m.example/t.whl ; x", "torch @ https://****@m.example/t.whl ; x"),
        (
            "https://m.example/t.whl?x=1&X-Amz-Signature=s3cret",
            "https://m.example/t.whl?x=1&X-Amz-Signature=****",
        ),
        ("https://m.example/a@b", "https://m.example/a@b"),
        ("C:\\wheels\\torch", "C:\\wheels\\torch"),
    ],
)
def test_credentials_are_removed(text: str, shown: str) -> None:
    assert redact(text) == shown
