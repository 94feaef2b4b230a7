"""Stages linked by edges, in one process: the rows that topics give, whatever is lost on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.links import EDGES, links
from pipeline.shop import counts_of, orders, rows_of


@pytest.mark.parametrize("driver", ["memory", "lmdb"])
@pytest.mark.parametrize("topics", [(), ("raw",), ("clean",), ("rich",), EDGES])
def test_edges_give_the_rows_that_topics_give(tmp_path: Path, driver: str, topics: tuple[str, ...]) -> None:
    with links(tmp_path, driver, topics=topics) as shop:
        shop.orders(*orders(range(50)), {"id": "t1", "status": "test", "total": "1"}, *orders(range(50, 61)))
        counts = counts_of(shop.run())
        assert shop.rows() == rows_of(range(61))
        assert counts["load"]["written"] == 61 and counts["tidy"]["filtered"] == 1
        assert shop.is_whole()
