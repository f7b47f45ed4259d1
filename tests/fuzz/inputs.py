"""What is made up: machine files, requirements, index pages and TOML, near to right ones and far off."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

DIGITS = "9" * 5000
NASTY = (
    "",
    " ",
    "~",
    "~=",
    "~nobody/x",
    "\0",
    "a\0b",
    "\ud800",
    "\udcff",
    "\ufeff",
    "\u202etxt",
    "\x1b]0;t\x07",
    "\x9b31m",
    DIGITS,
    "1." * 3000,
    "." * 20_000,
    "a" * 20_000,
    "-",
    "--",
    "@",
    "[",
    "]",
    "[" * 3000,
    "(" * 3000,
    "{}",
    "/dev/null",
    "..",
    "./x",
    "file://",
    "file:x",
    "https://",
    "https://[",
    "https://h:99999999/x.whl",
    "C:\\x",
    "%00",
    "\\",
    '"',
    "'",
    "None",
    "NaN",
    "1e400",
    "-1",
    "18446744073709551616",
    "\r",
    "\u2028",
    "torch @",
    "==",
    "===",
    ";",
    "; os_name",
    "!",
)

nasty = st.sampled_from(NASTY)
words = nasty | st.text(max_size=40) | st.integers(-(1 << 80), 1 << 80).map(str)
anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 80), 1 << 80) | st.floats() | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=6,
)


def _one_of(usual: list[Any]) -> st.SearchStrategy[Any]:
    """Most often something usual."""
    return st.one_of(st.sampled_from(usual), st.sampled_from(usual), st.sampled_from(usual), anything)


gpus = st.fixed_dictionaries(
    {"vendor": _one_of(["nvidia", "nvidia", "amd", "intel", "apple"])},
    optional={
        "index": _one_of([0, 1, 7]),
        "name": _one_of(["NVIDIA H100", "AMD Radeon RX 7900 XTX", "\x1b]0;x\x07\u202e"]),
        "compute_capability": _one_of(["8.9", "12.0", "9.0", f"{DIGITS}.0", "8.90000000000"]),
        "gfx_target": _one_of(["gfx1100", "gfx90a", "gfx" + DIGITS]),
        "memory_bytes": _one_of([1 << 34, 1 << 70]),
        "pci_id": _one_of(["10de:2684", "1002:744c", "8086:e20b"]),
        "integrated": _one_of([True, False]),
        "uuid": _one_of(["GPU-1"]),
    },
)
machines = st.one_of(
    st.fixed_dictionaries(
        {
            "schema_version": _one_of([1, 1, 1, 1, 10**40]),
            "os": _one_of(["linux", "linux", "windows", "macos"]),
            "arch": _one_of(["x86_64", "aarch64"]),
            "gpus": st.lists(gpus, max_size=3) | anything,
        },
        optional={
            "os_version": _one_of(["24.04", "14.5", DIGITS]),
            "libc": _one_of(
                [{"family": "glibc", "version": "2.39"}, {"family": "glibc", "version": DIGITS}, None]
            ),
            "environment": _one_of([["container"], ["wsl2", "ci"]]),
            "drivers": st.lists(
                st.fixed_dictionaries(
                    {"vendor": _one_of(["nvidia", "amd"])},
                    optional={
                        "version": _one_of(["580.95.05", "470.57", DIGITS, "1." * 3000 + "0"]),
                        "cuda_version": _one_of(["13.0", "12.4", DIGITS]),
                        "rocm_version": _one_of(["6.4.0", DIGITS]),
                    },
                ),
                max_size=2,
            ),
            "findings": _one_of([[{"probe": "nvidia", "status": "broken", "detail": "\x1b[8m\x9d\u202e"}]]),
            "l4t": _one_of(["36.4.3", DIGITS]),
            "kernel_version": _one_of(["6.8", DIGITS]),
            "cpu_features": _one_of([["avx2"]]),
            "memory_bytes": _one_of([1 << 36, 1 << 90]),
        },
    ).map(json.dumps),
    anything.map(json.dumps),
    words,
    st.sampled_from(
        [
            "[" * 50_000,
            '{"a":' * 50_000,
            "9" * 100_000,
            '{"schema_version": ' + DIGITS + "}",
            "\ufeff" + '{"schema_version": 1, "os": "linux", "arch": "x86_64"}',
            '{"schema_version": 1, "os": "linux", "arch": "x86_64", "gpus": ['
            + '{"vendor": "nvidia"},' * 20_000
            + '{"vendor": "amd"}]}',
        ]
    ),
)

names = _one_of(["torch", "torchvision", "numpy", "Torch_Audio"]).map(str)
operators = st.sampled_from(["", "==", ">=", "~=", "<", "!=", "===", " @ ", "[", "]", ";", ",", "@"])
versions = st.sampled_from(["2.9.1", "2.*", "1!2", "2.9.1+cu128", DIGITS, "2." * 2000 + "1"]) | words
requirements = st.one_of(
    words,
    st.tuples(names, operators, versions, operators, words).map("".join),
    st.tuples(names, operators, versions).map("".join),
    st.tuples(names, st.just(" ; "), words, st.just(" == "), words).map("".join),
)
requirement_files = st.lists(
    st.one_of(
        requirements,
        st.tuples(
            st.sampled_from(
                [
                    "-r ",
                    "-c ",
                    "-e ",
                    "-f ",
                    "-i ",
                    "--index-url=",
                    "--pre",
                    "--hash=",
                    "-",
                    "--x=",
                    "${X}",
                    "-r self.txt",
                    "# ",
                    "\\",
                ]
            ),
            words,
        ).map("".join),
    ),
    max_size=6,
).map("\n".join)

links = st.one_of(
    st.tuples(
        st.sampled_from(["torch-", "torchvision-", ""]),
        versions,
        st.sampled_from(
            ["-cp312-cp312-manylinux_2_28_x86_64.whl", "-py3-none-any.whl", ".whl", ".tar.gz", ""]
        ),
    ).map("".join),
    words,
)
pages = st.one_of(
    st.lists(
        st.tuples(links, words).map(lambda row: f'<a href="{row[0]}#sha256={row[1]}">{row[0]}</a>'),
        max_size=6,
    ).map(lambda rows: "<!DOCTYPE html><html><body>" + "\n".join(rows) + "</body></html>"),
    st.lists(st.fixed_dictionaries({"filename": links | anything, "url": links | anything}), max_size=4).map(
        lambda files: json.dumps({"meta": {"api-version": "1.0"}, "name": "torch", "files": files})
    ),
    anything.map(json.dumps),
    words,
    st.sampled_from(
        ["<a href=" * 20_000, "<" * 50_000, "<!--" * 20_000, "&#" * 20_000, "[" * 50_000, "<html>" * 20_000]
    ),
)

keys = st.sampled_from(
    [
        "backend",
        "channel",
        "index-base",
        "find-links",
        "constraint",
        "families",
        "target-driver",
        "target-gpu",
        "python",
        "prefer-gpu",
        "system",
        "dependencies",
        "requires-python",
        "name",
        "sources",
        "index",
        "x",
        "a" + ".a" * 3000,
    ]
)
values = st.one_of(
    words.map(json.dumps),
    anything.map(json.dumps),
    words,
    st.sampled_from(
        [
            "true",
            DIGITS,
            "[" * 5000,
            "{a=" * 5000,
            '["torch"]',
            '"cu128"',
            "1979-05-27",
            "inf",
            "{}",
            '[{ index = "a" }]',
            '"https://u:p@ss@h/x"',
            '"https://[x"',
            '"~x"',
            '["torch>=2"]',
        ]
    ),
)
tomls = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "[tool.torchinstall]",
                "[project]",
                "[tool.uv]",
                "[tool.uv.sources]",
                "[[tool.uv.index]]",
                "[tool.poetry.dependencies]",
                "[dependency-groups]",
                "\ufeff",
                "[tool]",
                "[",
                "[[tool]]",
            ]
        ),
        st.tuples(keys, st.just(" = "), values).map("".join),
        words,
    ),
    max_size=8,
).map("\n".join)
