"""A worker whose consumer is switched while it works: it acks by the name of the output that its records are of."""

from __future__ import annotations

from pathlib import Path

from store.switching import AWS, GROUP, NOW, OLD, attached, finished, is_once, write

from grafctl.worker import Worker


def test_a_worker_goes_on_at_the_other_output_and_back(tmp_path: Path) -> None:
    with attached(tmp_path / "store") as here:
        store = here.store
        write(store, range(10, 30))
        got: list[str] = []
        with Worker(store, OLD, GROUP, domain=AWS, batch=4, idle_s=0.0) as records:
            for record in records:
                got.append(str(record.id))
                if len(got) == 7:
                    records.ack()
                    store.switches.switch("s", "target", **NOW)
                if len(got) == 19:
                    records.ack()
                    store.switches.rollback("s", **NOW)
        assert set(got) == {f"o-{n}" for n in range(30)} and is_once(set(got), range(30))
        assert records.acked == 30 and finished(store, "source") == [[0, 30]]
