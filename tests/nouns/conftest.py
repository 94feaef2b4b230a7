"""What the tests of plans ask for: a declared file, and a store that was made of less than it declares.

Those of open ends of edges ask for a store with both ends of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store.world import world

from grafctl import client
from grafctl.nouns import edge_end
from nouns.edge_ends import AWS, GCP, LEASE, Ends
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


@pytest.fixture(params=["memory", "lmdb"])
def ends(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    monkeypatch.setattr(edge_end, "LOOK_S", 10**6)  # nothing here is found out by looking now and then
    with world(tmp_path / "store", [AWS, GCP, "azure"], request.param) as here:
        here.store.leases.acquire("e", **LEASE)
        here.store.edges.create("e", token=1, slots=4, domain=AWS)
        with here.store.edges.writer("e", domain=AWS) as writer, here.store.edges.reader("e", domain=AWS) as reader:
            yield Ends(here, writer, reader)
