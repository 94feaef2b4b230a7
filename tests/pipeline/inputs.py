"""Sources as a file would declare them, with what a test says otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grafctl.pipeline.model import DeclaredSource
from grafctl.pipeline.sources.item import Item
from grafctl.pipeline.sources.opening import open_source


def declare_source(*paths: Path, **other: Any) -> DeclaredSource:
    """Returns a source of these files, JSON Lines without names for its records unless told otherwise."""
    fields: dict[str, Any] = {"name": "orders", "kind": "jsonl", "command": (), "id": None, "key": None, "headers": {}}
    return DeclaredSource(paths=paths, line=1, **fields | other)


def items(source: DeclaredSource, start: int = 0) -> list[Item]:
    """Returns all items of a source."""
    with open_source(source, start=start) as opened:
        return list(opened)
