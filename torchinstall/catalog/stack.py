"""Rows about packages that are built against torch: what is ready, where it is, how its files are called."""

from typing import Literal

from torchinstall.catalog.model import Row, Text

CompanionKind = Literal[
    "pure",
    "bounded",
    "table",
    "tagged-on-index",
    "tagged-asset",
    "cuda-major",
    "name-per-cuda",
    "many-libraries",
    "own-stack",
]
"""How one learns which torch and which CUDA a companion is built for: see `docs/reference/catalog.md`."""


class CompanionBuild(Row, frozen=True):
    """One line of ready files (or of sources) of a package that is built against torch.

    Attributes:
        package: as it is asked for.
        versions: exact versions, newest first, with a space between; empty: uv chooses within `bound`.
        bound: versions that this line stands for beside those (PEP 440).
        torch: releases of torch that it goes with (PEP 440); empty: any.
        backends: that it goes with: `cu130`, `cu12*` for every CUDA 12, `cpu`; empty: any.
        python: versions of Python (PEP 440); empty: those of `tags`.
        tags: python and ABI tag of its files, as in `Wheels`; empty: any.
        platforms: platform tags of its files; empty: any.
        code: what it has for GPUs: `8.0`, `9.0a` (that device only), `8.0+PTX`, `>=7.5` (documentation says
            no more), `gfx942`; empty: it does not matter, or nobody knows.
        place: where its files are (`places.json`).
        grammar: how its local version is written (`grammars.json`); empty: it has none.
        abi: `{abi}` of the grammar.
        build: `ready`; `jit`: it installs and compiles when it is first used; `sdist`: only sources;
            `wrong-name`: the index has another project under this name.
        build_needs: what a build from source needs in the environment beside torch; empty: the usual tools.
        trust: 1 the makers, 2 Astral, 3 a community build.
        needs: requirements on other packages that count for the choice.
        instead: the name that is installed in place of `package`.
        extra: the line holds for requirements with this extra.
        shown_by: a package whose presence shows that this extra was installed.
        brings: packages that come from the same place: its own torch.
        note: what the user should know; with `note_below` only on GPUs of a lower compute capability.
        otherwise: what works in its place.
        release: `{release}` of the place's URL.
    """

    package: Text
    kind: CompanionKind
    versions: str = ""
    bound: str = ""
    torch: str = ""
    backends: tuple[Text, ...] = ()
    python: str = ""
    tags: str = ""
    platforms: tuple[Text, ...] = ()
    code: tuple[Text, ...] = ()
    place: Text = "pypi"
    grammar: str = ""
    abi: str = ""
    build: Literal["ready", "jit", "sdist", "wrong-name"] = "ready"
    build_needs: tuple[Text, ...] = ()
    trust: Literal[1, 2, 3] = 1
    needs: tuple[Text, ...] = ()
    instead: str = ""
    extra: str = ""
    shown_by: str = ""
    brings: tuple[Text, ...] = ()
    note: str = ""
    note_below: str = ""
    otherwise: str = ""
    release: str = ""


class Place(Row, frozen=True):
    """Where companions are published (`places.json`).

    Attributes:
        id: what `companion_builds.json` calls it.
        kind: `default` (the user's index), `pytorch` (the index of the chosen backend), `index` (PEP 503),
            `find-links` (one page of links), `release` (a file by its URL).
        url: template with `{backend}`, `{torch}` (`2.11`), `{version}`, `{release}`, `{file}`.
    """

    id: Text
    kind: Literal["default", "pytorch", "index", "find-links", "release"]
    url: str


class Grammar(Row, frozen=True):
    """How a local version says what a file is built for (`grammars.json`).

    Attributes:
        pattern: regular expression of a local version with the groups `cuda`, `torch`, `abi`, `backend`.
        write: the local version of a build: `cu.{cuda}.torch.{torch}`, with `{major}`, `{torch_digits}`,
            `{torch_all}`, `{backend}`, `{abi}`.
    """

    id: Text
    pattern: Text
    write: Text
