"""What the tests of plans ask for: a declared file, and a store that was made of less than it declares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from grafctl import client
from nouns.plans import ALL, FILE


@pytest.fixture
def file(tmp_path: Path) -> Path:
    client.keygen("watch", tmp_path)
    path = tmp_path / "store.toml"
    path.write_text(FILE)
    return path


@pytest.fixture
def store(tmp_path: Path, file: Path) -> Iterator[client.Store]:
    """A store as the file declares it; from then on the file declares more."""
    client.apply(tmp_path / "store", file)
    file.write_text(ALL)
    with client.open(tmp_path / "store") as opened:
        yield opened
