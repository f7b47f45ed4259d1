"""`torchinstall catalog update`: read the pages of the PyTorch index now and keep them."""

from __future__ import annotations

from torchinstall.cli.session import Session
from torchinstall.cli.settings import Settings
from torchinstall.cli.verb import Verb

__all__ = ["VERB"]


def run(session: Session, settings: Settings) -> int:
    """Read the page of every package that moves with torch, for every backend that lives."""
    from torchinstall.index.fetch import fetch_pages
    from torchinstall.planning.assemble import catalog_of
    from torchinstall.planning.online import live_options
    from torchinstall.planning.request import index_base_of

    console, context = session.console, session.context
    catalog = catalog_of(context)
    backends = [name for name in catalog.known_backends() if _lives(catalog.tables.retired, name)]
    packages = [row.package for row in catalog.families if row.routed and row.pairing == "table"]
    keys = [(package, backend) for backend in backends for package in dict.fromkeys(["torch", *packages])]
    options = live_options(
        catalog,
        context,
        index_base=index_base_of(settings),
        channel=settings.text("channel") or "stable",
        refresh=True,
        allow_insecure=settings.texts("allow_insecure_host"),
    )
    result = fetch_pages(keys, options, discover=True)
    for warning in result.warnings:
        console.warn(warning.slug, warning.message)
    error = result.error()
    if error is not None:
        raise error
    new = sorted({row.version for rows in result.pages.values() for row in rows if row.package == "torch"})
    unknown = [name for name in result.backends or () if catalog.backend(name) and name not in backends]
    counts = {"pages": len(result.live), "failed": len(result.failures), "unknown_backends": unknown}
    if settings.on("json"):
        from torchinstall.cli.as_json import envelope

        console.out_json(envelope("ok", index=result.index_base, torch_releases=len(new), **counts))
    else:
        console.out(f"read {counts['pages']} pages of {result.index_base}; plans ask for none for a day")
    return 0


def _lives(retired: object, name: str) -> bool:
    return not (isinstance(retired, dict) and retired.get(name))


VERB = Verb(
    "update",
    run,
    summary="Read the pages of the PyTorch index now and keep them for a day.",
    options=("index_base", "channel", "allow_insecure_host", "json"),
    examples=(
        ("torchinstall catalog update", "before going on a train"),
        ("torchinstall catalog update --index-base https://mirror.example/whl", "from a mirror"),
        ("torchinstall catalog update --channel nightly --json", "tonight's builds"),
    ),
)
